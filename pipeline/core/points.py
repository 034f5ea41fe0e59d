"""Known point sources: the table, its yearly emission by stated factors, and its place on a grid."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.core.errors import InputError
from pipeline.core.grid import Grid
from pipeline.core.schema import POINT_SOURCE_COLUMNS

TONNES_PER_CAPACITY: dict[tuple[str, str], float] = {
    ("coal", "MW"): 4000.0,
    ("gas", "MW"): 1000.0,
    ("oil", "MW"): 1500.0,
    ("cement", "Mt/a"): 0.40e6,
    ("steel", "Mt/a"): 1.70e6,
}
"""Tonnes of CO2 a year per unit of capacity, used where a plant's own figure is missing.

coal: about 4 500 full-load hours (China Electricity Council, thermal 2019-2023: 4 200-4 450 h, coal somewhat above)
x 0.89 t/MWh gross incl. heat (IEA, subcritical-supercritical mix 0.8-0.95); gas: 2 600 h x 0.39 t/MWh; cement: about
0.58 t CO2 per tonne (GCCA, China) x 70 % use; steel: 2.0 t per tonne (worldsteel, mean over routes 1.9-2.3) x 85 % use.
Each carries +-20-30 %, which the prior's sector sigma covers.
"""


def check_points(table: pd.DataFrame, where: str) -> pd.DataFrame:
    """Hold a table of point sources to the contract.

    Raises
    ------
    InputError : missing columns or coordinates that are no degrees.
    """
    missing = [c for c in POINT_SOURCE_COLUMNS if c not in table.columns]
    if missing:
        raise InputError(f"{where} lacks the columns {', '.join(missing)}", f"{', '.join(POINT_SOURCE_COLUMNS)}")
    table = table[list(POINT_SOURCE_COLUMNS)].reset_index(drop=True)
    bad = ~(table["lat"].between(-90, 90) & table["lon"].between(-180, 360))
    if bad.any():
        raise InputError(
            f"{where}: {int(bad.sum())} rows without usable coordinates, first {table.loc[bad.idxmax(), 'name']!r}",
            "lat -90..90 and lon -180..360 in degrees",
        )
    return table.assign(lon=np.where(table["lon"] > 180, table["lon"] - 360, table["lon"]))


def annual_tonnes(table: pd.DataFrame, year: int) -> NDArray[np.float64]:
    """CO2 of each point source in a year, tonnes: its own figure, else capacity x factor; 0 when not running.

    A source runs from `start_year` to the year before `retire_year`; an unknown year means no limit.
    """
    factor = np.array(
        [
            TONNES_PER_CAPACITY.get((str(k), str(u)), 0.0)
            for k, u in zip(table["kind"], table["capacity_unit"], strict=True)
        ]
    )
    own = pd.to_numeric(table["co2_tonnes_per_year"], errors="coerce").to_numpy(float)
    capacity = pd.to_numeric(table["capacity"], errors="coerce").fillna(0.0).to_numpy(float)
    start = pd.to_numeric(table["start_year"], errors="coerce").fillna(-9999).to_numpy(float)
    retire = pd.to_numeric(table["retire_year"], errors="coerce").fillna(9999).to_numpy(float)
    running = (start <= year) & (year < retire)
    return np.where(running, np.where(np.isfinite(own), own, capacity * factor), 0.0)


def grid_points(table: pd.DataFrame, values: NDArray[np.float64], grid: Grid, sector: str) -> NDArray[np.float64]:
    """Sum of values of one sector's point sources per cell, shape of the grid; sources off the grid are left out."""
    of_sector = (table["sector"] == sector).to_numpy()
    row, col, inside = grid.locate(table["lat"].to_numpy(float), table["lon"].to_numpy(float))
    keep = of_sector & inside
    result = np.zeros(grid.shape)
    np.add.at(result, (row[keep], col[keep]), values[keep])
    return result
