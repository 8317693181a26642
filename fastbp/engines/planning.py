"""How a network is walked: on which path, in what chunks and blocks, by how many threads.

Choices depend on shapes, dtype, density and CPU, never on timings or on the number of threads: the
same machine gives the same bits.
"""

from functools import cached_property
from itertools import accumulate, chain, pairwise
from typing import NamedTuple

from .._support.cores import available_cores
from ..kernels import machine
from ..kernels.walk import records
from ..model.layout import LINE, Layout, stride


def threads_of_call(threads: int, weights: int, samples: int) -> int:
    """Return how many of the threads asked for take part in a single call."""
    most = min(threads, weights * samples // machine.CALL_PER_THREAD)
    return min(most, available_cores()) if most > 1 else 1


def rounded_up(n: int, unit: int) -> int:
    """Return the smallest multiple of unit that is not below n."""
    return -(-n // unit) * unit


class Team(NamedTuple):
    """How many threads train, and whether each does all that is above the first layer."""

    size: int = 1
    whole: bool = False


ALONE = Team()


class Task(NamedTuple):
    """What is to be trained: by plain SGD or not, on batches that are shared among ranks or not."""

    path: str
    batch_size: int
    density: float = 1.0
    plain: bool = True
    shared: bool = False


class Places(NamedTuple):
    """Where activations, deltas and transposed weights of each layer start in the scratch."""

    chunk: int  # samples that fit
    a: list[int]
    delta: list[int]
    transposed: list[int]
    size: int  # elements of the scratch; in a team each thread has as many
    # Of a team: each thread's columns of the first layer, see `kernels.walk.records.Plan`.
    whole: bool = False
    thread_sums: int = 0
    row: int = 0
    z: int = 0
    turn: int = 0
    columns_delta: int = 0
    local: int = 0
    local_size: int = 0
    turned: int = 0


class Planner:
    """Choices for one network; `logarithms` says whether its loss has any."""

    def __init__(self, layout: Layout, lanes: int, logarithms: bool) -> None:
        self.sizes, self.strides, self.size = layout.sizes, layout.strides, layout.size
        self.dtype = layout.dtype
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
        # Dense rows are learnt some at a time in batches of one, see `kernels.walk.ones`.
        some = machine.PASS_SAMPLES if rows and batch_size == 1 else 1
        chunk, below = max(some, min(most, batch_size)), [0, *strides]
        # Only above the first layer does a delta go down through transposed weights.
        places = [
            (max(2, chunk) * row, chunk * row, self.widths[l] * below[l] * (l > 1))
            for l, row in enumerate(strides)
        ]
        # Inputs have no delta, but two places, and the factors of a few samples.
        places[0] = 2 * some * strides[0] if some > 1 else places[0][0], some**2 * (some > 1), 0
        if lists:
            inputs = -(-self.sizes[0] // self.blocks(batch_size))
            places[0] = rounded_up(2 * inputs, LINE) + 2 * lists * inputs, 0, 0
        return self._placed(chunk, places)

    def columns(self, places: Places, team: Team) -> Places:
        """Return the places with those of each thread's columns."""
        if team.size == 1:
            place, delta = places.a[1], places.delta[1]
            return places._replace(row=self.strides[1], z=place, columns_delta=delta)
        apart, page = machine.APART // self.itemsize, machine.PAGE // self.itemsize
        row = stride(self._widest(team), self.dtype)
        z = rounded_up(places.size, apart) + apart
        turn = rounded_up(max(2, places.chunk) * row, apart)
        delta = z + 2 * turn
        return places._replace(
            whole=team.whole, row=row, z=z, turn=turn, columns_delta=delta,
            size=rounded_up(delta + turn, page) + page,
            thread_sums=rounded_up(records.sums_size(places.chunk), page) if team.whole else 0,
        )  # fmt: skip

    def _widest(self, team: Team) -> int:
        """Return the most columns of the first layer that a thread owns, in whole vectors."""
        return -(-(self.widths[1] // self.lanes) // team.size) * self.lanes

    def panels(self, places: Places, team: Team, turned: int, count: int) -> Places:
        """Return the places with `count` panels of weights for each thread that needs them."""
        if not count or (team.size == 1 and not turned):
            return places
        apart, page = machine.APART // self.itemsize, machine.PAGE // self.itemsize
        local = rounded_up(places.size, apart)
        each = self.size + turned * self._widest(team)
        size = rounded_up(local + count * each, page) + page
        return places._replace(local=local, local_size=each, turned=turned, size=size)

    def turned(self, path: str, batch_size: int) -> int:
        """Return how long rows of the first layer's weights are, output by output; 0: as stored."""
        n_in, n_out = self.sizes[:2]
        pays = (
            path == "dense"
            and batch_size >= machine.TURNED_BATCH
            and n_in >= machine.TURNED_VECTORS * self.lanes
            and n_in * n_out * self.itemsize <= machine.TURNED_BYTES
            and n_out <= machine.TURNED_SHARE * self.tile_widths[1]
        )
        return stride(n_in, self.dtype) if pays else 0

    def packed(self, chunk: int) -> tuple[int, int]:
        """Return how many elements a chunk takes packed for the update: inputs, hidden layers."""
        wide = [width * self.itemsize >= machine.PACKED_WIDTH for width in self.widths[1:]]
        rows = self.sizes[0] * wide[0], max(self.sizes[1:-1], default=0) * any(wide[1:])
        if chunk < machine.PACKED_BATCH:
            return 0, 0
        inputs, hidden = (rounded_up(n, machine.PACKED_ROWS) * (chunk | 1) for n in rows)
        return inputs, hidden

    def panel(self, chunk: int) -> int:
        """Return how many elements a copy of a panel of any layer's weights takes; 0: none pays."""
        largest = max(self.sizes) * max(self.strides) * self.itemsize
        least = machine.PANEL_BYTES
        if least is None or largest < least or chunk < machine.PANEL_BATCH:
            return 0
        return max(self.sizes) * machine.TILE_COLUMNS * self.lanes

    @cached_property
    def _narrow_chunk(self) -> int:
        """How many samples the scratch of lanes over the batch holds."""
        row = (2 * sum(self.widths) + self.widths[-1] + len(self.sizes)) * self.itemsize
        most = machine.SCRATCH_BYTES // (row * self.lanes)
        most = min(max(most, machine.NARROW_FEWEST), machine.NARROW_VECTORS)
        return (most - (most % 2 == 0)) * self.lanes

    def narrow_places(self) -> Places:
        """Return the places for lanes over the batch, where a matrix has a row for each neuron."""
        # A row of ones for the biases; samples and targets arrive in whole squares.
        chunk, pairs = self._narrow_chunk, zip(self.widths, self.sizes, strict=True)
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
        rest = self._rest_cost()
        vectors = [width // self.lanes for width in self.widths]
        first = self.sizes[0] * vectors[1]
        per_vector = next(cost for most, cost in machine.DENSE_COSTS if batch_size <= most)
        if vectors[1] >= machine.WIDE and batch_size >= machine.WIDE:
            per_vector *= machine.WIDE_FACTOR
        large = first * LINE > machine.LARGE_BYTES
        per_entry = machine.LARGE_SPARSE_COST if large else machine.SPARSE_COST
        costs = {"dense": per_vector * first + rest, "sparse": per_entry * density * first + rest}
        if batch_size > 1:
            costs["narrow"] = self._narrow_cost(batch_size)
        return costs

    def _rest_cost(self) -> float:
        """Return what a sample costs above the first layer."""
        sizes, vectors = self.sizes, [width // self.lanes for width in self.widths]
        upper = sum(2 * p * v for p, v in zip(sizes[1:], vectors[2:], strict=False))
        upper += sum(n * v for n, v in zip(sizes[2:], vectors[1:], strict=False))
        rest = machine.UPPER_COST * upper + machine.SAMPLE_COST
        return rest + machine.LOGARITHM_COST * self.logarithms

    @property
    def _above(self) -> int:
        """How many parameters are above the first layer, padding included."""
        return self.size - (self.sizes[0] + 1) * self.strides[1]

    def team(self, threads: int, task: Task) -> Team:
        """Return the team that takes least time: of so many threads at most, if not one alone."""
        most = min(threads, machine.MOST_THREADS)
        if task.path != "narrow":  # threads own whole vectors of columns
            most = min(most, self.widths[1] // self.lanes)
        most = min(most, available_cores()) if most > 1 else 1
        least, best = self._step_cost(ALONE, task), ALONE
        for size in range(2, most + 1):
            # Single samples are learnt `whole` by plain SGD, and parts of shared batches are not.
            one = task.plain and task.batch_size == 1
            ways = (False,) if task.shared else (True,) if one else (False, True)
            costs = {(size, whole): self._step_cost(Team(size, whole), task) for whole in ways}
            team = min(costs, key=costs.__getitem__)
            if costs[team] < machine.TEAM_GAIN * least:
                least, best = costs[team], Team(*team)
        return best

    def _step_cost(self, team: Team, task: Task) -> float:
        """Return nanoseconds that a batch takes a team; only ratios count, see `machine`."""
        n = task.batch_size
        if task.path == "narrow":
            return self._rounds_cost(team, self._narrow_cost(n) * n, n)
        total = self.costs(n, task.density)[task.path] * n
        vectors = self.widths[1] // self.lanes
        columns = -(-vectors // team.size)
        samples = n if team.whole else min(n, 4 * -(-n // (4 * team.size)))
        rest, each = self._rest_cost(), machine.INPUT_COST
        cost = (total - rest * n) * (columns + each) / (vectors + each) + rest * samples
        barriers = 1 if team.whole else 2
        if not task.plain:
            above = self._above if team.whole else self._above / team.size
            own = (self.size - self._above) / team.size + above
            cost += machine.RULE_COST * own / self.lanes
            barriers *= 2
        if team.size > 1:
            cost += machine.BARRIER_COST * barriers
            passing = self._passing(team, task, vectors - columns, samples)
            cost += machine.CROSSING_COST * passing * self.lanes * self.itemsize / LINE
        return cost

    def _passing(self, team: Team, task: Task, others: int, samples: int) -> float:
        """Return how many vectors a step passes to a thread that owns all columns but `others`."""
        found: float = others * samples  # of z
        share = 1 - 1 / team.size
        if not team.whole:  # deltas and activations of others' samples; weights and their transpose
            found += 2 * others * (task.batch_size - samples) + 2 * share * self._above / self.lanes
        if task.shared:  # gradients and weights: columns have one owner, rows another
            found += 4 * share * self.size / self.lanes / team.size
        return found

    def _rounds_cost(self, team: Team, total: float, batch_size: int) -> float:
        """Return nanoseconds that a batch takes in lanes, whose chunks are shared out."""
        chunks = -(-batch_size // self._narrow_chunk)
        chunks += chunks > 1 and chunks % 2
        if team.size > chunks:
            return float("inf")
        if team.size == 1:
            return total
        lines = self.size * self.itemsize / LINE * chunks
        rounds = machine.BARRIER_COST * 4 + machine.CROSSING_COST * lines
        return total * -(-chunks // team.size) / chunks + rounds

    def _narrow_cost(self, batch_size: int) -> float:
        weights = sum(p * q for p, q in pairwise(self.sizes))
        down = sum(p * q for p, q in pairwise(self.sizes[1:]))
        padded = rounded_up(batch_size, self.lanes) / batch_size
        products = machine.NARROW_PRODUCTS * weights + down
        full = machine.NARROW_COST * products / self.lanes * padded
        each = machine.NARROW_SAMPLE_COST + machine.NARROW_LOGARITHM_COST * self.logarithms
        return full + machine.NARROW_BATCH_COST * weights / batch_size + each
