"""Fresh processes: import, and the first training step with kernels from the cache or without."""

FIRST_STEP = """
import fastbp
net = fastbp.Network([4, 3, 2], seed=0)
net.fit([[0.0, 1.0, 2.0, 3.0]], [1], epochs=1, batch_size=1, learning_rate=0.1)
"""


class Startup:
    """Each measurement is a process of its own."""

    number, repeat, rounds = 1, (3, 10, 5.0), 1
    timeout = 300

    def timeraw_import(self):
        return "from fastbp import Network"  # a bare `import fastbp` imports nothing yet

    def timeraw_import_numba(self):
        """What it is measured against."""
        return "import numba"

    def timeraw_first_step_cached(self):
        return FIRST_STEP

    timeraw_import.pretty_name = "Fresh process: import fastbp"
    timeraw_import_numba.pretty_name = "Fresh process: import numba"
    timeraw_first_step_cached.pretty_name = "Fresh process: import and first step, from the cache"


class Compilation:
    """The first step of a machine's first process."""

    number, repeat, rounds, warmup_time = 1, 1, 1, 0
    timeout = 300

    def timeraw_first_step_compiled(self):
        """Compile into an empty cache."""
        return (
            "import os, tempfile\n"
            "with tempfile.TemporaryDirectory() as folder:\n"
            "    os.environ['NUMBA_CACHE_DIR'] = folder\n"
            + "".join(f"    {line}\n" for line in FIRST_STEP.splitlines())
        )

    timeraw_first_step_compiled.pretty_name = "Fresh process: import and first step, compiling"
