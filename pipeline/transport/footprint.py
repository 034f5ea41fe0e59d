"""Source-receptor matrices by conservative semi-Lagrangian transport.

The column at a receptor i and time t is what was emitted along its way here,

    V_i = sum over ages s of  c_s  sum over cells j of  W_s[i, j] n_s[j] E_j / a_j,

where W_s spreads the position of the backward trajectory at age s over source cells (a Gaussian of variance
2 K s + (sigma_u s)^2, integrated over each cell), c_s is the time an emission of that age survives (`age_weights`) and

    n_s[j] = a_j / sum over receptors i of a_i W_s[i, j]

makes each source cell give away exactly what it emits (Kaas 2008, Tellus A 60, 305-320: locally mass-conserving
semi-Lagrangian transport), so divergence and convergence of the wind need no further treatment. The adjoint is the
transpose. There is no numerical diffusion beyond the stated spread, whatever the wind.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.special import ndtr

from pipeline.core.grid import Grid
from pipeline.core.options import TransportOptions
from pipeline.core.units import EARTH_RADIUS
from pipeline.transport.chemistry import age_weights

_SPREAD_CUT = 2.7
_CUT_LOSS = 1 / math.sqrt(1 - 2 * _SPREAD_CUT * math.exp(-(_SPREAD_CUT**2) / 2) / math.sqrt(2 * math.pi))
"""A Gaussian cut at so many sigmas is narrower than it was; widened by this it has the stated variance."""
_LONG = 14.0
"""Age in hours from which the air is followed in steps of one hour instead of half an hour."""
_NORM_BOUNDS = (0.2, 5.0)
_TABLE_STEPS, _TABLE_REACH = 256.0, 1024.0
_TABLE = ndtr(np.arange(-_TABLE_REACH, _TABLE_REACH + 1) / _TABLE_STEPS)


@dataclass(frozen=True)
class Wind:
    """Wind of one day on a grid, in m s-1: `u`, `v` (time, n_lat, n_lon); `hours` since 00:00 UTC of the day.

    One time step means that the flow is steady.
    """

    u: NDArray[np.float32]
    v: NDArray[np.float32]
    hours: NDArray[np.float64]


def class_shapes(grid: Grid, scheme: TransportOptions) -> list[tuple[int, int]]:
    """Shape of the source blocks of each age class."""
    return [(math.ceil(grid.n_lat / c), math.ceil(grid.n_lon / c)) for c in scheme.coarsen]


def aggregation(grid: Grid, scheme: TransportOptions) -> list[sparse.csr_matrix]:
    """For each age class the matrix that sums cells into its source blocks, (blocks, n_cells)."""
    row, col = np.divmod(np.arange(grid.n_lat * grid.n_lon), grid.n_lon)
    matrices = []
    for c, (n_lat, n_lon) in zip(scheme.coarsen, class_shapes(grid, scheme), strict=True):
        block = (row // c) * n_lon + col // c
        shape = (n_lat * n_lon, row.size)
        matrices.append(sparse.csr_matrix((np.ones(row.size), (block, np.arange(row.size))), shape=shape))
    return matrices


def footprints(
    grid: Grid,
    wind: Wind,
    receptors: NDArray[np.int64],
    hour: NDArray[np.float64],
    scheme: TransportOptions,
    halo: int = 16,
) -> sparse.csr_matrix:
    """The source-receptor matrix of one day.

    Parameters
    ----------
    grid : source cells.
    wind : on `grid`.
    receptors : flat indices of the observed cells of `grid`, shape (n_obs,).
    hour : time of the observation of each column of cells, hours since 00:00 UTC of the day, shape (n_lon,).
    scheme : ages, classes and spread.
    halo : cells around the grid where air is followed too, so that what leaves the grid is counted as outflow.

    Returns
    -------
    CSR float32 (n_obs, sum of blocks over the classes), s m-2: the column in kg m-2 left by 1 kg s-1 emitted in a
    block during the ages of a class, with the lifetime of the scheme. Columns are ordered as in `aggregation`.
    """
    outer = grid.expand(halo)
    speed_x, speed_y = _index_speed(outer, wind, halo)
    hours = np.interp(np.arange(outer.n_lon) - halo, np.arange(grid.n_lon), hour)
    ages = np.asarray(scheme.ages, float)
    y, x = _all_trajectories(speed_y, speed_x, wind.hours.astype(float), hours, ages)
    sigma_y, sigma_x = _spread(outer, scheme)
    area = grid.area[:, 0]
    outer_area = outer.area[:, 0]
    norm = _normalisation(y - halo, x - halo, sigma_y, sigma_x, outer_area, area, grid.n_lat, grid.n_lon)
    row, col = np.divmod(np.asarray(receptors, np.int64), grid.n_lon)
    position = (row + halo) * outer.n_lon + col + halo
    shapes = class_shapes(grid, scheme)
    offsets = np.concatenate([[0], np.cumsum([a * b for a, b in shapes])])
    survival = _slice_survival(scheme)
    indptr, indices, data = _rows(
        (y - halo).reshape(y.shape[0], -1)[:, position],
        (x - halo).reshape(x.shape[0], -1)[:, position],
        sigma_y[:, row + halo],
        sigma_x[:, row + halo],
        norm,
        area,
        survival,
        _slice_class(scheme),
        np.asarray(scheme.coarsen, np.int64),
        np.asarray([n for _, n in shapes], np.int64),
        offsets,
    )
    return sparse.csr_matrix((data, indices, indptr), shape=(len(receptors), int(offsets[-1])))


def _slice_class(scheme: TransportOptions) -> NDArray[np.int64]:
    middle = (np.array(scheme.ages[1:]) + np.array(scheme.ages[:-1])) / 2
    return np.searchsorted(scheme.classes, middle) - 1


def _slice_survival(scheme: TransportOptions) -> NDArray[np.float64]:
    return age_weights(scheme.ages, scheme.lifetime)


def _index_speed(outer: Grid, wind: Wind, halo: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Wind in cells per hour on the outer grid; outside the wind's grid the edge value holds."""
    pad = ((0, 0), (halo, halo), (halo, halo))
    metres = EARTH_RADIUS * math.radians(outer.step)
    cosine = np.cos(np.deg2rad(outer.lat))[None, :, None]
    u = np.pad(np.asarray(wind.u, np.float64), pad, mode="edge") * 3600.0 / (metres * cosine)
    v = np.pad(np.asarray(wind.v, np.float64), pad, mode="edge") * 3600.0 / metres
    return u, v


