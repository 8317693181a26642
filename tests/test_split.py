"""Which samples are held out."""

import numpy as np
import pytest

from fastbp import datasets
from fastbp._support.split import held_out


@pytest.mark.parametrize("share", [0.1, 0.25, 0.5, 0.9])
@pytest.mark.parametrize("kind", ["labels", "one-hot", "names"])
def test_every_class_has_its_share(kind, share, rng):
    labels = rng.choice(4, 1000, p=[0.9, 0.06, 0.03, 0.01])
    y = {"labels": labels, "one-hot": np.eye(4)[labels], "names": np.array([*"dbca"])[labels]}[kind]
    mask = held_out(y, share)
    assert mask.sum() == round(1000 * share)
    counts, held = np.bincount(labels), np.bincount(labels[mask], minlength=4)
    assert (np.abs(held - share * counts) <= 1).all()


def test_numbers_are_held_out_from_all_over_their_range(rng):
    y = rng.exponential(size=1000)
    for rows in (y, y[:, None]):
        places = np.sort(np.argsort(np.argsort(y))[held_out(rows, 0.1)])
        np.testing.assert_array_equal(places // 10, np.arange(100))


def test_samples_are_mixed_the_same_way_each_time():
    y = np.zeros(1000, int)
    found = np.flatnonzero(held_out(y, 0.1))
    np.testing.assert_array_equal(found, np.flatnonzero(held_out(y, 0.1)))
    assert (found != np.flatnonzero(held_out(y, 0.1, seed=1))).any()
    assert 30 < (found < 500).sum() < 70
    assert 50 < len(np.unique(found // 10)) < 80  # of a hundred tens


@pytest.mark.parametrize(("n", "share", "count"), [(2, 1e-9, 1), (2, 0.99, 1), (3, 0.5, 2)])
def test_there_is_a_sample_on_either_side(n, share, count):
    assert held_out(np.arange(n), share).sum() == count


def test_data_sets_are_divided_by_this_rule(digits):
    X, y, X_val, y_val = datasets.hold_out(*digits[:2], 0.3, seed=7)
    mask = held_out(digits.y_train, 0.3, 7)
    for found, expected in ((X, digits.X_train[~mask]), (X_val, digits.X_train[mask])):
        np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(np.bincount(y) + np.bincount(y_val), np.bincount(digits.y_train))
