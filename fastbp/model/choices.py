"""What users choose as activations, loss and dropout: checked, and brought to one form each.

A choice is a name; of activations also a list with one for each hidden layer, of losses also an
object of `fastbp.losses`; or a function of the user's, a `fastbp.Activation` or `fastbp.Loss`.
Where a word has to do for such a function, it is "own", which is no name.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .. import reference
from .._support import checks
from .._support.texts import said
from ..errors import ModelFileError

# The names that users may give.
OUTPUT = tuple(reference.ACTIVATIONS)
HIDDEN = tuple(reference.PRIMES)
LOSSES = tuple(dict.fromkeys(loss for loss, _ in reference.LOSSES))
OWN = "own"
# By the loss, where it is no choice; of others it is identity.
_USUAL_OUTPUT = {"cross-entropy": "softmax", "poisson": "exp"}
_ADVICE = {"prime": "fastbp.Activation(f, slope)", "terms": "fastbp.Loss(value, delta)"}


def outputs(loss: str) -> tuple[str, ...]:
    """Return the output activations that this loss is defined for."""
    return HIDDEN if loss == OWN else tuple(out for name, out in reference.LOSSES if name == loss)


def hidden(value: Any, count: int) -> Any:
    """Return the activation of all hidden layers, or a tuple of one for each of `count`."""

    def one(name: str, value: Any) -> Any:
        return _function(name, value, HIDDEN, "prime")

    return _for_each("activation", value, count, one, HIDDEN[0])


def dropout(value: Any, count: int) -> Any:
    """Return the share of neurons dropped from all hidden layers, or a tuple of one for each."""
    share = _for_each("dropout", value, count, dropped, 0.0)
    if share and not count:
        raise ValueError(f"dropout must be 0: the network has no hidden layer; got {value!r}")
    return share


def dropped(name: str, value: Any) -> float:
    """Return a share of neurons that may be dropped, from 0 to below 1."""
    share = checks.share(name, value)
    if share > 1 - 2**-32:  # masks are drawn from 32 bits, of which some are to keep a neuron
        raise ValueError(f"{name} must be at most 1 - 2**-32; got {value!r}")
    return share


def loss(value: Any) -> Any:
    """Return the name of a loss; or what says more than that."""
    if not isinstance(value, str):  # only then is another module imported
        from ..losses import Adjusted, plain

        if isinstance(value, Adjusted):
            return plain(value)
    return _function("loss", value, LOSSES, "terms")


def output(value: Any, loss: Any, activation: Any) -> Any:
    """Return the activation of the output, by default that which suits the loss."""
    name = loss_name(loss)
    if value is None:
        same = name == "quadratic" and activation == "sigmoid"
        return "sigmoid" if same else _USUAL_OUTPUT.get(name, "identity")
    value = _function("output", value, OUTPUT, "prime")
    if isinstance(value, str) or name not in (*reference.TERMS, OWN):
        checks.one_of(f"output, with loss {called(loss)!r},", value, outputs(name))
    return value


def loss_name(loss: Any) -> str:
    """Return the name of a loss, whatever its setting; "own" for one of the user's."""
    return loss if isinstance(loss, str) else OWN if is_own(loss) else str(loss.name)


def is_own(function: Any) -> bool:
    """Return whether a choice is a function of the user's."""
    return hasattr(function, "prime") or hasattr(function, "terms")


def setting(loss: Any) -> float | None:
    """Return what a loss is told, see `reference.SETTINGS`; None where it is as by default."""
    return None if isinstance(loss, str) or is_own(loss) else float(loss.setting)


def kind(loss: Any, output: Any) -> tuple[str, str]:
    """Return the names by which it is told what outputs are, and what they may learn."""
    return loss_name(loss), output if isinstance(output, str) else OWN


def called(function: Any) -> str:
    """Return a choice in words, for people."""
    if isinstance(function, str):
        return function
    if isinstance(function, (list, tuple)):
        return ", ".join(map(called, function))
    if is_own(function):
        return str(function.name)
    name = reference.SETTINGS[function.name][0].replace("_", " ")
    return f"{function.name} ({name} {function.setting:g})"


def for_each(value: Any, count: int) -> tuple[Any, ...]:
    """Return what holds for each of the hidden layers."""
    return tuple(value) if isinstance(value, (list, tuple)) else (value,) * count


