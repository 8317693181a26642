"""Imports every module of fastbp; fails where the floating-point unit's state has changed by it."""

import pkgutil
import sys
import threading

import mxcsr


def import_all():
    before = mxcsr.state()
    import numpy as np

    usual = np.geterr()
    import fastbp

    for module in pkgutil.walk_packages(fastbp.__path__, "fastbp."):
        if not module.name.endswith("__main__"):
            __import__(module.name)
    assert mxcsr.state() == before == mxcsr.DEFAULT, hex(mxcsr.state())
    seen = []
    thread = threading.Thread(target=lambda: seen.append(mxcsr.state()))
    thread.start()
    thread.join()
    assert seen == [before], seen
    assert np.geterr() == usual, np.geterr()
    assert np.float64(5e-324) * 1 > 0
    assert np.float32(1e-45) * np.float32(1) > 0


if __name__ == "__main__":
    import_all()
    print(len([name for name in sys.modules if name.startswith("fastbp.")]), "modules")
