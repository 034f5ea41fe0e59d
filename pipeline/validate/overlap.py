"""Amounts of one rectilinear grid given to the cells of another, whatever their spacing."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pipeline.core.grid import Grid
from pipeline.core.units import EARTH_RADIUS


def edges(centres: ArrayLike) -> NDArray[np.float64]:
    """Cell edges halfway between ascending centres, the outer ones as far out as the inner ones."""
    c = np.asarray(centres, float)
    middle = (c[1:] + c[:-1]) / 2
    return np.concatenate([[2 * c[0] - middle[0]], middle, [2 * c[-1] - middle[-1]]])


def areas(lat: ArrayLike, lon: ArrayLike) -> NDArray[np.float64]:
    """Areas of the cells around ascending centres in degrees, m2, (lat, lon): R2 dlon (sin north - sin south)."""
    bands = np.diff(np.sin(np.deg2rad(np.clip(edges(lat), -90, 90))))
    return EARTH_RADIUS**2 * np.outer(bands, np.deg2rad(np.diff(edges(lon))))


def to_grid(amount: NDArray, lat: ArrayLike, lon: ArrayLike, grid: Grid) -> NDArray[np.float64]:
    """Amounts per cell (..., lat, lon) on the cells of `grid`, each spread evenly over its own cell's area.

    out = W_lat amount W_lon^T with W the share of each source band inside each target band; sums are conserved where
    the target covers the source.
    """

    def sines(degrees: NDArray) -> NDArray:
        return np.sin(np.deg2rad(np.clip(degrees, -90, 90)))

    rows = _shares(sines(edges(lat)), sines(grid.lat_edges))
    cols = _shares(edges(lon), grid.lon_edges)
    return np.einsum("yj,...ji,xi->...yx", rows, np.nan_to_num(amount), cols, optimize=True)


def _shares(source: NDArray, target: NDArray) -> NDArray[np.float64]:
    """Share of each source interval inside each target interval, (target, source)."""
    low = np.maximum(source[None, :-1], target[:-1, None])
    high = np.minimum(source[None, 1:], target[1:, None])
    return np.maximum(high - low, 0.0) / np.diff(source)
