"""Fit one training group: LightGBM on information-weighted log ratios, cross-fitted over spatial blocks."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import lightgbm as lgb
import numpy as np
from numpy.typing import NDArray

from pipeline.core.seeds import generator
from pipeline.learn.blocks import fold_of
from pipeline.learn.scores import weighted_r2
from pipeline.learn.table import Table


@dataclass(frozen=True)
class LearnSettings:
    """How the learning is done.

    Parameters
    ----------
    trees, leaves, learning_rate, min_rows, l2 : of LightGBM; few leaves and many rows a leaf, since labels are noisy.
    folds : spatial folds of the cross-fit.
    block_degrees : side of a spatial block, degrees.
    blend_degrees : width over which neighbouring groups' models are blended, degrees.
    seed : of folds and of LightGBM.
    """

    trees: int = 120
    leaves: int = 10
    learning_rate: float = 0.05
    min_rows: int = 80
    l2: float = 10.0
    folds: int = 5
    block_degrees: float = 2.0
    blend_degrees: float = 1.0
    seed: int = 0


@dataclass(frozen=True)
class Model:
    """What one training group learned.

    Attributes
    ----------
    group : its name.
    text : the LightGBM model of all rows, in LightGBM's text format; empty where there was nothing to learn from.
    fold_texts : the models of the cross-fit; number k has not seen fold k.
    features : names in column order.
    smearing : factor from exp(predicted log) to the mean.
    magnitudes : middles of classes of magnitude, ln of the prior's t km-2 month-1; what follows has a value for each.
    damping : share of f that held-out blocks bear out, 0..1.
    sigma_ln : standard deviation of ln(truth / learned).
    scores : skill, see `docs/learning.md`.
    importance : gain of each feature, summing to 1.
    sha256 : of the texts.
    """

    group: str
    text: str
    fold_texts: tuple[str, ...]
    features: tuple[str, ...]
    smearing: float
    magnitudes: tuple[float, ...]
    damping: tuple[float, ...]
    sigma_ln: tuple[float, ...]
    scores: Mapping[str, float] = field(default_factory=dict)
    importance: Mapping[str, float] = field(default_factory=dict)
    sha256: str = ""


MAGNITUDES = 5
SIGMA_RANGE = (0.1, 1.5)
MONTH_FOLDS = 3


def magnitude_of(features: NDArray[np.float32], names: Sequence[str]) -> NDArray[np.float64]:
    """Ln of the prior's t km-2 month-1 of each row."""
    return features[:, list(names).index("prior_density")].astype(float)


def parameters(settings: LearnSettings) -> dict[str, Any]:
    """LightGBM's parameters; the same settings give the same model whatever the machine does besides."""
    return {
        "objective": "regression",
        "boost_from_average": False,
        "learning_rate": settings.learning_rate,
        "num_leaves": settings.leaves,
        "min_data_in_leaf": settings.min_rows,
        "lambda_l2": settings.l2,
        "feature_fraction": 0.7,
        "bagging_fraction": 0.7,
        "bagging_freq": 1,
        "deterministic": True,
        "force_row_wise": True,
        "num_threads": 1,
        "seed": int(generator("lightgbm", settings.seed).integers(2**31)),
        "verbosity": -1,
    }


def lesson(table: Table) -> tuple[NDArray[np.float32], NDArray[np.float64], NDArray[np.float64]]:
    """Features, target and weight of the rows that teach; a few rows seen very well must not be the whole lesson."""
    taught = table.weight > 0
    weight = np.minimum(table.weight[taught] / table.weight[taught].mean(), 10.0) if taught.any() else np.zeros(0)
    return table.features[taught], np.clip(table.target[taught], -4, 4), weight


def train(table: Table, settings: LearnSettings) -> str:
    """Fit f in ln(truth / prior) = f(features) by weighted least squares and give the model as text.

    The prior is the offset: without evidence f is 0 and the learned field is the prior, so point sources stay placed
    where they are known and only their level is learned. Rows of weight 0 are left out.
    """
    features, target, weight = lesson(table)
    if len(target) < 2 * settings.min_rows:
        return ""
    data = lgb.Dataset(features, target, weight=weight, feature_name=list(table.names), params={"verbosity": -1})
    return str(lgb.train(parameters(settings), data, settings.trees).model_to_string())


def predict_log(text: str, features: NDArray[np.float32]) -> NDArray[np.float64]:
    """Predict f, the logarithm of the learned over the prior, of each row; 0 where nothing was learned."""
    if not text or not len(features):
        return np.zeros(len(features))
    return np.asarray(lgb.Booster(model_str=text).predict(features, num_threads=1), np.float64)


def cross_fit(
    table: Table, fold: NDArray[np.int64], settings: LearnSettings, count: int
) -> tuple[list[str], NDArray[np.float64]]:
    """Models that each leave one of `count` folds out; for every row the prediction of the one that has not seen it."""
    texts, out = [], np.zeros(len(table))
    for k in range(count):
        texts.append(train(table.rows(fold != k), settings))
        out[fold == k] = predict_log(texts[-1], table.features[fold == k])
    return texts, out


def smearing(table: Table, predicted: NDArray[np.float64]) -> float:
    """Factor from exp(mean of the log) to the mean, from the observed mass of held-out cells.

    The posterior is pulled towards the prior, and so is the prediction it is compared with (s the sensitivity):
    c = sum s posterior / sum s prior exp(s f).  Duan (1983) has the mean of exp(residual); a ratio of masses is not
    carried away by noisy cells of little emission.
    """
    s = np.where(table.weight > 0, table.sensitivity, 0.0)
    expected = float(np.sum(s * table.prior * np.exp(s * predicted)))
    return float(np.clip(np.sum(s * table.posterior) / expected, 0.5, 2.0)) if expected > 0 else 1.0


