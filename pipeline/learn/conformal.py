"""Calibration by split conformal prediction on spatial blocks: how far members must be spread to hold."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

COVERAGE = 0.90
FACTOR_RANGE = (0.5, 4.0)
MIN_BLOCKS = 20
"""Blocks from which a class has a factor of its own: below, the finite-sample correction asks for the very extremes."""


def stretch_needed(
    mean: NDArray[np.floating], sigma: NDArray[np.floating], label: NDArray[np.floating], level: float = COVERAGE
) -> NDArray[np.float64]:
    """Smallest factor on sigma for which a log-normal of this mean has the label inside its central interval.

    The mean stays, so a wider distribution has a lower median:  |ln y - ln m + f^2 s^2 / 2| <= f z s,  hence
    f = |z - sqrt(z^2 - 2 ln(y / m))| / s.  Labels above m exp(z^2 / 2) are out of reach of any factor: infinite.

    Parameters
    ----------
    mean, label : tonnes, positive; sigma : of the logarithm.
    """
    z = float(norm.ppf(0.5 + level / 2))
    inside = z**2 - 2.0 * np.log(label / mean)
    return np.where(inside >= 0, np.abs(z - np.sqrt(np.maximum(inside, 0.0))) / sigma, np.inf)


def conformal_quantile(scores: NDArray[np.float64], blocks: NDArray[np.int64], level: float = COVERAGE) -> float:
    """Quantile of the scores with the finite-sample correction of split conformal prediction, n = number of blocks.

    Rows of a block hang together, so n counts blocks and every block has the same weight: the (n + 1) / n level
    quantile of the block-weighted distribution, which for one row a block is the ceil((n + 1) level)-th smallest.

    Returns
    -------
    The quantile; infinite where n is too small for the level.
    """
    _, inverse, counts = np.unique(blocks, return_inverse=True, return_counts=True)
    n = int(counts.size)
    if not n or (n + 1) * level > n:
        return float("inf")
    rank = (n + 1) / n * level
    order = np.argsort(scores, kind="stable")
    weight = (1.0 / counts[inverse])[order] / n
    place = int(np.searchsorted(np.cumsum(weight), rank - 1e-12))
    return float(scores[order][min(place, order.size - 1)])


def calibrate(
    scores: NDArray[np.float64],
    blocks: NDArray[np.int64],
    region: NDArray[np.int64],
    magnitude: NDArray[np.int64],
    level: float = COVERAGE,
) -> Mapping[tuple[int, int], float]:
    """Inflation factor of the members for each region and class of magnitude.

    A class with too few blocks takes its region's factor, a region with too few takes the whole's.

    Parameters
    ----------
    scores : `stretch_needed` of each row; blocks, region, magnitude : its block and classes.

    Returns
    -------
    Factors by (region, magnitude), cut to `FACTOR_RANGE`; under (-1, -1) that of all rows.
    """
    whole = _factor(scores, blocks, level, 1.0)
    factors: dict[tuple[int, int], float] = {(-1, -1): whole}
    for r in np.unique(region):
        of_region = region == r
        regional = _factor(scores[of_region], blocks[of_region], level, whole)
        factors[int(r), -1] = regional
        for m in np.unique(magnitude):
            keep = of_region & (magnitude == m)
            factors[int(r), int(m)] = _factor(scores[keep], blocks[keep], level, regional)
    return factors


def _factor(scores: NDArray[np.float64], blocks: NDArray[np.int64], level: float, otherwise: float) -> float:
    if np.unique(blocks).size < MIN_BLOCKS:
        return otherwise
    value = conformal_quantile(scores, blocks, level)
    return float(np.clip(value, *FACTOR_RANGE)) if np.isfinite(value) else otherwise


SEEN = 0.5
"""Sensitivity from which a posterior is good enough a label."""


def unseen_inflation(
    summary: Mapping[str, NDArray[np.floating]],
    learned: NDArray[np.floating],
    groups: NDArray[np.integer],
    blocks: NDArray[np.int64],
    edges: tuple[float, ...],
    level: float = COVERAGE,
) -> NDArray[np.float64]:
    """How far the members of a cell without observations must be spread, for its region and magnitude.

    Such a cell's members are the learned field with the prior's spread. Where satellites did see, the learned field
    (which has not seen the cell's block) with that spread is held against a random member of the posterior: the factor
    is the conformal quantile of what would have been needed.

    Parameters
    ----------
    summary : `prior` and `member` (tonnes), `prior_sigma_ln`, `sensitivity`, each (time, lat, lon).
    learned : tonnes, (time, lat, lon).
    groups : number of each cell's region, -1 outside; blocks : spatial block of each cell, both (lat, lon).
    edges : inner edges of the classes of magnitude, ln of the prior's tonnes.

    Returns
    -------
    Factors, (time, lat, lon); 1 where there is no region.
    """
    sigma = np.asarray(summary["prior_sigma_ln"], float)
    usable = (learned > 0) & (np.asarray(summary["prior"]) > 0) & (sigma > 0) & (groups >= 0)
    kind = np.digitize(np.log(np.where(usable, summary["prior"], 1.0)), edges)
    region = np.broadcast_to(groups, learned.shape)
    rows = usable & (np.asarray(summary["sensitivity"]) >= SEEN)
    labels = np.maximum(np.asarray(summary["member"])[rows], 1e-12)
    scores = stretch_needed(learned[rows], sigma[rows], labels, level)
    of_row = np.broadcast_to(blocks, rows.shape)[rows]
    factors = calibrate(scores, of_row, region[rows].astype(np.int64), kind[rows], level)
    result = np.ones(learned.shape)
    for r in np.unique(region[usable]):
        regional = factors.get((int(r), -1), factors[-1, -1])
        for m in np.unique(kind[usable]):
            result[usable & (region == r) & (kind == m)] = factors.get((int(r), int(m)), regional)
    return result
