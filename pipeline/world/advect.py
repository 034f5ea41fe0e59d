"""The nature run's transport: explicit finite volumes with a van Leer limiter, directions split.

Column mass V [kg m-2] obeys dV/dt + div(V w) = div(K grad V) - V / tau + E / a. Face values are

    V_f = V_up + (1 - |c|) / 2 * vl(a, b),    vl(a, b) = 2 a b / (a + b) where a b > 0, else 0,

c the Courant number, a and b the differences up- and downstream (van Leer 1974, J. Comput. Phys. 14, 361): second order
where smooth, without new extremes, conservative. Nothing flows in through the edges. The inversion's scheme is another.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numba
import numpy as np
from numpy.typing import NDArray

from pipeline.core.grid import Grid
from pipeline.core.units import EARTH_RADIUS

_COURANT = 0.9
_ZERO, _HALF, _ONE, _TWO = np.float32(0), np.float32(0.5), np.float32(1), np.float32(2)


@dataclass(frozen=True)
class Mesh:
    """Lengths and areas of a grid as the kernels take them."""

    grid: Grid
    dtype: str = "float32"

    @cached_property
    def dy(self) -> float:
        """Side of a cell along the meridian, m."""
        return float(EARTH_RADIUS * np.deg2rad(self.grid.step))

    @cached_property
    def area(self) -> NDArray:
        """Cell area by row, m2."""
        return self.grid.area[:, 0].astype(self.dtype)

    @cached_property
    def face(self) -> NDArray:
        """Length of the faces between rows and at the two ends, m, shape (n_lat + 1,)."""
        width = EARTH_RADIUS * np.deg2rad(self.grid.step) * np.cos(np.deg2rad(self.grid.lat_edges))
        return width.astype(self.dtype)

    def substeps(self, u: NDArray, v: NDArray, seconds: float) -> int:
        """How many equal steps keep both Courant numbers below 0.9."""
        dx = self.grid.area[:, 0] / self.dy
        zonal = (np.abs(u).max(axis=1) / dx).max()
        fastest = max(float(zonal), float(np.abs(v).max()) / self.dy)
        return max(1, math.ceil(fastest * seconds / _COURANT))


@numba.njit(nogil=True, fastmath=True, error_model="numpy", cache=True)
def _face(before, left, right, after, u, c, k, diffusion):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """Flux through a face between `left` and `right`, per metre of face, limited; `c` is the Courant number's size."""
    jump = right - left
    forward = u > _ZERO
    up = left if forward else right
    behind = (left - before) if forward else (after - right)
    product = behind * jump
    total = behind + jump
    slope = _TWO * product / (total if product > _ZERO else _ONE)
    slope = slope if product > _ZERO else _ZERO
    half = _HALF * (_ONE - c) * slope
    return u * (up + (half if forward else -half)) - diffusion * jump * k


@numba.njit(nogil=True, fastmath=True, error_model="numpy", cache=True)
def _sweep_zonal(old, new, u, area, dy, dt, diffusion):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    rows, cols = old.shape
    flux = np.empty(cols + 1, old.dtype)
    outflow = 0.0
    for j in range(rows):
        c, w = old[j], u[j]
        r = dt * dy / area[j]
        k = dy / area[j]
        for i in range(1, cols - 2):
            wind = _HALF * (w[i] + w[i + 1])
            flux[i + 1] = _face(c[i - 1], c[i], c[i + 1], c[i + 2], wind, abs(wind) * r, k, diffusion)
        for i in (0, cols - 2):
            wind = _HALF * (w[i] + w[i + 1])
            flux[i + 1] = wind * (c[i] if wind > _ZERO else c[i + 1]) - diffusion * (c[i + 1] - c[i]) * k
        flux[0] = min(w[0], _ZERO) * c[0]
        flux[cols] = max(w[cols - 1], _ZERO) * c[cols - 1]
        outflow += (flux[cols] - flux[0]) * dy * dt
        for i in range(cols):
            new[j, i] = c[i] - (flux[i + 1] - flux[i]) * r
    return outflow


