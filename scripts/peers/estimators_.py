"""The same call of `fit` of scikit-learn's classifier, and of fastbp's in its place."""

import warnings

from . import Done, Job

STOPS = "digits"  # data that is learnt to the end, however many epochs that takes


def build(task, kind):
    """Return the job: epochs of one call, or whole calls, each of as many epochs."""
    work = task.work

    def fitted(**settings):
        model = kind(work.sizes[1:-1], solver=work.solver, random_state=0, **settings)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # so few epochs are no convergence, nor meant to be
            return model.fit(task.X, task.labels)

    if work.data == STOPS:

        def run(calls):
            for _ in range(calls):
                model = fitted()
            # The last epoch's: scikit-learn clips the large losses of the first.
            return Done(float(model.loss_))

        return Job(run, count=len(task.X) * fitted().n_iter_)

    def run_epochs(epochs):
        model = fitted(batch_size=work.batch, max_iter=epochs, n_iter_no_change=epochs)
        return Done(float(model.loss_curve_[0]))

    return Job(run_epochs, count=len(task.X))
