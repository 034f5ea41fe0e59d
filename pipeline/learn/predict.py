"""Apply what was learned: cross-fitted fields without seams, closed to totals."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from pipeline.learn.fit import Model, magnitude_of, predict_log

CLOSURE_TOLERANCE = 1e-9
CLOSURE_ROUNDS = 500


def group_shares(groups: NDArray[np.integer], n_groups: int, cells: float) -> NDArray[np.float64]:
    """Weight of each group's model in each cell, (group, lat, lon), summing to 1 where there is any group.

    The membership is blurred by a Gaussian of `cells`, so that two models meet without a seam; 0 keeps it sharp.
    """
    member = np.stack([(groups == g).astype(float) for g in range(n_groups)])
    if cells > 0:
        member = np.stack([ndimage.gaussian_filter(m, cells, truncate=2.0, mode="constant") for m in member])
    member = np.where(groups >= 0, member, 0.0)
    member[member < 1e-3] = 0.0
    total = member.sum(axis=0)
    return np.divide(member, total, out=np.zeros_like(member), where=total > 0)


def learned_log(
    models: Mapping[int, Model], features: NDArray[np.float32], shares: NDArray[np.float64], folds: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """ln(learned / prior) of one month and its sigma; each cell from models that have not seen its block.

    Parameters
    ----------
    models : model of each group, by number.
    features : (feature, lat, lon), as the models were fitted with.
    shares : weight of each group, (group, lat, lon).
    folds : fold of each cell's block, (lat, lon).

    Returns
    -------
    f + ln(smearing) and sigma_ln, (lat, lon); 0 and NaN where there is no group.
    """
    log, variance = np.zeros(folds.shape), np.zeros(folds.shape)
    for number, model in models.items():
        reach = shares[number] > 0
        for fold in np.unique(folds[reach]):
            here = reach & (folds == fold)
            rows = np.ascontiguousarray(features[:, here].T)
            magnitude = magnitude_of(rows, model.features)
            damping = np.interp(magnitude, model.magnitudes, model.damping)
            ratio = damping * predict_log(model.fold_texts[fold], rows) + np.log(model.smearing)
            log[here] += shares[number][here] * ratio
            sigma = np.interp(magnitude, model.magnitudes, model.sigma_ln)
            variance[here] += shares[number][here] * sigma**2
    return log, np.where(shares.sum(axis=0) > 0, np.sqrt(variance), np.nan)


def close_totals(
    field: NDArray[np.float64], totals: NDArray[np.float64], fractions: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Scale a field so that every region's total is met; a border cell takes its regions' factors by their shares.

    E' = E sum_r phi_r c_r  with  sum_cells phi_r E' = T_r, by iterated proportional scaling of c.

    Parameters
    ----------
    field : tonnes, (lat, lon), not negative.
    totals : wanted total of each region, (region,).
    fractions : share of a cell's *emission* that counts to each region, (region, lat, lon); where they do not sum to
        1 the rest stays as it is. A region without emission in the field cannot be scaled and is left.
    """
    flat = fractions.reshape(len(totals), -1)
    used = np.flatnonzero(flat.sum(axis=0) > 0)
    share, mass = flat[:, used], field.ravel()[used]
    scaled = share * mass
    factor = np.ones(len(totals))
    rest = 1.0 - share.sum(axis=0)
    for _ in range(CLOSURE_ROUNDS):
        reached = scaled @ (share.T @ factor + rest)
        ratio = np.divide(totals, reached, out=np.ones_like(factor), where=(reached > 0) & (totals > 0))
        factor *= ratio
        if np.abs(ratio - 1).max() < CLOSURE_TOLERANCE:
            break
    result = field.copy().ravel()
    result[used] = mass * (share.T @ factor + rest)
    return result.reshape(field.shape)


def region_totals(field: NDArray[np.float64], fractions: NDArray[np.float64]) -> NDArray[np.float64]:
    """Total of each region, (region,): sum over cells of its share of the cell's emission."""
    return np.einsum("rij,ij->r", fractions, np.nan_to_num(field))
