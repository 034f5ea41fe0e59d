"""The unit of work of a month: truth, weather and what the satellites see, written into their cubes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.core.grid import Grid, block_sum
from pipeline.core.regions import Regions
from pipeline.world.nature import (
    OVERPASS,
    Columns,
    Sources,
    month_days,
    nox_of_day,
    on_grid,
    run_month,
)
from pipeline.world.output import Growing
from pipeline.world.plan import Plan
from pipeline.world.satellites import Sky, clear_fraction, look_no2, look_xco2
from pipeline.world.weather import STEP, VARIABLES

NO2 = {"no2_column": "mol m-2", "no2_column_uncertainty": "mol m-2", "valid_fraction": "1"}
XCO2 = {"xco2": "ppm", "xco2_uncertainty": "ppm", "n_soundings": "1"}


@dataclass(frozen=True)
class MonthTask:
    """One month of a plan and the cubes it writes into."""

    plan: Plan
    year: int
    month: int
    cubes: dict[str, Growing]


def sources_path(year: int) -> str:
    """Where the sources of a year wait for the months."""
    return f"work/world/sources-{year}.npz"


def make_month(task: MonthTask) -> dict[str, Any]:
    """Run a month and write it; gives back the mean lifetime by training group for the record."""
    plan, store = task.plan, task.plan.store
    sources = Sources.from_bytes(store.read_bytes(sources_path(task.year)))
    days = month_days(task.year, task.month)
    _write_truth(task, sources, days)
    _write_weather(task, days)
    columns = run_month(sources, plan.weather, days, plan.physics)
    _write_looks(task, columns, days)
    return {"year": task.year, "month": task.month, "lifetime": _lifetimes(plan, columns)}


def month_truth(
    sources: Sources, days: NDArray[np.datetime64], plan: Plan
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """CO2 by sector (t) and all NOx (kg NO2-equivalent) of a month on the domain: (sector, lat, lon) and (lat, lon)."""
    grid = plan.nature
    co2, nox = np.zeros((4, *grid.shape)), np.zeros(grid.shape)
    for day in days:
        co2 += sources.co2(sources.fraction[:, :, sources.day(day)])
        by_sector, steady = nox_of_day(sources, day, plan.physics)
        nox += by_sector.sum(axis=0) + steady
    window = (..., *plan.outer.window(plan.domain))
    return block_sum(co2, 2)[window], block_sum(nox, 2)[window]


def _write_truth(task: MonthTask, sources: Sources, days: NDArray[np.datetime64]) -> None:
    co2, nox = month_truth(sources, days, task.plan)
    month = days[:1].astype("datetime64[ns]")
    task.cubes["truth"].write(task.plan.store, {"co2_emission": co2[None], "nox_emission": nox[None]}, month)


def _write_weather(task: MonthTask, days: NDArray[np.datetime64]) -> None:
    times = np.arange(days[0].astype("M8[h]"), (days[-1] + 1).astype("M8[h]"), np.timedelta64(STEP, "h"))
    weather = task.plan.weather
    fields = weather.seen(times) if task.plan.physics.wind_error else weather.at(times)
    values = {name: _rounded(fields[name]) for name in VARIABLES}
    task.cubes["era5"].write(task.plan.store, values, times.astype("datetime64[ns]"))


def _rounded(values: NDArray) -> NDArray[np.float32]:
    """Keep 12 bits of the mantissa, as packed reanalyses do: a fifth of a thousandth, and half the bytes."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    return ((bits + np.uint32(1 << 10)) & np.uint32(0xFFFFF800)).view(np.float32)


def _write_looks(task: MonthTask, columns: Columns, days: NDArray[np.datetime64]) -> None:
    plan, grid = task.plan, task.plan.satellites
    window = plan.outer.window(grid)
    pressure, vapour = _at_overpass(plan, grid, days)
    seen: dict[str, list[dict[str, NDArray]]] = {"no2": [], "xco2": []}
    for k, day in enumerate(days):
        sky = Sky(clear_fraction(grid, day, plan.physics, plan.seed), pressure[k], vapour[k])
        seen["no2"].append(look_no2(columns.nox[k][window], sky, grid, day, plan.physics, plan.seed))
        seen["xco2"].append(look_xco2(columns.co2[k][window], sky, grid, day, plan.physics, plan.seed))
    for name, looks in seen.items():
        values = {variable: np.stack([look[variable] for look in looks]) for variable in looks[0]}
        task.cubes[name].write(plan.store, values, days.astype("datetime64[ns]"))


def _at_overpass(
    plan: Plan, grid: Grid, days: NDArray[np.datetime64]
) -> tuple[list[NDArray[np.float32]], list[NDArray[np.float32]]]:
    """True surface pressure and water vapour near the overpass over the middle of the domain."""
    hour = round(OVERPASS - float(grid.lon.mean()) / 15.0)
    fields = plan.weather.at(days.astype("M8[h]") + hour)
    return tuple([on_grid(field, plan.weather, grid) for field in fields[name]] for name in ("sp", "tcwv"))  # type: ignore[return-value]


def _lifetimes(plan: Plan, columns: Columns) -> dict[str, float]:
    regions = Regions.from_geojson(plan.store.read_bytes("inputs/regions.geojson"), "inputs/regions.geojson")
    index = regions.index(plan.outer)
    mean = columns.lifetime.mean(axis=0)
    groups = np.array([*regions.groups, ""])[index]
    return {g: round(float(mean[groups == g].mean()), 4) for g in regions.group_names if (groups == g).any()}
