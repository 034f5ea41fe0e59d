"""The units of work of a build: each opens what it needs, calls one stage's kernels and writes one output.

They run on workers, so every argument is small and pickles; data pass through the store.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import shapely
import xarray as xr
from numpy.typing import NDArray
from scipy import sparse
from scipy.ndimage import binary_dilation

from pipeline.access import open_family, open_input, open_points, open_prior_totals, open_regions
from pipeline.core.chunks import Tile
from pipeline.core.grid import Grid
from pipeline.core.points import annual_tonnes, grid_points
from pipeline.core.regions import Regions
from pipeline.core.schema import SECTORS
from pipeline.invert.model import Observations
from pipeline.invert.month import solve_month
from pipeline.invert.observe import DayColumns, merge_instruments, observe_month
from pipeline.invert.prior import CLASS_SECTOR, Proxies, build_prior, climatological_temperature, other_nox
from pipeline.invert.state import Land, build_state
from pipeline.learn import features
from pipeline.learn.table import summarise
from pipeline.product.encode import month_cubes, write_month, write_tile, year_total
from pipeline.product.uncertainty import areas
from pipeline.product.weights import fine_grid, tile_weights
from pipeline.regrid import regrid
from pipeline.settings import Settings
from pipeline.store.arrays import load_arrays, save_arrays
from pipeline.store.cubes import open_cube, write_cube
from pipeline.store.location import Store
from pipeline.transport.footprint import aggregation
from pipeline.transport.winds import column_wind

Result = dict[str, Any]
FIRST_LOOK: dict[str, Any] = {"members": 10, "iterations": 4, "corrections": 0}
"""Settings of the first look: enough for the spread that weights the learning."""
_NEAR = 6
"""Cells around China whose columns still say something about its emissions."""


def month_start(year: int, month: int) -> np.datetime64:
    """00:00 UTC of the first of a month."""
    return np.datetime64(f"{year}-{month:02d}-01")


def month_end(year: int, month: int) -> np.datetime64:
    """00:00 UTC of the first of the next month."""
    return month_start(year + month // 12, month % 12 + 1)


def month_seconds(year: int, month: int) -> float:
    """Length of a month in seconds."""
    return float((month_end(year, month) - month_start(year, month)) / np.timedelta64(1, "s"))


def year_of_proxy(cube: xr.Dataset, name: str, year: int) -> xr.DataArray:
    """A yearly or monthly proxy of a year, as a yearly mean; the nearest year where the cube lacks it."""
    years = cube["time"].dt.year.values
    nearest = years[np.argmin(np.abs(years - year))]
    return cube[name].isel(time=np.flatnonzero(years == nearest)).mean("time", keep_attrs=True)


def whole_grid(regions: Regions, grid: Grid) -> Grid:
    """The grid that holds the solved grid and all regions: totals are of whole provinces, whatever the domain."""
    west, south, east, north = shapely.total_bounds(list(regions.polygons))
    w, s, e, n = grid.bounds
    return Grid.from_bounds(min(west, w), min(south, s), max(east, e), max(north, n), grid.per_degree)


def prepare_year(store: Store, settings: Settings, solved: Grid, year: int, out: str) -> Result:
    """Proxies on the grid and the prior of a year: `lights`, `people`, `temperature`, `co2`, `other_nox`."""
    regions, points = open_regions(store), open_points(store)
    grid = whole_grid(regions, solved)
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
    lat, lon = grid.window(solved)
    write_cube(store, out, result.isel(lat=lat, lon=lon))
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
    weather = month_wind(store, grid, year, month, settings.transport.ages[-1])
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
        part = cube.sel(time=slice(first, month_end(year, month) - np.timedelta64(1, "s")))
        if part.sizes["time"]:
            fields = {str(n): regrid(a, grid, "conservative", store=store) for n, a in part.data_vars.items()}
            chosen.append(xr.Dataset(fields).transpose("time", "lat", "lon").compute())
    days: dict[np.datetime64, DayColumns] = {}
    for day in sorted({np.datetime64(t, "D") for part in chosen for t in part["time"].values}):
        of_day = [p.isel(time=np.flatnonzero(p["time"].values.astype("M8[D]") == day)) for p in chosen]
        single = [p.isel(time=k) for p in of_day for k in range(p.sizes["time"])]
        days[day] = merge_instruments(single, settings.inversion.error_floor)
    return days


def month_wind(store: Store, grid: Grid, year: int, month: int, ages: float) -> xr.Dataset:
    """Wind of the layer of fresh emissions around a month, lazily on the grid."""
    first = month_start(year, month)
    start = first - np.timedelta64(int(ages) + 24, "h")
    end = month_end(year, month) + np.timedelta64(12, "h")
    weather = open_input(store, "era5").sel(time=slice(start, end))
    wind = column_wind(weather)
    return xr.Dataset({name: regrid(wind[name], grid, "bilinear", store=store) for name in ("u", "v")})


def _count_xco2(store: Store, grid: Grid, year: int, month: int) -> NDArray[np.float64]:
    """Days of a month with an XCO2 value in each cell, all instruments together, (n_lat, n_lon)."""
    first = month_start(year, month)
    count = np.zeros(grid.shape)
    for cube in open_family(store, "xco2").values():
        part = cube["xco2"].sel(time=slice(first, month_end(year, month) - np.timedelta64(1, "s")))
        if part.sizes["time"]:
            seen = regrid(part, grid, "conservative", store=store)
            count += np.isfinite(seen.transpose("time", "lat", "lon").values).sum(axis=0)
    return count


def invert(
    store: Store, settings: Settings, grid: Grid, year: int, month: int, paths: dict[str, str], out: str
) -> Result:
    """Solve one month; `paths` name the prepared year, the observations and perhaps the learned field."""
    solved, diagnostics = _solved(store, settings, grid, year, month, paths)
    write_cube(store, out, solved)
    return {"outputs": [out], "diagnostics": diagnostics}


def _solved(
    store: Store, settings: Settings, grid: Grid, year: int, month: int, paths: dict[str, str]
) -> tuple[xr.Dataset, dict[str, Any]]:
    """The posterior of a month on the domain, and its diagnostics."""
    prepared = open_cube(store, paths["prepared"], chunks=None)
    regions = open_regions(store)
    groups = regions.group_names
    co2 = prepared["co2"].isel(time=month - 1).values.reshape(prepared.sizes["source"], -1)
    if "learned" in paths:
        co2 = co2 * _learned_ratio(store, paths["learned"], year, month, grid, settings.grid)
    land = Land(
        prepared["shares"].values.reshape(len(regions.codes), -1),
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
    key = (settings.seed, f"{year}-{month:02d}")
    blocks = aggregation(grid, settings.transport)
    solved = solve_month(grid, state, observations, blocks, settings.transport, settings.inversion, key)
    prior = sector_sums(co2.reshape(-1, *grid.shape))
    plane = ("lat", "lon")
    solved = solved.assign(prior=(("sector", *plane), prior), n_xco2=(plane, arrays["n_xco2"]))
    lifetimes = dict(zip(groups, solved.attrs["lifetime"], strict=True))
    diagnostics = {"month": key[1], **solved.attrs, "lifetime": lifetimes}
    lat, lon = grid.window(settings.grid)
    return solved.isel(lat=lat, lon=lon), diagnostics


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


def first_look(
    store: Store, settings: Settings, grid: Grid, year: int, month: int, paths: dict[str, str], out: str
) -> Result:
    """Solve one month from the proxy prior and keep what the learning needs of it."""
    quick = settings.model_copy(update={"inversion": replace(settings.inversion, **FIRST_LOOK)})
    solved, diagnostics = _solved(store, quick, grid, year, month, paths)
    summary = summarise(solved, settings.seed, year, month).expand_dims(time=[month_start(year, month)])
    write_cube(store, out, summary.assign_coords(settings.grid.coords()))
    return {"outputs": [out], "diagnostics": diagnostics}


def year_features(store: Store, settings: Settings, grid: Grid, year: int, paths: dict[str, Any], out: str) -> Result:
    """Features of a year on the domain: proxies and points, then weather and the other months' NO2 by month."""
    inner = settings.grid
    lat, lon = grid.window(inner)
    prepared = open_cube(store, paths["prepared"], chunks=None).isel(lat=lat, lon=lon)
    points = open_points(store)
    tonnes = annual_tonnes(points, year)
    placed = {s: grid_points(points, tonnes, inner, s) for s in ("power", "industry")}
    yearly = features.year_features(prepared["lights"].values, prepared["people"].values, placed, inner)
    daily = [_daily_no2(store, path, grid, inner, year, int(m)) for m, path in paths["observed"].items()]
    monthly = features.other_months_no2(xr.concat(daily, "time"), inner)
    chosen = prepared["temperature"].isel(time=[int(m) - 1 for m in paths["observed"]])
    length = chosen["time"].dt.days_in_month
    warmth = (chosen - 273.15).astype("float32")
    weather = xr.Dataset(
        {"t2m": warmth, "heating_degree_days": ((18.0 - warmth).clip(min=0) * length).astype("float32")}
    )
    joined = xr.merge([yearly.expand_dims(year=[year]), monthly.drop_encoding(), weather.assign_coords(inner.coords())])
    write_cube(store, out, joined)
    return {"outputs": [out]}


