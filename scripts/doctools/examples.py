"""The gallery: programs that are executed, and shown with what they print and draw.

An example is a plain Python file. Its docstring is the introduction, and each line `# %%` begins a
cell; comments that follow it are text. As in a notebook, a cell shows what it prints and the value
of its last expression, as a picture or a table where it has one.
"""

import ast
import contextlib
import io
import os
import re
import runpy
import sys
import tempfile
import textwrap
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
GALLERY, CLASSICS = ROOT / "scripts" / "gallery", ROOT / "scripts" / "classics"
ORDER = ("wine", "diabetes", "mnist", "own_layer", "grid_search", "onnx_and_back")
# The classic programs, by the titles that the menu gives them.
PROGRAMS = {
    "four_layer": "Why does the wrong rule learn better?",
    "book_network": "The network of the book",
    "unequal_layers": "Layers of different sizes",
    "two_layer_graph": "A computational graph",
}


class Failed(Exception):
    """An example that raised."""


def pages(folder):
    """Execute all; return title and text by page, and write their pictures below the folder."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    found = {f"gallery_{name}": executed(GALLERY / f"{name}.py", folder) for name in ORDER}
    found |= {f"classic_{name}": classic(CLASSICS / f"{name}.py", folder) for name in PROGRAMS}
    return {"gallery": overview(found), **found}


def overview(found):
    """Return the page that lists the examples, each by its first picture."""
    lines = ["# Gallery", "", "Programs that were executed for this page, with what they show.", ""]
    for page, (title, text) in found.items():
        first = text.split("](images/", 1)[1].split(")")[0] if "](images/" in text else None
        lines += [f"## [{title}]({page}.html)", ""]
        lines += [text.split("\n\n")[1].replace("\n", " "), ""]
        lines += [
            f'<a class="preview" href="{page}.html"><img src="images/{first}" alt=""></a>',
            "",
        ] * bool(first)
    return "All examples", "\n".join(lines)


def cells(source):
    """Yield the text and the code of each cell; the docstring is the text of the first."""
    tree = ast.parse(source)
    lines = source.splitlines()
    yield ast.get_docstring(tree), ""
    body = "\n".join(lines[tree.body[0].end_lineno :])
    for cell in re.split(r"^# %%.*\n", body, flags=re.MULTILINE):
        rows = cell.strip("\n").splitlines()
        told = next((i for i, row in enumerate(rows) if not row.startswith("#")), len(rows))
        text = "\n".join(row.removeprefix("#").removeprefix(" ") for row in rows[:told])
        code = "\n".join(rows[told:]).strip("\n")
        if text.strip() or code:
            yield text.strip(), code


class Pictures:
    """Writes the pictures of an example, numbered."""

    def __init__(self, folder, name):
        self.folder, self.name, self.count = folder, name, 0

    def add(self, png):
        """Write one; return its Markdown."""
        self.count += 1
        place = f"images/{self.name}-{self.count}.png"
        (self.folder / place).write_bytes(png)
        return f"![Picture {self.count} of {self.name}]({place})"


def executed(path, folder):
    """Execute an example in a folder of its own; return its title and its page."""
    names, parts = {"__name__": "__main__", "__file__": str(path)}, []
    pictures = Pictures(folder, path.stem)
    with tempfile.TemporaryDirectory() as scratch, inside(scratch):
        for text, code in cells(path.read_text(encoding="utf-8")):
            parts += [text, fenced("python", code) if code else ""]
            try:
                parts += shown(code, names, pictures)
            except Exception as error:
                raise Failed(
                    f"{path.relative_to(ROOT)}: {type(error).__name__}: {error}"
                ) from error
    parts.append(f"The program: `{path.relative_to(ROOT).as_posix()}`.")
    return titled(parts)


def shown(code, names, pictures):
    """Execute a cell; yield as Markdown what it prints, and its last expression."""
    tree, value, printed = ast.parse(code), None, io.StringIO()
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    with contextlib.redirect_stdout(printed):
        exec(compile(tree, "<example>", "exec"), names)
        if last is not None:
            value = eval(compile(ast.Expression(last.value), "<example>", "eval"), names)
    if printed.getvalue():
        yield fenced("text", printed.getvalue())
    if hasattr(value, "_repr_png_"):
        drawn = value._repr_png_()
        yield pictures.add(drawn if isinstance(drawn, bytes) else drawn[0])  # beside its size
    elif hasattr(value, "_repr_html_"):
        yield f'<div class="output">\n{value._repr_html_()}\n</div>'
    elif value is not None:
        yield fenced("text", repr(value))


def classic(path, folder):
    """Run a classic program, shortened; return its title and its page."""
    picture = folder / "images" / f"{path.stem}.png"
    words = [str(path), "--quick", "--output", str(picture)]
    printed, argv, search = io.StringIO(), sys.argv, list(sys.path)
    try:
        sys.argv, sys.path[:0] = words, [str(path.parent)]
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            runpy.run_path(str(path), run_name="__main__")
    except SystemExit as stop:
        if stop.code == 1:
            raise Failed(f"{path.relative_to(ROOT)}: {printed.getvalue()}") from None
    finally:
        sys.argv, sys.path[:] = argv, search
    source = path.read_text(encoding="utf-8")
    text = ast.get_docstring(ast.parse(source))
    summary, _, introduction = text.partition("\n")
    lines = [line for line in printed.getvalue().splitlines() if not line.startswith("picture: ")]
    title = PROGRAMS.get(path.stem, path.stem)
    parts = [f"# {title}", summary, introduction.strip("\n"), "## What it shows"]
    parts += [f"![{title}](images/{picture.name})"] * picture.exists()
    parts += ["Printed by `--quick`, a shortened run:", fenced("text", "\n".join(lines))]
    name = path.relative_to(ROOT).as_posix()
    return titled([*parts, "## The program", f"`{name}`:", fenced("python", source)])


def titled(parts):
    """Return the title of a page and its text."""
    text = "\n\n".join(part for part in parts if part)
    return text.partition("\n")[0].removeprefix("# "), text + "\n"


def fenced(language, text):
    """Return a block of code."""
    return f"```{language}\n{textwrap.dedent(text).rstrip()}\n```"


@contextlib.contextmanager
def inside(folder):
    """Change into a folder for a while."""
    before = os.getcwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)