def _spread(outer: Grid, scheme: TransportOptions) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Standard deviation of the spread in cells, (slice, n_lat) along latitude and along longitude.

    The twelfth is the variance of a position within a receptor cell.
    """
    ages = np.asarray(scheme.ages, float)
    seconds = (ages[1:] + ages[:-1]) / 2 * 3600.0
    variance = 2 * scheme.diffusion * seconds + (scheme.wind_error * seconds) ** 2
    metres = EARTH_RADIUS * math.radians(outer.step)
    along_lat = np.sqrt(variance / metres**2 + 1 / 12)
    along_lon = np.sqrt(variance[:, None] / (metres * np.cos(np.deg2rad(outer.lat))[None, :]) ** 2 + 1 / 12)
    return np.repeat(along_lat[:, None], outer.n_lat, axis=1), along_lon


def _all_trajectories(
    v: NDArray, u: NDArray, times: NDArray, hours: NDArray, ages: NDArray
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Trajectories of every second cell, displacements interpolated between: winds are smooth on that scale."""
    rows, columns = _every_second(v.shape[1]), _every_second(v.shape[2])
    wind = np.stack([v, u], axis=-1).astype(np.float32)
    y, x = _trajectories(wind, times, hours, ages, rows, columns)
    dy, dx = y - rows[None, :, None], x - columns[None, None, :]
    lat, lon = np.arange(v.shape[1]), np.arange(v.shape[2])
    full_y, full_x = (_between(d, rows, columns, lat, lon) for d in (dy, dx))
    return full_y + lat[None, :, None], full_x + lon[None, None, :]


def _every_second(n: int) -> NDArray[np.int64]:
    return np.unique(np.append(np.arange(0, n, 2), n - 1))


