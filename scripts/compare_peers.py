"""Measure fastbp beside its peers, in one run, on the same cores.

    python scripts/compare_peers.py [--work online,nielsen] [--peers jax,numpy] [--check] ...

Each peer has a process of its own and its best known practice; all start from the same weights and
train on the same samples with the same learning rate and loss, and their losses must agree. They
run in turns, several slices each; the best slice counts. fastbp is driven through `Network.fit`,
`gradient`, `feedforward` and the estimators' `fit`, with all that these do. Peers that are not
installed are named. With --threads 2, each runs on two cores, with one thread and with two, and the
better one counts; with --held avx2, all that can be are held to vectors of 32 bytes.

With --keep the results go to `asv_benchmarks/results-peers/`, into the file of this kind of CPU, in
place of older ones of the same works; --merge does so with what --json wrote, here or elsewhere.
--readme writes chart and tables from what is kept. These two race nobody.

Exit code: 0; 1 if the peers' losses disagree, if fastbp fails, or, with --check, if a figure that
must be reached is not shown to be; 2 for an unusable command line.
"""

import argparse
import json
import os
import platform
import sys
import tempfile
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np

import fastbp
from fastbp.kernels import machine
from measure import cpu, training_images
from peers import GAUGES, PEERS, keep, report
from peers.race import entrants, race
from peers.work import HELD_FIGURES, WORKLOADS, Workload, write_task

PACKAGES = (
    "fastbp", "numpy", "numba", "torch", "jax", "scikit-learn", "onnxruntime",
)  # fmt: skip
CUSTOM = ("batch", "density", "activation", "loss", "dtype", "samples")  # what --sizes takes beside


def list_of(kind, known=()):
    """Return a converter of comma-separated values."""

    def convert(words):
        values = [kind(word) for word in words.split(",") if word]
        unknown = [value for value in values if known and value not in known]
        if unknown or not values:
            raise argparse.ArgumentTypeError(
                f"{words!r}: take some of {', '.join(map(str, known))}"
            )
        return list(dict.fromkeys(values))

    convert.__name__ = f"list of {kind.__name__}"
    return convert


def positive(kind):
    def convert(word):
        value = kind(word)
        if not value > 0:
            raise argparse.ArgumentTypeError(f"{word} is not positive")
        return value

    convert.__name__ = f"positive {kind.__name__}"
    return convert


def sizes(words):
    """Return the widths of layers."""
    values = tuple(positive(int)(word) for word in words.split(","))
    if len(values) < 2:
        raise argparse.ArgumentTypeError("two layers or more, such as 784,30,10")
    return values


def parser():
    p = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage=argparse.SUPPRESS,  # an error is one line
    )
    p.add_argument("--work", type=list_of(str, WORKLOADS), help=f"some of {', '.join(WORKLOADS)}")
    p.add_argument("--peers", type=list_of(str, PEERS), help=f"some of {', '.join(PEERS)}")
    p.add_argument("--rounds", type=positive(int), default=5, help="slices of each peer (5)")
    p.add_argument("--seconds", type=positive(float), default=1.0, help="of a slice, about (1)")
    p.add_argument("--threads", type=int, choices=(1, 2), default=1, help="cores to race on (1)")
    p.add_argument("--cores", type=list_of(int), help="which, such as 0,1 (the first allowed)")
    p.add_argument("--check", action="store_true", help="exit code 1 if a must is not reached")
    p.add_argument("--json", type=Path, help="file for everything measured")
    p.add_argument("--held", choices=("avx2",), help="what all are held to (the CPU's own)")
    p.add_argument("--keep", action="store_true", help="keep the results, by kind of CPU")
    p.add_argument("--merge", type=Path, nargs="+", metavar="JSON", help="keep those of files")
    p.add_argument("--readme", action="store_true", help="write chart and tables from those kept")
    own = p.add_argument_group("a workload of your own, on Gaussian inputs")
    own.add_argument("--sizes", type=sizes, help="widths of the layers, such as 784,13,10")
    own.add_argument("--batch", type=positive(int), help="samples a step (32)")
    own.add_argument("--density", type=positive(float), help="share of inputs not zero (1)")
    own.add_argument("--activation", choices=("sigmoid", "tanh", "relu"), help="hidden (sigmoid)")
    own.add_argument("--loss", choices=("quadratic", "cross-entropy"), help="(quadratic)")
    own.add_argument("--dtype", choices=("float32", "float64"), help="(float32)")
    own.add_argument("--samples", type=positive(int), help="samples an epoch (10000)")
    return p


