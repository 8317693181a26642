"""Runs commands, each a list of arguments in JSON; prints their exit codes: commands.py COMMAND ...

After each that fails, the last line that it wrote.
"""

import contextlib
import io
import json
import sys

from fastbp.cli import main

for command in sys.argv[1:]:
    text = io.StringIO()
    with contextlib.redirect_stdout(text), contextlib.redirect_stderr(text):
        code = main(json.loads(command))
    print(code, text.getvalue().splitlines()[-1] if code else "")