def _between(field: NDArray, rows: NDArray, columns: NDArray, lat: NDArray, lon: NDArray) -> NDArray[np.float64]:
    """Bilinear interpolation of (slice, row, column) nodes to every cell."""
    j = np.minimum(lat // 2, len(rows) - 2)
    i = np.minimum(lon // 2, len(columns) - 2)
    wy = ((lat - rows[j]) / (rows[j + 1] - rows[j]))[None, :, None]
    wx = ((lon - columns[i]) / (columns[i + 1] - columns[i]))[None, None, :]
    along = field[:, j] * (1 - wy) + field[:, j + 1] * wy
    return np.asarray(along[:, :, i] * (1 - wx) + along[:, :, i + 1] * wx)


@numba.njit(cache=True, nogil=True, fastmath=True, inline="always")
def _bilinear(plane, y, x):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """Both parts of the wind at a place, edge values outside; `plane` (y, x, 2)."""
    y = min(max(y, 0.0), plane.shape[0] - 1.001)
    x = min(max(x, 0.0), plane.shape[1] - 1.001)
    j, i = int(y), int(x)
    fy, fx = y - j, x - i
    a, b, c, d = (1 - fy) * (1 - fx), (1 - fy) * fx, fy * (1 - fx), fy * fx
    return (
        a * plane[j, i, 0] + b * plane[j, i + 1, 0] + c * plane[j + 1, i, 0] + d * plane[j + 1, i + 1, 0],
        a * plane[j, i, 1] + b * plane[j, i + 1, 1] + c * plane[j + 1, i, 1] + d * plane[j + 1, i + 1, 1],
    )


@numba.njit(cache=True, nogil=True, fastmath=True, inline="always")
def _sample(field, times, t, y, x):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """Linear in time and space, edge values outside; `field` (time, y, x, 2)."""
    n_time = field.shape[0]
    if n_time == 1 or t <= times[0]:
        return _bilinear(field[0], y, x)
    if t >= times[n_time - 1]:
        return _bilinear(field[n_time - 1], y, x)
    k = min(int((t - times[0]) / (times[1] - times[0])), n_time - 2)
    w = (t - times[k]) / (times[k + 1] - times[k])
    v0, u0 = _bilinear(field[k], y, x)
    v1, u1 = _bilinear(field[k + 1], y, x)
    return v0 + w * (v1 - v0), u0 + w * (u1 - u0)


@numba.njit(cache=True, nogil=True, fastmath=True)
def _trajectories(wind, times, hour, ages, rows, columns):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """Where the air over some cells was at the middle of each age slice: fractional row and column (slice, y, x)."""
    n_slice = ages.size - 1
    out_y = np.empty((n_slice, rows.size, columns.size))
    out_x = np.empty((n_slice, rows.size, columns.size))
    for j in range(rows.size):
        for i in range(columns.size):
            y, x, age = float(rows[j]), float(columns[i]), 0.0
            start = hour[columns[i]]
            for s in range(n_slice):
                target = 0.5 * (ages[s] + ages[s + 1])
                n_sub = max(1, int(np.ceil((target - age) / (0.5 if age < _LONG else 1.0) - 1e-9)))
                dt = (target - age) / n_sub
                for _ in range(n_sub):
                    t = start - age
                    v, u = _sample(wind, times, t, y, x)
                    v, u = _sample(wind, times, t - 0.5 * dt, y - 0.5 * dt * v, x - 0.5 * dt * u)
                    y -= dt * v
                    x -= dt * u
                    age += dt
                out_y[s, j, i] = y
                out_x[s, j, i] = x
    return out_y, out_x


@numba.njit(cache=True, nogil=True, inline="always")
def _probability(steps):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """Standard normal distribution at a multiple of the table's step, linear in between (error below 1e-6)."""
    position = min(max(steps + _TABLE_REACH, 0.0), 2.0 * _TABLE_REACH - 1e-6)
    k = int(position)
    return _TABLE[k] + (position - k) * (_TABLE[k + 1] - _TABLE[k])


@numba.njit(cache=True, nogil=True)
def _cell_weights(centre, sigma, weights):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """Gaussian around `centre` integrated over unit cells, summing to 1: first cell and how many."""
    sigma = sigma * _CUT_LOSS
    reach = _SPREAD_CUT * sigma
    first = int(np.floor(centre - reach + 0.5))
    last = int(np.floor(centre + reach + 0.5))
    n = last - first + 1
    scale = _TABLE_STEPS / sigma
    previous = _probability((first - 0.5 - centre) * scale)
    total = 0.0
    for k in range(n):
        upper = _probability((first + k + 0.5 - centre) * scale)
        weights[k] = upper - previous
        total += weights[k]
        previous = upper
    for k in range(n):
        weights[k] /= total
    return first, n


@numba.njit(cache=True, nogil=True)
def _normalisation(y, x, sigma_y, sigma_x, outer_area, area, n_lat, n_lon):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """n_s[j] of the module's equation, (slice, n_lat, n_lon), bounded where hardly any air came from.

    Where air has spread over several cells, every second (third, ...) receptor stands for its neighbours: a sum of
    Gaussians no farther apart than their sigma is their integral.
    """
    n_slice, n_y, n_x = y.shape
    norm = np.zeros((n_slice, n_lat, n_lon))
    wy, wx = np.empty(256), np.empty(256)
    for s in range(n_slice):
        stride = max(1, min(4, int(sigma_y[s].min())))
        for j in range(0, n_y, stride):
            for i in range(0, n_x, stride):
                row, ny = _cell_weights(y[s, j, i], sigma_y[s, j], wy)
                if row + ny <= 0 or row >= n_lat:
                    continue
                col, nx = _cell_weights(x[s, j, i], sigma_x[s, j], wx)
                first, last = max(0, -col), min(nx, n_lon - col)
                weight = stride * stride * outer_area[j]
                for a in range(max(0, -row), min(ny, n_lat - row)):
                    along = weight * wy[a]
                    for b in range(first, last):
                        norm[s, row + a, col + b] += along * wx[b]
        for j in range(n_lat):
            for i in range(n_lon):
                ratio = area[j] / max(norm[s, j, i], 1e-30)
                norm[s, j, i] = min(max(ratio, _NORM_BOUNDS[0]), _NORM_BOUNDS[1])
    return norm


@numba.njit(cache=True, nogil=True)
def _rows(y, x, sigma_y, sigma_x, norm, area, survival, classes, coarsen, widths, offsets):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """Rows of the matrix, entries of one block and class merged."""
    n_slice, n_obs = y.shape
    _, n_lat, n_lon = norm.shape
    capacity = max(n_obs, 1) * 160
    indices, data = np.empty(capacity, np.int32), np.empty(capacity, np.float32)
    indptr = np.zeros(n_obs + 1, np.int64)
    position = np.full(offsets[-1], -1, np.int64)
    wy, wx = np.empty(256), np.empty(256)
    count = 0
    for r in range(n_obs):
        start = count
        for s in range(n_slice):
            g = classes[s]
            row, ny = _cell_weights(y[s, r], sigma_y[s, r], wy)
            col, nx = _cell_weights(x[s, r], sigma_x[s, r], wx)
            if count + ny * nx > capacity:
                capacity = 2 * capacity + ny * nx
                bigger_i, bigger_d = np.empty(capacity, np.int32), np.empty(capacity, np.float32)
                bigger_i[:count], bigger_d[:count] = indices[:count], data[:count]
                indices, data = bigger_i, bigger_d
            for a in range(ny):
                j = row + a
                if j < 0 or j >= n_lat:
                    continue
                for b in range(nx):
                    i = col + b
                    if i < 0 or i >= n_lon:
                        continue
                    block = offsets[g] + (j // coarsen[g]) * widths[g] + i // coarsen[g]
                    value = survival[s] * wy[a] * wx[b] * norm[s, j, i] / area[j]
                    # Each cell of a block takes part in the block's mean, so that a block's emission is a sum.
                    value /= coarsen[g] * coarsen[g]
                    at = position[block]
                    if at < start:
                        position[block] = count
                        indices[count], data[count] = block, value
                        count += 1
                    else:
                        data[at] += value
        indptr[r + 1] = count
    return indptr, indices[:count].copy(), data[:count].copy()
