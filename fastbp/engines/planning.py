"""How a network is walked: on which path, in what chunks and blocks, by how many threads.

Choices depend on shapes, dtype, density and CPU, never on timings or on the number of threads: the
same machine gives the same bits.
"""

from functools import cached_property
from itertools import accumulate, chain, pairwise
from typing import NamedTuple

from .._support.cores import available_cores
from ..kernels import machine
from ..model.layout import LINE, Layout


def team_size(threads: int, weights: int, batch_size: int, work: int | None = None) -> int:
    """Return how many of the threads asked for take part; the result has the same bits anyway."""
    most = min(threads, weights * batch_size // (work or machine.WORK_PER_THREAD))
    return min(most, available_cores()) if most > 1 else 1


def rounded_up(n: int, unit: int) -> int:
    """Return the smallest multiple of unit that is not below n."""
    return -(-n // unit) * unit


class Places(NamedTuple):
    """Where activations, deltas and transposed weights of each layer start in the scratch."""

    chunk: int  # samples that fit
    a: list[int]
    delta: list[int]
    transposed: list[int]
    size: int  # elements of the scratch


class Planner:
    """Choices for one network; `logarithms` says whether its loss has any."""

    def __init__(self, layout: Layout, lanes: int, logarithms: bool) -> None:
        self.sizes, self.strides = layout.sizes, layout.strides
        self.itemsize, self.lanes, self.logarithms = layout.dtype.itemsize, lanes, logarithms
        self.widths = [rounded_up(n, lanes) for n in self.sizes]
        # Tiles alone, of whole batches, may end in half a vector.
        half = lanes // 2 if machine.HALF_TAILS else lanes
        self.tile_widths = [rounded_up(n, half if n > lanes else lanes) for n in self.sizes]
        self._narrow_gradients: dict[int, bool] = {}

    @cached_property
    def most_chunk(self) -> int:
        """How many samples the scratch should hold at most, each with a row for its inputs."""
        return self._chunk_of_rows(2 * sum(self.strides))

    def _chunk_of_rows(self, elements: int) -> int:
        """Return how many samples the scratch should hold, if each takes so many elements."""
        row: int = elements * self.itemsize
        chunk = min(max(machine.SCRATCH_BYTES // row, machine.FEWEST_CHUNK), machine.MOST_CHUNK)
        return chunk - chunk % machine.CHUNK_UNIT

    def blocks(self, batch_size: int) -> int:
        """Return into how many blocks of inputs zero-skipping rows are cut."""
        if batch_size == 1:  # a sample passes the weights once anyway
            return 1
        n_in, n_out = self.sizes[:2]
        panel = min(machine.SPARSE_COLUMNS * self.lanes, n_out)
        return -(-n_in // max(1, machine.BLOCK_BYTES // (panel * self.itemsize)))

    def lists(self, density: float, batch_size: int) -> int:
        """Return for how many pairs the lists of inputs' samples have room; 0 where none pay."""
        samples = min(batch_size, machine.LIST_SAMPLES)
        wide = self.widths[1] * self.itemsize >= machine.LIST_BYTES
        if not wide or density * samples < machine.LIST_ENTRIES:
            return 0
        # An odd number of lines, so that the ends of many lists do not meet in few sets of a cache.
        return rounded_up(samples + machine.LIST_SPLIT - 1, 8) | 8

    def places(self, batch_size: int, rows: bool = True, lists: int = 0) -> Places:
        """Return the places in the scratch for batches of this size, a row for each sample.

        Without `rows`, inputs need no place: zero-skipping ones are multiplied where they lie. In
        it are then the lists, with room for so many pairs each.
        """
        # With a place for inputs a batch of 200 images was two chunks, of 784-100-10.
        strides = [self.strides[0] if rows else 0, *self.strides[1:]]
        most = self.most_chunk if rows else self._chunk_of_rows(2 * sum(strides))
        chunk, below = min(most, batch_size), [0, *strides]
        # Only above the first layer does a delta go down through transposed weights; inputs have no
        # delta, and two places even for batches of one.
        places = [
            (max(2, chunk) * row, chunk * row * (l > 0), self.widths[l] * below[l] * (l > 1))
            for l, row in enumerate(strides)
        ]
        if lists:
            inputs = -(-self.sizes[0] // self.blocks(batch_size))
            places[0] = rounded_up(2 * inputs, LINE) + 2 * lists * inputs, 0, 0
        return self._placed(chunk, places)

    def packed(self, chunk: int) -> int:
        """Return how many elements a chunk's inputs take if they are packed for the update."""
        wide = self.widths[1] * self.itemsize >= machine.PACKED_WIDTH
        if not wide or chunk < machine.PACKED_BATCH:
            return 0
        return rounded_up(self.sizes[0], machine.PACKED_ROWS) * (chunk | 1)

    def narrow_places(self) -> Places:
        """Return the places for lanes over the batch, where a matrix has a row for each neuron."""
        chunk = machine.NARROW_VECTORS * self.lanes
        # A row of ones for the biases; samples and targets arrive in whole squares.
        pairs = zip(self.widths, self.sizes, strict=True)
        rows = [((width + 1) * chunk, n * chunk, 0) for width, n in pairs]
        rows[-1] = *rows[-1][:2], self.widths[-1] * chunk
        return self._placed(chunk, rows)

    def _placed(self, chunk: int, rows: list[tuple[int, int, int]]) -> Places:
        """Return the places one after the other, behind a line of constants."""
        *starts, size = accumulate(chain(*rows), initial=LINE // self.itemsize)
        return Places(chunk, starts[::3], starts[1::3], starts[2::3], size)

    def path(self, density: float, batch_size: int, weighted: bool = False) -> str:
        """Return the path that costs least for inputs of this density."""
        costs = self.costs(batch_size, density)
        if weighted:  # lanes over the batch add up losses before they have weights
            costs.pop("narrow", None)
        return min(costs, key=costs.__getitem__)

    def is_narrow(self, batch_size: int) -> bool:
        """Return whether lanes over the batch are the better choice for a gradient."""
        if batch_size not in self._narrow_gradients:
            costs = self.costs(batch_size)
            self._narrow_gradients[batch_size] = costs.get("narrow", float("inf")) < costs["dense"]
        return self._narrow_gradients[batch_size]

    def costs(self, batch_size: int, density: float = 1.0) -> dict[str, float]:
        """Return nanoseconds for a sample on each path; only ratios count, see `machine`."""
        sizes = self.sizes
        vectors = [width // self.lanes for width in self.widths]
        first = sizes[0] * vectors[1]
        upper = sum(2 * p * v for p, v in zip(sizes[1:], vectors[2:], strict=False))
        upper += sum(n * v for n, v in zip(sizes[2:], vectors[1:], strict=False))
        rest = machine.UPPER_COST * upper + machine.SAMPLE_COST
        rest += machine.LOGARITHM_COST * self.logarithms
        per_vector = next(cost for most, cost in machine.DENSE_COSTS if batch_size <= most)
        if vectors[1] >= machine.WIDE and batch_size >= machine.WIDE:
            per_vector *= machine.WIDE_FACTOR
        large = first * LINE > machine.LARGE_BYTES
        per_entry = machine.LARGE_SPARSE_COST if large else machine.SPARSE_COST
        costs = {"dense": per_vector * first + rest, "sparse": per_entry * density * first + rest}
        if batch_size > 1:
            costs["narrow"] = self._narrow_cost(batch_size)
        return costs

    def _narrow_cost(self, batch_size: int) -> float:
        weights = sum(p * q for p, q in pairwise(self.sizes))
        down = sum(p * q for p, q in pairwise(self.sizes[1:]))
        padded = rounded_up(batch_size, self.lanes) / batch_size
        products = machine.NARROW_PRODUCTS * weights + down
        full = machine.NARROW_COST * products / self.lanes * padded
        each = machine.NARROW_SAMPLE_COST + machine.NARROW_LOGARITHM_COST * self.logarithms
        return full + machine.NARROW_BATCH_COST * weights / batch_size + each
