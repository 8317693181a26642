"""What the classic programs share: command line, MNIST, the table at the end, the picture.

Each program has `main(argv=None) -> int`, which returns the exit code of `report`, and ends with

    if __name__ == "__main__":
        run(main)
"""

import argparse
import sys
from pathlib import Path

from fastbp import datasets

# Okabe and Ito's colours: told apart with every kind of colour blindness, and in grey.
BLUE, VERMILLION, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
BLACK = "#000000"


def parser(description, picture):
    """Return the parser with what every program takes; `picture` is the default file name."""
    words = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    words.add_argument(
        "--data-dir", help="folder with the IDX files of MNIST, or with a subfolder mnist"
    )
    words.add_argument("--seed", type=int, default=0, help="of everything drawn at random (0)")
    words.add_argument("--output", default=picture, help=f"where the picture goes ({picture})")
    words.add_argument("--quick", action="store_true", help="a shortened run, within seconds")
    return words


def load_mnist(data_dir=None):
    """Return X_train, y_train, X_test, y_test: images as uint8 rows, and integer labels."""
    return datasets.load("mnist", data_dir)


def report(rows):
    """Print measured beside expected; return the exit code, 1 if any row is off.

    Each row is (name, measured, expected, ok): a text, a number or text, a text, a bool.
    """
    texts = [("", "measured", "expected", "ok")]
    for name, measured, expected, ok in rows:
        shown = f"{measured:.4g}" if isinstance(measured, float) else str(measured)
        texts.append((name, shown, expected, "yes" if ok else "NO  <--"))
    widths = [max(len(row[column]) for row in texts) for column in range(3)]
    print()
    for i, (name, measured, expected, ok) in enumerate(texts):
        left = f"{name:<{widths[0]}} | {measured:>{widths[1]}} | {expected:<{widths[2]}}"
        print(f"{left} | {ok}")
        if i == 0:
            print("-" * (len(left) + 5))
    off = sum(not row[3] for row in rows)
    print(f"\n{len(rows) - off} of {len(rows)} rows as expected")
    return 1 if off else 0


def new_figure(columns, title, rows=1):
    """Return a figure and its axes, side by side; drawn without pyplot, so without a display."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.2 * columns, 4.2 * rows), dpi=150, layout="constrained")
    figure.suptitle(title, parse_math=False)
    return figure, figure.subplots(rows, columns, squeeze=False).ravel()


def save(figure, path):
    """Write the picture and say where it is."""
    figure.savefig(path)
    print(f"picture: {Path(path).resolve()}")


def run(main):
    """Run a program: bad input, such as missing data, is one line and exit code 2."""
    try:
        sys.exit(main())
    except (OSError, ValueError) as error:  # DataError is a ValueError
        print(f"{Path(sys.argv[0]).name}: {error}", file=sys.stderr)
        sys.exit(2)
