"""Write the bundled digits, ``fastbp/datasets/digits.npz``, from scikit-learn's copy.

Usage: python scripts/make_digits.py [FILE]

Needs scikit-learn. The same bytes come out at each run: fixed time stamps, and a split that draws
nothing at random. (Another zlib may compress to other bytes; the arrays in them are the same.)
"""

import argparse
import io
import zipfile
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

FILE = Path(__file__).resolve().parents[1] / "fastbp" / "datasets" / "digits.npz"


def mask_of_test(labels):
    """True for every fifth image of each class: 355 of 1,797, and 34 to 36 of each class."""
    mask = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        mask[np.flatnonzero(labels == label)[4::5]] = True
    return mask


def write_npz(path, arrays):
    """Write a compressed npz without the time of day; `numpy.savez_compressed` puts it in."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in arrays.items():
            npy = io.BytesIO()
            np.lib.format.write_array(npy, array, version=(1, 0), allow_pickle=False)
            member = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            member.create_system = 3  # Unix; else it is that of the machine
            member.external_attr = 0o644 << 16
            archive.writestr(member, npy.getvalue(), zipfile.ZIP_DEFLATED, compresslevel=9)


def main(path=FILE):
    digits = load_digits()
    images, labels = digits.images.astype(np.uint8), digits.target.astype(np.uint8)
    assert images.shape == (1797, 8, 8)
    assert (images == digits.images).all(), "the pixels are whole numbers, 0 to 16"
    test = mask_of_test(labels)
    write_npz(
        path,
        {
            "x_train": images[~test],
            "y_train": labels[~test],
            "x_test": images[test],
            "y_test": labels[test],
        },
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], usage=argparse.SUPPRESS)
    parser.add_argument("file", nargs="?", type=Path, default=FILE, help="what is written")
    main(parser.parse_args().file)
