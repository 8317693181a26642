"""Products along the rows of matrices, whose lanes are then added up.

Where weights lie output by output, a sum over the inputs is one over the lanes, and an update adds
whole samples to the weights of an output. Only rows of inputs are padded then: columns of outputs
fill whole vectors, or halves, so that 50 of them take as long as 56 or 64.
"""

from .. import machine
from .memory import prefetch_line
from .tiles import Tile, emit_tile, in_sizes
from .vectors import I64, emitted, spread


def _sizes(most):
    """Return of how many columns sums are taken at once: those of a tree of pairs."""
    return [n for n in (8, 4, 2, 1) if n <= most]


def _emit_dots(t, rows, columns, i, j, depths, finish):
    """Emit C[i + r, j + c] = finish(A[i + r, :] . B[j + c, :], ...) for `rows` x `columns`."""
    # Rows are `depths[0]` long, in whole vectors; those of A up to `depths[1]`, if there is one,
    # where those of B hold zeros from there on.
    b, e = t.builder, t.e
    a_rows = [t.a_from(t.table, b.add(i, I64(r))) for r in range(rows)]
    b_rows = [e.row(t.b, b.add(j, I64(c)), t.b_row) for c in range(columns)]

    def multiplied(s, xs, sums):
        out = []
        for c, row in enumerate(b_rows):  # one at a time: the sums leave few registers
            y = e.load(e.at(row, s))
            out += [x.fma(y, sums[c * rows + r]) for r, x in enumerate(xs)]
        return out

    def step(s, *sums):
        return multiplied(s, [e.load(e.at(row, s)) for row in a_rows], sums)

    def rest(s, *sums):
        mask = e.first_lanes(b.sub(depths[1], s))
        return multiplied(s, [e.masked_load(e.at(row, s), mask) for row in a_rows], sums)

    sums = e.loop(I64(0), depths[0], e.lanes, [e.zero()] * (rows * columns), step)
    for end in depths[1:]:
        sums = e.loop(depths[0], end, e.lanes, sums, rest)
    for r in range(rows):
        first, *others = sums[r::rows]
        place = e.at(e.row(t.c, b.add(i, I64(r)), t.c_row), j)
        _put(e, place, finish(first.sums_beside(others), place))


def _put(e, place, few):
    """Store the lanes of a short vector."""
    place = e.builder.bitcast(place, few.value.type.as_pointer())
    e.builder.store(few.value, place, align=e.dtype.bitwidth // 8)


def _get(e, place, like):
    """Load as many lanes as a short vector has."""
    place = e.builder.bitcast(place, like.value.type.as_pointer())
    return e.vec(e.builder.load(place, align=e.dtype.bitwidth // 8))


@emitted(apart=True)
def dots_axpy(e, rows, columns, depth, a, a_row, b, b_row, c, c_row, alpha):
    """C[i, j] += alpha * (A[i, :] . B[j, :]), rows of whole vectors: sums over the lanes."""
    # A: (rows, depth); B: (columns, depth); C: (rows, columns).
    t = Tile(e, a, a_row, b, b_row, c, c_row, alpha)

    def finish(found, place):
        factor = e.vec(spread(e.builder, alpha, found.value.type.count))
        return factor.fma(found, _get(e, place, found))

    def some_columns(j, width):
        def tile(i, height):
            _emit_dots(t, height, width, i, j, (depth,), finish)

        in_sizes(e, rows, range(machine.DOT_ROWS, 0, -1), tile)

    # B outermost: its few rows, of long chunks, stay in the first level.
    in_sizes(e, columns, _sizes(machine.DOT_COLUMNS), some_columns)


@emitted(apart=True)
def dots_bias(e, rows, columns, depth, a, a_row, table, b, b_row, c, c_row, bias):
    """C[i, j] = bias[j] + A[table[i], :] . B[j, :]: sums over the lanes."""
    # A: (.., depth), where nothing may follow a row; B: (columns, depth), with zeros up to whole
    # vectors; C: (rows, columns).
    t, build = Tile(e, a, a_row, b, b_row, c, c_row, bias, table=table), e.builder
    depths = build.sub(depth, build.srem(depth, I64(e.lanes))), depth

    def some_rows(i, height):
        def tile(j, width):
            def finish(found, place):
                return found + _get(e, e.at(bias, j), found)

            _emit_dots(t, height, width, i, j, depths, finish)

        in_sizes(e, columns, _sizes(machine.ALONG_COLUMNS), tile)

    # Samples outermost: each is read from memory once.
    in_sizes(e, rows, machine.ALONG_ROWS, some_rows)


class _Samples(Tile):
    """A tile whose rows of B are samples, found by number."""

    mask = None  # of the lanes that there are, in the last vector of a sample

    def b_places(self, k, v, columns):
        b, e = self.builder, self.e
        sample = e.row(self.b, b.load(e.at(self.which, k)), self.b_row)
        return e.beside(e.at(sample, v), len(columns))

    def b_vectors(self, k, v, columns):
        places = self.b_places(k, v, columns)
        with self.builder.if_then(self.fetches):
            ahead = self.e.row(self.b, self.builder.load(self.e.at(self.nexts, k)), self.b_row)
            for place in self.e.beside(self.e.at(ahead, v), len(columns)):
                prefetch_line(self.builder, place)
        if self.mask is None:
            return [self.e.load(place) for place in places]
        return [self.e.masked_load(place, self.mask) for place in places]

    def add_masked(self, i, v, totals):
        """Do what "axpy" does to the lanes that there are: the others stay zero, come what may."""
        for r, (total,) in enumerate(totals):
            place = self.e.at(self.e.row(self.c, self.builder.add(i, I64(r)), self.c_row), v)
            new = total.fma(self.e.splat(self.extra), self.e.load(place))
            self.e.masked_store(place, self.mask, new)


@emitted(apart=True)
def add_samples(e, rows, width, depth, a, a_row, b, b_row, table, ahead, c, c_row, alpha):
    """C[i, :] += alpha * (sum over k of A[k, i] B[table[k], :]); asks for the rows `ahead`."""
    # A: (depth, rows); B: (.., width), where nothing may follow a row; C: (rows, width), whole
    # vectors long, of which what is beyond `width` does not change.
    build = e.builder
    rest = build.srem(width, I64(e.lanes))
    whole, is_rest = build.sub(width, rest), build.icmp_signed(">", rest, I64(0))

    def samples(first, count):
        t = _Samples(
            e, e.row(a, first, a_row), a_row, b, b_row, c, c_row, alpha, transposed=True,
            which=e.at(table, first), nexts=e.at(ahead, first),
        )  # fmt: skip

        def panel(columns, v):
            def tile(i, size):
                t.fetches = build.icmp_signed("==", i, I64(0))
                emit_tile(t, "axpy", size, columns, i, v, count, 1)

            in_sizes(e, rows, machine.ADD_ROWS, tile)

        t.panels(whole, panel, machine.ADD_COLUMNS)
        with build.if_then(is_rest):
            t.mask, t.finish = e.first_lanes(rest), t.add_masked
            panel([1], whole)

    most = I64(machine.ADD_SAMPLES)
    with e.over(depth, machine.ADD_SAMPLES) as first:
        left = build.sub(depth, first)
        samples(first, build.select(build.icmp_signed("<", left, most), left, most))
