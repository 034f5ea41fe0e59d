"""Measures of skill against a known truth or another inventory: pure functions of arrays."""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import ArrayLike, NDArray

from pipeline.core.errors import InputError

LOG_FLOOR = 1000.0
"""t of CO2 a month; `log_r2` looks at cells whose truth is above it: below, emissions are a few villages."""


def r2(estimate: ArrayLike, truth: ArrayLike) -> float:
    """Coefficient of determination about the 1:1 line, 1 - SSE / SST; NaN where the truth does not vary.

    SSE = sum (x - t)^2, SST = sum (t - mean t)^2. It is not the squared correlation: a biased estimate is penalised.
    """
    x, t = _pair(estimate, truth)
    spread = float(np.sum((t - t.mean()) ** 2))
    return 1.0 - float(np.sum((x - t) ** 2)) / spread if spread > 0 else float("nan")


def log_r2(estimate: ArrayLike, truth: ArrayLike, floor: float = LOG_FLOOR) -> float:
    """`r2` of the logarithms where the truth is above `floor`; estimates below the floor count as the floor."""
    x, t = _pair(estimate, truth)
    keep = t > floor
    if not keep.any():
        return float("nan")
    return r2(np.log(np.maximum(x[keep], floor)), np.log(t[keep]))


def r2_without_top(estimate: ArrayLike, truth: ArrayLike, share: float = 0.01) -> float:
    """`r2` without the given share of values with the largest truth, which otherwise decide it."""
    x, t = _pair(estimate, truth)
    keep = np.argsort(t, kind="stable")[: t.size - round(share * t.size)]
    return r2(x[keep], t[keep])


def relative_mae(estimate: ArrayLike, truth: ArrayLike) -> float:
    """Mean absolute error over the mean truth: sum |x - t| / sum t."""
    x, t = _pair(estimate, truth)
    return _ratio(float(np.abs(x - t).sum()), float(t.sum()))


def relative_bias(estimate: ArrayLike, truth: ArrayLike) -> float:
    """Error of the total over the true total: sum (x - t) / sum t."""
    x, t = _pair(estimate, truth)
    return _ratio(float((x - t).sum()), float(t.sum()))


def coverage(truth: ArrayLike, low: ArrayLike, high: ArrayLike) -> float:
    """Share of truths inside [low, high]."""
    lower, t = _pair(low, truth)
    upper, _ = _pair(high, truth)
    return float(np.mean((lower <= t) & (t <= upper))) if t.size else float("nan")


def z_scores(estimate: ArrayLike, truth: ArrayLike, sigma: ArrayLike) -> NDArray[np.float64]:
    """(x - t) / sigma where sigma is positive, flat; honest uncertainties give a root mean square near 1."""
    x, t = _pair(estimate, truth)
    s, _ = _pair(sigma, truth)
    return (x[s > 0] - t[s > 0]) / s[s > 0]


def correlation(a: ArrayLike, b: ArrayLike) -> float:
    """Pearson's correlation; NaN where either does not vary."""
    x, y = _pair(a, b)
    x, y = x - x.mean() if x.size else x, y - y.mean() if y.size else y
    return _ratio(float(x @ y), float(np.sqrt((x @ x) * (y @ y))))


