"""Central differences: the numerical slopes that an analytic gradient is compared with."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, TypeAlias

import numpy as np

STEP = 6e-6  # near eps**(1/3), the best of a central difference in float64
# Times STEP, where one step size was not enough; the slope that changes least from one step to the
# next is the best: Ridders, *Accurate computation of F'(x) and F'(x)F''(x)*, 1982.
LADDER = 4.0 ** np.arange(-4, 5)
LONG_LADDER = 4.0 ** np.arange(-10, 5)  # for what is not smooth
# A gradient below this fraction of the function's value is lost in the rounding of the function.
FLOOR = 1e-5
BENT = 1e-3  # of the largest slope: where it changes by more within STEP there may be a kink
CLEAR = 20  # times rounding: what is no rounding
SAME = 1e-13  # of a value: a program that adds in another order may change it by so much
NOISE = 1e-4  # of the largest slope: if rounding does more with the largest step, nothing helps
REDRAWS = 5  # a random direction that crosses a kink is drawn again
FEW = 8  # entries of a large array that are checked one by one

KINK = "undecided at a kink"

_Index: TypeAlias = tuple[int, ...]


@dataclass(frozen=True)
class ArrayCheck:
    """The comparison of one array."""

    name: str
    size: int  # number of entries
    checked: str  # "all", or how: random directions and entries
    # "ok"; "undecided at a kink": nothing differs, but some entries lie where the derivative jumps,
    # and the gradient lies between the two sides; "differs"; "not finite": the analytic gradient is
    # not; "overwritten": the code changed its caller's array from `analytic` to `numerical`.
    status: str
    error: float  # largest difference over the largest gradient of the array
    index: _Index | None  # of the largest difference; None if only seen along a direction
    analytic: float  # there
    numerical: float
    kinks: tuple[_Index, ...] = ()  # the checked entries that lie on a kink

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong with this array, as far as differences can decide."""
        return self.status in ("ok", KINK)


def numerical_gradient(function: Callable[[], float], array: np.ndarray) -> np.ndarray:
    """Return the gradient of a function in each entry of a float array that it depends on."""
    numerical = np.empty(array.shape)
    steady(function)
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


def steady(function: Callable[[], Any], *known: float) -> float:
    """Return a function's value if it is the same each time; a random one may agree by chance."""
    values = [*known, *(float(function()) for _ in range(4))]
    if max(values) - min(values) > SAME * max(map(abs, values)):
        raise ValueError(
            "the function gives different values for the same parameters, such as "
            f"{min(values)} and {max(values)}: let each call seed its random numbers anew, and "
            "leave out dropout"
        )
    return values[0]


class Slopes(NamedTuple):
    """What the steps of a ladder, the smallest first, say of the slope of f(t) at zero."""

    central: np.ndarray  # (steps,)
    sides: np.ndarray  # (2, steps): of t > 0, and of t < 0
    rounding: np.ndarray  # (steps,) by so much it may change these

    @classmethod
    def of(
        cls, f: Callable[[float], float], h: np.ndarray, centre: float, spread: float = 0.0
    ) -> "Slopes":
        """Measure them, all extrapolated from h and h / 2 to a vanishing step."""
        values = [[f(t) for t in (k, -k, k / 2, -k / 2)] for k in h.tolist()]
        right, left, near_right, near_left = np.array(values).T
        coarse, fine = (right - left) / (2 * h), (near_right - near_left) / h
        sides = [4 * near_right - right - 3 * centre, 3 * centre + left - 4 * near_left]
        rounding = (4 * np.finfo(float).eps * abs(centre) + spread) / h
        return cls((4 * fine - coarse) / 3, np.array(sides) / h, rounding)

    def best(self) -> tuple[float, float]:
        """Return the slope of a smooth function, and its uncertainty."""
        uncertainty = np.abs(np.diff(self.central)) + self.rounding[:-1]
        i = int(uncertainty.argmin())
        return float(self.central[i]), float(uncertainty[i])

    def kink(self) -> tuple[int, float] | None:
        """Return the smallest step that shows a kink, and by how much the slope changes there."""
        # The sides of a smooth function approach each other, and themselves, with the square of
        # the step; here they do not.
        changes = [self.sides[0] - self.sides[1], *np.diff(self.sides, append=np.nan)]
        apart = np.abs(changes)[:, :-1].max(axis=0)
        clear = np.flatnonzero(apart > CLEAR * self.rounding[:-1])
        k = int(clear[0]) if clear.size else len(apart)
        growth = apart[k + 1 : k + 4] / apart[k : k + 3][: len(apart[k + 1 : k + 4])]
        return (k, float(apart[k])) if (growth < 8).any() else None


