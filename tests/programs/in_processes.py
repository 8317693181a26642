"""Train and predict in children; print the digests by how they were started; argv: one of HOWS."""

import hashlib
import json
import multiprocessing
import os
import sys

from digits_training import X, train

import fastbp
from fastbp.kernels import machine

machine.CALL_PER_THREAD = 1  # threads take part in predictions, too
SEEDS = range(4)


def work(seed):
    outputs = fastbp.Network([64, 20, 10], seed=seed).feedforward(X, threads=2)
    digest = train(seed, batch_size=10, optimizer="adam", threads=3)
    return digest + hashlib.sha256(outputs.tobytes()).hexdigest()


def here():
    return [work(seed) for seed in SEEDS]


def in_pool(method):
    with multiprocessing.get_context(method).Pool(2) as pool:
        return pool.map_async(work, SEEDS, chunksize=1).get(timeout=200)


def pools():
    """Fork before any thread was at work, and after; then start anew."""
    methods = multiprocessing.get_all_start_methods()
    found = {"fork": in_pool("fork")} if "fork" in methods else {}
    found["here"] = here()
    for method in methods:
        found["fork after threads" if method == "fork" else method] = in_pool(method)
    return found


def in_joblib():
    from joblib import Parallel, delayed

    found = {"here": here()}
    for backend in ("loky", "threading"):
        found[backend] = Parallel(n_jobs=2, backend=backend)(delayed(work)(s) for s in SEEDS)
    return found


def on_one_core():
    found = {"here": here()}
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    return found | {"one core": here()}


HOWS = {"pools": pools, "joblib": in_joblib, "one core": on_one_core}

if __name__ == "__main__":  # children that are started anew import this file
    print(json.dumps(HOWS[sys.argv[1]]()))
