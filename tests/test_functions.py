"""Functions of the user's own: what is refused when they are made, and what they are then."""

import copy
import math
import pickle
import random
import types

import numpy as np
import pytest

import fastbp
from fastbp import Activation, Loss, reference
from fastbp.functions.checks import PLACES
from fastbp.reference import own_code

LEAK = 0.1


def leaky(z):
    return z if z > 0 else LEAK * z


def leaky_slope(z):
    return 1.0 if z > 0 else LEAK


def logistic(z):
    return 1 / (1 + math.exp(-z))


def from_value(z, a):
    return a * (1 - a)


def half_square(a, y):
    return 0.5 * (a - y) ** 2


def rest(a, y):
    return a - y


# -- what is refused -------------------------------------------------------------------------------


def one(z):
    return 1.0


def stops(z):
    if z > 100:
        raise ValueError("too large")
    return z


def asserts(z):
    assert z < 100
    return z


def calls_stops(z):
    return stops(z)


REFUSED = {
    "no function": (3, one, "f must be a function, such as lambda z: ...; got 3"),
    "no arguments": (lambda: 1.0, one, r"f must take \(z\), .*takes 0 arguments"),
    "three": (leaky, lambda z, a, b: 1.0, r"slope must take \(z\) or \(z, a\), .* 3 arguments"),
    "keywords alone": (lambda z, *, k: z, one, "f must take"),
    "an int": (leaky, lambda z: 1 if z > 0 else 0, r"slope must return a float; it returns int, 1"),
    "a bool": (leaky, lambda z: z > 0, "slope must return a float; it returns bool"),
    "nothing": (lambda z: None, one, "f must return a float; it returns NoneType, None, at z = "),
    "complex": (lambda z: z + 0j, one, "f must return a float; it returns complex"),
    "a tuple": (lambda z: (z,), one, "f must return a float; it returns tuple"),
    "an array": (lambda z: np.full(2, z), one, "f must return a float; it returns ndarray"),
    "an error": (lambda z: 1 / z, one, "f raises ZeroDivisionError.*, at z = 0"),
    "no such name": (lambda z: missing(z), one, "f raises NameError"),  # noqa: F821
    "raise": (stops, one, "f has a `raise` or an `assert`"),
    "assert": (asserts, one, "f has a `raise` or an `assert`"),
    "raise, in another": (calls_stops, one, "f has a `raise` or an `assert`"),
    "not finite": (lambda z: np.exp(z * 100), one, r"f must be finite; it is inf at z = 7\.7"),
    "random": (lambda z: random.random(), one, "f must depend on its arguments alone; two calls"),
    "wrong": (
        leaky,
        lambda z: 1.0 if z > 0 else 0.2,
        "slope is 0.2 at z = .* by 0.1 there",
    ),
    "slightly wrong": (lambda z: z * z, lambda z: 2.00001 * z, "slope is .* but f changes by"),
    "wrong far out": (one, lambda z: 0.0 if z < 25 else 1e-3, "slope is 0.001 at z = 2[5-9]"),
    "wrong where it is small": (
        math.exp,
        lambda z, a: a if z > 3 else 1.1 * a,
        "slope is .* at z = -0.4348",
    ),
    "wrong at the kink": (leaky, lambda z: leaky_slope(z) if z else 2.0, "slope is 2 at z = 0"),
    "of z alone": (logistic, lambda z: z * (1 - z), "slope is"),
    "a name": (leaky, leaky_slope, "name must be a text without colons; got 'a:b'", "a:b"),
}


@pytest.mark.parametrize("given", REFUSED.values(), ids=REFUSED)
def test_what_is_refused(given):
    f, slope, message, *name = given
    with pytest.raises((TypeError, ValueError), match=message) as caught:
        Activation(f, slope, *name)
    assert "\n" not in str(caught.value)


REFUSED_LOSSES = {
    "one argument": (lambda a: a, rest, r"value must take \(a, y\)"),
    "of the other": (half_square, lambda a, y: y - a, "delta is .* at a = .*, y = .*, but value"),
    "not finite": (lambda a, y: np.log(a), lambda a, y: 1 / a, "value must be finite.* at a = -30"),
    "an error": (lambda a, y: math.log(a), lambda a, y: 1 / a, "value raises ValueError"),
}


