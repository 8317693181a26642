"""Stand in for the Python that set-up finds: the pip of each venv that it makes installs nothing.

What is called is noted in the file $CALLS.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

if sys.argv[1:3] == ["-m", "venv"]:
    with open(os.environ["CALLS"], "a") as calls:
        print("venv", file=calls)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", sys.argv[3]], check=True)
    (packages,) = Path(sys.argv[3]).glob("lib/python*/site-packages")
    shutil.copy(Path(__file__).with_name("stand_in_pip.py"), packages / "pip.py")
else:
    os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
