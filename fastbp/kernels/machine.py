"""What was measured on a machine: each constant with what it trades, and where it was measured.

One table for each kind of CPU: what stands in the sections is the neutral row, for kinds that
nobody has measured yet; `KINDS` below them holds what is otherwise on those that were, and the CPU
that Numba compiles for chooses its row. `scripts/tune.py` measures a row on a new machine. Nothing
is chosen by a clock, nor by the number of cores: the same machine gives the same bits. For trials
`FASTBP_CPU_KIND` forces a row, and `FASTBP_CONSTANTS="TILE_ROWS=6 BLOCK_BYTES=65536"` constants.

Where no CPU is named, it was an AMD EPYC of Zen 4 (32 registers of 64 bytes on data paths of 32, 32
KiB and 1 MiB of first and second level cache per core).
"""

import os
import re
from ast import literal_eval

from .cpu import native_bytes, this_cpu

CPU = this_cpu()
LINE = 64  # bytes of a cache line; rows in storage are whole lines on every CPU
# Whether there are AVX-512's permutations, by which tanh looks up its coefficients, and its
# compressions, which put the lanes of a mask side by side.
AVX512 = native_bytes() == CPU.vector_bytes == 64

# -- register tiles --------------------------------------------------------------------------------

# Rows of a tile, and its columns in vectors. 8x3 reaches the FMA peak with 32 registers; 4x3 is
# what 16 registers hold (12 sums, 3 vectors of B, one broadcast).
TILE_ROWS = 8 if CPU.registers == 32 else 4
TILE_COLUMNS = 3
# The same of the update's tiles, which read the batch's inputs down their columns.
UPDATE_ROWS, UPDATE_COLUMNS = TILE_ROWS, TILE_COLUMNS
# The same where the batch's inputs are packed for these tiles. They are in batches of so many
# samples and layers of so many bytes of outputs: below, it costs more than it gains. Held to AVX2,
# 784-512-512-10 takes 12 % less (Zen 4): a tile otherwise reads a line of each sample, and each is
# in a page of its own.
PACKED_ROWS, PACKED_COLUMNS = TILE_ROWS, TILE_COLUMNS
PACKED_BATCH, PACKED_WIDTH = 64, 512
# Forward and delta: from so many samples and bytes of weights on, the first tile of a panel copies
# its columns of the weights side by side, as it reads them, for those that follow; None: nowhere.
# As stored, rows lie in more pages than the first level of the TLB has entries, and in lines of
# which a tile takes a part. Zen 4 held to AVX2: 784-512-512-10 at 128 takes 3 % less, 784-128-10
# 5 %, and with 100 KB of weights 1 % more. Wider and higher tiles read less often: with 32
# registers nothing was gained.
PANEL_BATCH, PANEL_BYTES = 64, None if CPU.registers == 32 else 2**18
# Whether columns that fill no more than half of the last vector are computed as half a vector:
# where data paths are half as wide as vectors, that takes half the time.
# by kind: intel False, zen4 True, avx2 False
HALF_TAILS = False
# Updates of first layers whose weights are so many bytes at most: deltas of so many samples stay in
# registers, in panels of so many vectors, while W comes from the second level and goes back.
# Tiles read a line of each sample of a batch, and each is in a page of its own. On Zen 4 784x32 at
# batches of 10 take 4.4 us (at the FMA peak 4.3), by tiles 5.1; 784x56 at 100 take 76 (75) and 87.
STEP_ROWS, STEP_COLUMNS = (5, 2, 1), 4 if CPU.registers == 32 else 2
STEP_BYTES = CPU.l2_bytes // 2
# Rows of a tile with lanes over the batch, two vectors wide. With four rows or two, 4-32-16-4 takes
# 3 or 9 % longer.
LANE_ROWS = 8 if CPU.registers == 32 else 4
# Rows and columns of a tile of dot products: 2x8 gave 230 GFLOP/s, 4x4 and 3x8 gave 190 and 215.
DOT_ROWS = 2
DOT_COLUMNS = 8 if CPU.registers == 32 else 4
# First layers whose weights lie output by output while they train, see `ir.along`: of so many bytes
# at most, with inputs of so many vectors and batches of so many samples at least, where the outputs
# are no more than this share of the columns that tiles would compute. On Zen 4 784-50-10 at batches
# of 100 takes 163 us in place of 176, and 318 in place of 313 with 100 outputs, of 104; held to
# AVX2 178 and 213, 326 and 400, and 541 and 573 with 128 of 128.
# by kind: avx2 1
TURNED_BYTES, TURNED_VECTORS, TURNED_BATCH, TURNED_SHARE = STEP_BYTES, 8, 16, 0.93
# Samples and outputs of their tiles forward; outputs of those in the update, columns in vectors,
# and samples that are added at once: each is in a page of its own. Held to AVX2 784-50-10 takes 201
# us by 1,024 of them, 178 by 32.
ALONG_ROWS, ALONG_COLUMNS = (5 if CPU.registers == 32 else 3, 2, 1), 4
ADD_ROWS, ADD_COLUMNS = (10 if CPU.registers == 32 else 5, 2, 1), 2
ADD_SAMPLES = 1024 if CPU.registers == 32 else 32
# One sum per vector would leave a tile of one row waiting for each FMA's four cycles: low tiles
# split the sum over k into this many. It depends on the rows alone, so that an element is summed in
# the same order whatever its neighbours.
K_SPLIT = {1: 4, 2: 2}
# Columns of a tile of one row on zero-skipping input, in vectors.
SPARSE_COLUMNS = 4
# Single samples of dense input are learnt some at a time, see `walk.ones`: so many, and columns of
# their pass over W, in vectors. On Zen 4 784x112 weights take 3,000 ns a sample by four, one column
# at a time, and 784x32 860, which is what FMAs take alone; one by one they took 4,130 and 1,160.
# Two columns take 3 % more there, and fewer loads for each FMA. With 16 registers (Zen 4 held to
# AVX2) two by two take 3,450 and 935, four by one 4,060 and 1,100.
PASS_SAMPLES, PASS_COLUMNS = 4 if CPU.registers == 32 else 2, 2
# Layers above learn one sample with a pass for its delta and update: bytes of its vectors, and rows
# whose sums are folded together. On Zen 4 100x112 weights take 505 ns four rows at a time with
# vectors of 32 bytes, 575 of 64, and 100x16 111, 124. Eight rows in place of one, Intel: 100x112
# weights 882, 746 (four), and 100x16 228, 156 ns.
PASS_BYTES = CPU.vector_bytes
DELTA_ROWS = 8 if CPU.registers == 32 else 4
# Layers of at most so many outputs lie transposed while single samples are learned: deltas are sums
# of rows then, with no sum over the lanes for each neuron below. On Zen 4 784-30-10 takes 5 to 6 %
# less, 784-100-100-10 1 %. And rows whose products are summed over the lanes at once.
TURNED, DOT_GROUP = 32, 8
# Entries of zero-skipping input come in groups of this many, filled up with zeros: no loop over
# them has a remainder, whose exit would be mispredicted. They are summed up in ENTRY_SUMS sums for
# each column: with AVX2, four do not fit the registers, and 152 entries of 32 columns take 225 ns
# in place of 125 (Zen 4 held to it).
ENTRY_GROUP, ENTRY_SUMS = 4, 4 if CPU.registers == 32 else 2
# Whether values of entries are loaded several at once, and spread over the lanes by shuffles: what
# is short where data paths are half as wide as vectors are loads, of which each took one. On Zen 4
# a step of 784-100-10 at batch 200, MNIST, takes 3 % less.
# by kind: zen4 True
ENTRIES_SPREAD = False