@pytest.mark.parametrize("given", REFUSED_LOSSES.values(), ids=REFUSED_LOSSES)
def test_what_is_refused_of_losses(given):
    with pytest.raises((TypeError, ValueError), match=given[2]):
        Loss(*given[:2])


@pytest.mark.parametrize("at_zero", [0.1, 0.5, 1.0])
def test_at_a_kink_any_slope_between_both_sides_will_do(at_zero):
    Activation(leaky, lambda z: leaky_slope(z) if z else at_zero)


# Whose differences are small, large, or bent: none of them is refused.
FINE = {
    "sine": (lambda z: math.sin(5 * z), lambda z: 5 * math.cos(5 * z)),
    "bell": (lambda z: math.exp(-z * z), lambda z: -2 * z * math.exp(-z * z)),
    "cube": (lambda z: z**3, lambda z: 3 * z**2),
    "exp": (math.exp, lambda z, a: a),
    "logarithmic": (lambda z: math.copysign(math.log1p(abs(z)), z), lambda z: 1 / (1 + abs(z))),
    "flat": (lambda z: 1e-9 * math.tanh(z), lambda z: 1e-9 * (1 - math.tanh(z) ** 2)),
    "mish": (
        lambda z: z * math.tanh(math.log1p(math.exp(z))),
        lambda z: (
            math.tanh(math.log1p(math.exp(z)))
            + z * (1 - math.tanh(math.log1p(math.exp(z))) ** 2) * logistic(z)
        ),
    ),
    "constant": (lambda z: 2.5, lambda z: 0.0),
    "swish": (lambda z: z * logistic(z), lambda z, a: a + logistic(z) * (1 - a)),
    "hard": (lambda z: min(max(z, -1.0), 1.0), lambda z: 1.0 if -1 < z < 1 else 0.0),
    "Python's": (math.tanh, lambda z, a: 1 - a * a),
    "NumPy's": (np.arctan, lambda z: 1 / (1 + z * z)),
}


@pytest.mark.parametrize("pair", FINE.values(), ids=FINE)
def test_what_is_fine(pair):
    Activation(*pair)


# -- the reference ---------------------------------------------------------------------------------

