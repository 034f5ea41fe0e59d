"""Emissions from the divergence of mean fluxes: a diagnostic beside the inversion and a check on it.

    E = div(<V w>) + <V> / tau                                                    (Beirle et al. 2019, Sci. Adv. 5)

with V the column of NOx, w the wind at the overpass and <> the mean over days. Fluxes are averaged before they are
differentiated: noise and the terms that a single day lacks (storage, other hours) then largely cancel. Days of weak
wind are left out, since V w says nothing of transport there. Nothing keeps the result positive, and a cell's value
carries the noise of its neighbours.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.core.grid import Grid
from pipeline.core.units import EARTH_RADIUS
from pipeline.transport.chemistry import LIFETIME, nox_mass

LEAST_WIND = 2.0
"""m s-1; days of weaker wind are left out of a cell's mean."""


@dataclass(frozen=True)
class DivergenceField:
    """`emission` of NOx, kg NO2-equivalent s-1 per cell, NaN beside missing cells; `days` in each cell's mean."""

    emission: NDArray[np.float64]
    days: NDArray[np.int64]


def divergence(grid: Grid, flux_u: NDArray[np.floating], flux_v: NDArray[np.floating]) -> NDArray[np.float64]:
    """Divergence of a vector field on the sphere by the balance of each cell's faces.

    div F = sum over faces of (F . n) length / area, with the flux through a face the mean of the cells beside it:
    central differences, of second order, and what leaves one cell enters the next.

    Parameters
    ----------
    flux_u, flux_v : eastward and northward component at cell centres, any unit U, (..., n_lat, n_lon).

    Returns
    -------
    U m-1, same shape; NaN along the edge of the grid and beside missing cells.
    """
    step = EARTH_RADIUS * np.deg2rad(grid.step)
    width = step * np.cos(np.deg2rad(grid.lat_edges))[1:-1, None]
    east = step * (flux_u[..., :, :-1] + flux_u[..., :, 1:]) / 2
    north = width * (flux_v[..., :-1, :] + flux_v[..., 1:, :]) / 2
    result = np.full(np.shape(flux_u), np.nan)
    inner = (..., slice(1, -1), slice(1, -1))
    result[inner] = np.diff(east, axis=-1)[..., 1:-1, :] + np.diff(north, axis=-2)[..., :, 1:-1]
    return np.asarray(result / grid.area)


def monthly_emission(
    grid: Grid,
    column: NDArray[np.floating],
    u: NDArray[np.floating],
    v: NDArray[np.floating],
    lifetime: float = LIFETIME,
    background: float = 0.0,
    least_wind: float = LEAST_WIND,
) -> DivergenceField:
    """The divergence field of some days, usually a month's.

    Parameters
    ----------
    column : NO2 of each day, mol m-2, NaN where nothing was seen, (day, n_lat, n_lon); negative values stay.
    u, v : wind at the overpass (`pipeline.transport.winds.at_overpass`), m s-1, same shape.
    lifetime : tau of NOx, h.
    background : NO2 that no near source explains, mol m-2; taken off the columns.
    least_wind : m s-1.

    Returns
    -------
    NOx = 1.32 NO2 (`pipeline.transport.chemistry.NOX_PER_NO2`) from every cell. No layer of the product.
    """
    column, u, v = (np.asarray(a, float) for a in (column, u, v))
    used = np.isfinite(column) & (np.hypot(u, v) > least_wind)
    days = used.sum(axis=0)
    mass = np.where(used, nox_mass(np.where(used, column - background, 0.0)), 0.0)

    def mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
        total = np.where(used, values, 0.0).sum(axis=0)
        return np.divide(total, days, out=np.full(days.shape, np.nan), where=days > 0)

    density = divergence(grid, mean(mass * u), mean(mass * v)) + mean(mass) / (lifetime * 3600.0)
    return DivergenceField(density * grid.area, days)
