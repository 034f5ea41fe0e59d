"""Weights applied to one block of values: NumPy and SciPy only."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from pipeline.regrid.weights import General, Separable, Weights

_TOLERANCE = 1e-6
"""Valid fractions below it are none: weights this small are rounding (xESMF's own tolerance)."""


@dataclass(frozen=True, eq=False)
class Block:
    """What one block of target cells needs.

    Parameters
    ----------
    weights : from the block's source window to its target cells.
    density : for amounts, (1 / source area, target area), each separable as (lat, lon) factors; else `None`.
    min_valid : least valid fraction of a target cell that is not missing.
    """

    weights: Weights
    density: tuple[tuple[NDArray, NDArray], tuple[NDArray, NDArray]] | None
    min_valid: float

    @property
    def shape(self) -> tuple[int, int]:
        """(n_lat, n_lon) of the target cells."""
        w = self.weights
        return w.shape_out if isinstance(w, General) else (w.lat.shape[0], w.lon.shape[0])

    @cached_property
    def covered(self) -> NDArray[np.float64]:
        """Sum of weights of each target cell: the part of it that the source window covers."""
        w = self.weights
        if isinstance(w, General):
            return np.asarray(w.matrix.sum(axis=1)).reshape(w.shape_out)
        return np.outer(w.lat.sum(axis=1), w.lon.sum(axis=1))

    @cached_property
    def mean_weights(self) -> Weights:
        """The weights scaled to sum to 1 in each target cell that has any: means where no value is missing."""
        w = self.weights
        if isinstance(w, General):
            return General(_even(w.matrix), w.shape_in, w.shape_out)
        return Separable(_even(w.lat), _even(w.lon))

    @cached_property
    def too_little(self) -> NDArray[np.bool_] | None:
        """Target cells that miss `min_valid` even where no value is missing; `None` if there are none."""
        short = ~self.enough(self.covered)
        return short if short.any() else None

    def enough(self, fraction: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Which cells have enough valid cover. Of amounts the thinnest sliver counts: its people stay."""
        if self.density is not None:
            return (fraction > 0) & (fraction >= self.min_valid)
        return fraction >= np.clip(self.min_valid, _TOLERANCE, 1 - _TOLERANCE)


def apply(weights: Weights, field: NDArray[np.float64]) -> NDArray[np.float64]:
    """Weighted sums of a field, (n_lat_in, n_lon_in) -> (n_lat_out, n_lon_out), in float64.

    Separable weights cost two thin products, out = L f M^T, in the order that makes the smaller middle.
    """
    if isinstance(weights, General):
        return (weights.matrix @ field.ravel()).reshape(weights.shape_out)
    lat, lon = weights.lat, weights.lon
    if lat.shape[0] * lon.shape[1] <= lat.shape[1] * lon.shape[0]:
        return np.ascontiguousarray((lon @ (lat @ field).T).T)
    return lat @ np.ascontiguousarray((lon @ np.ascontiguousarray(field.T)).T)


def _even(matrix: sparse.csr_array) -> sparse.csr_array:
    rows = matrix.sum(axis=1)
    scale = np.divide(1.0, rows, out=np.zeros_like(rows), where=rows > 0)
    return sparse.csr_array(sparse.diags_array(scale) @ matrix)


def regrid_block(values: NDArray, block: Block, dtype: np.dtype, with_fraction: bool = False) -> NDArray:
    """Regrid one block of values, (..., n_lat_in, n_lon_in) -> (..., n_lat_out, n_lon_out).

    With m = 1 where a value v is there and 0 where it is NaN, and w the weights,

        fraction = sum w m,    mean = sum w m v / fraction,    amount = A_out sum w m v / A_in,

    NaN where the fraction is below `min_valid` (or nothing). The mean is what xESMF gives with ``skipna=True``.

    Parameters
    ----------
    values : source window of the block.
    with_fraction : give (2, ...): the result, then the valid fraction.
    """
    lead = values.shape[:-2]
    flat = values.reshape(-1, *values.shape[-2:])
    result = np.empty(((2 if with_fraction else 1), len(flat), *block.shape), dtype)
    for k, field in enumerate(flat):
        mean, fraction = _one(field.astype(np.float64), block)
        result[0, k] = mean
        if with_fraction:
            result[1, k] = fraction
    result = result.reshape(-1, *lead, *block.shape)
    return result if with_fraction else result[0]


def _one(field: NDArray[np.float64], block: Block) -> tuple[NDArray, NDArray]:
    missing = np.isnan(field)
    some = bool(missing.any())
    if not some and block.density is None:
        mean = apply(block.mean_weights, field)
        if block.too_little is not None:
            mean[block.too_little] = np.nan
        return mean, block.covered
    fraction = apply(block.weights, (~missing).astype(np.float64)) if some else block.covered
    if some:
        field[missing] = 0.0
    enough = block.enough(fraction)
    if block.density is not None:
        total = apply(block.weights, field * np.multiply.outer(*block.density[0]))
        return np.where(enough, total * np.multiply.outer(*block.density[1]), np.nan), fraction
    total = apply(block.weights, field)
    np.divide(total, fraction, out=total, where=enough)
    total[~enough] = np.nan
    return total, fraction


def window(used: NDArray[np.integer], size: int) -> list[slice]:
    """Slices that hold the used indices: one, or two around a gap of more than half the axis (a grid cut open)."""
    used = np.unique(used)
    if not len(used):
        return []
    gaps = np.diff(used)
    if len(gaps) and gaps.max() > size // 2:
        cut = int(gaps.argmax())
        return [slice(int(used[0]), int(used[cut]) + 1), slice(int(used[cut + 1]), int(used[-1]) + 1)]
    return [slice(int(used[0]), int(used[-1]) + 1)]


def take(vector: NDArray, windows: list[slice]) -> NDArray:
    """The parts of a vector under the slices, joined."""
    return np.concatenate([vector[w] for w in windows])


def cut_columns(matrix: sparse.csr_array, windows: list[slice]) -> sparse.csr_array:
    """The columns of a matrix under the slices, joined."""
    return sparse.csr_array(sparse.hstack([matrix[:, w] for w in windows], format="csr"))