BUILT_IN = {
    "leaky_relu": (
        lambda z: np.where(z > 0, z, 0.01 * z), lambda z: np.where(z > 0, 1.0, 0.01)
    ),
    "tanh": (math.tanh, lambda z, a: 1 - a * a),
    "sigmoid": (logistic, from_value),
    "relu": (lambda z: z if z > 0 else 0.0, lambda z: 1.0 if z > 0 else 0.0),
    "identity": (lambda z: z, one),
    "gelu": (
        lambda z: z * math.erfc(-z / math.sqrt(2)) / 2,
        lambda z: math.erfc(-z / math.sqrt(2)) / 2
        + z * math.exp(-z * z / 2) / math.sqrt(2 * math.pi),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BUILT_IN)
def test_the_reference_of_a_built_in_function_written_anew(name, dtype, rng, assert_close):
    own = Activation(*BUILT_IN[name])
    z = np.concatenate([rng.normal(0, 5, (6, 7)), np.full((1, 7), 1e3), np.full((1, 7), -1e3)])
    z = z.astype(dtype)
    for theirs, mine in ((reference.activate, own.value), (reference.slope, own.prime)):
        wanted, found = np.full_like(z, np.nan), np.full_like(z, np.nan)
        theirs(name, z, wanted)
        mine(z, found)
        assert_close(found, wanted)


def test_terms_of_a_loss(dtype, rng, assert_close):
    own = Loss(lambda a, y: abs(a - y), lambda a, y: 1.0 if a > y else (-1.0 if a < y else 0.0))
    a, y = (rng.normal(size=(5, 3)).astype(dtype) for _ in range(2))
    for found, wanted in zip(own.terms(a, y), reference.TERMS["absolute"](a, y, 0.0), strict=True):
        assert found.dtype == wanted.dtype
        assert_close(found, wanted, dtype=dtype)


class Counted(np.ndarray):
    """An array that counts what NumPy's functions do with it as a whole."""

    def __array_ufunc__(self, ufunc, method, *inputs, **kwargs):
        self.count += 1
        return getattr(ufunc, method)(*map(np.asarray, inputs), **kwargs)


@pytest.mark.parametrize(
    ("f", "count"), [(lambda z: z * 0.5, 1), (lambda z: z if z > 0 else -abs(z), 0)]
)
def test_what_takes_arrays_is_given_them(f, count):
    own = Activation(f, lambda z: 0.5 if count else 1.0)
    z = np.ones((5, 4)).view(Counted)
    z.count = 0
    own.value(z, out := np.empty((5, 4)))
    assert z.count == count
    assert (out == (0.5 if count else 1.0)).all()


def test_a_function_of_the_whole_array_is_taken_for_one_of_numbers(assert_close):
    own = Activation(lambda z: z - 0.5 * np.mean(z), lambda z: 0.5)
    z = np.array([[1.0, -3.0]])
    own.value(z, out := np.empty_like(z))
    assert_close(out, z / 2)


# -- what they are ---------------------------------------------------------------------------------


def test_equal_by_their_functions():
    a, b = Activation(leaky, leaky_slope), Activation(leaky, leaky_slope)
    assert a == b
    assert hash(a) == hash(b)
    assert a != Activation(logistic, from_value)
    assert a != "leaky_relu"


def test_names():
    assert repr(Activation(leaky, leaky_slope)) == "Activation(leaky, leaky_slope)"
    assert repr(Loss(half_square, rest, "half")) == "Loss(half_square, rest, name='half')"
    assert Activation(leaky, leaky_slope).name == "leaky"
    assert Activation(leaky, leaky_slope, "mine").reference == f"{__name__}:mine"


def test_pickled_by_reference_and_copied():
    own = Activation(leaky, leaky_slope, "mine")
    again = pickle.loads(pickle.dumps(own))
    assert again == own
    assert again.name == "mine"
    nameless = Activation(lambda z: z, lambda z: 1.0)
    assert copy.deepcopy(nameless) is nameless
    with pytest.raises(pickle.PicklingError, match="define it by `def` at the top level"):
        pickle.dumps(nameless)


# -- keys ------------------------------------------------------------------------------------------


def module_of(source):
    """Return a module that holds this."""
    module = types.ModuleType("someones")
    exec(source, vars(module))
    return module


SOURCE = """
import math
import numpy as np
SCALE = 2.0
def helper(z):
    return SCALE * math.tanh(z)
def f(z, more=1.0):
    return helper(z) + more
def g(k):
    return lambda z: f(z) * k
"""


def key_of(source, name="f"):
    return own_code.key(module_of(source).__dict__[name])


@pytest.mark.parametrize(
    ("old", "new"),
    [("2.0", "3.0"), ("tanh", "sinh"), ("+ more", "- more"), ("more=1.0", "more=2.0"),
     ("SCALE *", "SCALE /"), ("SCALE = 2.0", "SCALE = np.float32(2.0)")],
)  # fmt: skip
def test_the_key_follows_all_that_a_function_uses(old, new):
    assert key_of(SOURCE) == key_of("# moved by a line" + SOURCE)
    assert key_of(SOURCE) != key_of(SOURCE.replace(old, new))


def test_the_key_follows_closures_and_other_modules():
    module = module_of(SOURCE)
    assert own_code.key(module.g(1.0)) == own_code.key(module.g(1.0)) != own_code.key(module.g(2.0))
    user = types.ModuleType("user")
    user.someones = module
    exec("def f(z):\n    return someones.helper(z) * someones.SCALE", vars(user))
    before = own_code.key(user.f)
    module.SCALE = 4.0
    assert before != own_code.key(user.f)
    module.SCALE = object()
    assert own_code.key(user.f) is None


def test_the_public_names_are_those_of_the_module():
    assert fastbp.Activation is fastbp.functions.Activation
    assert np.isfinite(PLACES).all()
