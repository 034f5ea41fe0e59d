"""Calibration by split conformal prediction on spatial blocks: how far members must be spread to hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

COVERAGE = 0.90
FACTOR_RANGE = (0.5, 4.0)


@dataclass(frozen=True)
class Intervals:
    """Intervals of rows and what they should have held, all in logarithms, shape (row,).

    `centre` is the median, `lower` and `upper` the ends of the `COVERAGE` interval, `label` what was drawn or found,
    `block` the spatial block of the row.
    """

    centre: NDArray[np.float64]
    lower: NDArray[np.float64]
    upper: NDArray[np.float64]
    label: NDArray[np.float64]
    block: NDArray[np.int64]

    def rows(self, keep: NDArray[np.bool_]) -> Intervals:
        """The rows where `keep` is true."""
        return Intervals(**{k: v[keep] for k, v in vars(self).items()})


def interval_of(members: NDArray[np.floating], level: float = COVERAGE) -> tuple[NDArray, NDArray]:
    """Central interval from members along the first axis by the n + 1 rule (Weibull): (lower, upper).

    NumPy's default rule takes the members for the whole population: 50 perfect members would cover 86.5 % at 90 %.
    """
    tail = (1.0 - level) / 2.0
    low, high = np.quantile(members, [tail, 1.0 - tail], axis=0, method="weibull")
    return low, high


def stretch_needed(rows: Intervals) -> NDArray[np.float64]:
    """Factor by which each row's half-interval must grow (or shrink) for the label to stand at its end.

    (label - centre) / (upper - centre) above the centre, (centre - label) / (centre - lower) below it.
    """
    up, down = np.maximum(rows.upper - rows.centre, 1e-6), np.maximum(rows.centre - rows.lower, 1e-6)
    gap = rows.label - rows.centre
    return np.where(gap >= 0, gap / up, -gap / down)


def conformal_quantile(scores: NDArray[np.float64], blocks: NDArray[np.int64], level: float = COVERAGE) -> float:
    """Quantile of the scores with the finite-sample correction of split conformal prediction, n = number of blocks.

    Rows of a block hang together, so n counts blocks and every block has the same weight:
    the ceil((n + 1) level) / n quantile of the block-weighted distribution.

    Returns
    -------
    The quantile; infinite where n is too small for the level.
    """
    _, inverse, counts = np.unique(blocks, return_inverse=True, return_counts=True)
    n = counts.size
    rank = np.ceil((n + 1) * level) / n
    if rank > 1.0 or n == 0:
        return float("inf")
    order = np.argsort(scores, kind="stable")
    weight = (1.0 / counts[inverse])[order] / n
    return float(scores[order][min(np.searchsorted(np.cumsum(weight), rank - 1e-12), len(order) - 1)])


def calibrate(
    rows: Intervals, region: NDArray[np.int64], magnitude: NDArray[np.int64], level: float = COVERAGE
) -> Mapping[tuple[int, int], float]:
    """Inflation factor of the members for each region and class of magnitude.

    A class with too few blocks takes its region's factor, a region with too few takes the whole's.

    Parameters
    ----------
    rows : intervals with their labels; region, magnitude : class of each row.

    Returns
    -------
    Factors by (region, magnitude), cut to `FACTOR_RANGE`.
    """
    scores = stretch_needed(rows)
    whole = _factor(scores, rows.block, level, 1.0)
    factors = {}
    for r in np.unique(region):
        of_region = region == r
        regional = _factor(scores[of_region], rows.block[of_region], level, whole)
        for m in np.unique(magnitude):
            keep = of_region & (magnitude == m)
            factors[int(r), int(m)] = _factor(scores[keep], rows.block[keep], level, regional)
    return factors


def _factor(scores: NDArray[np.float64], blocks: NDArray[np.int64], level: float, otherwise: float) -> float:
    value = conformal_quantile(scores, blocks, level) if scores.size else float("inf")
    return float(np.clip(value, *FACTOR_RANGE)) if np.isfinite(value) else otherwise
