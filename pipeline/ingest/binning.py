"""Pixels and soundings onto cells: overlap areas of polygons, weighted sums, and what becomes of the errors."""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray

from pipeline.core.grid import G025, Grid

COLUMN_GRID = G025.expand(20)
"""Where columns are kept: 0.25 degree, 68..141 E, 12..60 N, the analysis grid with the margin of transport."""
SUMS = ("weight", "weight2", "value", "error2", "count", "seconds", "kernel_weight", "kernel")
"""What is summed in a cell over observations k with weight w: w, w2, w v, w e2, 1, w t, and w, w a where a is known."""
MAX_SPAN = 20.0
"""degrees; no pixel of any instrument here is larger, so larger ones have broken corners."""


@numba.njit(cache=True, nogil=True)
def _clip(xs: NDArray, ys: NDArray, n: int, ox: NDArray, oy: NDArray, axis: int, bound: float, keep_above: bool) -> int:
    """One step of Sutherland-Hodgman: the part of a polygon on one side of a line; gives back its corner count."""
    m = 0
    for k in range(n):
        j = (k + 1) % n
        a = xs[k] if axis == 0 else ys[k]
        b = xs[j] if axis == 0 else ys[j]
        a_in = a >= bound if keep_above else a <= bound
        b_in = b >= bound if keep_above else b <= bound
        if a_in:
            ox[m], oy[m] = xs[k], ys[k]
            m += 1
        if a_in != b_in:
            t = (bound - a) / (b - a)
            ox[m], oy[m] = xs[k] + t * (xs[j] - xs[k]), ys[k] + t * (ys[j] - ys[k])
            m += 1
    return m


@numba.njit(cache=True, nogil=True)
def _area(xs: NDArray, ys: NDArray, n: int) -> float:
    """Area of a polygon by the shoelace formula."""
    total = 0.0
    for k in range(n):
        j = (k + 1) % n
        total += xs[k] * ys[j] - xs[j] * ys[k]
    return 0.5 * abs(total)


@numba.njit(cache=True, nogil=True)
def _cell_area(px: NDArray, py: NDArray, i: int, j: int, ax: NDArray, ay: NDArray, bx: NDArray, by: NDArray) -> float:
    """Area of a quadrilateral (in cells) inside the cell i..i+1, j..j+1."""
    for k in range(4):
        ax[k], ay[k] = px[k], py[k]
    n = _clip(ax, ay, 4, bx, by, 0, float(i), True)
    n = _clip(bx, by, n, ax, ay, 0, float(i + 1), False)
    n = _clip(ax, ay, n, bx, by, 1, float(j), True)
    n = _clip(bx, by, n, ax, ay, 1, float(j + 1), False)
    return _area(ax, ay, n) if n > 2 else 0.0


@numba.njit(cache=True, nogil=True)
def _add(sums: NDArray, j: int, i: int, w: float, value: float, error: float, seconds: float, kernel: float) -> None:
    sums[0, j, i] += w
    sums[1, j, i] += w * w
    sums[2, j, i] += w * value
    sums[3, j, i] += w * error * error
    sums[4, j, i] += 1.0
    sums[5, j, i] += w * seconds
    if not np.isnan(kernel):
        sums[6, j, i] += w
        sums[7, j, i] += w * kernel


