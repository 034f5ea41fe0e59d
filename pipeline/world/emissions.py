"""The truth: how a region's yearly emission is spread over maps and plants, and its NOx:CO2 ratios."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.core.grid import Grid
from pipeline.core.regions import Regions
from pipeline.core.schema import SECTORS
from pipeline.core.seeds import generator
from pipeline.world.physics import NOX_RATIO, RATIO_SIGMA_NATION, RATIO_SIGMA_PROVINCE, Physics
from pipeline.world.plants import running


def region_sums(index: NDArray[np.int16], values: NDArray, count: int) -> NDArray[np.float64]:
    """Sum of maps (..., n_lat, n_lon) by region, shape (..., count)."""
    flat, where = values.reshape(-1, index.size), index.ravel()
    inside = where >= 0
    sums = [np.bincount(where[inside], row[inside], count) for row in flat.astype(np.float64)]
    return np.array(sums, np.float64).reshape(*values.shape[:-2], count)


def zone_scale(sums: NDArray[np.float64], point_share: NDArray[np.float64]) -> NDArray[np.float64]:
    """Share of a region's total in one unit of its maps, (3, region): industry's zones, transport, residential.

    Parameters
    ----------
    sums : national sums of the maps by region, (3, region).
    point_share : share of industry that plants carry, by region; the rest follows the map.
    """
    carried = np.stack([1 - point_share, np.ones_like(point_share), np.ones_like(point_share)])
    return np.divide(carried, sums, out=np.zeros_like(sums), where=sums > 0)


def plant_shares(plants: pd.DataFrame, point_share: NDArray[np.float64], count: int, year: int) -> NDArray[np.float64]:
    """Share of each plant in its region's and sector's total of a year.

    Parameters
    ----------
    plants : all plants, with `region` and `sector`.
    point_share : share of power and of industry that plants carry, (2, region).
    count : number of regions.
    """
    weight, share = running(plants, year), np.zeros(len(plants))
    for s, sector in enumerate(SECTORS[:2]):
        own = ((plants["sector"] == sector) & (plants["region"] >= 0)).to_numpy()
        region = plants["region"].to_numpy()[own]
        total = np.bincount(region, weight[own], count)
        share[own] = weight[own] / np.maximum(total, 1e-9)[region] * point_share[s][region]
    return share


def nox_ratios(regions: Regions, physics: Physics, seed: int) -> NDArray[np.float64]:
    """NOx over CO2, kg NO2-equivalent per tonne of CO2 by region and sector."""
    rng = generator("ratios", seed)
    nation = rng.normal(0, RATIO_SIGMA_NATION, 4) * physics.ratio_nation
    province = rng.normal(0, RATIO_SIGMA_PROVINCE, (len(regions.codes), 4)) * physics.ratio_error
    return np.array(NOX_RATIO)[None] * np.exp(nation[None] + province)


def spread_maps(index: NDArray[np.int16], maps: NDArray[np.float32], per_unit: NDArray) -> NDArray[np.float32]:
    """Maps (3, n_lat, n_lon) times a factor by region (3, region); 0 outside the regions."""
    factor = np.concatenate([per_unit, np.zeros((3, 1))], axis=1).astype(np.float32)
    return maps * factor[:, index]


def add_plants(annual: NDArray, grid: Grid, plants: pd.DataFrame, tonnes: NDArray[np.float64]) -> None:
    """Add plants' tonnes to power and industry of (sector, n_lat, n_lon), in place."""
    row, col, inside = grid.locate(plants["lat"].to_numpy(float), plants["lon"].to_numpy(float))
    sector = (plants["sector"] == "industry").to_numpy().astype(int)
    np.add.at(annual, (sector[inside], row[inside], col[inside]), tonnes[inside])


def plant_tonnes(plants: pd.DataFrame, share: NDArray[np.float64], totals: NDArray[np.float64]) -> NDArray[np.float64]:
    """CO2 of each plant in a year, t: its share of its region's and sector's total."""
    sector = (plants["sector"] == "industry").to_numpy().astype(int)
    region = plants["region"].to_numpy()
    return np.where(region >= 0, share * totals[region, sector], 0.0)
