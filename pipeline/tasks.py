"""The units of work of a build: each opens what it needs, calls one stage's kernels and writes one output.

They run on workers, so every argument is small and pickles; data pass through the store.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy import sparse
from scipy.ndimage import binary_dilation

from pipeline.access import open_family, open_input, open_points, open_prior_totals, open_regions
from pipeline.core.grid import Grid
from pipeline.core.schema import SECTORS
from pipeline.invert.model import Observations
from pipeline.invert.month import solve_month
from pipeline.invert.observe import DayColumns, merge_instruments, observe_month
from pipeline.invert.prior import CLASS_SECTOR, Proxies, build_prior, climatological_temperature, other_nox
from pipeline.invert.state import Land, build_state
from pipeline.regrid import regrid
from pipeline.settings import Settings
from pipeline.store.arrays import load_arrays, save_arrays
from pipeline.store.cubes import open_cube, write_cube
from pipeline.store.location import Store
from pipeline.transport.footprint import aggregation
from pipeline.transport.winds import column_wind

Result = dict[str, Any]
_NEAR = 6
"""Cells around China whose columns still say something about its emissions."""


def month_start(year: int, month: int) -> np.datetime64:
    """00:00 UTC of the first of a month."""
    return np.datetime64(f"{year}-{month:02d}-01")


def month_seconds(year: int, month: int) -> float:
    """Length of a month in seconds."""
    first = np.datetime64(f"{year}-{month:02d}", "M")
    return float(((first + 1).astype("M8[s]") - first.astype("M8[s]")).astype(int))


def year_of_proxy(cube: xr.Dataset, name: str, year: int) -> xr.DataArray:
    """A yearly or monthly proxy of a year, as a yearly mean; the nearest year where the cube lacks it."""
    years = cube["time"].dt.year.values
    nearest = years[np.argmin(np.abs(years - year))]
    return cube[name].isel(time=np.flatnonzero(years == nearest)).mean("time", keep_attrs=True)


def prepare_year(store: Store, settings: Settings, grid: Grid, year: int, out: str) -> Result:
    """Proxies on the grid and the prior of a year: `lights`, `people`, `temperature`, `co2`, `other_nox`."""
    regions, points = open_regions(store), open_points(store)
    lights = regrid(
        year_of_proxy(open_input(store, "nightlights"), "radiance", year), grid, "conservative", store=store
    )
    people = regrid(year_of_proxy(open_input(store, "population"), "population", year), grid, "sum", store=store)
    temperature = _monthly_temperature(store, grid, year)
    shares = regions.fractions(grid)
    proxies = Proxies(lights.values.astype(float), people.values.astype(float), points, temperature, shares)
    totals = open_prior_totals(store)
    prior = build_prior(grid, year, proxies, regions, totals, settings.prior)
    plane = ("lat", "lon")
    result = prior.assign(
        lights=(plane, proxies.lights, {"units": "nW cm-2 sr-1"}),
        people=(plane, proxies.people, {"units": "persons"}),
        temperature=(("time", *plane), temperature, {"units": "K"}),
        shares=(("region", *plane), shares, {"units": "1"}),
        other_nox=(
            ("time", *plane),
            other_nox(grid, prior["co2"].values, proxies, settings.inversion, year),
            {"units": "kg s-1", "long_name": "NOx that is no Chinese CO2 source's: soils, foreign land, ships"},
        ),
    )
    write_cube(store, out, result)
    return {"outputs": [out], "totals_from": prior.attrs["totals_from"]}


def _monthly_temperature(store: Store, grid: Grid, year: int) -> NDArray[np.float64]:
    """Mean 2 m temperature of each month in K; a rough normal for months the weather cube lacks."""
    normal = climatological_temperature(grid)
    weather = open_input(store, "era5")["t2m"]
    weather = weather.isel(time=np.flatnonzero(weather["time"].dt.year.values == year))
    if weather.sizes["time"] == 0:
        return normal
    monthly = weather.resample(time="MS").mean()
    known = regrid(monthly, grid, "bilinear", store=store).compute()
    for k, t in enumerate(monthly["time"].dt.month.values):
        field = known.isel(time=k).transpose("lat", "lon").values
        normal[t - 1] = np.where(np.isfinite(field), field, normal[t - 1])
    return normal


def observe(store: Store, settings: Settings, grid: Grid, year: int, month: int, out: str) -> Result:
    """The usable NO2 columns of a month with their source-receptor matrix, and counts of XCO2."""
    days = _columns_by_day(store, settings, grid, year, month)
    weather = _month_wind(store, grid, year, month, settings.transport.ages[-1])
    shares = open_regions(store).fractions(grid).sum(axis=0)
    observations, counts = observe_month(grid, days, weather, _near(shares > 0), settings.transport)
    save_arrays(
        store,
        out,
        {
            "data": observations.matrix.data,
            "indices": observations.matrix.indices,
            "indptr": observations.matrix.indptr,
            "shape": np.array(observations.matrix.shape),
            "cell": observations.cell,
            "column": observations.column,
            "sigma": observations.sigma,
            "day": observations.day,
            "n_xco2": _count_xco2(store, grid, year, month),
        },
    )
    return {"outputs": [out], "counts": counts}


def _near(inside: NDArray[np.bool_]) -> NDArray[np.bool_]:
    return np.asarray(binary_dilation(inside, iterations=_NEAR))


def _columns_by_day(
    store: Store, settings: Settings, grid: Grid, year: int, month: int
) -> dict[np.datetime64, DayColumns]:
    """NO2 of every day of a month, all instruments merged; a day of no cube is left out."""
    first = month_start(year, month)
    chosen = []
    for cube in open_family(store, "no2").values():
        part = cube.sel(time=slice(first, np.datetime64(first, "M") + 1 - np.timedelta64(1, "s")))
        if part.sizes["time"]:
            fields = {str(n): regrid(a, grid, "conservative", store=store) for n, a in part.data_vars.items()}
            chosen.append(xr.Dataset(fields).transpose("time", "lat", "lon").compute())
    days: dict[np.datetime64, DayColumns] = {}
    for day in sorted({np.datetime64(t, "D") for part in chosen for t in part["time"].values}):
        of_day = [p.isel(time=np.flatnonzero(p["time"].values.astype("M8[D]") == day)) for p in chosen]
        single = [p.isel(time=k) for p in of_day for k in range(p.sizes["time"])]
        days[day] = merge_instruments(single, settings.inversion.error_floor)
    return days


def _month_wind(store: Store, grid: Grid, year: int, month: int, ages: float) -> xr.Dataset:
    """Wind of the layer of fresh emissions around a month, lazily on the grid."""
    first = month_start(year, month)
    start = first - np.timedelta64(int(ages) + 24, "h")
    end = np.datetime64(first, "M") + 1 + np.timedelta64(12, "h")
    weather = open_input(store, "era5").sel(time=slice(start, end))
    wind = column_wind(weather)
    return xr.Dataset({name: regrid(wind[name], grid, "bilinear", store=store) for name in ("u", "v")})


def _count_xco2(store: Store, grid: Grid, year: int, month: int) -> NDArray[np.float64]:
    """Days of a month with an XCO2 value in each cell, all instruments together, (n_lat, n_lon)."""
    first = month_start(year, month)
    count = np.zeros(grid.shape)
    for cube in open_family(store, "xco2").values():
        part = cube["xco2"].sel(time=slice(first, np.datetime64(first, "M") + 1 - np.timedelta64(1, "s")))
        if part.sizes["time"]:
            seen = regrid(part, grid, "conservative", store=store)
            count += np.isfinite(seen).sum("time").values
    return count


def invert(
    store: Store,
    settings: Settings,
    grid: Grid,
    year: int,
    month: int,
    paths: dict[str, str],
    members: int,
    out: str,
) -> Result:
    """Solve one month; `paths` name the prepared year, the observations and perhaps the learned field."""
    prepared = open_cube(store, paths["prepared"], chunks=None)
    regions = open_regions(store)
    co2 = prepared["co2"].isel(time=month - 1).values.reshape(prepared.sizes["source"], -1)
    if "learned" in paths:
        co2 = co2 * _learned_ratio(store, paths["learned"], year, month, grid, settings.grid)
    n_region = len(regions.codes)
    groups = regions.group_names
    land = Land(
        prepared["shares"].values.reshape(n_region, -1),
        np.array([groups.index(g) for g in regions.groups]),
        len(groups),
    )
    state = build_state(
        grid,
        co2,
        prepared["other_nox"].isel(time=month - 1).values.ravel(),
        prepared["log_covariance"].values,
        land,
        month_seconds(year, month),
        settings.inversion,
        settings.prior,
    )
    arrays = load_arrays(store, paths["observed"])
    matrix = sparse.csr_matrix((arrays["data"], arrays["indices"], arrays["indptr"]), shape=tuple(arrays["shape"]))
    observations = Observations(matrix, *(arrays[n] for n in ("cell", "column", "sigma", "day")))
    options = replace(settings.inversion, members=members)
    key = (settings.seed, f"{year}-{month:02d}")
    blocks = aggregation(grid, settings.transport)
    solved = solve_month(grid, state, observations, blocks, settings.transport, options, key)
    inner = settings.grid
    prior = sector_sums(co2.reshape(-1, *grid.shape))
    solved = solved.assign(prior=(("sector", "lat", "lon"), prior), n_xco2=(("lat", "lon"), arrays["n_xco2"]))
    lat, lon = grid.window(inner)
    write_cube(store, out, solved.isel(lat=lat, lon=lon))
    diagnostics = {k: v for k, v in solved.attrs.items() if k != "lifetime"}
    lifetimes = dict(zip(groups, solved.attrs["lifetime"], strict=True))
    return {"outputs": [out], "diagnostics": {**diagnostics, "lifetime": lifetimes}}


def sector_sums(co2: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sum source classes to sectors, (source, lat, lon) -> (sector, lat, lon)."""
    result = np.zeros((len(SECTORS), *co2.shape[1:]))
    np.add.at(result, list(CLASS_SECTOR), co2)
    return result


def _learned_ratio(store: Store, path: str, year: int, month: int, grid: Grid, inner: Grid) -> NDArray[np.float64]:
    """Learned over first prior of each source class and cell, 1 where nothing was learned, (source, n_cell)."""
    learned = open_cube(store, path, chunks=None).sel(time=month_start(year, month))
    ratio = np.ones((len(SECTORS), *grid.shape))
    lat, lon = grid.window(inner)
    ratio[:, lat, lon] = learned["ratio"].transpose("sector", "lat", "lon").values
    return ratio[list(CLASS_SECTOR)].reshape(len(CLASS_SECTOR), -1)