@numba.njit(nogil=True, fastmath=True, error_model="numpy", cache=True)
def _sweep_meridional(old, new, v, area, face, dy, dt, diffusion, decay, source):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """The second sweep, and what is emitted and decays in the step: V <- V e^(-dt/tau) + source."""
    rows, cols = old.shape
    south, north = np.zeros(cols, old.dtype), np.zeros(cols, old.dtype)
    outflow = 0.0
    k = _ONE / dy
    for i in range(cols):
        south[i] = min(v[0, i], _ZERO) * old[0, i] * face[0]
        outflow -= south[i] * dt
    for j in range(rows):
        r = dt / area[j]
        if j == rows - 1:
            for i in range(cols):
                north[i] = max(v[j, i], _ZERO) * old[j, i] * face[rows]
                outflow += north[i] * dt
        elif j == 0 or j == rows - 2:
            for i in range(cols):
                wind = _HALF * (v[j, i] + v[j + 1, i])
                up = old[j, i] if wind > _ZERO else old[j + 1, i]
                north[i] = (wind * up - diffusion * (old[j + 1, i] - old[j, i]) * k) * face[j + 1]
        else:
            c = dt * k
            for i in range(cols):
                wind = _HALF * (v[j, i] + v[j + 1, i])
                north[i] = face[j + 1] * _face(
                    old[j - 1, i], old[j, i], old[j + 1, i], old[j + 2, i], wind, abs(wind) * c, k, diffusion
                )
        for i in range(cols):
            new[j, i] = (old[j, i] - (north[i] - south[i]) * r) * decay[j, i] + source[j, i]
            south[i] = north[i]
    return outflow


@numba.njit(nogil=True, fastmath=True, cache=True)
def _react(v, decay, source):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    for j in range(v.shape[0]):
        for i in range(v.shape[1]):
            v[j, i] = v[j, i] * decay[j, i] + source[j, i]


@numba.njit(nogil=True, cache=True)
def _march(v0, work, u, v, area, face, dy, dt, diffusion, decay, source, steps):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """Steps of half a reaction, transport, half a reaction: else sources would lag behind by half a step of wind.

    `decay` and `source` are those of half a step; neighbouring halves are taken together.
    """
    outflow = 0.0
    both_decay, both_source = decay * decay, source * (_ONE + decay)
    _react(v0, decay, source)
    for n in range(steps):
        last = n == steps - 1
        outflow += _sweep_zonal(v0, work, u, area, dy, dt, diffusion)
        outflow += _sweep_meridional(
            work, v0, v, area, face, dy, dt, diffusion, decay if last else both_decay, source if last else both_source
        )
    return outflow


def advance(
    column: NDArray,
    wind: tuple[NDArray, NDArray],
    emission: NDArray,
    lifetime: NDArray | None,
    mesh: Mesh,
    seconds: float,
    diffusion: float,
) -> float:
    """Carry a column on by `seconds` under constant wind and emission; changes `column` in place.

    Parameters
    ----------
    column : V, kg m-2, (n_lat, n_lon).
    wind : u, v at the cell centres, m s-1.
    emission : E / a, kg m-2 s-1.
    lifetime : tau, s, (n_lat, n_lon); `None` for a passive tracer.
    mesh, seconds, diffusion : the grid, s, and K in m2 s-1.

    Returns
    -------
    What flowed out through the edges, kg.
    """
    kind = column.dtype
    u, v = (np.ascontiguousarray(w, kind) for w in wind)
    steps = mesh.substeps(u, v, seconds)
    dt = seconds / steps
    if lifetime is None:
        decay, source = np.ones_like(column), emission * (dt / 2)
    else:
        decay = np.exp(-dt / 2 / lifetime)
        source = emission * lifetime * (1.0 - decay)
    side, step, k = (kind.type(x) for x in (mesh.dy, dt, diffusion))
    return float(
        _march(
            column,
            np.empty_like(column),
            u,
            v,
            mesh.area,
            mesh.face,
            side,
            step,
            k,
            np.ascontiguousarray(decay, kind),
            np.ascontiguousarray(source, kind),
            steps,
        )
    )
