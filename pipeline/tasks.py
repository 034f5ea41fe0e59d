"""The units of work of a build: each opens what it needs, calls one stage's kernels and writes one output.

They run on workers, so every argument is small and pickles; data pass through the store.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

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
from pipeline.invert.level import Evidence, Level, solve_level
from pipeline.invert.model import Observations
from pipeline.invert.month import Month, look_month, solve_month
from pipeline.invert.observe import as_soundings, merge_columns, observe_month, observe_tracks
from pipeline.invert.prior import CLASS_SECTOR, Proxies, build_prior, climatological_temperature, other_nox
from pipeline.invert.reduce import reduced
from pipeline.invert.state import Found, Land, build_state, total_root
from pipeline.invert.tracks import Soundings, passive
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
from pipeline.transport.chemistry import xco2_mass
from pipeline.transport.footprint import aggregation
from pipeline.transport.winds import column_wind

Result = dict[str, Any]
S = TypeVar("S", Observations, Soundings)
FIRST_LOOK: dict[str, Any] = {"members": 10}
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
        inside=("total", _inside(prior["co2"].values, shares, grid, solved), {"units": "1"}),
        other_nox=(
            ("time", *plane),
            other_nox(grid, prior["co2"].values, proxies, settings.inversion, year),
            {"units": "kg s-1", "long_name": "NOx that is no Chinese CO2 source's: soils, foreign land, ships"},
        ),
    )
    lat, lon = grid.window(solved)
    write_cube(store, out, result.isel(lat=lat, lon=lon))
    return {"outputs": [out], "totals_from": prior.attrs["totals_from"]}


def _inside(co2: NDArray[np.float64], shares: NDArray[np.float64], whole: Grid, solved: Grid) -> NDArray[np.float64]:
    """Share of the year's prior of each region x sector that lies on the solved grid, 1 where there is none."""
    by_sector = sector_sums(co2.sum(axis=0))
    land = np.divide(shares, shares.sum(axis=0), out=np.zeros_like(shares), where=shares.sum(axis=0) > 0)
    window = whole.window(solved)
    everywhere = np.einsum("pyx,syx->ps", land, by_sector)
    here = np.einsum("pyx,syx->ps", land[(..., *window)], by_sector[(..., *window)])
    return np.divide(here, everywhere, out=np.ones_like(here), where=everywhere > 0).ravel()


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
    """The usable NO2 columns and XCO2 of a month, each with its source-receptor matrix."""
    options, transport = settings.inversion, settings.transport
    wanted = near(open_regions(store).fractions(grid).sum(axis=0) > 0)
    looks = _looks(store, grid, "no2", year, month)
    days = {
        day: merge_columns([look for of, _, look in looks if of == day], options.error_floor)
        for day in sorted({of for of, _, _ in looks})
    }
    weather = month_wind(store, grid, year, month, transport.ages[-1])
    observations, counts = observe_month(grid, days, weather, wanted, transport)
    tracks = _looks(store, grid, "xco2", year, month) if options.xco2 else []
    soundings = observe_tracks(
        grid,
        {(day, name): as_soundings(look, options.xco2_error_floor) for day, name, look in tracks},
        month_wind(store, grid, year, month, passive(transport).ages[-1]),
        _per_ppm(store, grid, year, month) if tracks else np.ones(grid.shape),
        wanted,
        transport,
    )
    counts |= {"xco2_used": int(soundings.cell.size)}
    save_arrays(store, out, {**_flat(observations, "no2"), **_flat(soundings, "xco2")})
    return {"outputs": [out], "counts": counts}


def _flat(seen: Observations | Soundings, name: str) -> dict[str, NDArray]:
    matrix = seen.matrix
    parts = {"data": matrix.data, "indices": matrix.indices, "indptr": matrix.indptr, "shape": np.array(matrix.shape)}
    parts |= {f.name: getattr(seen, f.name) for f in fields(seen) if f.name != "matrix"}
    return {f"{name}.{k}": v for k, v in parts.items()}


def _unflat(arrays: Mapping[str, NDArray], name: str, kind: type[S]) -> S:
    parts = {k.removeprefix(f"{name}."): v for k, v in arrays.items() if k.startswith(f"{name}.")}
    matrix = sparse.csr_matrix(
        (parts["data"], parts["indices"], parts["indptr"]), shape=tuple(int(n) for n in parts["shape"])
    )
    return kind(matrix, **{f.name: parts[f.name] for f in fields(kind) if f.name != "matrix"})  # type: ignore[arg-type]


