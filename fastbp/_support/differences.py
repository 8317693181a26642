"""Central differences: the numerical slopes that an analytic gradient is compared with."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

STEP = 6e-6  # near eps**(1/3), the best of a central difference in float64
# Times STEP, where one step size was not enough; the slope that changes least from one step to the
# next is the best: Ridders, *Accurate computation of F'(x) and F'(x)F''(x)*, 1982.
LADDER = [4.0**k for k in range(-4, 5)]
# A gradient below this fraction of the function's value is lost in the rounding of the function.
FLOOR = 1e-5
REDRAWS = 5  # a random direction that crosses a kink is drawn again
FEW = 8  # entries of a large array that are checked one by one

_Index: TypeAlias = tuple[int, ...]


@dataclass(frozen=True)
class ArrayCheck:
    """The comparison of one array."""

    name: str
    size: int  # number of entries
    checked: str  # "all", or how: random directions and entries
    # "ok"; "kink": nothing differs, but some entries lie where the derivative jumps, and the
    # gradient lies between the two sides; "differs"; "not finite": the analytic gradient is not;
    # "overwritten": the code changed its caller's array from `analytic` to `numerical`.
    status: str
    error: float  # largest difference over the largest gradient of the array
    index: _Index | None  # of the largest difference; None if only seen along a direction
    analytic: float  # there
    numerical: float
    kinks: tuple[_Index, ...] = ()  # the checked entries that lie on a kink

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong with this array."""
        return self.status in ("ok", "kink")


def numerical_gradient(function: Callable[[], float], array: np.ndarray) -> np.ndarray:
    """Return the gradient of a function in each entry of a float array that it depends on."""
    numerical = np.empty(array.shape)
    step = np.cbrt(np.finfo(array.dtype).eps)
    for index, value in np.ndenumerate(array.copy()):
        h = step * max(1.0, abs(value))
        try:
            array[index] = value + h
            above, high = function(), array[index]
            array[index] = value - h
            below, low = function(), array[index]
        finally:
            array[index] = value
        numerical[index] = (above - below) / (high - low)
    return numerical


def number(value: Any, where: str = "") -> float:
    """Return a function's value as a float, if it is one, finite, and computed in float64."""
    if np.ndim(value):
        raise ValueError(f"function must return a number; got shape {np.shape(value)}{where}")
    dtype = np.asarray(value).dtype
    if dtype.kind not in "buif":
        raise TypeError(f"function must return a real number; got {value!r}{where}")
    if dtype.itemsize < 8 and dtype.kind == "f":
        raise TypeError(f"function must compute in float64; it returned {dtype}")
    if not np.isfinite(value):
        raise ValueError(f"function must be finite; got {value}{where}")
    return float(value)


