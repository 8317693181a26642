"""Central differences: the numerical slopes that an analytic gradient is held against.

An array is moved in place, along one entry or along a random direction, and a value that depends on
it is watched.

References
----------
Ridders, *Accurate computation of F'(x) and F'(x)F''(x)*, Adv. Eng. Softw. 4 (1982): of a ladder of
steps, the slope that changes least from one to the next is the best.
"""

from dataclasses import dataclass, replace

import numpy as np

STEP = 6e-6  # near eps**(1/3), the best of a central difference in float64
LADDER = [4.0**k for k in range(-4, 5)]  # times STEP, where one step size was not enough
# A gradient below this part of the function's value drowns in the rounding of the function.
FLOOR = 1e-5
REDRAWS = 5  # random directions that hit a kink are drawn anew
FEW = 8  # entries of a large array that are looked at one by one


@dataclass(frozen=True)
class ArrayCheck:
    """One array's comparison.

    Attributes
    ----------
    name : str
    size : int
        Number of entries.
    checked : str
        "all", or how: random directions and entries.
    status : {"ok", "kink", "differs", "not finite", "overwritten"}
        "kink": nothing differs, but some entries sit where the derivative jumps, and the gradient
        lies between the two sides. "not finite": the analytic gradient is NaN or infinite.
        "overwritten": the code changed an array that is not its own; `analytic` and `numerical`
        are then the value before and after.
    error : float
        Largest difference over the largest gradient of the array.
    index : tuple of int, or None
        Where the largest difference is; None if it was seen along a random direction only.
    analytic, numerical : float
        The two values there.
    kinks : tuple of indices
        Of the entries checked, those that sit on a kink.
    """

    name: str
    size: int
    checked: str
    status: str
    error: float
    index: tuple[int, ...] | None
    analytic: float
    numerical: float
    kinks: tuple[tuple[int, ...], ...] = ()

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong with this array."""
        return self.status in ("ok", "kink")


def number(value, where=""):
    """Return a function's value as a float.

    Raises
    ------
    ValueError
        If it is no scalar or not finite.
    TypeError
        If it is no real number, or was computed in single precision.
    """
    if np.ndim(value):
        raise ValueError(f"function must return a number; found shape {np.shape(value)}{where}")
    dtype = np.asarray(value).dtype
    if dtype.kind not in "buif":
        raise TypeError(f"function must return a real number; found {value!r}{where}")
    if dtype.itemsize < 8 and dtype.kind == "f":
        raise TypeError(f"function must compute in float64; it returned {dtype}")
    if not np.isfinite(value):
        raise ValueError(f"function must be finite; found {value}{where}")
    return float(value)


def compare(name, array, analytic, function, tolerance, max_entries, directions, rng):
    """Compare the gradient of a function in one array with its central differences.

    Parameters
    ----------
    name : str
    array : float64 array
        Moved in place, and put back.
    analytic : float64 array of the same shape
    function : callable
        Without arguments; its value follows `array`.
    tolerance : float
    max_entries : int
        Arrays of up to so many entries are checked entry by entry.
    directions : int
        Along so many random directions are larger ones checked.
    rng : np.random.Generator

    Returns
    -------
    ArrayCheck

    Examples
    --------
    >>> x = np.array([1.0, 2.0])
    >>> wrong = np.array([2.0, 5.0])
    >>> check = compare("x", x, wrong, lambda: x @ x, 1e-7, 1000, 10, np.random.default_rng(0))
    >>> check.status, check.index, check.analytic, round(check.numerical, 6)
    ('differs', (1,), 5.0, 4.0)
    """
    slopes = _Slopes(name, array, analytic, function, tolerance)
    sick = np.flatnonzero(~np.isfinite(slopes.analytic))
    if sick.size:
        return _not_finite(slopes, int(sick[0]))
    if array.size <= max_entries:
        return _entries(slopes, np.arange(array.size), "all")
    return _directions(slopes, directions, rng)


class _Slopes:
    """The slopes of a function along lines through one array."""

    def __init__(self, name, array, analytic, function, tolerance):
        self.name, self.array, self.function, self.tolerance = name, array, function, tolerance
        self.analytic = analytic.reshape(-1)
        self.centre = number(function())
        self.floor = FLOOR * abs(self.centre)

    def index(self, place):
        """Return the index of an entry, given its place in the flat array."""
        return tuple(int(i) for i in np.unravel_index(place, self.array.shape))

    def line(self, places, signs):
        """Return f(t), the function along a line through entries, and the step to take on it."""
        saved = self.array.flat[places]

        def f(t):
            self.array.flat[places] = saved + t * signs
            try:
                value = self.function()
            finally:
                self.array.flat[places] = saved
            first = self.index(np.ravel(places)[0])
            return number(value, f" with {self.name}{list(first)} moved by {t:.1e}")

        return f, STEP * max(1.0, float(np.abs(saved).max()))

    def central(self, places, signs):
        """Return the central difference along a line."""
        f, step = self.line(places, signs)
        return (f(step) - f(-step)) / (2 * step)

    def best(self, places, signs):
        """Return slope, its uncertainty, and the jump of the slope, from a ladder of steps."""
        f, step = self.line(places, signs)
        slopes, jumps = zip(*(_fourth_order(f, self.centre, step * k) for k in LADDER), strict=True)
        rounding = 4 * np.finfo(float).eps * abs(self.centre) / (step * np.array(LADDER[:-1]))
        uncertainty = np.abs(np.diff(slopes)) + rounding
        best = int(uncertainty.argmin())
        jump = abs(jumps[best])
        return slopes[best], uncertainty[best], jump if jump > 20 * rounding[best] else 0.0

    def second_look(self, places, signs, analytic, allowed):
        """Return status, numerical slope and error where one step size left a doubt."""
        numerical, uncertainty, jump = self.best(places, signs)
        error = max(abs(analytic - numerical) - uncertainty, 0.0)
        if error <= allowed:
            return "ok", numerical, error
        between = jump and abs(analytic - numerical) <= 0.6 * jump + allowed
        return "kink" if between else "differs", numerical, error


def _fourth_order(f, centre, h):
    """Return the slope and its jump, both extrapolated to a vanishing step.

    The second difference over the step tends to the jump of the slope: to zero if it is smooth.
    """
    right, left, near_right, near_left = f(h), f(-h), f(h / 2), f(-h / 2)
    coarse, fine = (right - left) / (2 * h), (near_right - near_left) / h
    bend, near_bend = (right - 2 * centre + left) / h, 2 * (near_right - 2 * centre + near_left) / h
    return (4 * fine - coarse) / 3, 2 * near_bend - bend


def _not_finite(slopes, place):
    return ArrayCheck(
        slopes.name, slopes.array.size, "all", "not finite", np.inf, slopes.index(place),
        float(slopes.analytic[place]), slopes.central(place, 1.0),
    )  # fmt: skip


def _entries(slopes, places, checked):
    """Compare entry by entry."""
    analytic = slopes.analytic[places]
    numerical = np.array([slopes.central(i, 1.0) for i in places])
    error = np.abs(analytic - numerical)
    scale = max(np.abs(slopes.analytic).max(), np.abs(numerical).max(), slopes.floor)
    allowed = slopes.tolerance * scale
    doubtful, kinks = error > allowed, np.zeros(len(places), bool)
    while doubtful.any():
        i = int(np.where(doubtful, error, -1).argmax())
        status, numerical[i], error[i] = slopes.second_look(places[i], 1.0, analytic[i], allowed)
        if status == "differs":
            break
        kinks[i], doubtful[i] = status == "kink", False
    else:
        status = "kink" if kinks.any() else "ok"
        i = int(np.where(kinks, -1, error).argmax())
    return ArrayCheck(
        slopes.name, slopes.array.size, checked, status,
        0.0 if kinks[i] or not scale else float(error[i] / scale), slopes.index(places[i]),
        float(analytic[i]), float(numerical[i]), tuple(map(slopes.index, places[kinks])),
    )  # fmt: skip


def _directions(slopes, count, rng):
    """Compare a few entries, then along random directions; trace a mismatch to an entry."""
    size, checked = slopes.array.size, f"{count} directions, {FEW}"
    worst = _entries(slopes, np.sort(rng.choice(size, FEW, replace=False)), checked)
    for _ in range(count if worst.ok else 0):
        signs, found = _one_direction(slopes, rng)
        row = ArrayCheck(slopes.name, size, checked, *found, kinks=worst.kinks)
        if not row.ok:
            place = _locate(slopes, signs)
            numerical = slopes.best(place, 1.0)[0]
            return replace(
                row, index=slopes.index(place), numerical=numerical,
                analytic=float(slopes.analytic[place]),
            )  # fmt: skip
        if row.error > worst.error:
            worst = replace(row, status="kink" if worst.kinks else row.status)
    return worst


def _one_direction(slopes, rng):
    """Return a random direction's signs, and status, error, no index, and both slopes along it."""
    size = slopes.array.size
    everywhere = np.arange(size)
    typical = max(float(np.linalg.norm(slopes.analytic)) / np.sqrt(size), slopes.floor)
    for _ in range(REDRAWS):
        signs = rng.choice([-1.0, 1.0], size) / np.sqrt(size)
        analytic, numerical = float(slopes.analytic @ signs), slopes.central(everywhere, signs)
        scale, status = max(typical, abs(numerical)), "ok"
        allowed, error = slopes.tolerance * scale, abs(analytic - numerical)
        if error > allowed:
            status, numerical, error = slopes.second_look(everywhere, signs, analytic, allowed)
        if status != "kink":
            break
    error = 0.0 if status == "kink" or not scale else error / scale
    return signs, (status, error, None, analytic, numerical)


def _locate(slopes, signs):
    """Return the place of the entry that a mismatch along a direction comes from, by halving."""
    places, signs = np.arange(len(signs)), np.sign(signs)

    def mismatch(places):
        direction = signs[places] / np.sqrt(len(places))
        gap = slopes.analytic[places] @ direction - slopes.best(places, direction)[0]
        return abs(gap) * np.sqrt(len(places))

    while len(places) > 1:
        places = max(np.array_split(places, 2), key=mismatch)
    return int(places[0])
