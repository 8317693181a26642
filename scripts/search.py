"""Search for good settings with scikit-learn's own tools, on all cores: an example.

    python scripts/search.py [--jobs N] [--backend loky]

Each process trains with one thread, so that no core has two masters. joblib's other backends take
the same code: with Dask or Ray, register theirs (`joblib.parallel_config("dask")` after starting a
`dask.distributed.Client`), and the candidates run on a cluster.
"""

import argparse
import os
import time
import warnings

import joblib
import numpy as np
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler

import fastbp
from fastbp.estimator import MLPClassifier

GRID = {
    "mlpclassifier__hidden_layer_sizes": [(30,), (100,)],
    "mlpclassifier__learning_rate_init": [0.03, 0.1, 0.3],
    "mlpclassifier__alpha": [1e-5, 1e-3],
}


def searched(X, y, jobs, grid=GRID, epochs=30):
    """Return the finished search over a pipeline, in so many processes."""
    network = MLPClassifier(
        solver="sgd", batch_size=32, max_iter=epochs, n_iter_no_change=epochs, random_state=0,
        n_threads=max(1, joblib.cpu_count() // joblib.effective_n_jobs(jobs)),
    )  # fmt: skip
    search = GridSearchCV(
        make_pipeline(MinMaxScaler(), network), grid, cv=3, n_jobs=jobs, error_score="raise"
    )
    return search.fit(X, y)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], usage=argparse.SUPPRESS)
    parser.add_argument("--jobs", type=int, default=-1, help="processes (default: one a core)")
    parser.add_argument("--backend", default="loky", help="joblib's: loky, threading, dask, ...")
    args = parser.parse_args()
    X, y, X_test, y_test = fastbp.datasets.load("digits")
    ended = "Stochastic Optimizer: Maximum iterations"  # as they should
    warnings.filterwarnings("ignore", ended)
    os.environ["PYTHONWARNINGS"] = f"ignore:{ended.split(':')[0]}"  # of the processes to come
    started = time.perf_counter()
    with joblib.parallel_config(backend=args.backend):
        search = searched(X.astype(np.float32), y, args.jobs)
    print(f"{len(search.cv_results_['params'])} settings in {time.perf_counter() - started:.1f} s")
    for name, value in search.best_params_.items():
        print(f"{name.removeprefix('mlpclassifier__'):<20}{value}")
    print(f"accuracy on held-out images {search.score(X_test.astype(np.float32), y_test):.4f}")


if __name__ == "__main__":
    main()
