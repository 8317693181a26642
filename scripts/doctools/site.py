"""The website: which pages there are, and how pdoc renders them.

A page is a module, whose docstring is the guide, or a Markdown file, which pdoc gets as a module
with that text as its docstring. So all pages have one template, one search and one menu.
"""

import importlib
import inspect
import re
import shutil
import textwrap
import types
import typing
from pathlib import Path

import jinja2
import numpy.typing
import pdoc.doc
from pdoc import render, render_helpers

import fastbp

ROOT = Path(__file__).resolve().parents[2]
TEMPLATES = Path(__file__).with_name("templates")

# Pages of Markdown files: page, title, file.
FILES = {
    "index": ("fastbp", "README.md"),
    "speed": ("Speed", "asv_benchmarks/README.md"),
    "promises": ("Promises", "tests/README.md"),
    "contributing": ("Architecture and contributing", ".github/CONTRIBUTING.md"),
    "security": ("Security", ".github/SECURITY.md"),
    "changes": ("Changes", ".github/CHANGELOG.md"),
}
# The menu: title and page, or a heading on it, in groups.
MENU = {
    "Guides": {
        "Tutorial": "fastbp",
        "Tables and images": "fastbp.datasets",
        "Notebooks and pictures": "fastbp.plots",
        "Training in depth": "fastbp.training",
        "Streaming": "fastbp.training#more-samples-than-memory-holds",
        "Several machines": "fastbp.training#several-processes-and-machines",
        "Losses": "fastbp.losses",
        "Functions of your own": "fastbp.functions",
        "In place of scikit-learn": "fastbp.estimator",
        "Checking gradients": "fastbp.verification",
        "Tracking speed": "speed#tracking-the-speed-of-a-change",
        "Other formats": "fastbp.interchange",
        "Command line": "fastbp.cli",
    },
    "Gallery": {},  # filled with the examples
    "Reference": {
        "Network, SGD, Adam, …": "fastbp#Network",
        "callbacks": "fastbp.callbacks",
        "datasets": "fastbp.datasets#load",
        "estimator": "fastbp.estimator#MLPClassifier",
        "interchange": "fastbp.interchange#read",
        "layers": "fastbp.layers",
        "plots": "fastbp.plots#learning_curves",
        "report": "fastbp.report",
        "schedules": "fastbp.schedules",
        "verification": "fastbp.verification#verify",
        "reference, in plain NumPy": "fastbp.reference",
    },
    "Project": {
        "Speed": "speed",
        "Promises": "promises",
        "Architecture and contributing": "contributing",
        "The words of the kernels": "fastbp.kernels",
        "Security": "security",
        "Changes": "changes",
    },
}
# Modules whose docstring is a page, and whose names are not for users.
INSIDE = {"fastbp.cli", "fastbp.kernels", "fastbp.training"}
TITLES = {
    "fastbp.callbacks": "Callbacks",
    "fastbp.layers": "Layers of your own",
    "fastbp.reference": "The reference",
    "fastbp.report": "Reports",
    "fastbp.schedules": "Learning rates that change",
}
_LINK = re.compile(r"(?<=\]\()([^)#\s]+)((?:#[^)\s]*)?)(?=\))")
UNIONS = {"ArrayLike": numpy.typing.ArrayLike, "DTypeLike": numpy.typing.DTypeLike}
OR = (typing.Union, types.UnionType)
# A session: from its first prompt to an empty line.
_SESSION = re.compile(r"^( *)>>> .*\n?(?:\1.*\S.*\n?)*", re.MULTILINE)
# The sign of a power, but for those in code; two of them would set in bold what is between.
_POWER = re.compile(
    r"(```.*?```|`[^`\n]*`|^    [^\n]*)|(?<=[\w)])\*\*(?=[\w(])", re.DOTALL | re.MULTILINE
)


def build(folder, examples):
    """Write all pages; `examples` are Markdown texts by page and title."""
    menu = {**MENU, "Gallery": {title: page for page, (title, _) in examples.items()}}
    pages = {name: text_page(name, title, ROOT / file) for name, (title, file) in FILES.items()}
    for name, (title, text) in examples.items():
        pages[name] = page(name, title, text)
    for name in dict.fromkeys(target.partition("#")[0] for target in targets(menu)):
        if name not in pages:
            pages[name] = module_page(name)
    titles = {name: entry.fastbp_title for name, entry in pages.items()}
    configure(menu, titles)
    shutil.rmtree(folder / "fastbp", ignore_errors=True)
    (folder / "images").mkdir(parents=True, exist_ok=True)
    for picture in sorted((ROOT / ".github").glob("*.svg")):
        shutil.copy(picture, folder / "images")
    for name, entry in pages.items():
        file = folder / f"{name.replace('.', '/')}.html"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(render.html_module(entry, pages), encoding="utf-8")
    (folder / "search.js").write_text(render.search_index(pages), encoding="utf-8")


