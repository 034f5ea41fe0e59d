"""Random fields that do not depend on the window they are looked at through, and stamps of blobs and lines."""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

from pipeline.core.grid import Grid
from pipeline.core.seeds import generator

_SOUTH, _NORTH, _WEST, _EAST = 0.0, 70.0, 55.0, 155.0
_KM_PER_DEGREE = 111.2
_COS = float(np.cos(np.deg2rad(35.0)))
_NODES_PER_SIGMA = 1.25


def nodes(km: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Latitudes and longitudes of the white-noise lattice behind fields of this correlation length."""
    step = km / np.sqrt(2) / _KM_PER_DEGREE / _NODES_PER_SIGMA
    return np.arange(_SOUTH, _NORTH, step), np.arange(_WEST, _EAST, step / _COS)


def correlated(lat: NDArray, lon: NDArray, km: float, *seed: object) -> NDArray[np.float32]:
    """A Gaussian field of mean 0, variance 1 and correlation exp(-(r / km)^2 / 2), at points of a lattice.

    The same seed gives the same field whatever `lat` and `lon` are asked for.
    """
    rows, cols = nodes(km)
    noise = generator("field", *seed).standard_normal((rows.size, cols.size), dtype=np.float32)
    return spread(noise, lat, lon, km)


def spread(noise: NDArray[np.float32], lat: NDArray, lon: NDArray, km: float) -> NDArray[np.float32]:
    """Carry white noise (..., nodes of lat, nodes of lon) to a lattice of points with unit variance."""
    rows, cols = nodes(km)
    row_cut, a = _kernel(lat, rows, km / np.sqrt(2) / _KM_PER_DEGREE)
    col_cut, b = _kernel(lon, cols, km / np.sqrt(2) / _KM_PER_DEGREE / _COS)
    return np.asarray(a @ noise[..., row_cut, col_cut] @ b.T, np.float32)


def _kernel(points: NDArray, lattice: NDArray, sigma: float) -> tuple[slice, NDArray[np.float32]]:
    first, last = np.searchsorted(lattice, [points.min() - 4 * sigma, points.max() + 4 * sigma])
    cut = slice(max(int(first) - 1, 0), int(last) + 1)
    weight = np.exp(-0.5 * ((points[:, None] - lattice[None, cut]) / sigma) ** 2)
    weight /= np.sqrt((weight**2).sum(axis=1, keepdims=True))
    return cut, weight.astype(np.float32)


def lognormal(normal: NDArray[np.float32], sigma: float) -> NDArray[np.float32]:
    """exp(sigma z - sigma^2 / 2): mean 1 for a standard normal z."""
    return np.exp(np.float32(sigma) * normal - np.float32(sigma**2 / 2))


def cell_noise(grid: Grid, *seed: object) -> NDArray[np.float32]:
    """Standard normal noise of a grid's own cells."""
    rng = generator("cells", grid.west_index, grid.south_index, grid.per_degree, *seed)
    return rng.standard_normal(grid.shape, dtype=np.float32)


def blobs(grid: Grid, lat: NDArray, lon: NDArray, km: NDArray, mass: NDArray) -> NDArray[np.float32]:
    """Sum of blobs mass x exp(-r / km), each with its whole mass on the endless grid, whatever the cell size."""
    out = np.zeros(grid.shape, np.float32)
    y, x, width, total = (np.ascontiguousarray(column, np.float64) for column in (lat, lon, km, mass))
    _stamp(out, y, x, width, total, float(grid.per_degree), grid.south_index, grid.west_index)
    return out


@numba.njit(nogil=True, cache=True)
def _stamp(out, lat, lon, km, mass, per_degree, south, west):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    rows, cols = out.shape
    for k in range(lat.size):
        cos = np.cos(np.deg2rad(lat[k]))
        cell = 111.2 / per_degree
        reach = 5.0 * km[k] + 0.5 * cell
        y, x = lat[k] * per_degree - south, lon[k] * per_degree - west
        dj, di = int(reach / cell) + 1, int(reach / (cell * cos)) + 1
        j0, i0 = int(np.floor(y)), int(np.floor(x))
        if j0 + dj < 0 or j0 - dj >= rows or i0 + di < 0 or i0 - di >= cols:
            continue
        total = 0.0
        for write in (False, True):
            for j in range(j0 - dj, j0 + dj + 1):
                for i in range(i0 - di, i0 + di + 1):
                    dy, dx = (j + 0.5 - y) * cell, (i + 0.5 - x) * cell * cos
                    r = np.sqrt(dy * dy + dx * dx)
                    if r > reach:
                        continue
                    # Within its own cell a blob narrower than the cell keeps its mass.
                    value = np.exp(-max(r - (0.5 * cell if j == j0 and i == i0 else 0.0), 0.0) / km[k])
                    if not write:
                        total += value
                    elif 0 <= j < rows and 0 <= i < cols:
                        out[j, i] += mass[k] * value / total


def lines(grid: Grid, ends: NDArray, mass: NDArray) -> NDArray[np.float32]:
    """Sum of straight lines; `ends` (n, 4) holds lat, lon of both ends, `mass` (n,) is spread evenly along each."""
    out = np.zeros(grid.shape, np.float32)
    _draw(out, np.ascontiguousarray(ends, np.float64), np.ascontiguousarray(mass, np.float64), float(grid.per_degree),
          grid.south_index, grid.west_index)  # fmt: skip
    return out


@numba.njit(nogil=True, cache=True)
def _draw(out, ends, mass, per_degree, south, west):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    rows, cols = out.shape
    for k in range(mass.size):
        lat0, lon0, lat1, lon1 = ends[k]
        count = int(max(abs(lat1 - lat0), abs(lon1 - lon0)) * 120.0) + 1
        for n in range(count):
            t = (n + 0.5) / count
            j = int(np.floor((lat0 + t * (lat1 - lat0)) * per_degree)) - south
            i = int(np.floor((lon0 + t * (lon1 - lon0)) * per_degree)) - west
            if 0 <= j < rows and 0 <= i < cols:
                out[j, i] += mass[k] / count