@numba.njit(cache=True, nogil=True)
def _bin_polygons(
    lat: NDArray, lon: NDArray, data: NDArray, frame: tuple[float, int, int, int, int], sums: NDArray, used: NDArray
) -> None:
    """Add quadrilaterals to the cells they overlap, with the overlap area in cells as weight.

    lat, lon : corners in degrees, (n, 4). data : value, error, seconds, kernel, (4, n).
    frame : cells per degree, west and south edge in cells, number of columns and rows.
    """
    per_degree, west, south, n_lon, n_lat = frame
    px, py = np.empty(4), np.empty(4)
    ax, ay, bx, by = np.empty(12), np.empty(12), np.empty(12), np.empty(12)
    for p in range(lat.shape[0]):
        x_low, x_high, y_low, y_high = np.inf, -np.inf, np.inf, -np.inf
        for k in range(4):
            x, y = lon[p, k], lat[p, k]
            # Corners on both sides of the date line are brought to the side of the first one.
            if x - lon[p, 0] > 180.0:
                x -= 360.0
            elif x - lon[p, 0] < -180.0:
                x += 360.0
            px[k], py[k] = x * per_degree - west, y * per_degree - south
            x_low, x_high = min(x_low, px[k]), max(x_high, px[k])
            y_low, y_high = min(y_low, py[k]), max(y_high, py[k])
        if not (x_high > 0.0 and x_low < n_lon and y_high > 0.0 and y_low < n_lat):
            continue
        if x_high - x_low > MAX_SPAN * per_degree or y_high - y_low > MAX_SPAN * per_degree:
            continue
        i0, i1 = max(int(np.floor(x_low)), 0), min(int(np.floor(x_high)), n_lon - 1)
        j0, j1 = max(int(np.floor(y_low)), 0), min(int(np.floor(y_high)), n_lat - 1)
        single = i0 == i1 and j0 == j1 and x_low >= i0 and y_low >= j0 and x_high <= i0 + 1 and y_high <= j0 + 1
        for j in range(j0, j1 + 1):
            for i in range(i0, i1 + 1):
                w = _area(px, py, 4) if single else _cell_area(px, py, i, j, ax, ay, bx, by)
                if w > 0.0:
                    _add(sums, j, i, w, data[0, p], data[1, p], data[2, p], data[3, p])
                    used[p] = True


def bin_polygons(
    lat: NDArray, lon: NDArray, data: NDArray, grid: Grid = COLUMN_GRID
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Sums over quadrilaterals by overlap area, degrees taken as plane (a cell's cos(latitude) hardly varies).

    Parameters
    ----------
    lat, lon : corners, degrees, (n, 4), in order around the pixel. Pixels across the date line are handled.
    data : value, error, seconds of the day and kernel (NaN where unknown), (4, n).

    Returns
    -------
    The sums named in `SUMS`, (8, n_lat, n_lon), areas in cells; and which pixels touch the grid, (n,).
    """
    sums = np.zeros((len(SUMS), *grid.shape))
    used = np.zeros(lat.shape[0], np.bool_)
    frame = (float(grid.per_degree), grid.west_index, grid.south_index, grid.n_lon, grid.n_lat)
    corners = [np.ascontiguousarray(c, np.float64) for c in (lat, lon)]
    _bin_polygons(corners[0], corners[1], np.ascontiguousarray(data, np.float64), frame, sums, used)
    return sums, used


def bin_points(
    lat: NDArray, lon: NDArray, data: NDArray, grid: Grid = COLUMN_GRID
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Sums over points with weight 1; as `bin_polygons` for soundings much smaller than a cell, lat, lon (n,)."""
    row, col, inside = grid.locate(lat, np.where(lon > 180, lon - 360, lon))
    sums = np.zeros((len(SUMS), *grid.shape))
    at = (row[inside], col[inside])
    value, error, seconds, kernel = data[:, inside]
    known = np.isfinite(kernel)
    one = np.ones(value.size)
    for k, terms in enumerate((one, one, value, error**2, one, seconds, known, np.where(known, kernel, 0.0))):
        np.add.at(sums[k], at, terms)
    return sums, inside


@dataclass(frozen=True)
class Cells:
    """Means over the observations of each cell; NaN where there are none.

    mean, error : in the observations' unit. count : observations. covered : sum of weights (areas in cells, or counts).
    seconds : mean time since midnight UTC. kernel : mean of the kernel where known.
    """

    mean: NDArray[np.float64]
    error: NDArray[np.float64]
    count: NDArray[np.float64]
    covered: NDArray[np.float64]
    seconds: NDArray[np.float64]
    kernel: NDArray[np.float64]


def cell_means(sums: NDArray[np.float64], correlation: float, floor: float) -> Cells:
    """Means and errors from sums.

    s2 = s_o2 ((1 - r) / n + r) + s_t2, with s_o2 = sum(w e2) / sum(w), r the correlation between errors of one cell,
    n = sum(w)^2 / sum(w2) the effective number of observations (n itself for equal weights), and s_t the floor
    (methods: representativeness; r = 0.55 is what the methane inversion IMI uses).
    """
    weight = sums[0]
    with np.errstate(divide="ignore", invalid="ignore"):
        n = weight**2 / sums[1]
        variance = sums[3] / weight * ((1.0 - correlation) / n + correlation) + floor**2
        return Cells(
            sums[2] / weight,
            np.sqrt(variance),
            sums[4].copy(),
            weight.copy(),
            sums[5] / weight,
            sums[7] / np.where(sums[6] > 0, sums[6], np.nan),
        )
