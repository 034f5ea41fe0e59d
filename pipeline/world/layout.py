"""The cubes of a world: where each lies, its grid, times and variables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from pipeline.store.cubes import ArraySpec
from pipeline.world.months import NO2, XCO2
from pipeline.world.nature import month_days
from pipeline.world.output import Growing, begin, cube_arrays, fine_arrays, lattice_coords, sector_coord
from pipeline.world.plan import Plan
from pipeline.world.satellites import SCALE_ERROR
from pipeline.world.weather import STEP, VARIABLES


@dataclass(frozen=True)
class _Cube:
    path: str
    title: str
    coords: Mapping[str, xr.Variable]
    times: NDArray[np.datetime64]
    arrays: Mapping[str, ArraySpec]


def lay_out(plan: Plan) -> dict[str, Growing]:
    """Start all cubes of a plan with the times to come."""
    cubes = {**_daily(plan), **_truth(plan), **({} if plan.real else _proxies(plan))}
    return {
        name: begin(plan.store, cube.path, cube.coords, cube.times, cube.arrays, plan.attrs(cube.title))
        for name, cube in cubes.items()
    }


def _daily(plan: Plan) -> dict[str, _Cube]:
    days = np.concatenate([month_days(y, m) for y in plan.years for m in plan.months])
    hours = np.arange(0, 24, STEP).astype("m8[h]")
    steps = (days.astype("M8[h]")[:, None] + hours).ravel()
    weather, sky = plan.weather, plan.satellites
    lattice = (len(weather.lat), len(weather.lon))
    return {
        "no2": _Cube(
            "inputs/no2_tropomi.zarr",
            "NO2 columns as a TROPOMI sees them",
            sky.coords(),
            days,
            _no2_arrays(sky.shape),
        ),
        "xco2": _Cube(
            "inputs/xco2_oco2.zarr", "XCO2 as an OCO-2 sees it", sky.coords(), days, cube_arrays(XCO2, sky.shape)
        ),
        "era5": _Cube(
            "inputs/era5.zarr",
            "Weather as a reanalysis sees it",
            lattice_coords(weather.lat, weather.lon),
            steps,
            cube_arrays(VARIABLES, lattice, 24 // STEP),
        ),
    }


def _no2_arrays(shape: tuple[int, int]) -> dict[str, ArraySpec]:
    arrays = cube_arrays(NO2, shape)
    stated = arrays["no2_column_uncertainty"]
    comment = f"as a retrieval states it: with {SCALE_ERROR:.0%} of the observed column"
    return {**arrays, "no2_column_uncertainty": replace(stated, attrs={**stated.attrs, "comment": comment})}


def _truth(plan: Plan) -> dict[str, _Cube]:
    months = np.array([f"{y}-{m:02d}-01" for y in plan.years for m in plan.months], "M8[D]")
    shape, fine = plan.domain.shape, plan.domain.refine()
    flat = cube_arrays({"co2_emission": "t", "nox_emission": "kg"}, shape)
    by_sector = replace(flat["co2_emission"], dims=("time", "sector", "lat", "lon"), chunks=(1, 4, *shape))
    return {
        "truth": _Cube(
            "truth/emissions_025.zarr",
            "True emissions by month",
            {**sector_coord(), **plan.domain.coords()},
            months,
            {**flat, "co2_emission": by_sector},
        ),
        "truth_001": _Cube(
            "truth/emissions_001.zarr",
            "True emissions of the year at 1 km",
            {**sector_coord(), **fine.coords()},
            _year_starts(plan),
            fine_arrays({"co2_emission": "t"}, fine, sectors=True),
        ),
    }


def _proxies(plan: Plan) -> dict[str, _Cube]:
    fine, years = plan.domain.refine(), _year_starts(plan)
    return {
        name: _Cube(f"inputs/{name}.zarr", title, fine.coords(), years, fine_arrays({variable: unit}, fine))
        for name, title, variable, unit in (
            ("nightlights", "Nightlights", "radiance", "nW cm-2 sr-1"),
            ("population", "Population", "population", "persons"),
        )
    }


def _year_starts(plan: Plan) -> NDArray[np.datetime64]:
    return np.array([f"{y}-01-01" for y in plan.years], "M8[D]")