def targets(menu):
    """Yield what the entries of a menu lead to."""
    for entries in menu.values():
        yield from entries.values()


def configure(menu, titles):
    """Tell pdoc how pages look."""
    render.configure(
        docformat="numpy", include_undocumented=False, template_directory=TEMPLATES,
        footer_text=f"fastbp {fastbp.__version__}",
    )  # fmt: skip
    render.env.globals.update(menu=menu, titles=titles, inside=INSIDE, href=href)
    render.env.filters.update(to_markdown=to_markdown, format_signature=format_signature)


@jinja2.pass_context
def to_markdown(context, docstring):
    """Return a docstring as Markdown.

    What a session prints is code, not headings and lists; files that are pages are links.
    """
    for name, (_, file) in FILES.items():
        link = f"[{file}]({href(name, context['module'].modulename)})"
        docstring = docstring.replace(f"`{file}`", link)
    docstring = _POWER.sub(lambda match: match[1] or r"\*\*", _SESSION.sub(fenced, docstring))
    return render_helpers.to_markdown_with_context(context, docstring)


def fenced(match):
    """Return a session as a block of code."""
    return f"```pycon\n{textwrap.dedent(match[0]).rstrip()}\n```\n"


def format_signature(signature, colon):
    """Return a signature as pdoc does, with `ArrayLike` by its name instead of all that it is."""
    parameters = [p.replace(annotation=short(p.annotation)) for p in signature.parameters.values()]
    returned = short(signature.return_annotation)
    found = signature.replace(parameters=parameters, return_annotation=returned)
    return render_helpers.format_signature(found, colon)


def short(annotation):
    """Return an annotation in which NumPy's unions have their names, also in `tuple[ArrayLike]`."""
    parts = list(typing.get_args(annotation)) if typing.get_origin(annotation) in OR else []
    for name, union in UNIONS.items():
        members = typing.get_args(union)
        if all(member in parts for member in members):
            parts = [Text(name), *(part for part in parts if part not in members)]
    before = spelled(annotation)
    after = " | ".join(map(spelled, parts)) or before
    for name, union in UNIONS.items():
        after = after.replace(spelled(union), name)
    return Text(after.replace("NoneType", "None")) if after != before else annotation


def spelled(annotation):
    """Return an annotation as it is shown."""
    return inspect.formatannotation(annotation).replace("typing.", "")


class Text:
    """An annotation that is shown as it is."""

    def __init__(self, text):
        self.text = text

    def __repr__(self):
        return self.text


def href(target, here):
    """Return the link from one page to another, or to a heading on it."""
    name, mark, heading = target.partition("#")
    return f"{'../' * here.count('.')}{name.replace('.', '/')}.html{mark}{heading}"


def module_page(name):
    """Return the page of a module, with the names that it imports when they are asked for."""
    module = importlib.import_module(name)
    for public in getattr(module, "__all__", ()):
        setattr(module, public, getattr(module, public))
    found = pdoc.doc.Module(module)
    guides = {target: title for title, target in MENU["Guides"].items()}
    project = {target: title for title, target in MENU["Project"].items()}
    found.fastbp_title = {**project, **guides, **TITLES}.get(name, name)
    return found


def page(name, title, text):
    """Return the page of a Markdown text."""
    module = types.ModuleType(name, text)
    module.__docformat__, module.__all__ = "markdown", []
    found = pdoc.doc.Module(module)
    found.fastbp_title = title
    return found


def text_page(name, title, file):
    """Return the page of a Markdown file, whose links lead to pages."""

    def moved(match):
        path, heading = match.groups()
        return path if "://" in path else new_place(file.parent / path) + heading

    return page(name, title, _LINK.sub(moved, file.read_text(encoding="utf-8")))


def new_place(path):
    """Return the page that shows a file of the repository."""
    place = path.resolve().relative_to(ROOT).as_posix()
    files = {file: f"{name}.html" for name, (_, file) in FILES.items()}
    if place.endswith(".py"):
        return place.removesuffix(".py").removesuffix("/__init__") + ".html"
    if place.endswith(".svg"):
        return f"images/{path.name}"
    return {**files, "scripts/gallery": "gallery.html"}[place]