def allowed_cores():
    """Return the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def options_of(argv):
    """Return the command line's options, checked."""
    p = parser()
    options = p.parse_args(argv)
    options.peers = options.peers or list(PEERS)
    given = {name: getattr(options, name) for name in CUSTOM if getattr(options, name) is not None}
    if given and not options.sizes:
        p.error(f"--{next(iter(given))} goes with --sizes")
    works = list(HELD_FIGURES if options.held else WORKLOADS)
    names = options.work or ([] if options.sizes else works)
    options.workloads = {name: WORKLOADS[name] for name in names}
    if options.sizes:
        given = {"batch": 32, "samples": 10_000, **given}
        if given["batch"] > given["samples"] or given.get("density", 1) > 1:
            p.error("--batch goes up to --samples, --density up to 1")
        options.workloads["custom"] = Workload(options.sizes, data="gauss", **given)
    cores, allowed = options.cores or allowed_cores()[: options.threads], allowed_cores()
    if len(cores) < options.threads or not set(cores) <= set(allowed):
        p.error(f"--threads {options.threads} wants as many of the cores {allowed}")
    options.cores = cores[: options.threads]
    return options


def about(options):
    """Return what the figures depend on."""
    versions = {"Python": platform.python_version()}
    for name in PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    versions["fastbp"] = fastbp.__version__  # that of this tree, whatever was installed last
    date = datetime.now(UTC).isoformat(timespec="seconds")
    return {
        "cpu": cpu(), "cpu_name": machine.CPU.name, "kind": machine.KIND,
        "system": platform.platform(), "versions": versions, "date": date,
        "rounds": options.rounds, "seconds": options.seconds,
    }  # fmt: skip


def say(words):
    """Report progress where it does not mix with the results."""
    print(f"  ... {words}", file=sys.stderr, flush=True)


def data_of(work, images):
    """Return samples, labels and a name of them; made-up ones are made where they are written."""
    if work.data == "mnist":
        return images
    if work.data == "digits":
        X, y, X_test, y_test = fastbp.datasets.load("digits")
        return np.concatenate([X, X_test]), np.concatenate([y, y_test]), "the digits"
    return None, None, "Gaussian inputs"


def run(name, work, options, images):
    """Return the result of one workload."""
    with tempfile.TemporaryDirectory() as folder:
        X, y, what = data_of(work, images)
        work = write_task(folder, work, X, y)
        entries = entrants(options.peers, work.kind, options.cores, say, bool(options.held))
        race(entries, folder, options, say)
    if work.density < 1:
        what += f", {work.density:.0%} not zero"
    return {
        "name": name, "work": work._asdict(), "data": what, "cores": options.cores,
        "held": options.held or "", "pinned": hasattr(os, "sched_setaffinity"),
        "asked": options.peers, "gauges": list(GAUGES), "entries": entries,
    }  # fmt: skip


def images_for(workloads):
    """Return MNIST or what stands for it, with a name; nothing where no workload wants it."""
    if all(work.data != "mnist" for work in workloads):
        return None
    return training_images(None)


def write_kept(options):
    """Keep what files hold; write chart and tables."""
    for path in options.merge or ():
        found = json.loads(path.read_text(encoding="utf-8"))
        print(f"{path} goes to {keep.keep(found['results'], found['about'])}")
    if options.readme:
        keep.write()


def main(argv=None):
    """Race, print, write; return the exit code."""
    options = options_of(argv)
    if options.merge or options.readme:
        write_kept(options)
        return 0
    images = images_for(options.workloads.values())
    facts, results = about(options), []
    print(f"{facts['cpu']}, cores {options.cores}; {report.versions_words(facts)}")
    for name, work in options.workloads.items():
        result = run(name, work, options, images)
        results.append(result)
        print(report.text(result), flush=True)
        # After each workload: an interrupted run leaves what it has.
        if options.json:
            options.json.write_text(json.dumps({"about": facts, "results": results}, indent=1))
        if options.keep:
            keep.keep(results, facts)
    found = report.problems(results, options.check)
    print("\n".join(["", *found] if found else ["", "no problems found"]))
    return 1 if found else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (OSError, ValueError) as error:
        print(f"compare_peers.py: {error}", file=sys.stderr)
        sys.exit(2)
