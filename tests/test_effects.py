"""`scripts/effects.py`: on real data the options change what they should, and the table says so."""

import re
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest

import effects
from effects import EFFECTS, Effect, Found, images, measured, patients, text, tumours

ARGS = Namespace(backend="numba", data_dir=None)
OF_TABLES = [one for one in EFFECTS if one.measure in (tumours, patients)]
README = (Path(__file__).parent / "README.md").read_text("utf-8")


@pytest.mark.parametrize("effect", OF_TABLES, ids=lambda one: f"{one.option} {one.quantity}")
def test_options_change_results_on_tables(effect):
    pytest.importorskip("sklearn")
    found = measured(effect, 3, ARGS)
    mean, error = found.difference
    assert found.ok, (mean, error)
    assert np.ptp(found.plain) > 0 or effect.quantity == "other"  # seeds choose the samples


@pytest.mark.long
@pytest.mark.parametrize("effect", EFFECTS, ids=lambda one: f"{one.option} {one.on}")
def test_options_change_results(effect, mnist):
    assert measured(effect, 5, ARGS).ok


def test_dropout_on_a_few_images(mnist):
    """Quickly: a small network, which learns 300 images by heart."""
    settings = {"hidden": (100,), "n": 300, "epochs": 60, "rate": 0.1}
    plain, dropped = (
        [images(seed, how, ARGS, **settings) for seed in range(3)] for how in ({}, {"dropout": 0.5})
    )
    gain = [two["accuracy"] - one["accuracy"] for one, two in zip(plain, dropped, strict=True)]
    assert np.mean(gain) > 0
    assert all(0 < one["calibration error"] < 0.3 for one in plain)


def test_what_is_beyond_chance():
    effect = Effect("x", "y", "error", False, None, {})
    assert Found(effect, np.array([2.0, 3.0, 4.0]), np.array([1.0, 2.1, 3.0])).ok
    assert not Found(effect, np.array([1.0, 2.0]), np.array([2.0, 3.1])).ok  # the other way
    assert not Found(effect, np.array([1.0, 2.0]), np.array([0.0, 2.5])).ok  # chance
    told = effect._replace(rises=None)
    assert Found(told, np.array([1.0, 2.0]), np.array([2.0, 3.1])).ok


def test_the_table_has_every_option():
    table = README.partition("<!-- effects")[2].partition("<!-- /effects")[0]
    for effect in EFFECTS:
        assert (
            f"| `{effect.option}` | {effect.on} | {effects.QUANTITIES[effect.quantity]} |" in table
        )
    assert len(re.findall(r"^\| `", table, re.MULTILINE)) == len(EFFECTS)


def test_a_row_says_what_was_found():
    effect = Effect("dropout=0.5", "MNIST", "accuracy", True, None, {})
    found = Found(effect, np.array([0.90, 0.91]), np.array([0.92, 0.94]))
    last = text([found], 2).splitlines()[-1]
    assert last == "| `dropout=0.5` | MNIST | accuracy | 0.905 | 0.93 | +0.025 ± 0.005 |"