def interval(members: ArrayLike, level: float = 0.9) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Central interval over axis 0 by the n + 1 rule, with which a perfect sample of n covers what it says."""
    values = np.asarray(members, float)
    tail = (1 - level) / 2
    low, high = np.quantile(values, [tail, 1 - tail], axis=0, method="weibull")
    return low, high


def cell_scores(mean: NDArray, prior: NDArray, low: NDArray, high: NDArray, truth: NDArray) -> dict[str, float]:
    """The scores of a year over cells, posterior and prior side by side.

    Parameters
    ----------
    mean, prior, low, high, truth : (month, cell), t; every cell that counts, zeros included.
    """
    scores: dict[str, float] = {"cells": float(truth.shape[1]), "months": float(truth.shape[0])}
    for name, field in (("", mean), ("prior_", prior)):
        scores |= {
            f"{name}r2_monthly": r2(field, truth),
            f"{name}r2_annual": r2(field.sum(axis=0), truth.sum(axis=0)),
            f"{name}log_r2_monthly": log_r2(field, truth),
            f"{name}r2_without_top_1_percent": r2_without_top(field, truth),
            f"{name}relative_mae": relative_mae(field, truth),
            f"{name}bias": relative_bias(field, truth),
        }
    scores["relative_mae_over_prior"] = _ratio(scores["relative_mae"], scores["prior_relative_mae"])
    scores["coverage_90_cells"] = coverage(truth, low, high)
    return scores


def total_scores(members: NDArray, truth: NDArray, nation: int) -> dict[str, float]:
    """The scores of a year over regional totals; `national_bias_monthly` is the root mean square over months.

    Parameters
    ----------
    members : (member, month, region), t.
    truth : (month, region), t.
    nation : index of the nation among the regions; the others are its provinces.
    """
    low, high = interval(members)
    annual_low, annual_high = interval(members.sum(axis=1))
    provinces = [k for k in range(truth.shape[1]) if k != nation]
    year = members[:, :, nation].sum(axis=1)
    return {
        "coverage_90_provinces_monthly": coverage(truth[:, provinces], low[:, provinces], high[:, provinces]),
        "coverage_90_provinces_annual": coverage(
            truth[:, provinces].sum(axis=0), annual_low[provinces], annual_high[provinces]
        ),
        "national_bias": relative_bias(year.mean(), truth[:, nation].sum()),
        "national_bias_monthly": _rms_relative(members[:, :, nation].mean(axis=0), truth[:, nation]),
        "national_z": _ratio(float(year.mean() - truth[:, nation].sum()), float(year.std(ddof=1))),
    }


def flagged_blocks(members: NDArray[np.floating], prior: NDArray[np.float64], size: int = 3) -> NDArray[np.bool_]:
    """Cells around which the posterior is surely above the prior: p05 of their block's members exceeds its prior mean.

    Parameters
    ----------
    members : (member, lat, lon), t, 0 outside; prior : (lat, lon), t.
    size : cells along a side of the block centred on each cell, odd; blocks are cut off at the edge of the grid.
    """
    low = interval(block_sums(members, size))[0]
    return np.asarray(low > block_sums(prior, size))


def blocks_with(points: NDArray[np.bool_], size: int = 3) -> NDArray[np.bool_]:
    """Cells whose block (`flagged_blocks`) holds a marked cell, (lat, lon)."""
    return block_sums(points, size) > 0.5


def block_sums(field: NDArray, size: int = 3) -> NDArray[np.float64]:
    """Sum over the block centred on each cell, over the last two axes."""
    half = size // 2
    padded = np.pad(np.asarray(field, float), [(0, 0)] * (field.ndim - 2) + [(half, half)] * 2)
    return np.asarray(sliding_window_view(padded, (size, size), axis=(-2, -1)).sum(axis=(-2, -1)))


def _rms_relative(estimate: NDArray, truth: NDArray) -> float:
    """Root mean square of (x - t) / t where t is positive; NaN where it never is."""
    there = truth > 0
    off = (estimate[there] - truth[there]) / truth[there]
    return float(np.sqrt(np.mean(off**2))) if off.size else float("nan")


def _ratio(above: float, below: float) -> float:
    return above / below if below != 0 else float("nan")


def _pair(estimate: ArrayLike, truth: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    x, t = np.asarray(estimate, dtype=float), np.asarray(truth, dtype=float)
    if x.shape != t.shape:
        raise InputError(f"arrays of shape {x.shape} and {t.shape} to compare", "one shape")
    bad = int(np.sum(~np.isfinite(x) | ~np.isfinite(t)))
    if bad:
        raise InputError(f"{bad} of {x.size} values to compare are not finite", "numbers", "leave such cells out first")
    return x.ravel(), t.ravel()