def near(inside: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Cells in or around China whose columns are used, (n_lat, n_lon)."""
    return np.asarray(binary_dilation(inside, iterations=_NEAR))


def _looks(store: Store, grid: Grid, family: str, year: int, month: int) -> list[tuple[np.datetime64, str, xr.Dataset]]:
    """What each instrument saw on each day of a month, on the grid: day, name and fields; a step of the cube each."""
    first = month_start(year, month)
    found = []
    for name, cube in open_family(store, family).items():
        part = cube.sel(time=slice(first, month_end(year, month) - np.timedelta64(1, "s")))
        if part.sizes["time"]:
            seen = {str(n): a for n, a in part.data_vars.items() if n not in ("obs_time", "n_soundings")}
            gridded = {n: regrid(a, grid, "conservative", store=store) for n, a in seen.items()}
            fields_ = xr.Dataset(gridded).transpose("time", "lat", "lon").compute()
            days = fields_["time"].values.astype("M8[D]")
            found += [(day, name, fields_.isel(time=k)) for k, day in enumerate(days)]
    return found


def _per_ppm(store: Store, grid: Grid, year: int, month: int) -> NDArray[np.float64]:
    """CO2 that changes XCO2 by 1 ppm, from the month's mean surface pressure and water vapour, kg m-2."""
    weather = open_input(store, "era5").sel(
        time=slice(month_start(year, month), month_end(year, month) - np.timedelta64(1, "s"))
    )
    means = {n: weather[n].mean("time") for n in ("sp", "tcwv") if n in weather}
    fields_ = {n: regrid(a, grid, "bilinear", store=store).transpose("lat", "lon").values for n, a in means.items()}
    filled = {n: np.where(np.isfinite(f), f, np.nanmean(f)) for n, f in fields_.items()}
    return xco2_mass(filled["sp"], filled.get("tcwv", 0.0))


def month_wind(store: Store, grid: Grid, year: int, month: int, ages: float) -> xr.Dataset:
    """Wind of the layer of fresh emissions around a month, lazily on the grid."""
    first = month_start(year, month)
    start = first - np.timedelta64(int(ages) + 24, "h")
    end = month_end(year, month) + np.timedelta64(12, "h")
    weather = open_input(store, "era5").sel(time=slice(start, end))
    wind = column_wind(weather)
    return xr.Dataset({name: regrid(wind[name], grid, "bilinear", store=store) for name in ("u", "v")})


def invert(
    store: Store, settings: Settings, grid: Grid, year: int, month: int, paths: dict[str, str], out: str
) -> Result:
    """Solve one month; `paths` name the prepared year, the observations, the level and perhaps the learned field."""
    problem = open_month(store, settings, grid, year, month, paths)
    solved, diagnostics = _on_domain(problem, solve_month(problem.month, _level(store, paths["level"], problem)))
    proxies = open_cube(store, paths["prepared"], chunks=None)["co2"].isel(time=month - 1).sum("source").values
    solved = solved.assign(proxy_prior=(("lat", "lon"), proxies[grid.window(settings.grid)], {"units": "t"}))
    write_cube(store, out, solved)
    return {"outputs": [out], "diagnostics": diagnostics}


@dataclass(frozen=True)
class Problem:
    """A month to solve, and what of it is written beside the solution."""

    month: Month
    groups: tuple[str, ...]
    inner: Grid


def open_month(store: Store, settings: Settings, grid: Grid, year: int, month: int, paths: dict[str, str]) -> Problem:
    """State a month from what is there of it: `prepared` and `observed`, with `evidence` and perhaps `learned`."""
    prepared = open_cube(store, paths["prepared"], chunks=None)
    regions = open_regions(store)
    groups = regions.group_names
    co2 = prepared["co2"].isel(time=month - 1).values.reshape(prepared.sizes["source"], -1)
    found = None
    if "evidence" in paths:
        ratio, spread = _learned(store, paths.get("learned"), year, month, grid, settings.grid)
        looked = load_arrays(store, paths["evidence"])
        co2, found = co2 * ratio, Found(spread, looked["left"], looked["grip"])
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
        found,
    )
    arrays = load_arrays(store, paths["observed"])
    problem = Month(
        grid,
        state,
        _unflat(arrays, "no2", Observations),
        aggregation(grid, settings.transport),
        prepared["inside"].values,
        land.region_group,
        _unflat(arrays, "xco2", Soundings),
        settings.transport,
        settings.inversion,
        (settings.seed, f"{year}-{month:02d}"),
        month_seconds(year, month),
    )
    if settings.inversion.leaves:
        basis = reduced(grid, state, problem.observations, problem.blocks, settings.inversion.leaves)
        problem = replace(problem, reduced=basis)
    return Problem(problem, groups, settings.grid)