# -- single passes ---------------------------------------------------------------------------------

# Vectors that a formula as long as tanh is computed for at once: two interleaved chains of
# instructions fill the gaps that a single long one leaves.
FORMULA_VECTORS = 4
# Inputs whose zeros are looked for at once. The end of the loop over their nonzeros is mispredicted
# each time: with 32 of them, the index of MNIST took 26 ms, and takes 21.
MASK_BITS = 64
# Inputs of a sample up to which it is transposed as one short vector: a square of vectors would be
# half empty.
FEW_COLUMNS = 4

# -- zero-skipping input ---------------------------------------------------------------------------

# Samples ahead of the one that is indexed whose inputs are fetched: main memory answers in 100 ns,
# and a sample of MNIST takes 20 to 25.
ROWS_AHEAD = 8
# What it costs to index an entry that is used once, in vectors of weights.
ENTRY_COST = 2

# Lists of each input's samples, by which batches are learned input by input, see `walk.lists`: from
# rows of W of so many bytes and so many entries of a list on. To fill a list takes 5 cycles an
# entry, and of a line of W it saves about 1.2 cycles an entry. Update of 784-n-10 on MNIST: n = 100
# at batch 33, 100 and 200: 32, 95 and 198 us, by lists 28, 70 and 141; n = 512 at 128: 600 and 330;
# n = 64 at 64: 35 and 36; n = 30 at 100: 24 and 34.
LIST_BYTES, LIST_ENTRIES = 384, 6
# Samples of a list at most: their deltas, of one panel, stay near the first level cache.
LIST_SAMPLES = 208
# Sums that a row of W is added up in: more of them hide the latency of FMA, and cost additions at
# the end of each list.
LIST_SPLIT = 2

