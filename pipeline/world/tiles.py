"""The unit of work of a tile of the fine grid: proxies and yearly truth at 1 km, and the coarser maps of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.core.chunks import Tile
from pipeline.core.grid import FINE_PER_COARSE, G025, Grid
from pipeline.world.emissions import add_plants, plant_shares, plant_tonnes, region_sums, spread_maps
from pipeline.world.ground import Ground
from pipeline.world.output import Growing
from pipeline.world.patterns import Maps
from pipeline.world.plan import Plan

_LIGHTS_TREND, _PEOPLE_TREND = 0.03, 0.001
"""Growth a year from 2020 of what the proxies show."""
_SUM_FACTOR = 5
"""Cells of 0.05 degree in a coarse one, for sums over the country."""


@dataclass(frozen=True)
class TileTask:
    """One tile of a plan.

    Parameters
    ----------
    ground : makes the world's ground on the worker.
    scale : share of a region's total in one unit of its maps, (3, region).
    totals : CO2 of each year by region and sector, t.
    cubes : what is written; without lights and people on real proxies.
    """

    plan: Plan
    tile: Tile
    ground: Callable[[Plan], Ground]
    scale: NDArray[np.float64]
    totals: dict[int, NDArray[np.float64]]
    cubes: dict[str, Growing]


@dataclass(frozen=True)
class SumTask:
    """One tile of the whole country whose maps are only summed."""

    plan: Plan
    tile: Tile
    ground: Callable[[Plan], Ground]


def tile_grid(coarse: Grid, tile: Tile, factor: int = FINE_PER_COARSE) -> Grid:
    """The cells of a tile, each coarse one divided into factor x factor."""
    lat, lon = tile.coarse
    inner = Grid(
        coarse.per_degree,
        coarse.west_index + lon.start,
        coarse.south_index + lat.start,
        lon.stop - lon.start,
        lat.stop - lat.start,
    )
    return inner.refine(factor)


def sum_tile(task: SumTask) -> NDArray[np.float64]:
    """Sums of a tile's spread maps by region, (3, region).

    Maps of real proxies are not linear, so they are summed on the fine grid; made-up ones may be summed on a coarser.
    """
    ground = task.ground(task.plan)
    grid = tile_grid(G025, task.tile, FINE_PER_COARSE if task.plan.real else _SUM_FACTOR)
    index = ground.regions.index(grid)
    return region_sums(index, ground.maps(grid, index >= 0).spread, len(ground.regions.codes))


def make_tile(task: TileTask) -> dict[int, NDArray[np.float32]]:
    """Write a tile; gives back what is spread in each year on 0.125 degree, t, (3, ...): plants come later."""
    grid, ground = tile_grid(task.plan.domain, task.tile), task.ground(task.plan)
    index = ground.regions.index(grid)
    maps = ground.maps(grid, index >= 0)
    coarser = {}
    for year, totals in task.totals.items():
        _write_proxies(task, maps, year)
        spread = spread_maps(index, maps.spread, task.scale * totals[:, 1:].T)
        _write_truth(task, ground, grid, spread, year)
        coarser[year] = halves(spread)
    return coarser


def halves(fine: NDArray[np.float32]) -> NDArray[np.float32]:
    """Sums of 12.5 x 12.5 fine cells, (..., 25 n, 25 m) -> (..., 2 n, 2 m): the middle one is shared out."""
    split = np.zeros((2, FINE_PER_COARSE), np.float32)
    split[0, :12], split[:, 12], split[1, 13:] = 1, 0.5, 1
    *lead, rows, cols = fine.shape
    n, m = rows // FINE_PER_COARSE, cols // FINE_PER_COARSE
    blocks = fine.reshape(*lead, n, FINE_PER_COARSE, m, FINE_PER_COARSE)
    rows_done = np.einsum("...npmq,ap->...namq", blocks, split, optimize=True)
    return np.einsum("...namq,bq->...namb", rows_done, split, optimize=True).reshape(*lead, 2 * n, 2 * m)


def _write_proxies(task: TileTask, maps: Maps, year: int) -> None:
    if "nightlights" not in task.cubes:
        return
    brighter = np.float32((1 + _LIGHTS_TREND) ** (year - 2020))
    more = np.float32((1 + _PEOPLE_TREND) ** (year - 2020))
    _write(task, "nightlights", {"radiance": np.round(maps.radiance * brighter, 2)[None]}, year)
    _write(task, "population", {"population": np.round(maps.census * more, 2)[None]}, year)


def _write_truth(task: TileTask, ground: Ground, grid: Grid, spread: NDArray[np.float32], year: int) -> None:
    annual = np.concatenate([np.zeros_like(spread[:1]), spread])
    share = plant_shares(ground.plants, ground.point_share, len(ground.regions.codes), year)
    add_plants(annual, grid, ground.plants, plant_tonnes(ground.plants, share, task.totals[year]))
    _write(task, "truth_001", {"co2_emission": annual[None]}, year)


def _write(task: TileTask, cube: str, values: dict[str, NDArray], year: int) -> None:
    lat, lon = task.tile.fine
    time = np.array([f"{year}-01-01"], "datetime64[ns]")
    task.cubes[cube].write(task.plan.store, values, time, {"lat": lat, "lon": lon})
