"""Checks of gradients, of this machine, and what is installed; what a model is."""

import time
from argparse import Namespace

import numpy as np

from .. import engines, verification
from ..engines import versions
from ..model import choices, summary
from . import inputs, memory
from .inputs import load_model
from .options import Result


def gradcheck(args: Namespace) -> Result:
    """Compare back-propagation with central differences; exit code 1 if they differ."""
    if args.model:
        net = load_model(args.model, args.backend)
    else:
        net = inputs.new_network(args, args.sizes, dtype="float64")
    rng = np.random.default_rng(args.seed)
    X = rng.random((args.samples, net.sizes[0])) / net.config["input_scale"]
    if net.scaling:
        X = net.scaling.mean + net.scaling.deviation * (2 * X - 1)
    found = verification.gradients.gradcheck(net, X, rng.integers(net.sizes[-1], size=args.samples))
    facts = {"ok": found.ok, "verdict": found.verdict, "max_error": found.max_error}
    return Result(facts, f"{net}\n{found}", found.ok)


def verify(args: Namespace) -> Result:
    """Check on this machine that the kernels equal the reference."""
    found = verification.verify(quick=args.quick)
    return Result(found.to_dict(), str(found), found.ok)


def warmup(args: Namespace) -> Result:
    """Compile the kernels, once per machine."""
    started = time.perf_counter()
    engines.warmup(("float32", "float64") if args.dtype == "both" else (args.dtype,))
    seconds = time.perf_counter() - started
    cache = versions.facts()["cache_folder"]
    return Result(text=f"kernels are ready after {seconds:.1f} s\ncache: {cache}")


def info(args: Namespace) -> Result:
    """Show versions, CPU, vector width, threads and cache, for bug reports; or a model's layers."""
    if not args.model:
        return Result(versions.facts()) if args.json else Result(text=versions.table())
    net = load_model(args.model, "numpy")  # nothing is computed
    layers = [layer._asdict() for layer in summary.layers(net.config)]
    text = summary.summary(net.config, "numba", net.params.nbytes)  # as `load` has it by default
    facts = {**choices.in_file(net.config), "layers": layers, "notes": net.notes}
    return Result(facts, text + memory.in_words(net))
