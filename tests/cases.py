"""Tables of cases: few that cover much by default, the whole product under the marker `long`."""

from contextlib import contextmanager
from itertools import combinations, product
from unittest import mock

import pytest

from fastbp.kernels import machine

# The losses of a `Network`, each with the outputs that go with it.
OUTPUTS = [
    *(("quadratic", output) for output in ["sigmoid", "tanh", "relu", "identity", "softmax"]),
    ("cross-entropy", "softmax"),
    ("cross-entropy", "sigmoid"),
]


def _pairs(case):
    """Each two values of a case, by their places."""
    return set(combinations(enumerate(case), 2))


def pairwise(*tables):
    """Return cases, far fewer than the product has, in which each two values of two tables meet."""
    numbers = list(product(*(range(len(table)) for table in tables)))
    left, chosen = set().union(*map(_pairs, numbers)), []
    while left:
        chosen.append(max(numbers, key=lambda case: len(left & _pairs(case))))
        left -= _pairs(chosen[-1])
    return [tuple(table[i] for table, i in zip(tables, case, strict=True)) for case in chosen]


def crossed(**tables):
    """Parametrize a test: each two values of two tables meet by default, all with `-m long`."""
    places = {name: range(len(table)) for name, table in tables.items()}
    few, cases = set(pairwise(*places.values())), []
    for case in product(*places.values()):
        values = [table[i] for table, i in zip(tables.values(), case, strict=True)]
        marks = [] if case in few else [pytest.mark.long]
        cases.append(pytest.param(*values, marks=marks, id="-".join(map(_name, values))))
    return pytest.mark.parametrize(list(tables), cases)


def _name(value):
    """How a value is named in the id of a case."""
    parts = value if isinstance(value, (tuple, list)) else [value]
    return "-".join(str(getattr(part, "__name__", part)) for part in parts)


@contextmanager
def as_trainer_has_it(path):
    """The name that a trainer knows a path by, and the constants that lead to it."""
    least = {"TURNED_VECTORS": 0, "TURNED_BATCH": 2, "TURNED_SHARE": 1}
    never = {"TURNED_SHARE": 0}
    turned = path == "turned"
    with mock.patch.multiple(machine, **(least if turned else never)):
        yield "dense" if turned else path
