"""The fit as a scikit-learn estimator, for the tools that search and apply such estimators in parallel."""

from __future__ import annotations

from dataclasses import replace

import lightgbm as lgb
import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, RegressorMixin

from pipeline.learn.fit import LearnSettings, parameters, predict_log
from pipeline.learn.scores import weighted_r2


class RatioRegressor(RegressorMixin, BaseEstimator):
    """f in ln(truth / prior) = f(features), see `pipeline.learn.fit.train`.

    Targets come as two columns, value and weight: searches split targets by rows, but score without weights.

    Parameters
    ----------
    trees, leaves, learning_rate, min_rows, l2 : as `LearnSettings`.
    text : a model already fitted.
    """

    def __init__(
        self,
        trees: int = LearnSettings.trees,
        leaves: int = LearnSettings.leaves,
        learning_rate: float = LearnSettings.learning_rate,
        min_rows: int = LearnSettings.min_rows,
        l2: float = LearnSettings.l2,
        text: str = "",
    ) -> None:
        self.trees, self.leaves, self.learning_rate = trees, leaves, learning_rate
        self.min_rows, self.l2, self.text = min_rows, l2, text

    def fit(self, X: NDArray[np.float32], y: NDArray[np.float64]) -> RatioRegressor:
        """Fit to features (row, feature) and targets (row, 2): value and weight."""
        chosen = {k: v for k, v in self.get_params().items() if k != "text"}
        data = lgb.Dataset(X, y[:, 0], weight=y[:, 1], params={"verbosity": -1})
        booster = lgb.train(parameters(replace(LearnSettings(), **chosen)), data, self.trees)
        self.text_ = str(booster.model_to_string())
        return self

    def predict(self, X: NDArray[np.float32]) -> NDArray[np.float64]:
        """Give f of each row."""
        return predict_log(getattr(self, "text_", self.text), X)

    def score(self, X: NDArray[np.float32], y: NDArray[np.float64], sample_weight: None = None) -> float:  # noqa: ARG002
        """Weighted R2 about f = 0: above 0 is better than the prior."""
        return weighted_r2(self.predict(X), y[:, 0], y[:, 1], 0.0)
