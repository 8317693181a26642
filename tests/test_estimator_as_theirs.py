"""scikit-learn's own tests of its estimators, run on ours."""

import importlib.util
import inspect
from unittest import mock

import pytest

pytest.importorskip("sklearn", minversion="1.9", reason="scikit-learn is an extra")

from fastbp import estimator as ours

# What they ask for that is no part of the face.
PRIVATE = {"test_gradient": "it calls _loss_grad_lbfgs, which is scikit-learn's own way inside"}


def _loaded():
    """Their module, with our classes under the names of theirs."""
    spec = importlib.util.find_spec("sklearn.neural_network.tests.test_mlp")
    module = importlib.util.module_from_spec(spec)
    classes = {name: getattr(ours, name) for name in ours.__all__}
    with mock.patch.multiple("sklearn.neural_network", **classes):
        spec.loader.exec_module(module)
    return module


THEIRS = _loaded()
TESTS = {
    name: pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")(test)
    for name, test in inspect.getmembers(THEIRS, inspect.isfunction)
    if name.startswith("test_") and name not in PRIVATE
}
globals().update(TESTS)
pytestmark = pytest.mark.slow


@pytest.fixture
def global_random_seed():
    """What scikit-learn's own conftest gives."""
    return 42


def test_these_are_all_their_tests_and_they_see_our_classes():
    assert len(TESTS) > 30
    assert all(hasattr(THEIRS, name) for name in PRIVATE)
    assert THEIRS.MLPClassifier is ours.MLPClassifier
    assert THEIRS.MLPRegressor is ours.MLPRegressor
