"""Where each sector emits, and what the proxies show of it: maps on any grid from the same settlements.

Truth is not a mixture of the proxies: traffic is displaced from homes, industrial zones and roads have maps of their
own, and every sector carries fields that no proxy knows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.core.grid import Grid
from pipeline.world.fields import blobs, cell_noise, correlated, lines, lognormal
from pipeline.world.settlements import Settlements, foreign_settlements

_ROAD_SHARE = 0.30
"""Part of transport's emission on main roads between cities."""
_RURAL_HEATING = 1.3
"""Residential CO2 of a villager over a townsman's."""
_LEAST_PEOPLE = 0.05
"""People in a square kilometre below which nobody lives there."""


@dataclass(frozen=True)
class Maps:
    """Maps on a grid, float32, (n_lat, n_lon).

    Parameters
    ----------
    people : true number of people per cell.
    census : people as the population product has them.
    radiance : nightlights, nW cm-2 sr-1.
    spread : relative emission of industry's zones, transport and residential, (3, n_lat, n_lon).
    """

    people: NDArray[np.float32]
    census: NDArray[np.float32]
    radiance: NDArray[np.float32]
    spread: NDArray[np.float32]


@dataclass(frozen=True)
class _Noise:
    """Fields of a grid by seed: `smooth` correlated over so many km, `own` of the cell alone."""

    grid: Grid
    seed: int

    def smooth(self, name: str, km: float, sigma: float) -> NDArray[np.float32]:
        return lognormal(correlated(self.grid.lat, self.grid.lon, km, name, self.seed), sigma)

    def own(self, name: str, sigma: float) -> NDArray[np.float32]:
        # Averaged over the fine cells of a coarser one, so that maps at any resolution agree in the mean.
        per_side = max(1.0, 100.0 / self.grid.per_degree)
        return lognormal(cell_noise(self.grid, name, self.seed), sigma / per_side)


def draw(grid: Grid, land: NDArray[np.bool_], towns: Settlements, seed: int) -> Maps:
    """The maps of a grid; nothing is emitted or lives off the land."""
    noise = _Noise(grid, seed)
    built = blobs(grid, *towns.people.T) * land
    rural = _countryside(grid, towns, noise) * land
    zones = blobs(grid, *towns.zones.T) * land
    work = blobs(grid, *towns.work.T) * land
    roads = lines(grid, *towns.roads) * land
    abroad = _abroad(grid, land)
    people = built + rural
    return Maps(
        people,
        (people + abroad) * noise.smooth("census", 60, 0.15) * noise.own("census", 0.3),
        _radiance(grid, built + 0.15 * rural + abroad, zones / towns.zones[:, 3].sum(),
                  roads / towns.roads[1].sum(), noise),
        np.stack(
            [
                zones * noise.smooth("industry", 40, 0.5) * noise.own("industry", 0.4),
                _transport(work / towns.work[:, 3].sum(), roads / towns.roads[1].sum(), noise),
                _residential(grid, built, rural, noise),
            ]
        ),
    )  # fmt: skip


def _countryside(grid: Grid, towns: Settlements, noise: _Noise) -> NDArray[np.float32]:
    coarse = blobs(grid.__class__.from_bounds(*grid.bounds, 20), *towns.rural.T)
    per_cell = _regrid_density(coarse, grid)
    rural = per_cell * noise.smooth("villages", 15, 0.5) * noise.own("villages", 0.9)
    return np.where(rural > _LEAST_PEOPLE * grid.area / 1e6, rural, 0).astype(np.float32)


def _regrid_density(coarse: NDArray[np.float32], grid: Grid) -> NDArray[np.float32]:
    """Counts at 0.05 degree carried to a grid whose cells lie between or across them, by linear interpolation."""
    step = grid.step * 20.0
    outer = Grid.from_bounds(*grid.bounds, 20)
    rows = _hat((grid.lat - outer.lat_edges[0]) * 20 - 0.5, coarse.shape[0])
    cols = _hat((grid.lon - outer.lon_edges[0]) * 20 - 0.5, coarse.shape[1])
    return np.asarray((rows @ coarse @ cols.T) * step**2, np.float32)


def _hat(position: NDArray, count: int) -> NDArray[np.float32]:
    weight = 1.0 - np.abs(np.clip(position, 0, count - 1)[:, None] - np.arange(count)[None])
    return np.maximum(weight, 0).astype(np.float32)


def _transport(work: NDArray, roads: NDArray, noise: _Noise) -> NDArray[np.float32]:
    mixed = (1 - _ROAD_SHARE) * work + _ROAD_SHARE * roads
    return np.asarray(mixed * noise.smooth("transport", 80, 0.35) * noise.own("transport", 0.4), np.float32)


def _residential(grid: Grid, built: NDArray, rural: NDArray, noise: _Noise) -> NDArray[np.float32]:
    cold = np.float32(0.4) + np.float32(1.2) / (1 + np.exp(-(grid.lat - 33) / 2.5)).astype(np.float32)
    homes = 0.8 * built + _RURAL_HEATING * rural * cold[:, None]
    return np.asarray(homes * noise.smooth("residential", 60, 0.4) * noise.own("residential", 0.4), np.float32)


def _radiance(grid: Grid, people: NDArray, zones: NDArray, roads: NDArray, noise: _Noise) -> NDArray[np.float32]:
    area = (grid.area / 1e6).astype(np.float32)
    # A million square metres of a zone or a lit road shine like a few thousand townspeople.
    bright = people / area / 250.0 + (zones * 4e5 + roads * 6e5) / area
    bright = bright / (1 + bright / 120.0) * noise.smooth("lights", 30, 0.3) * noise.own("lights", 0.35)
    return np.where(bright > 0.3, np.round(bright, 2), 0).astype(np.float32)


def _abroad(grid: Grid, land: NDArray[np.bool_]) -> NDArray[np.float32]:
    return blobs(grid, *foreign_settlements().T) * ~land
