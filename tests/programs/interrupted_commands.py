"""Interrupt `fastbp train` so many times; argv: how often, and a folder for what it writes.

This process has loaded everything, and forks a child for each signal: a start would take a second.
Prints the exit codes by signal, what was said where it should not have been, and how many
trainings went on from their checkpoints.
"""

import collections
import json
import os
import random
import signal
import sys
import time
from pathlib import Path

from fastbp.cli import main as command_line
from fastbp.cli import options
from fastbp.model import file as checkpoint

ARGV = "train --quiet --hidden 10 --batch-size 100 --seed 3 --output".split()
SIGNALS = ((signal.SIGINT, 130), (signal.SIGTERM, 143))
KEPT = Path("run")
parser = options.parser


def command(name, *more):
    return [*ARGV, f"{name}.safetensors", *more]


def train_for_ever(write, more):
    """Be the child; tell the parent once the command is in charge of signals."""

    def begin(commands):
        os.write(write, b"x")
        return parser(commands)

    signal.signal(signal.SIGINT, signal.default_int_handler)
    log = os.open("stderr", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(log, 1)
    os.dup2(log, 2)
    options.parser = begin
    end = command_line(command("model", "--epochs", "1000000", *more))
    sys.stderr.flush()
    os._exit(end)


def interrupt(number, keeps, waits):
    """Return exit code and words of a training that a signal comes to, once its file is there."""
    for path in (KEPT, Path("model.safetensors")):
        path.unlink(missing_ok=True)
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        train_for_ever(write, ["--checkpoint", KEPT.name] if keeps else [])
    os.close(write)
    os.read(read, 1)
    os.close(read)
    while waits and not KEPT.exists():
        time.sleep(0.001)
    time.sleep(random.random() ** 2 * 0.3)
    os.kill(child, number)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return code, Path("stderr").read_text()


def is_right(said, keeps):
    """Whether one line was said, and what to do with the checkpoint, if there is one."""
    lines = said.strip().splitlines()
    if len(lines) != 1 or not lines[0].startswith("fastbp: ") or Path("model.safetensors").exists():
        return False
    if KEPT.exists():
        return keeps and "--resume run" in said
    early = "fastbp: interrupted\n", "fastbp: terminated\n"
    return not keeps or "it had not begun" in said or said in early


def goes_on():
    """Whether the checkpoint leads to the model of a training that was never stopped."""
    done = checkpoint.read(KEPT, checkpoint.TRAINING)[1]["done"]
    epochs = ["--epochs", str(done + 2)]
    assert command_line(command("whole", *epochs)) == 0
    assert command_line(command("parts", "--resume", KEPT.name, *epochs)) == 0
    whole, parts = (Path(f"{name}.safetensors").read_bytes() for name in ("whole", "parts"))
    return whole == parts


def main(signals, folder):
    random.seed(0)
    os.chdir(folder)
    assert command_line(command("warm", "--epochs", "2")) == 0
    codes, wrong, resumed = collections.Counter(), [], []
    for count in range(signals):
        number, code = SIGNALS[count % 2]
        keeps, waits = count % 4 < 2, count % 8 < 2
        found, said = interrupt(number, keeps, waits)
        codes[f"{code} {found}"] += 1
        if not is_right(said, keeps):
            wrong.append(said)
        if waits:
            resumed.append(goes_on())
    print(json.dumps([codes, wrong, resumed]))


main(int(sys.argv[1]), sys.argv[2])
