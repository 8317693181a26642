"""The table of features in the guide of the estimators: what it says is what happens."""

import importlib.util
import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

pytest.importorskip("sklearn", minversion="1.9", reason="scikit-learn is an extra")
pytest.importorskip("matplotlib", reason="matplotlib is an extra")

from sklearn import neural_network

import features
from fastbp import estimator
from features import with_estimators
from features.with_estimators import Library, network

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

LIBRARIES = ["fastbp", "scikit-learn", "Keras", "skorch", "SimpleChains.jl"]
READ = Path(__file__).parent / "features" / "simplechains.toml"
# Of other bits for other threads on the CPU that the table was filled on; others divide sums anew.
THREADS = "threads that share a batch, with the same bits"


def table():
    """The rows of the guide: cells by library, by the name of a feature."""
    lines = [line for line in estimator.__doc__.splitlines() if line.startswith("| ")]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    libraries = rows[0][1:]
    return {name: dict(zip(libraries, cells, strict=True)) for name, *cells in rows[1:]}


def test_the_table_has_these_rows_and_columns():
    assert list(table()) == list(features.ROWS) == list(with_estimators.FEATURES)
    assert {tuple(cells) for cells in table().values()} == {tuple(LIBRARIES)}


@pytest.mark.parametrize("row", features.ROWS)
def test_estimators_have_what_the_table_says(row):
    cells, has = table()[row], with_estimators.FEATURES[row]
    assert features.found(has, Library(estimator, network)) == cells["fastbp"]
    assert features.found(has, Library(neural_network)) == cells["scikit-learn"]


@pytest.mark.slow
@pytest.mark.parametrize("library", ["Keras", "skorch"])
def test_peers_have_what_the_table_says(library, tmp_path):
    """In a process of their own, as they change settings of the one they run in."""
    for package in ("torch", library.lower()):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is large; run where it is (pip install --group peers)")
    environment = os.environ | {"KERAS_BACKEND": "torch", "TORCHINDUCTOR_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, "-m", "features", library.lower()]
    folder = Path(__file__).parent
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, cwd=folder, env=environment
    )
    cells = json.loads(done.stdout.splitlines()[-1])
    wanted = {row: entry[library] for row, entry in table().items()}
    if cells[THREADS] == "yes":  # on this CPU, two threads add up this batch as one does
        wanted[THREADS] = "yes"
    assert cells == wanted


def test_what_was_read_is_said_with_its_place():
    read = tomllib.loads(READ.read_text(encoding="utf-8"))
    version, source = read.pop("version"), read.pop("source")
    assert f"SimpleChains.jl {version} was read" in " ".join(estimator.__doc__.split())
    assert source.startswith("https://github.com/PumasAI/SimpleChains.jl/blob/")
    assert list(read) == list(features.ROWS)
    for row, entry in read.items():
        assert table()[row]["SimpleChains.jl"] == ("yes" if entry.pop("has") else "no")
        assert entry.pop("where").startswith(("src/", "docs/"))
        assert entry.pop("shows")
        assert not entry