def _on_domain(problem: Problem, solved: xr.Dataset) -> tuple[xr.Dataset, dict[str, Any]]:
    """The posterior of a month on the domain with what belongs beside it, and its diagnostics."""
    lifetimes = dict(zip(problem.groups, solved.attrs["lifetime"], strict=True))
    diagnostics = {"month": problem.month.key[1], **solved.attrs, "lifetime": lifetimes}
    if "consistency" in solved.attrs:
        diagnostics["consistency"] = {
            group: {name: values[k] for name, values in solved.attrs["consistency"].items()}
            for k, group in enumerate([*problem.groups, "all"])
        }
    lat, lon = problem.month.grid.window(problem.inner)
    return solved.isel(lat=lat, lon=lon), diagnostics


def solve_levels(store: Store, settings: Settings, months: dict[str, dict[str, str]], out: str) -> Result:
    """Solve the level of all months of the run together; `months` holds each month's `evidence` and `prepared`."""
    levels = {}
    for name, (level, _) in levels_of(store, settings, months).items():
        for block in level.optimum:
            levels[f"{name}.{block}"] = np.column_stack([level.optimum[block], level.draws[block]])
    save_arrays(store, out, levels)
    return {"outputs": [out]}


def levels_of(
    store: Store, settings: Settings, months: Mapping[str, Mapping[str, str]]
) -> dict[str, tuple[Level, NDArray[np.float64]]]:
    """By month its level, and the root of its year's totals that the level is in."""
    loaded = [load_arrays(store, paths["evidence"]) for paths in months.values()]
    evidence = [Evidence(**{f.name: arrays[f.name] for f in fields(Evidence)}) for arrays in loaded]
    roots = {
        path: total_root(open_cube(store, path, chunks=None)["log_covariance"].values)
        for path in {paths["prepared"] for paths in months.values()}
    }
    of_month = [roots[paths["prepared"]] for paths in months.values()]
    solved = solve_level(evidence, of_month, list(months), settings.inversion, settings.prior, settings.seed)
    return dict(zip(months, zip(solved, of_month, strict=True), strict=True))


def _level(store: Store, path: str, problem: Problem) -> Level:
    start = f"{problem.month.key[1]}."
    arrays = {k.removeprefix(start): v for k, v in load_arrays(store, path).items() if k.startswith(start)}
    return Level({k: v[:, 0] for k, v in arrays.items()}, {k: v[:, 1:] for k, v in arrays.items()})


def sector_sums(co2: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sum source classes to sectors, (source, lat, lon) -> (sector, lat, lon)."""
    result = np.zeros((len(SECTORS), *co2.shape[1:]))
    np.add.at(result, list(CLASS_SECTOR), co2)
    return result


def _learned(
    store: Store, path: str | None, year: int, month: int, grid: Grid, inner: Grid
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Learned over first prior of each source class and cell, (source, n_cell), and the spread of cells, (n_cell,).

    Both 1 where nothing was learned.
    """
    ratio, spread = np.ones((len(SECTORS), *grid.shape)), np.ones(grid.shape)
    if path is not None:
        learned = open_cube(store, path, chunks=None).sel(time=month_start(year, month))
        lat, lon = grid.window(inner)
        ratio[:, lat, lon] = learned["ratio"].transpose("sector", "lat", "lon").values
        spread[lat, lon] = learned["spread"].transpose("lat", "lon").values
    return ratio[list(CLASS_SECTOR)].reshape(len(CLASS_SECTOR), -1), spread.ravel()


def first_look(
    store: Store, settings: Settings, grid: Grid, year: int, month: int, paths: dict[str, str], out: str
) -> Result:
    """Solve one month from the proxy prior and keep what the learning needs of it."""
    quick = settings.model_copy(update={"inversion": replace(settings.inversion, **FIRST_LOOK)})
    problem = open_month(store, quick, grid, year, month, paths)
    looked, evidence, known = look_month(problem.month)
    solved, diagnostics = _on_domain(problem, looked)
    summary = summarise(solved, settings.seed, year, month).expand_dims(time=[month_start(year, month)])
    write_cube(store, out, summary.assign_coords(settings.grid.coords()))
    beside = out.removesuffix(".zarr") + "-evidence.npz"
    save_arrays(store, beside, {**vars(evidence), **known})
    return {"outputs": [out, beside], "diagnostics": diagnostics}


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
    days = int(arrays["no2.day"].max()) + 1 if arrays["no2.day"].size else 1
    field = np.full((days, grid.n_lat * grid.n_lon), np.nan, np.float32)
    field[arrays["no2.day"], arrays["no2.cell"]] = arrays["no2.column"]
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