def _daily_no2(store: Store, path: str, grid: Grid, inner: Grid, year: int, month: int) -> xr.DataArray:
    arrays = load_arrays(store, path)
    days = int(arrays["day"].max()) + 1 if arrays["day"].size else 1
    field = np.full((days, grid.n_lat * grid.n_lon), np.nan, np.float32)
    field[arrays["day"], arrays["cell"]] = arrays["column"]
    lat, lon = grid.window(inner)
    time = month_start(year, month) + np.arange(days).astype("m8[D]")
    values = field.reshape(days, *grid.shape)[:, lat, lon]
    return xr.DataArray(values, dims=("time", "lat", "lon"), coords={"time": time.astype("M8[ns]"), **inner.coords()})


def write_month_025(
    store: Store, settings: Settings, product: str, index: int, path: str, learned: bool, _out: str
) -> Result:
    """Write one month's 0.25 degree and regional cubes of the product."""
    regions, grid = open_regions(store), settings.grid
    fractions = regions.fractions(grid)
    month = open_cube(store, path, chunks=None).assign_coords(sector=list(SECTORS))
    cubes = month_cubes(month, areas(regions, fractions), fractions.sum(axis=0), learned=learned)
    write_month(store, product, index, cubes)
    return {"outputs": []}


def write_tile_001(
    store: Store, settings: Settings, product: str, tile: Tile, year: int, months: list[int], _out: str
) -> Result:
    """Write one tile of one year of the 1 km cube."""
    grid = settings.grid
    fine = fine_grid(grid, tile)
    proxies = {
        "radiance": regrid(
            year_of_proxy(open_input(store, "nightlights"), "radiance", year), fine, "conservative", store=store
        ).values,
        "population": regrid(
            year_of_proxy(open_input(store, "population"), "population", year), fine, "sum", store=store
        ).values,
    }
    regions = open_regions(store)
    inside = regions.fractions(grid).sum(axis=0)
    total = year_total(store, product, months)
    weights = tile_weights(tile, grid, proxies, open_points(store), year, total, regions, inside)
    write_tile(store, product, tile, weights, months)
    return {"outputs": []}