def by_layer(config: Mapping[str, Any]) -> list[str]:
    """Return in words the activation of each layer above the inputs, and its dropout."""
    count = len(config["sizes"]) - 2
    parts = for_each(config["activation"], count), for_each(config["dropout"], count)
    words = [called(f) + f", dropout {p:g}" * (p > 0) for f, p in zip(*parts, strict=True)]
    return [*words, called(config["output"])]


def in_file(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of `Network` as JSON can hold them: functions by their references."""
    return {
        name: list(map(_in_file, value)) if isinstance(value, (list, tuple)) else _in_file(value)
        for name, value in config.items()
    }


def _in_file(value: Any) -> Any:
    if is_own(value):
        return {"function": value.reference}
    return value.in_file() if hasattr(value, "in_file") else value


def check_names(functions: Sequence[Any]) -> None:
    """Raise a ValueError unless files can name these functions so that they can be told apart."""
    for one in functions:
        alike = (f for f in functions if type(f) is type(one) and f != one)
        if any(f.reference == one.reference for f in alike):
            raise ValueError(
                f"a file would call several functions {one.reference!r}: give each a name of "
                f"its own, {type(one).__name__}(..., name=...)"
            )


def from_file(config: Mapping[str, Any], functions: Sequence[Any]) -> dict[str, Any]:
    """Return the arguments that `in_file` described, with the functions that it only named."""
    found = dict(config)
    for name in ("activation", "output", "loss"):
        value, method = found.get(name), "terms" if name == "loss" else "prime"
        several = value if isinstance(value, list) else [value]
        taken = [_from_file(one, method, functions) for one in several]
        found |= {name: taken if isinstance(value, list) else taken[0]} if name in found else {}
    return found


def _from_file(value: Any, method: str, functions: Sequence[Any]) -> Any:
    if not isinstance(value, dict):
        return value
    if "function" not in value:
        from ..losses import from_file

        return from_file(value)
    wanted = str(value["function"])
    found = _called(wanted, [one for one in functions if hasattr(one, method)])
    if len(found) != 1:
        which = "one of that name" if found else "it"
        raise ModelFileError(
            f"it takes the function {said(repr(wanted), 80)}, which a file only names: pass "
            f"{which} to fastbp.load, functions=[{_ADVICE[method]}]"
        )
    return found[0]


def _called(reference: str, functions: Sequence[Any]) -> list[Any]:
    """Return the functions of this module and name, or else those of this name."""
    # What a program calls `__main__` has another name for those that import it.
    exact = [one for one in functions if one.reference == reference]
    name = reference.rpartition(":")[2]
    return list(dict.fromkeys(exact or [one for one in functions if one.name == name]))


def own_functions(functions: Any) -> tuple[Any, ...]:
    """Return the functions that somebody hands over for a file."""
    try:
        found = tuple(functions)
    except TypeError:
        raise TypeError(f"functions must be a sequence; got {functions!r}") from None
    for one in found:
        if isinstance(one, type) or not is_own(one):
            wanted = f"{_ADVICE['prime']} or {_ADVICE['terms']}"
            raise TypeError(f"functions must hold objects made by {wanted}; got {one!r}")
    return found


def _function(name: str, value: Any, allowed: Sequence[str], method: str) -> Any:
    """Return one of the allowed names, or a function of the user's, which has this method."""
    if isinstance(value, type) or callable(getattr(value, method, None)):
        return checks.instance(name, value)
    if callable(value):
        made = f"{', '.join(allowed)}, or {_ADVICE[method]}"
        raise TypeError(f"{name} must be one of {made}; got {value!r}")
    return checks.one_of(name, value, allowed)


def _for_each(
    name: str, value: Any, count: int, checked: Callable[[str, Any], Any], usual: Any
) -> Any:
    """Return what is given for all hidden layers, or a tuple of an entry for each."""
    if not isinstance(value, (list, tuple)):
        return checked(name, value)
    if len(value) != count:
        layers = "the hidden layer" if count == 1 else f"each of the {count} hidden layers"
        layers = layers if count else "no layer: the network has no hidden one"
        raise ValueError(f"{name} must have an entry for {layers}; got {len(value)}: {value!r}")
    entries = tuple(checked(f"{name}[{l}]", entry) for l, entry in enumerate(value))
    if all(entry == entries[0] for entry in entries):
        return entries[0] if entries else usual
    return entries
