"""Stand in for pip: notes its last argument in $CALLS, and leaves a fastbp and a pytest that echo.

$PIP_IS may be "slow", "failing" or "killed", the last with the script that started it.
"""

import os
import signal
import sys
import time
from pathlib import Path

PIP_IS = os.environ.get("PIP_IS")
packages = Path(__file__).parent

if sys.argv[1] == "install":
    with open(os.environ["CALLS"], "a") as calls:
        print(sys.argv[-1], file=calls)
    if PIP_IS == "slow":
        time.sleep(0.5)
    if PIP_IS == "killed":
        os.killpg(0, signal.SIGKILL)
    if PIP_IS == "failing":
        sys.exit("a lot of output\nERROR: No matching distribution for hatchling\nmore of it")
    (packages / "pytest.py").write_text("import sys\n\nprint(sys.argv[1:])\n")
    program = Path(sys.prefix, "bin", "fastbp")
    program.write_text("#!/bin/sh\nprintf '<%s>' \"$@\"\n")
    program.chmod(0o755)
