"""What emits in a year on the nature run's grid: tiles joined with their surroundings, plants, soils, neighbours."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from pipeline.core.chunks import tiles
from pipeline.core.grid import Grid
from pipeline.world.emissions import add_plants, plant_shares, plant_tonnes, region_sums, spread_maps
from pipeline.world.fields import blobs, correlated, lines, lognormal
from pipeline.world.geography import outline
from pipeline.world.ground import Ground, fractions, soil_season
from pipeline.world.nature import Sources
from pipeline.world.physics import FOREIGN_CO2_PER_PERSON, FOREIGN_NOX_PER_PERSON, SHIP_NOX, SOIL_NOX
from pipeline.world.plan import Plan
from pipeline.world.settlements import foreign_settlements


def join(
    plan: Plan, ground: Ground, scale: NDArray, totals: dict[int, NDArray], parts: list[dict[int, NDArray]]
) -> dict[int, NDArray[np.float32]]:
    """What is spread in each year on the nature run's grid, t, (3, n_lat, n_lon): tiles, and around them a coarser map.

    Parameters
    ----------
    scale : share of a region's total in one unit of its maps, (3, region).
    totals : CO2 of each year by region and sector, t.
    parts : what `make_tile` gave back for each tile of the domain.
    """
    grid = plan.nature
    index = ground.regions.index(grid)
    around = spread_maps(index, ground.maps(grid, index >= 0).spread, scale)
    rows, cols = plan.outer.window(plan.domain)
    result = {}
    for year in plan.years:
        spread = spread_maps(index, around, totals[year][:, 1:].T)
        for tile, part in zip(tiles(plan.domain), parts, strict=True):
            lat, lon = tile.coarse
            j, i = 2 * (rows.start + lat.start), 2 * (cols.start + lon.start)
            spread[:, j : j + part[year].shape[1], i : i + part[year].shape[2]] = part[year]
        result[year] = spread
    return result


def year_sources(plan: Plan, ground: Ground, spread: NDArray, totals: NDArray, ratios: NDArray, year: int) -> Sources:
    """All that emits in a year: what is spread (t), plants, and what is not in the sectors."""
    grid = plan.nature
    index = ground.regions.index(grid)
    # A fine cell of land may lie in a coarser one whose centre is not: it belongs to the nearest region.
    j, i = distance_transform_edt(index < 0, return_distances=False, return_indices=True)
    nearest = index[j, i]
    annual = np.zeros((4, *grid.shape), np.float32)
    annual[1:] = spread
    share = plant_shares(ground.plants, ground.point_share, len(ground.regions.codes), year)
    add_plants(annual, grid, ground.plants, plant_tonnes(ground.plants, share, totals))
    people = blobs(grid, *foreign_settlements().T) * (index < 0)
    ships = _ships(grid) * (index < 0)
    return Sources(
        np.array(plan.outer.bounds),
        np.array(year),
        nearest,
        annual,
        fractions(ground.daily(year)),
        ratios,
        _soils(grid, index >= 0, ground, plan.seed),
        soil_season(year),
        (FOREIGN_NOX_PER_PERSON * people + ships).astype(np.float32),
        (FOREIGN_CO2_PER_PERSON * people).astype(np.float32),
    )


def _soils(grid: Grid, land: NDArray[np.bool_], ground: Ground, seed: int) -> NDArray[np.float32]:
    """NOx from soils, kg per cell and year: as much as there is countryside, times a field of 120 km."""
    farmed = blobs(grid, *ground.towns.rural.T) * (SOIL_NOX / ground.towns.rural[:, 3].sum())
    fertile = lognormal(correlated(grid.lat, grid.lon, 120.0, "soil", seed), 0.5)
    return (farmed * fertile * land).astype(np.float32)


def _ships(grid: Grid) -> NDArray[np.float32]:
    """NOx from ships by lane, kg per cell and year."""
    ends = np.array([[a[1], a[0], b[1], b[0]] for lane in outline()["ship_lanes"] for a, b in pairwise(lane)])
    length = np.hypot(ends[:, 0] - ends[:, 2], ends[:, 1] - ends[:, 3])
    return lines(grid, ends, SHIP_NOX * length / length.sum())


def domain_totals(plan: Plan, sources: Sources, count: int) -> NDArray[np.float64]:
    """True CO2 of the year in the domain by region and sector, t."""
    rows, cols = plan.outer.window(plan.domain)
    window = slice(2 * rows.start, 2 * rows.stop), slice(2 * cols.start, 2 * cols.stop)
    return region_sums(sources.index[window], sources.annual[:, *window], count).T