@dataclass
class Comparison:
    """The comparison of a gradient in one float64 array, which is moved and put back."""

    name: str
    array: np.ndarray
    analytic: np.ndarray
    function: Callable[[], Any]  # depends on the array
    held: Callable[[], Any]  # the same; where it can be told, with each ReLU held on its side
    on_kink: bool  # whether a ReLU that is held is at zero
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
            return self._check("not finite", np.inf, self._central(i, 1.0)[0], i)
        if self.array.size <= self.max_entries:
            return self._entries(np.arange(self.array.size))
        self.checked = f"{self.directions} directions, {FEW}"
        return self._along_directions()

    def _index(self, place: Any) -> _Index:
        return tuple(int(i) for i in np.unravel_index(place, self.array.shape))

    def _check(self, status: str, error: float, slope: float, i: Any, *kinks: _Index) -> ArrayCheck:
        head = self.name, self.array.size, self.checked, status, float(error), self._index(i)
        return ArrayCheck(*head, float(self.analytic[i]), float(slope), kinks)

    def _line(
        self, places: Any, signs: Any, function: Callable[[], Any]
    ) -> tuple[Callable[[float], float], float]:
        """Return f(t), the function along a line through entries, and the step to take on it."""
        saved = self.array.flat[places]

        def f(t: float) -> float:
            self.array.flat[places] = saved + t * signs
            try:
                value = function()
            finally:
                self.array.flat[places] = saved
            first = self._index(np.ravel(places)[0])
            return number(value, f" with {self.name}{list(first)} moved by {t:.1e}")

        return f, STEP * max(1.0, float(np.abs(saved).max()))

    def _central(self, places: Any, signs: Any) -> tuple[float, float]:
        """Return the slope, and by how much it changes within the step."""
        f, step = self._line(places, signs, self.function)
        above, below = f(step), f(-step)
        return (above - below) / (2 * step), abs(above - 2 * self.centre + below) / step

    def _slopes(self, places: Any, signs: Any) -> Slopes:
        f, step = self._line(places, signs, self.function)
        return Slopes.of(f, step * LADDER, self.centre)

    def _closely(self, places: Any, signs: Any, slope: float, scale: float) -> Slopes:
        """Return slopes down to the smallest steps, with the rounding that is seen."""
        f, step = self._line(places, signs, self.held)
        centre, unit = steady(lambda: f(0.0)), np.finfo(float).eps * step / STEP
        # Within a few roundings of the parameter nothing else is seen, but for its own.
        jump = max(abs(f(k * unit) - 2 * centre + f(-k * unit)) for k in (4, 8, 16))
        if jump > NOISE * scale * step * LADDER[-1]:
            first = self._index(np.ravel(places)[0])
            raise ValueError(
                f"the function jumps, by {jump:.1e} where {self.name}{list(first)} is moved by a "
                "rounding error: it has no slope there, or computes in less than float64"
            )
        return Slopes.of(f, step * LONG_LADDER, centre, jump + 4 * unit * abs(slope))

    def _second_look(
        self, places: Any, signs: Any, analytic: float, allowed: float
    ) -> tuple[str, float, float]:
        """Return status, numerical slope and error where one step size left a doubt."""
        slopes = self._slopes(places, signs)
        numerical, uncertainty = slopes.best()
        error, crosses = (
            max(abs(analytic - numerical) - uncertainty, 0.0),
            slopes.kink() is not None,
        )
        if error <= allowed and not crosses:
            return "ok", numerical, error
        scale = max(allowed / self.tolerance, float(np.abs(slopes.sides[:, -1]).max()))
        slopes = self._closely(places, signs, numerical, scale)
        if (kink := slopes.kink()) is None:
            numerical, uncertainty = slopes.best()
            error = max(abs(analytic - numerical) - uncertainty, 0.0)
            fine = KINK if self.on_kink and crosses else "ok"
            return fine if error <= allowed else "differs", numerical, error
        k, jump = kink
        limit, (low, high) = CLEAR * slopes.rounding, np.sort(slopes.sides, axis=0)
        # A kink that step k does not cross leaves it decided, unless rounding is too large there.
        far = high[k] - low[k] <= limit[k] <= 10 * allowed
        near = [j for j in range(k + 1) if j == k or (limit[j] <= jump / 4 and not far)]
        gaps = np.maximum(low - analytic, analytic - high)[near] - limit[near]
        i, error = near[int(gaps.argmin())], max(float(gaps.min()), 0.0)
        # Along a direction many kinks add up, on either side.
        wide = jump if np.size(places) > 1 and not far else 0.0
        fine = "ok" if far else KINK
        return fine if error <= allowed + wide else "differs", float(slopes.central[i]), error

    def _entries(self, places: np.ndarray) -> ArrayCheck:
        analytic = self.analytic[places]
        numerical, bends = np.array([self._central(i, 1.0) for i in places]).T
        error = np.abs(analytic - numerical)
        slopes = np.abs(numerical) * (bends < np.abs(numerical))  # none of those across a kink
        scale = max(np.abs(self.analytic).max(), slopes.max(), FLOOR * abs(self.centre))
        allowed = self.tolerance * scale
        doubtful, kinks = (error > allowed) | self._bent(bends, scale), np.zeros(len(places), bool)
        while doubtful.any():
            i = int(np.where(doubtful, error, -1).argmax())
            status, numerical[i], error[i] = self._second_look(places[i], 1.0, analytic[i], allowed)
            if status == "differs":
                break
            kinks[i], doubtful[i] = status == KINK, False
        else:
            status = KINK if kinks.any() else "ok"
            i = int(np.where(kinks, -1, error).argmax())
        share = 0.0 if kinks[i] or not scale else error[i] / scale
        return self._check(status, share, numerical[i], places[i], *map(self._index, places[kinks]))

    def _bent(self, bends: Any, scale: float) -> Any:
        # Rounding bends as well.
        return bends > BENT * scale + CLEAR * np.finfo(float).eps * abs(self.centre) / STEP

    def _along_directions(self) -> ArrayCheck:
        """Compare a few entries, then along random directions; trace a mismatch to an entry."""
        size, everywhere = self.array.size, np.arange(self.array.size)
        worst = self._entries(np.sort(self.rng.choice(size, FEW, replace=False)))
        kinks, norm = worst.kinks, float(np.linalg.norm(self.analytic))
        typical = max(norm / np.sqrt(size), FLOOR * abs(self.centre))
        for _ in range(self.directions if worst.ok else 0):
            for _ in range(REDRAWS):
                signs = self.rng.choice([-1.0, 1.0], size) / np.sqrt(size)
                exact = float(self.analytic @ signs)
                slope, bend = self._central(everywhere, signs)
                scale, status = max(typical, abs(slope)), "ok"
                allowed, error = self.tolerance * scale, abs(exact - slope)
                if error > allowed or self._bent(bend, scale):
                    status, slope, error = self._second_look(everywhere, signs, exact, allowed)
                if status != KINK:
                    break
            error = 0.0 if status == KINK or not scale else error / scale
            if status == "differs":
                i = self._locate(signs)
                return self._check(status, error, self._slopes(i, 1.0).best()[0], i, *kinks)
            if error > worst.error:
                head = self.name, size, self.checked, worst.status
                worst = ArrayCheck(*head, error, None, exact, slope, kinks)
            if status == KINK:
                worst = replace(worst, status=KINK)
        return worst

    def _locate(self, signs: np.ndarray) -> int:
        # The place of the entry that a mismatch along a direction comes from, by halving.
        places, signs = np.arange(len(signs)), np.sign(signs)

        def mismatch(places: np.ndarray) -> float:
            direction = signs[places] / np.sqrt(len(places))
            gap = self.analytic[places] @ direction - self._slopes(places, direction).best()[0]
            return float(abs(gap) * np.sqrt(len(places)))

        while len(places) > 1:
            places = max(np.array_split(places, 2), key=mismatch)
        return int(places[0])
