"""Accuracy of the float32 activations over every float there is, in units in the last place.

    python scripts/exhaustive_ulp.py                 # all 2**32 bit patterns: minutes
    python scripts/exhaustive_ulp.py --stride 4096   # every 4096th: a second

Floats are visited in their order on the line, from -inf to inf, so that monotony is checked between
neighbours; then come all NaNs. The truth is computed in float64, whose own error is below 1e-8 of a
float32 unit. Softmax is the first of the two outputs for (z, 0) and for it no promise is given.

The exit code is 1 if a promise is broken: at most 2 units where the truth is a normal number (3 for
SiLU, 6 for GELU), an error of at most 2**-126 below that, monotone (sigmoid, tanh, exp, ELU), exact
limits, NaN for NaN.
"""

import argparse
import json
import math
import sys
import time

import numpy as np

import fastbp

CHUNK = 2**15  # elements at once: all temporaries stay in the second level cache
INFINITY = 0x7F800000  # the bits of float32 infinity: so many floats lie below it, from 0.0
LINE = 2 * (INFINITY + 1)  # floats from -inf to inf, both zeros counted
LOG_2 = float(np.float32(np.log(2)))
SMALLEST_NORMAL = 2.0**-126
EXPONENT = np.int64(0x7FF) << 52  # of a float64
PLACES_KEPT = 10


def sigmoid(x):
    """The truth, in float64."""
    t = np.exp(-np.abs(x))
    return np.where(x < 0, t, 1) / (1 + t)


def exp(x):
    """The truth, infinite where no float32 is near it."""
    with np.errstate(over="ignore"):
        return np.where(np.isinf(np.exp(x).astype(np.float32)), np.inf, np.exp(x))


def _softmax_with_zero(z):
    rows = np.zeros((len(z), 2), np.float32)
    rows[:, 0] = z
    finite = np.isfinite(z) | np.isnan(z)
    rows[~finite] = 0  # softmax of an infinity has no value
    out = fastbp.get_backend("numba").softmax(rows)[:, 0]
    return np.where(finite, out, z > 0).astype(np.float32)


def elu(x):
    """The truth, in float64."""
    return np.where(x > 0, x, np.expm1(np.minimum(x, 0)))


def softplus(x):
    """The truth, in float64."""
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


def silu(x):
    """The truth, in float64; of minus infinity its limit, 0."""
    return np.maximum(x, -1e3) * sigmoid(x)


def gelu(x):
    """The truth, in float64; of minus infinity its limit, 0."""
    return np.maximum(x, -1e3) * _erfc(-x / np.sqrt(2)) / 2


_erfc = np.vectorize(math.erfc, otypes=[np.float64])


def _operation(name):
    return getattr(fastbp.get_backend("numba"), name)


# By name: what is measured, the truth, its values at -inf, 0 and inf, the units that it misses by
# at most as is promised (None: no promise), and whether it never falls.
FUNCTIONS = {
    "sigmoid": (_operation("sigmoid"), sigmoid, (0.0, 0.5, 1.0), 2.0, True),
    "tanh": (_operation("tanh"), np.tanh, (-1.0, 0.0, 1.0), 2.0, True),
    "exp": (_operation("exp"), exp, (0.0, 1.0, np.inf), 2.0, True),
    "elu": (_operation("elu"), elu, (-1.0, 0.0, np.inf), 2.0, True),
    "softplus": (_operation("softplus"), softplus, (0.0, LOG_2, np.inf), 2.0, False),
    "silu": (_operation("silu"), silu, (0.0, 0.0, np.inf), 3.0, False),
    "gelu": (_operation("gelu"), gelu, (0.0, 0.0, np.inf), 6.0, False),
    "softmax": (_softmax_with_zero, sigmoid, (0.0, 0.5, 1.0), None, True),
}
USUAL_ULP = 2.0  # by which what is not promised is judged


def from_bits(bits):
    return bits.astype(np.uint32).view(np.float32)


def chunks(count, stride):
    """Yield the numbers 0, stride, 2 * stride, ... below count, in pieces."""
    for first in range(0, count, CHUNK * stride):
        yield np.arange(first, min(first + CHUNK * stride, count), stride)


def on_the_line(k):
    """The k-th float from -inf to inf."""
    return from_bits(np.where(k <= INFINITY, 0xFF800000 - k, k - (INFINITY + 1)))


def nans(stride):
    """Yield all NaNs, of both signs."""
    for k in chunks(2**23 - 1, stride):
        yield from_bits(INFINITY + 1 + k)
        yield from_bits(0xFF800001 + k)


