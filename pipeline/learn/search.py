"""What Dask's machine learning tools add: search over settings, lazy application, one fit across workers.

Apart from `pipeline.learn.distribute`, since importing dask-ml takes seconds that a build's workers need not spend.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import dask.array as da
import numpy as np
from dask_ml.model_selection import GridSearchCV
from dask_ml.wrappers import ParallelPostFit
from distributed import Client
from lightgbm.dask import DaskLGBMRegressor
from numpy.typing import NDArray
from sklearn.model_selection import PredefinedSplit

from pipeline.learn.estimator import RatioRegressor
from pipeline.learn.fit import LearnSettings, lesson, parameters
from pipeline.learn.table import Table


def predict_lazily(text: str, features: da.Array) -> da.Array:
    """Predict f for a lazy table (row, feature), block by block; nothing is computed here.

    For tables that do not fit into memory. Rows of one chunk are one task.
    """
    fitted = RatioRegressor(text=text)
    rows = features.rechunk({1: -1})
    return ParallelPostFit(fitted, predict_meta=np.zeros(0)).predict(rows)


def tune(table: Table, fold: NDArray[np.int64], grid: Mapping[str, Sequence[Any]]) -> dict[str, Any]:
    """Search the settings of the fit over spatial folds, one Dask task a fit, on the client that is current (if any).

    Parameters
    ----------
    table, fold : as `fit_group`.
    grid : values of `RatioRegressor`'s parameters to try.

    Returns
    -------
    The parameters with the best mean score over folds, under ``score`` that score, and ``scores`` of all candidates.
    """
    taught = table.weight > 0
    features, target, weight = lesson(table)
    search = GridSearchCV(
        RatioRegressor(), dict(grid), cv=PredefinedSplit(fold[taught]), refit=False, return_train_score=False
    )
    search.fit(features, np.stack([target, weight], axis=1))
    means = np.asarray(search.cv_results_["mean_test_score"])
    best = int(means.argmax())
    return {**search.cv_results_["params"][best], "score": float(means[best]), "scores": means.tolist()}


def train_across(
    client: Client, features: da.Array, target: da.Array, weight: da.Array, settings: LearnSettings
) -> str:
    """Fit one region whose table exceeds a worker: every worker holds its rows, histograms are exchanged.

    Tables of a group's cells fit into any worker by a factor of a hundred, so the build never needs it; it is for rows
    at 1 km. It hangs when a worker dies, hence the plain fit wherever that suffices.
    """
    chosen = {
        k: v for k, v in parameters(settings).items() if k not in ("deterministic", "force_row_wise", "num_threads")
    }
    estimator = DaskLGBMRegressor(client=client, n_estimators=settings.trees, **chosen)
    estimator.fit(features, target, sample_weight=weight)
    return str(estimator.to_local().booster_.model_to_string())