@dataclass
class Comparison:
    """The comparison of a gradient in one float64 array, which is moved and put back."""

    name: str
    array: np.ndarray
    analytic: np.ndarray
    function: Callable[[], Any]  # depends on the array
    tolerance: float
    max_entries: int  # of an array that is checked entry by entry
    directions: int  # along which a larger one is checked
    rng: np.random.Generator
    checked: str = "all"

    def row(self) -> ArrayCheck:
        """Compare entry by entry, or a few entries and along random directions."""
        self.analytic, self.centre = self.analytic.reshape(-1), number(self.function())
        not_finite = np.flatnonzero(~np.isfinite(self.analytic))
        if not_finite.size:
            i = not_finite[0]
            return self._check("not finite", np.inf, self._central(i, 1.0), i)
        if self.array.size <= self.max_entries:
            return self._entries(np.arange(self.array.size))
        self.checked = f"{self.directions} directions, {FEW}"
        return self._along_directions()

    def _index(self, place: Any) -> _Index:
        return tuple(int(i) for i in np.unravel_index(place, self.array.shape))

    def _check(self, status: str, error: float, slope: float, i: Any, *kinks: _Index) -> ArrayCheck:
        head = self.name, self.array.size, self.checked, status, float(error), self._index(i)
        return ArrayCheck(*head, float(self.analytic[i]), float(slope), kinks)

    def _line(self, places: Any, signs: Any) -> tuple[Callable[[float], float], float]:
        """Return f(t), the function along a line through entries, and the step to take on it."""
        saved = self.array.flat[places]

        def f(t: float) -> float:
            self.array.flat[places] = saved + t * signs
            try:
                value = self.function()
            finally:
                self.array.flat[places] = saved
            first = self._index(np.ravel(places)[0])
            return number(value, f" with {self.name}{list(first)} moved by {t:.1e}")

        return f, STEP * max(1.0, float(np.abs(saved).max()))

    def _central(self, places: Any, signs: Any) -> float:
        f, step = self._line(places, signs)
        return (f(step) - f(-step)) / (2 * step)

    def _best(self, places: Any, signs: Any) -> tuple[float, float, float]:
        """Return slope, its uncertainty, and the jump of the slope, from a ladder of steps."""
        f, step = self._line(places, signs)
        h = step * np.array(LADDER)
        values = [[f(t) for t in (k, -k, k / 2, -k / 2)] for k in h.tolist()]
        right, left, near_right, near_left = np.array(values).T
        coarse, fine = (right - left) / (2 * h), (near_right - near_left) / h
        # The second difference over the step tends to the jump of the slope: to zero if it is
        # smooth. Slope and jump are both extrapolated to a vanishing step.
        bend = (right - 2 * self.centre + left) / h
        near_bend = 2 * (near_right - 2 * self.centre + near_left) / h
        slopes, jumps = (4 * fine - coarse) / 3, np.abs(2 * near_bend - bend)
        rounding = 4 * np.finfo(float).eps * abs(self.centre) / h[:-1]
        uncertainty = np.abs(np.diff(slopes)) + rounding
        i = int(uncertainty.argmin())
        jump = float(jumps[i]) if jumps[i] > 20 * rounding[i] else 0.0
        return float(slopes[i]), float(uncertainty[i]), jump

    def _second_look(
        self, places: Any, signs: Any, analytic: float, allowed: float
    ) -> tuple[str, float, float]:
        """Return status, numerical slope and error where one step size left a doubt."""
        numerical, uncertainty, jump = self._best(places, signs)
        error = max(abs(analytic - numerical) - uncertainty, 0.0)
        between = jump and abs(analytic - numerical) <= 0.6 * jump + allowed
        status = "ok" if error <= allowed else "kink" if between else "differs"
        return status, numerical, error

    def _entries(self, places: np.ndarray) -> ArrayCheck:
        analytic = self.analytic[places]
        numerical = np.array([self._central(i, 1.0) for i in places])
        error = np.abs(analytic - numerical)
        scale = max(np.abs(self.analytic).max(), np.abs(numerical).max(), FLOOR * abs(self.centre))
        allowed = self.tolerance * scale
        doubtful, kinks = error > allowed, np.zeros(len(places), bool)
        while doubtful.any():
            i = int(np.where(doubtful, error, -1).argmax())
            status, numerical[i], error[i] = self._second_look(places[i], 1.0, analytic[i], allowed)
            if status == "differs":
                break
            kinks[i], doubtful[i] = status == "kink", False
        else:
            status = "kink" if kinks.any() else "ok"
            i = int(np.where(kinks, -1, error).argmax())
        share = 0.0 if kinks[i] or not scale else error[i] / scale
        return self._check(status, share, numerical[i], places[i], *map(self._index, places[kinks]))

    def _along_directions(self) -> ArrayCheck:
        """Compare a few entries, then along random directions; trace a mismatch to an entry."""
        size, everywhere = self.array.size, np.arange(self.array.size)
        worst = self._entries(np.sort(self.rng.choice(size, FEW, replace=False)))
        kinks, norm = worst.kinks, float(np.linalg.norm(self.analytic))
        typical = max(norm / np.sqrt(size), FLOOR * abs(self.centre))
        for _ in range(self.directions if worst.ok else 0):
            for _ in range(REDRAWS):
                signs = self.rng.choice([-1.0, 1.0], size) / np.sqrt(size)
                exact, slope = float(self.analytic @ signs), self._central(everywhere, signs)
                scale, status = max(typical, abs(slope)), "ok"
                allowed, error = self.tolerance * scale, abs(exact - slope)
                if error > allowed:
                    status, slope, error = self._second_look(everywhere, signs, exact, allowed)
                if status != "kink":
                    break
            error = 0.0 if status == "kink" or not scale else error / scale
            if status == "differs":
                i = self._locate(signs)
                return self._check(status, error, self._best(i, 1.0)[0], i, *kinks)
            if error > worst.error:
                head = self.name, size, self.checked, "kink" if kinks else status
                worst = ArrayCheck(*head, error, None, exact, slope, kinks)
        return worst

    def _locate(self, signs: np.ndarray) -> int:
        # The place of the entry that a mismatch along a direction comes from, by halving.
        places, signs = np.arange(len(signs)), np.sign(signs)

        def mismatch(places: np.ndarray) -> float:
            direction = signs[places] / np.sqrt(len(places))
            gap = self.analytic[places] @ direction - self._best(places, direction)[0]
            return float(abs(gap) * np.sqrt(len(places)))

        while len(places) > 1:
            places = max(np.array_split(places, 2), key=mismatch)
        return int(places[0])
