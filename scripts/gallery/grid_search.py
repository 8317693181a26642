"""# A grid search with scikit-learn

`fastbp.estimator` has `MLPClassifier` and `MLPRegressor` in place of scikit-learn's: pipelines,
searches
and cross-validation take them as they are.
"""

# %%
import pandas
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from fastbp.estimator import MLPClassifier  # not sklearn.neural_network

X, y = load_breast_cancer(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X, y, random_state=0)

# %%
# ## The search
#
# Eighteen trainings: three widths, two penalties, three folds each.
network = MLPClassifier(max_iter=400, learning_rate_init=0.01, tol=1e-3, random_state=0)
grid = {
    "mlpclassifier__hidden_layer_sizes": [[10], [30], [100]],
    "mlpclassifier__alpha": [1e-4, 1e-1],
}
search = GridSearchCV(make_pipeline(StandardScaler(), network), grid, cv=3).fit(X_train, y_train)
results = pandas.DataFrame(search.cv_results_)
pandas.DataFrame(
    {
        "neurons": results["param_mlpclassifier__hidden_layer_sizes"],
        "alpha": results["param_mlpclassifier__alpha"].astype(str),
        "accuracy": results["mean_test_score"].round(3),
        "seconds": results["mean_fit_time"].round(3),
    }
)

# %%
print(f"test accuracy of the best: {search.score(X_test, y_test):.3f}")

# %%
# ## The same network, without scikit-learn
#
# `from_sklearn` makes a `Network` of the estimator that was found.
import fastbp

net = fastbp.interchange.from_sklearn(search.best_estimator_[-1])
print(net.summary())