# -- shares of a team ------------------------------------------------------------------------------

# At a barrier a thread spins, looking at the clock after so many pauses; then offers its core to
# others; then sleeps, so that it does not use up a container's quota. In nanoseconds: most barriers
# take less than the first, and to wake up takes a tenth of the second.
PAUSES, MOST_SPINNING, MOST_YIELDING = 32, 20_000, 1_000_000
BARE_LOOKS = 16  # before the first pause, which takes 140 cycles on Intel
MOST_THREADS = 64  # of a team: each has a counter to meet by
PAGE = 4096  # bytes
APART = 256  # bytes between what different threads write: CPUs fetch pairs of lines, and streams
UPDATE_UNIT = 8  # parameters
ROWS_UNIT = 16  # rows of W: whole squares of vectors of any width, and whole tiles

# -- sums that have the same bits for any team -----------------------------------------------------

# Chunks whose gradients are kept apart until they are added up, in `narrow`: memory for so many
# gradients, and as many threads that can take part in a round.
ROUND = 32
# Pieces that a step takes of each block of weights: they stay in the first level cache. With four,
# 784-100-10 takes 15 % longer by Adam at batch 200 (Zen 4).
STEP_PIECES = 16

# -- memory ----------------------------------------------------------------------------------------

# A batch that fits the scratch is learnt in one fused step, and should stay in the second level
# cache, half of it and no more than half a megabyte; below 128 samples the tiles would starve.
SCRATCH_BYTES = min(2**19, CPU.l2_bytes // 2)
FEWEST_CHUNK, MOST_CHUNK, CHUNK_UNIT = 128, 1024, 8
# In `narrow` a chunk has so many vectors of samples, or as many as fit the scratch, but no fewer
# than these: each sum of its gradient ends by adding up lanes. An odd number, since rows at even
# distances share few sets of a cache. With 13, 4-32-16-4 takes 2 % longer than with 41.
NARROW_VECTORS, NARROW_FEWEST = 41, 13
# So many of them go through a layer at once, whose weighted inputs then are in the first level when
# they are activated: whole groups of FORMULA_VECTORS.
NARROW_BLOCK = 12
# Zero-skipping input: the weights of one block of inputs and one panel of columns, in bytes: about
# a first level cache. Smaller blocks pay for their loops, larger ones go to the second level.
BLOCK_BYTES = 110 * 2**10
ROWS_AT_ONCE = 4096  # rows of a sparse matrix are made dense and indexed: a copy, and a call
DENSITY_SAMPLE = 512  # rows are looked at to choose a path: 0.1 ms of MNIST

# -- threads ---------------------------------------------------------------------------------------

# What a team pays, in the nanoseconds of the costs below: a barrier, and a line that another core
# has written. What a thread does for each input, however few its columns are, in vectors of them;
# and an optimiser's step of a vector. One thread more must gain so much. Where nobody has measured,
# prices are the dearest known, Intel's: a team should never be slower than one thread. Those of
# Zen 4 are by tables of trainings; `scripts/tune.py` says 93 ns and 5.6 of it, of which a line's
# price is 0.45, since lines are fetched while others are worked on.
BARRIER_COST, CROSSING_COST = 340, 16
INPUT_COST, RULE_COST = 0.7, 0.8
TEAM_GAIN = 0.93
# To wake threads for a single call takes 0.05 ms.
CALL_PER_THREAD = 2**25
PARTS_PER_THREAD = 8  # of a call: a thread that starts late, or has a slow core, takes fewer
# Weights x samples of a batch, about 5 ms, from which the main thread waits for another, so that
# Ctrl-C reaches it.
LONG_BATCH = 2**28

# -- costs of the paths ----------------------------------------------------------------------------

# Nanoseconds per sample; only their ratios count. Measured for layers of 3 to 512 neurons, batches
# of 1 to 1,000 and inputs of which 5 to 100 % are not zero; where two paths meet, the choice loses
# at most about 15 %.

# Of a vector of the first layer's weights, dense, by the largest batch: batches of one are learnt
# some at a time (as fast as zero-skipping at 40 % on Zen 4), those below 16 leave tiles half empty.
DENSE_COSTS = ((1, 0.42), (4, 0.64), (8, 0.44), (16, 0.34), (float("inf"), 0.29))
# Vectors of a layer, and samples of a batch, from which tiles reach their best, and what it saves:
# there is more work for each load.
WIDE, WIDE_FACTOR = 24, 0.85
# The same times the density, zero-skipping; above so many bytes of weights, which the second level
# cache does not hold.
SPARSE_COST, LARGE_SPARSE_COST, LARGE_BYTES = 1.05, 1.2, CPU.l2_bytes
# Of a vector of the upper layers' weights; of each sample; of a loss with logarithms.
UPPER_COST, SAMPLE_COST, LOGARITHM_COST = 0.18, 38, 20
# `narrow`: a product of a vector, how many of them a weight takes forward and in the update, a
# weight of a batch, each sample, and a loss with logarithms.
NARROW_COST, NARROW_PRODUCTS, NARROW_BATCH_COST = 0.205, 2.35, 0.3
NARROW_SAMPLE_COST, NARROW_LOGARITHM_COST = 8, 10

# -- the table -------------------------------------------------------------------------------------


def kind_of(cpu):
    """Return the kind of a CPU, "neutral" for one that nobody has measured yet."""
    forced = os.environ.get("FASTBP_CPU_KIND")
    if forced:
        if forced not in KINDS:
            raise ValueError(f"FASTBP_CPU_KIND must be one of {', '.join(KINDS)}; got {forced!r}")
        return forced
    shape = cpu.vector_bytes, cpu.registers
    fits = (k for k, (width, n, name) in SIGNS.items() if shape == (width, n))
    return next((k for k in fits if re.search(SIGNS[k][2], cpu.name)), "neutral")


def changes(words):
    """Return the constants that `FASTBP_CONSTANTS` forces, by name."""
    pairs = [word.partition("=") for word in words.split()]
    found = {name: literal_eval(value) for name, _, value in pairs}
    unknown = sorted(name for name in found if not name.isupper() or name not in globals())
    if unknown:
        raise ValueError(f"FASTBP_CONSTANTS takes constants of {__name__}; got {unknown[0]!r}")
    return found


# How a kind is known: bytes of a vector, registers, and what LLVM's name of the CPU holds.
SIGNS = {
    "zen4": (64, 32, "^znver4$"),
    "zen5": (64, 32, "^znver5$"),
    "intel": (64, 32, "lake|rapids|skylake-avx512"),
    "avx2": (32, 16, ""),  # laptops, of any make
    "neon": (16, 32, ""),  # Arm
}
# What is otherwise than in the sections above, with where it was measured. Known kinds say what
# others take from the sizes of their caches, which a virtual machine may not show.
KINDS = {
    "neutral": {},
    # AMD EPYC, Zen 4: 32 KiB and 1 MiB a core.
    # Update tiles of 6x4 reach 112 of 117 GFLOP/s, of 8x3 107; 784-30-10 at batches of ten takes
    # 6 % less. Halves of vectors: 784-50-10 takes 6 % less, 784-100-10 4 %. Packed inputs gain
    # nothing at 256 columns, and 1 % at 512.
    "zen4": {
        "BARRIER_COST": 100,
        "CROSSING_COST": 2.5,
        "LARGE_BYTES": 2**20,
        "SCRATCH_BYTES": 2**19,
        "STEP_BYTES": 2**19,
        "UPDATE_ROWS": 6,
        "UPDATE_COLUMNS": 4,
        "PACKED_WIDTH": 2048,
        "HALF_TAILS": True,
        "ENTRIES_SPREAD": True,
        "LIST_SPLIT": 4,  # values are loaded four at once: 784-100-10 at batch 200 takes 1 % less
        "PASS_BYTES": 32,
        "PASS_COLUMNS": 1,
        "DELTA_ROWS": 4,
        # Measured in 24 settings, 32-64-8 to 100-100-100-10 at batches of 64 to 500: narrow takes
        # 0.68 to 0.89 of what the costs above say of it beside dense (batch 200 as one chunk).
        "NARROW_COST": 0.155,
    },
    # AMD EPYC, Zen 5: data paths of 64 bytes, 48 KiB and 1 MiB.
    # A barrier takes 53 to 64 ns; a line is taken to cost as on Zen 4. No training of a team has
    # been seen with these prices.
    "zen5": {
        "BARRIER_COST": 64,
        "CROSSING_COST": 2.5,
        "LARGE_BYTES": 2**20,
        "SCRATCH_BYTES": 2**19,
        "STEP_BYTES": 2**19,
    },
    # Intel Xeon with AVX-512 (Emerald Rapids): data paths of 64 bytes, 48 KiB and 2 MiB. The prices
    # of a team are those above: they follow from a round trip of 300 to 340 ns and 64 lines that
    # take 2,600 to read, (2,600 - 320) / 63 * 0.45, and no training has been seen with them.
    "intel": {"LARGE_BYTES": 2**20, "SCRATCH_BYTES": 2**19, "STEP_BYTES": 2**19},
    # AVX2, seen on both of the above held to it: 16 registers of 32 bytes.
    "avx2": {"TURNED_SHARE": 1},
    # Arm: 32 registers of 16 bytes. Not measured yet; the tiles are those of BLIS.
    "neon": {},
}
KIND = kind_of(CPU)
globals().update(KINDS[KIND])
globals().update(changes(os.environ.get("FASTBP_CONSTANTS", "")))

# Rows that are taken for tiles of full height. Threads share rows by fours: what is left over
# should be fewer, as low tiles add up in another order (K_SPLIT). So tiles of six come in pairs.
TILE_UNIT, UPDATE_TILE_UNIT = (n if n % 4 == 0 else 2 * n for n in (TILE_ROWS, UPDATE_ROWS))

# All of the above: what this machine's kernels are made of, on which their cache is keyed.
ROW = {n: v for n, v in globals().items() if n.isupper() and n not in ("CPU", "KINDS", "SIGNS")}
