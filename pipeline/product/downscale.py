"""A month at 1 km: sector totals shared out by weights, closed to the coarse cell, with uncertainty."""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray

from pipeline.core.grid import FINE_PER_COARSE

Z95 = 1.6448536269514722
"""Standard normal quantile of 95 %."""


@dataclass(frozen=True)
class FineMonth:
    """One month of a tile: tonnes, float32 (lat, lon), NaN outside China."""

    mean: NDArray[np.float32]
    sigma: NDArray[np.float32]
    p05: NDArray[np.float32]
    p95: NDArray[np.float32]


def downscale(
    emission: NDArray[np.float64],
    sigma: NDArray[np.float64],
    share: NDArray[np.float32],
    variance: NDArray[np.float32],
    land: NDArray[np.bool_],
) -> FineMonth:
    """Share a month's coarse cells out over their fine cells.

        E_f = sum_s E_s w_s,f / sum_f w_s,f            (the sum over the children equals the coarse cell)
        (sigma_f / E_f)^2 = (1 + r_c^2)(1 + r_w^2) - 1,    r_w^2 = sum_s (E_s w_s,f)^2 v_s,f / E_f^2
        p05, p95 = E_f exp(-+1.645 l - l^2 / 4),  l^2 = ln(1 + (sigma_f / E_f)^2)

    with r_c the coarse cell's relative sigma and v the relative variance of the weight (log-normal, sectors
    independent). A log-normal of mean E_f would have l^2 / 2 there and could reach no higher than 3.9 E_f however
    uncertain it is; one of median E_f would have 0. Half-way covers both ends evenly in simulated worlds. Weights are
    summed and the closure is made in float64 before rounding.

    Parameters
    ----------
    emission : mean of the month by sector, tonnes, (sector, lat, lon) coarse; NaN outside.
    sigma : calibrated sigma of the total, tonnes, (lat, lon) coarse.
    share, variance : as `TileWeights`, (sector, lat, lon) fine; land : fine cells of ours.
    """
    shape = land.shape
    mean, spread, low, high = (np.full(shape, np.nan, np.float32) for _ in range(4))
    total = emission.sum(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        relative = np.where(total > 0, sigma / total, 0.0)
    factor = _factors(emission, share)
    _share_out(np.nan_to_num(factor), relative**2, np.isfinite(total), share, variance, land, mean, spread, low, high)
    _close(np.nan_to_num(total), np.isfinite(total), land, mean)
    return FineMonth(mean, spread, low, high)


def _factors(emission: NDArray[np.float64], share: NDArray[np.float32]) -> NDArray[np.float64]:
    """E_s / sum of the shares, (sector, lat, lon) coarse: the shares sum to 1 only within rounding."""
    factor = np.zeros(emission.shape)
    _sum_shares(share, factor)
    return np.divide(emission, factor, out=np.zeros_like(factor), where=factor > 0)


@numba.njit(cache=True, nogil=True)
def _sum_shares(share: NDArray[np.float32], total: NDArray[np.float64]) -> None:
    for s in range(share.shape[0]):
        for j in range(share.shape[1]):
            for i in range(share.shape[2]):
                total[s, j // FINE_PER_COARSE, i // FINE_PER_COARSE] += share[s, j, i]


@numba.njit(cache=True, nogil=True)
def _share_out(factor, relative2, known, share, variance, land, mean, spread, low, high):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    for j in range(land.shape[0]):
        cj = j // FINE_PER_COARSE
        for i in range(land.shape[1]):
            ci = i // FINE_PER_COARSE
            if not (land[j, i] and known[cj, ci]):
                continue
            e, v = 0.0, 0.0
            for s in range(share.shape[0]):
                part = factor[s, cj, ci] * share[s, j, i]
                e += part
                v += part * part * variance[s, j, i]
            mean[j, i] = e
            if e <= 0.0:
                spread[j, i], low[j, i], high[j, i] = 0.0, 0.0, 0.0
                continue
            r2 = (1.0 + relative2[cj, ci]) * (1.0 + v / (e * e)) - 1.0
            l2 = np.log1p(r2)
            width = Z95 * np.sqrt(l2)
            spread[j, i] = e * np.sqrt(r2)
            low[j, i] = e * np.exp(-width - 0.25 * l2)
            high[j, i] = e * np.exp(width - 0.25 * l2)


@numba.njit(cache=True, nogil=True)
def _close(total, known, land, mean):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """Give what rounding to float32 left over to the largest child: |sum - total| <= 1 ulp of that child."""
    f = FINE_PER_COARSE
    for cj in range(total.shape[0]):
        for ci in range(total.shape[1]):
            if not known[cj, ci]:
                continue
            reached, best, bj, bi = 0.0, -1.0, -1, -1
            for j in range(cj * f, (cj + 1) * f):
                for i in range(ci * f, (ci + 1) * f):
                    if land[j, i]:
                        reached += mean[j, i]
                        if mean[j, i] > best:
                            best, bj, bi = mean[j, i], j, i
            if bj >= 0:
                mean[bj, bi] = best + (total[cj, ci] - reached)