def damping(table: Table, predicted: NDArray[np.float64]) -> float:
    """Share of f that is borne out by blocks it has not seen, at its cautious end: 0..1.

    Least squares of the target on the prediction, l = sum w t f / sum w f^2, less one standard error over blocks
    (se^2 = B / (B - 1) sum_b (n_b - l d_b)^2 / (sum d)^2 with n_b, d_b the sums of block b): what cannot be told from
    nothing is taken for nothing, so that the learned field falls back to the prior. It is scaled by the share of seen
    rows that taught at all: among small emitters those are the ones that turned out large, no lesson for the others.
    """
    _, block = np.unique(table.block, return_inverse=True)
    moment = np.bincount(block, table.weight * table.target * predicted)
    square = np.bincount(block, table.weight * predicted**2)
    n, total = int(np.count_nonzero(square)), float(square.sum())
    if n < 2:
        return 0.0
    slope = float(moment.sum()) / total
    error = np.sqrt(n / (n - 1) * float(np.sum((moment - slope * square) ** 2))) / total
    return float(np.clip(slope - error, 0.0, 1.0) * np.mean(table.weight[table.seen] > 0))


def residual_sigma(table: Table, predicted: NDArray[np.float64]) -> float:
    """Standard deviation of ln(truth / learned) over rows, from a posterior that is itself uncertain.

    For a Gaussian cell with sensitivity s and posterior variance P, ln(posterior / prior) - s f has the variance
    s^2 tau^2 + s P; hence  tau^2 = sum[(shift - s f - bias)^2 - s P] / sum s^2.
    """
    s = np.where(table.weight > 0, table.sensitivity, 0.0)
    norm = float(np.sum(s**2))
    if norm < 1:
        return SIGMA_RANGE[1]
    gap = table.shift - s * predicted
    gap = gap - s * float(np.sum(s * gap)) / norm
    variance = float(np.sum(gap**2 - s * table.sigma_ln**2)) / norm
    return float(np.clip(np.sqrt(max(variance, 0.0)), *SIGMA_RANGE))


def fit_group(name: str, table: Table, fold: NDArray[np.int64], settings: LearnSettings) -> Model:
    """Fit, cross-fit and score one training group.

    Parameters
    ----------
    name : of the group.
    table : its rows over all months.
    fold : spatial fold of each row; global, so that a neighbouring group holds out the same cells.
    """
    texts, raw = cross_fit(table, fold, settings, settings.folds)
    text = train(table, settings)
    magnitude = magnitude_of(table.features, table.names)
    edges = np.quantile(magnitude, np.arange(1, MAGNITUDES) / MAGNITUDES)
    kind = np.digitize(magnitude, edges)
    middles = tuple(float(m) for m in np.quantile(magnitude, (np.arange(MAGNITUDES) + 0.5) / MAGNITUDES))
    damped = tuple(damping(table.rows(kind == k), raw[kind == k]) for k in range(MAGNITUDES))
    held_out = raw * np.interp(magnitude, middles, damped)
    factor = smearing(table, held_out)
    return Model(
        group=name,
        text=text,
        fold_texts=tuple(texts),
        features=table.names,
        smearing=factor,
        magnitudes=middles,
        damping=damped,
        sigma_ln=tuple(residual_sigma(table.rows(kind == k), held_out[kind == k]) for k in range(MAGNITUDES)),
        scores=_scores(table, held_out, factor, settings),
        importance=_importance(text),
        sha256=checksum(text, texts),
    )


def checksum(text: str, fold_texts: Sequence[str]) -> str:
    """SHA-256 over the texts of a model."""
    return hashlib.sha256("\0".join((text, *fold_texts)).encode()).hexdigest()


def _scores(table: Table, held_out: NDArray[np.float64], factor: float, settings: LearnSettings) -> dict[str, float]:
    """Skill on blocks and on months not seen, the prior's beside it, and what random folds would have claimed."""
    months = fold_of(table.month, MONTH_FOLDS, settings.seed, "months")
    by_month = cross_fit(table, months, settings, MONTH_FOLDS)[1] if months.any() else np.zeros(len(table))
    rows = fold_of(np.arange(len(table)), settings.folds, settings.seed, "rows")
    by_row = cross_fit(table, rows, settings, settings.folds)[1]
    scores = {"rows": float(len(table)), "observed_rows": float((table.weight > 0).sum())}
    for name, log in {"prior": 0.0 * held_out, "blocks": held_out, "months": by_month, "random": by_row}.items():
        level = factor if name != "prior" else 1.0
        scores[f"r2_{name}"] = weighted_r2(level * table.prior * np.exp(log), table.posterior, table.sensitivity)
        scores[f"r2_log_{name}"] = weighted_r2(log, table.target, table.weight, 0.0)
    scores["optimism_log"] = scores["r2_log_random"] - scores["r2_log_blocks"]
    return scores


def _importance(text: str) -> dict[str, float]:
    if not text:
        return {}
    booster = lgb.Booster(model_str=text)
    gain = booster.feature_importance("gain")
    total = max(float(gain.sum()), 1e-12)
    return {n: float(g) / total for n, g in zip(booster.feature_name(), gain, strict=True)}
