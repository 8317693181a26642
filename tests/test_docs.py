"""scripts/docs: the pages, their links, and the gallery that is executed for them."""

import html
import re
from importlib import import_module
from pathlib import Path

import pytest

pytest.importorskip("pdoc", reason="the group docs is not installed")
from doctools import examples, site

ROOT = Path(__file__).resolve().parents[1]
NEEDED = {
    "wine": ("sklearn", "pandas", "matplotlib"),
    "diabetes": ("sklearn", "pandas", "matplotlib"),
    "mnist": ("matplotlib",),
    "own_layer": (),
    "grid_search": ("sklearn", "pandas"),
    "onnx_and_back": ("onnx", "onnxruntime"),
}
# What a page of the gallery must say, beside its pictures: the least of its figures.
FIGURES = {
    "wine": {r"test accuracy ([\d.]+)": 0.94},
    "diabetes": {r"R2 ([\d.]+)": 0.35},
    "mnist": {r"test accuracy ([\d.]+)": 0.93},
    "own_layer": {r"test accuracy ([\d.]+)": 0.93},
    "grid_search": {r"accuracy of the best: ([\d.]+)": 0.93},
    "onnx_and_back": {r"test accuracy ([\d.]+)": 0.93, r"same classes: (True)": 1},
}
PICTURES = {
    "wine": 3,
    "diabetes": 3,
    "mnist": 3,
    "own_layer": 0,
    "grid_search": 0,
    "onnx_and_back": 0,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The site with a gallery of two short examples."""
    folder = tmp_path_factory.mktemp("site")
    found = {
        "gallery_one": ("One", "# One\n\nIt says `fastbp.load`: a**2 + b**2.\n\n```text\na\n```\n")
    }
    site.build(folder, {"gallery": examples.overview(found), **found})
    return folder


def test_every_link_and_picture_is_there(folder):
    pages = {page: page.read_text(encoding="utf-8") for page in folder.rglob("*.html")}
    assert len(pages) > 20
    anchors = {page: set(re.findall(r'\bid="([^"]+)"', text)) for page, text in pages.items()}
    for page, text in pages.items():
        assert "<title>" in text
        for link in re.findall(r'\b(?:href|src)="([^"]*)"', text):
            path, _, anchor = html.unescape(link).partition("#")
            if "${" in path or path.startswith(("https://", "http://", "data:")):
                continue
            target = (page.parent / path).resolve() if path else page
            assert target.is_file(), f"{page.name}: {link}"
            if anchor:
                assert anchor in anchors[target], f"{page.name}: {link}"


def test_nothing_is_loaded_from_elsewhere(folder):
    for page in folder.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        assert not re.search(r'<(?:script|link|img|iframe)[^>]+(?:src|href)="(?:https?:)?//', text)
        assert not re.search(r"@import|url\((?!\"?data:)", text)


def test_guides_and_names_are_on_their_pages(folder):
    text = (folder / "fastbp.html").read_text(encoding="utf-8")
    assert 'id="Network.fit"' in text
    assert "a-first-network" in text
    assert "ArrayLike" in text
    assert "_SupportsArray" not in text  # NumPy's unions have their names
    inside = (folder / "fastbp" / "training.html").read_text(encoding="utf-8")
    assert 'id="several-processes-and-machines"' in inside
    assert "take_step" not in inside
    index = (folder / "search.js").read_text(encoding="utf-8")
    assert "More samples than memory holds" in index
    assert "gallery_one" in index


def test_powers_are_no_bold_words(folder):
    assert "a**2 + b**2" in (folder / "gallery_one.html").read_text(encoding="utf-8")
    assert "g**2" in (folder / "fastbp.html").read_text(encoding="utf-8")  # in a block of code


def test_what_a_session_prints_is_no_heading(folder):
    text = (folder / "fastbp.html").read_text(encoding="utf-8")
    headings = re.findall(r"<h\d[^>]*>(.*?)</h\d>", text)
    assert "A first network" in headings
    assert not [words for words in headings if "softmax" in words]
    assert "&lt;h2" not in text


@pytest.mark.slow
@pytest.mark.parametrize("name", examples.ORDER)
def test_an_example_of_the_gallery_runs(name, tmp_path, monkeypatch, digits):
    for package in NEEDED[name]:
        pytest.importorskip(package)
    if name == "mnist":  # what stands in where MNIST is missing, and takes a second
        import fastbp

        known = fastbp.datasets.load

        def load(name):
            if name == "mnist":
                raise FileNotFoundError(name)
            return known(name)

        monkeypatch.setattr(fastbp.datasets, "load", load)
    (tmp_path / "images").mkdir()
    title, text = examples.executed(examples.GALLERY / f"{name}.py", tmp_path)
    assert text.startswith(f"# {title}\n")
    for pattern, least in FIGURES[name].items():
        found = re.findall(pattern, text)
        assert found
        assert all(eval(value) >= least for value in found), found
    pictures = sorted((tmp_path / "images").iterdir())
    assert len(pictures) == PICTURES[name]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in pictures)
    assert "<Figure" not in text


def test_each_example_is_in_the_gallery():
    assert {path.stem for path in examples.GALLERY.glob("*.py")} == set(examples.ORDER)
    classics = {path.stem for path in examples.CLASSICS.glob("[!_]*.py")}
    assert classics == set(examples.PROGRAMS)


SOURCE = '''"""# A title

Words.
"""

# %%
# ## A heading
a = 2
print(a)
a + 1

# %%
None

# %%
class Table:
    def _repr_html_(self):
        return "<table></table>"


class Picture:
    def _repr_png_(self):
        return b"\\x89PNG"


Table()
# %%
Picture()
'''


def test_a_cell_shows_what_it_prints_and_its_value(tmp_path, monkeypatch):
    monkeypatch.setattr(examples, "ROOT", tmp_path)
    (tmp_path / "images").mkdir()
    (tmp_path / "one.py").write_text(SOURCE)
    title, text = examples.executed(tmp_path / "one.py", tmp_path)
    assert title == "A title"
    assert "Words.\n\n## A heading\n\n```python\na = 2\nprint(a)\na + 1\n```\n\n" in text
    assert "```text\n2\n```\n\n```text\n3\n```\n\n```python\nNone\n```\n\n```python\nclass" in text
    assert '<div class="output">\n<table></table>\n</div>' in text
    assert "![Picture 1 of one](images/one-1.png)" in text
    assert (tmp_path / "images" / "one-1.png").read_bytes() == b"\x89PNG"


def test_an_example_that_fails_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(examples, "ROOT", tmp_path)
    (tmp_path / "bad.py").write_text('"""# Bad."""\n# %%\n1 / 0\n')
    with pytest.raises(examples.Failed, match=r"bad\.py: ZeroDivisionError: division by zero"):
        examples.executed(tmp_path / "bad.py", tmp_path)


def test_a_classic_program_has_a_page(tmp_path, monkeypatch):
    monkeypatch.setattr(examples, "ROOT", tmp_path)
    (tmp_path / "images").mkdir()
    (tmp_path / "old.py").write_text(
        '"""An old program.\n\nIt shows something.\n"""\n'
        "import sys\nfrom pathlib import Path\n\n"
        'Path(sys.argv[-1]).write_bytes(b"png")\nprint("measured", sys.argv[1])\nsys.exit(0)\n'
    )
    title, text = examples.classic(tmp_path / "old.py", tmp_path)
    assert text.startswith(f"# {title}\n\nAn old program.\n\nIt shows something.\n\n")
    assert f"![{title}](images/old.png)" in text
    assert "```text\nmeasured --quick\n```" in text
    assert '```python\n"""An old program.' in text


def test_the_command_says_where_the_site_is(tmp_path, monkeypatch, capsys):
    program = import_module("doctools.__main__")
    monkeypatch.setattr(examples, "pages", lambda folder: {"gallery": ("All", "# Gallery\n")})
    assert program.main(["--output", str(tmp_path / "here")]) == 0
    assert capsys.readouterr().out == f"scripts/docs: {tmp_path / 'here' / 'index.html'}\n"
    assert (tmp_path / "here" / "index.html").is_file()

    def fail(folder):
        raise examples.Failed("bad.py: ValueError: no")

    monkeypatch.setattr(examples, "pages", fail)
    assert program.main(["--output", str(tmp_path)]) == 2
    assert capsys.readouterr().err == "scripts/docs: bad.py: ValueError: no\n"
