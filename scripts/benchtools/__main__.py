"""Measure the speed of fastbp, and compare two commits.

  scripts/bench                  the whole suite on the current commit, about ten minutes
  scripts/bench quick            ten kernels of the working tree beside NumPy, in seconds
  scripts/bench compare [BASE]   the current commit beside BASE (main), as a table of what changed
  scripts/bench publish          asv's pages of all results of the whole suite

Exit code: 0; 1 if a kernel got slower (`compare`) or is slower than NumPy (`quick`); 2 if the
command line is wrong or nothing could be measured. All but `quick` use asv, which measures what is
committed; results of the whole suite are kept in asv_benchmarks/results.
"""

import argparse
import sys
from importlib import import_module

from reports import NotMeasured, say

# Command: the module that has it. It is imported when it is wanted: help needs nothing installed.
COMMANDS = {"run": "commits", "quick": "quick", "compare": "commits", "publish": "commits"}


class Parser(argparse.ArgumentParser):
    """A parser that says in one line what is wrong."""

    def error(self, message):
        self.exit(2, f"{self.prog}: {message}; --help lists the commands\n")


def main(argv=None):
    """Run the command named; return the exit code."""
    parser = Parser(
        prog="scripts/bench",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("command", nargs="?", default="run", choices=COMMANDS)
    parser.add_argument("base", nargs="?", help="commit to compare with (main)")
    options = parser.parse_args(argv)
    if options.base and options.command != "compare":
        parser.error(f"{options.command} takes no commit; compare does")
    options.base = options.base or "main"
    try:
        return getattr(import_module(COMMANDS[options.command]), options.command)(options)
    except NotMeasured as reason:
        say(reason)
        return 2


if __name__ == "__main__":
    sys.exit(main())
