"""Build the website: guides, reference, and the gallery, which is executed for it.

  scripts/docs                  into build/docs; open build/docs/index.html
  scripts/docs --output DIR     into another folder

It takes a minute, more where MNIST is downloaded first. Nothing on the pages is loaded from
elsewhere, so that they are read without a network. Exit code 2 if an example fails.
"""

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))


class Parser(argparse.ArgumentParser):
    """A parser that says in one line what is wrong."""

    def error(self, message):
        self.exit(2, f"{self.prog}: {message}; --help shows how to call it\n")


def main(argv=None):
    """Build the site; return the exit code."""
    parser = Parser(
        prog="scripts/docs",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--output", type=Path, default=ROOT / "build" / "docs")
    options = parser.parse_args(argv)
    # Imported when wanted: help needs nothing installed.
    from doctools import examples, site

    try:
        site.build(options.output, examples.pages(options.output))
    except examples.Failed as error:
        print(f"scripts/docs: {error}", file=sys.stderr)
        return 2
    print(f"scripts/docs: {options.output / 'index.html'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