class Accuracy:
    """What was seen of one function so far."""

    def __init__(self, rises):
        self.rises = rises
        self.max_ulp, self.worst_at = 0.0, 0.0
        self.max_error_below_normal = 0.0
        self.drops, self.largest_drop, self.places = 0, 0.0, []
        self.last = np.float32(-np.inf), np.float32(-np.inf)

    def add(self, z, got, truth):
        """Take in one piece of the line."""
        with np.errstate(invalid="ignore"):
            same = (got == truth) | (np.isnan(got) & np.isnan(truth))
            error = np.where(same, 0, np.abs(got - truth))
        error[np.isnan(error)] = np.inf
        binade = (truth.view(np.int64) & EXPONENT).view(np.float64)
        normal = binade >= SMALLEST_NORMAL
        with np.errstate(invalid="ignore"):
            ulp = np.where(normal & ~same, error / np.maximum(binade, SMALLEST_NORMAL) * 2.0**23, 0)
        ulp[np.isnan(ulp)] = np.inf  # of a finite value where the truth is not
        worst = ulp.argmax()
        if ulp[worst] > self.max_ulp:
            self.max_ulp, self.worst_at = float(ulp[worst]), float(z[worst])
        if not normal.all():
            below = float(np.where(normal, 0, error).max())
            self.max_error_below_normal = max(self.max_error_below_normal, below)
        if self.rises:
            self._add_order(z, got)

    def _add_order(self, z, got):
        before = np.concatenate([[self.last[1]], got[:-1]])
        fell = ~(got >= before)
        if fell.any():
            self.drops += int(fell.sum())
            self.largest_drop = max(self.largest_drop, float((before[fell] - got[fell]).max()))
            room = PLACES_KEPT - len(self.places)
            self.places += [float(x) for x in z[fell][:room]]
        self.last = z[-1], got[-1]


def measure(name, stride):
    """Return the accuracy of one function as a dict."""
    function, truth, limits, ulp, rises = FUNCTIONS[name]
    started, seen = time.perf_counter(), Accuracy(rises)
    for k in chunks(LINE, stride):
        z = on_the_line(k)
        seen.add(z, function(z), truth(z.astype(np.float64)))
    ends = function(np.array([-np.inf, 0, np.inf], np.float32))
    row = {
        "function": name,
        "max_ulp": seen.max_ulp,
        "worst_at": seen.worst_at,
        "max_error_below_normal": seen.max_error_below_normal,
        "monotone": seen.drops == 0,
        "drops": seen.drops,
        "largest_drop": seen.largest_drop,
        "drops_at": seen.places,
        "limits": np.array_equal(ends, limits, equal_nan=True),
        "nan": all(np.isnan(function(z)).all() for z in nans(stride)),
    }
    kept = (
        row["max_ulp"] <= (ulp or USUAL_ULP)
        and row["max_error_below_normal"] <= SMALLEST_NORMAL
        and row["monotone"] and row["limits"] and row["nan"]
    )  # fmt: skip
    return row | {"promised": ulp is not None, "ok": kept, "seconds": time.perf_counter() - started}


def table(rows):
    """Return the rows as text."""
    lines = [
        f"{'function':<10}{'max ULP':>9}  {'at z =':>15}  {'error below 2**-126':>20}"
        f"  {'monotone':<9}{'limits':<8}{'NaN':<5}{'seconds':>8}"
    ]
    for r in rows:
        words = {key: "yes" if r[key] else "NO" for key in ("monotone", "limits", "nan")}
        verdict = "" if r["ok"] else "  not ok" if r["promised"] else "  (not promised)"
        lines.append(
            f"{r['function']:<10}{r['max_ulp']:>9.4f}  {r['worst_at']:>15.8g}"
            f"  {r['max_error_below_normal']:>20.3e}  {words['monotone']:<9}{words['limits']:<8}"
            f"{words['nan']:<5}{r['seconds']:>8.1f}{verdict}"
        )
        if r["drops"]:
            places = ", ".join(f"{z:.9g}" for z in r["drops_at"])
            lines.append(
                f"    falls {r['drops']} times, by up to {r['largest_drop']:.3g}: {places}"
            )
    return "\n".join(lines)


def numeric(value):
    """JSON has neither NaN nor infinity."""
    return None if isinstance(value, float) and not np.isfinite(value) else value


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], usage=argparse.SUPPRESS)
    parser.add_argument("functions", nargs="*", help=f"of {', '.join(FUNCTIONS)}; all by default")
    parser.add_argument("--stride", type=int, default=1, help="visit every N-th float only")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead")
    options = parser.parse_args(arguments)
    unknown = set(options.functions) - set(FUNCTIONS)
    if unknown:
        known = ", ".join(FUNCTIONS)
        parser.error(f"functions must be among {known}; got {', '.join(sorted(unknown))}")
    if options.stride < 1:
        parser.error(f"--stride must be at least 1; got {options.stride}")
    rows = [measure(name, options.stride) for name in options.functions or FUNCTIONS]
    if options.json:
        rows_as_json = [{k: numeric(v) for k, v in row.items()} for row in rows]
        print(json.dumps({"stride": options.stride, "rows": rows_as_json}, allow_nan=False))
    else:
        print(table(rows))
    return 0 if all(row["ok"] for row in rows if row["promised"]) else 1


if __name__ == "__main__":
    sys.exit(main())
