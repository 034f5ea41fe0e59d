"""Make a world: the flow from ground to cubes."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from pipeline import __version__
from pipeline.core.chunks import tiles
from pipeline.core.errors import UsageError
from pipeline.core.grid import G025, Grid
from pipeline.core.regions import Regions
from pipeline.core.schema import POINT_SOURCE_COLUMNS
from pipeline.store.location import Store
from pipeline.world import beliefs

from pipeline.world.emissions import (
    add_plants,
    nox_ratios,
    plant_shares,
    region_sums,
    spread_maps,
    zone_scale,
)
from pipeline.world.fields import blobs, lines, lognormal, correlated
from pipeline.world.geography import outline, regions_within
from pipeline.world.ground import Ground, MadeUp, fractions, soil_season
from pipeline.world.months import NO2, XCO2, MonthTask, make_month, sources_path
from pipeline.world.nature import Sources, month_days
from pipeline.world.output import (
    Growing,
    begin,
    cube_arrays,
    fine_arrays,
    finish,
    lattice_coords,
    sector_coord,
)
from pipeline.world.physics import (
    FOREIGN_CO2_PER_PERSON,
    FOREIGN_NOX_PER_PERSON,
    SHIP_NOX,
    SOIL_NOX,
    Physics,
)
from pipeline.world.plan import MapUnits, Plan
from pipeline.world.plants import listed
from pipeline.world.settlements import foreign_settlements
from pipeline.world.tiles import TileTask, make_tile, plant_tonnes
from pipeline.world.weather import STEP, VARIABLES

_NORMALISING = 20
"""Cells per degree of the map over which a country's shares are closed."""


def make_world(
    store: Store,
    years: Sequence[int],
    *,
    seed: int = 0,
    domain: Grid | None = None,
    months: Sequence[int] | None = None,
    physics: Physics | None = None,
    map_units: MapUnits = map,
) -> None:
    """Write the demonstration world of some years into a store; years already there stay.

    Parameters
    ----------
    store : where; cubes under `inputs/` and `truth/`.
    years, months : what the satellites and the weather cover; yearly cubes are whole years.
    seed : the same seed, domain and physics give the same bytes for a year whatever the order of calls.
    domain : part of G025 with truth and proxies; satellites and winds reach beyond it.
    physics : switches; all on but the NO2 gain and the national ratios by default.
    map_units : runs independent units of work, like `map`.

    Raises
    ------
    UsageError : no year, or a month outside 1..12.
    InputError : the store holds another world.
    """
    plan = _plan(store, years, seed, months, physics, domain or G025, real=False)
    _make(plan, made_up, map_units)


def made_up(plan: Plan) -> Ground:
    """The made-up ground of a plan."""
    return MadeUp(plan.physics, plan.seed)


def _plan(
    store: Store,
    years: Sequence[int],
    seed: int,
    months: Sequence[int] | None,
    physics: Physics | None,
    domain: Grid,
    real: bool,
) -> Plan:
    chosen = tuple(sorted(set(months or range(1, 13))))
    if not years or not all(1 <= m <= 12 for m in chosen):
        raise UsageError(f"years {list(years)}, months {list(chosen)}", "at least one year, months 1..12")
    return Plan(store, seed, physics or Physics(), tuple(sorted(set(years))), chosen, domain, real)


def _make(plan: Plan, ground_of: Callable[[Plan], Ground], map_units: MapUnits) -> None:
    plan.store.claim(False, __version__)
    beliefs.check_identity(plan.store, plan)
    ground = ground_of(plan)
    if not plan.real:
        _write_geography(plan, ground)
    totals = {year: ground.daily(year).sum(axis=2) for year in plan.years}
    scale = zone_scale(_national_sums(ground), ground.point_share[1])
    cubes = _lay_out(plan)
    work = [TileTask(plan, tile, ground_of, scale, totals, cubes) for tile in tiles(plan.domain)]
    spread = _spread(plan, ground, scale, list(map_units(make_tile, work)))
    ratios = nox_ratios(ground.regions, plan.physics, plan.seed)
    in_domain = {}
    for year in plan.years:
        sources = _sources(plan, ground, spread, totals[year], ratios, year)
        in_domain[year] = _domain_totals(plan, sources, len(ground.regions.codes))
        plan.store.write_bytes(sources.to_bytes(), sources_path(year))
    done = list(map_units(make_month, [MonthTask(plan, y, m, cubes) for y in plan.years for m in plan.months]))
    for cube in cubes.values():
        finish(plan.store, cube)
    _write_records(plan, ground, ratios, totals, in_domain, done)
    plan.store.remove("work/world")


def _write_geography(plan: Plan, ground: Ground) -> None:
    store = plan.store
    store.write_bytes(regions_within(ground.regions, plan.domain).to_geojson().encode(), "inputs/regions.geojson")
    table = listed(ground.plants)
    inside = plan.outer.locate(table["lat"].to_numpy(float), table["lon"].to_numpy(float))[2]
    attrs = {k: str(v) for k, v in plan.attrs("Listed point sources").items()}
    arrow = pa.Table.from_pandas(table.loc[inside, list(POINT_SOURCE_COLUMNS)], preserve_index=False)
    buffer = io.BytesIO()
    pq.write_table(arrow.replace_schema_metadata(attrs), buffer, compression="zstd")
    store.write_bytes(buffer.getvalue(), "inputs/point_sources.parquet")


def _national_sums(ground: Ground) -> NDArray[np.float64]:
    """Sums of the spread maps by region over the whole country, (3, region)."""
    grid = Grid.from_bounds(*G025.bounds, _NORMALISING)
    index = ground.regions.index(grid)
    return region_sums(index, ground.maps(grid, index >= 0).spread, len(ground.regions.codes))


def _spread(plan: Plan, ground: Ground, scale: NDArray, parts: list[NDArray]) -> NDArray[np.float32]:
    """Shares of the regions' totals on the nature run's grid: from the tiles, and around the domain drawn coarsely."""
    grid = plan.nature
    index = ground.regions.index(grid)
    spread = spread_maps(index, ground.maps(grid, index >= 0).spread, scale)
    rows, cols = plan.outer.window(plan.domain)
    for tile, part in zip(tiles(plan.domain), parts, strict=True):
        lat, lon = tile.coarse
        j, i = 2 * (rows.start + lat.start), 2 * (cols.start + lon.start)
        spread[:, j : j + part.shape[1], i : i + part.shape[2]] = part
    return spread


def _sources(
    plan: Plan, ground: Ground, spread: NDArray, totals: NDArray, ratios: NDArray, year: int
) -> Sources:
    grid = plan.nature
    index = ground.regions.index(grid)
    # A fine cell of land may lie in a coarser one whose centre is not: it belongs to the nearest region.
    j, i = distance_transform_edt(index < 0, return_distances=False, return_indices=True)
    nearest = index[j, i]
    annual = np.zeros((4, *grid.shape), np.float32)
    annual[1:] = spread * totals[:, 1:].T.astype(np.float32)[:, nearest]
    share = plant_shares(ground.plants, ground.point_share, len(ground.regions.codes), year)
    add_plants(annual, grid, ground.plants, plant_tonnes(ground, share, totals))
    soil = blobs(grid, *ground.towns.rural.T) * (index >= 0)
    soil = soil * (SOIL_NOX / ground.towns.rural[:, 3].sum())
    soil = soil * lognormal(correlated(grid.lat, grid.lon, 120.0, "soil", plan.seed), 0.5)
    people = blobs(grid, *foreign_settlements().T) * (index < 0)
    ships = _ships(grid) * (index < 0)
    return Sources(
        np.array(plan.outer.bounds),
        np.array(year),
        nearest,
        annual,
        fractions(ground.daily(year)),
        ratios,
        soil.astype(np.float32),
        soil_season(year),
        (FOREIGN_NOX_PER_PERSON * people + ships).astype(np.float32),
        (FOREIGN_CO2_PER_PERSON * people).astype(np.float32),
    )


def _ships(grid: Grid) -> NDArray[np.float32]:
    """NOx from ships by lane, kg per cell and year."""
    ends = np.array(
        [[a[1], a[0], b[1], b[0]] for lane in outline()["ship_lanes"] for a, b in zip(lane, lane[1:], strict=False)]
    )
    length = np.hypot(ends[:, 0] - ends[:, 2], ends[:, 1] - ends[:, 3])
    return lines(grid, ends, SHIP_NOX * length / length.sum())


def _domain_totals(plan: Plan, sources: Sources, count: int) -> NDArray[np.float64]:
    """True CO2 of the year in the domain by region and sector, t."""
    rows, cols = plan.outer.window(plan.domain)
    window = slice(2 * rows.start, 2 * rows.stop), slice(2 * cols.start, 2 * cols.stop)
    return region_sums(sources.index[window], sources.annual[:, *window], count).T


def _lay_out(plan: Plan) -> dict[str, Growing]:
    """Start all cubes with the times to come."""
    days = np.concatenate([month_days(y, m) for y in plan.years for m in plan.months])
    steps = (days.astype("M8[h]")[:, None] + np.arange(0, 24, STEP)).ravel()
    months = np.array([f"{y}-{m:02d}-01" for y in plan.years for m in plan.months], "M8[D]")
    years = np.array([f"{y}-01-01" for y in plan.years], "M8[D]")
    weather, sky = plan.weather, plan.satellites
    lattice = (len(weather.lat), len(weather.lon))
    fine = plan.domain.refine()
    truth = {
        **_with_sector(cube_arrays({"co2_emission": "t"}, plan.domain.shape)),
        **cube_arrays({"nox_emission": "kg"}, plan.domain.shape),
    }
    layout: dict[str, tuple[Any, ...]] = {
        "no2": ("inputs/no2_tropomi.zarr", sky.coords(), days, cube_arrays(NO2, sky.shape), "NO2 columns"),
        "xco2": ("inputs/xco2_oco2.zarr", sky.coords(), days, cube_arrays(XCO2, sky.shape), "XCO2 columns"),
        "era5": (
            "inputs/era5.zarr",
            lattice_coords(weather.lat, weather.lon),
            steps,
            cube_arrays(VARIABLES, lattice, 24 // STEP),
            "Weather as a reanalysis sees it",
        ),
        "truth": ("truth/emissions_025.zarr", {**sector_coord(), **plan.domain.coords()}, months, truth, "Truth"),
        "truth_001": (
            "truth/emissions_001.zarr",
            {**sector_coord(), **fine.coords()},
            years,
            fine_arrays({"co2_emission": "t"}, fine, sectors=True),
            "Truth of the year at 1 km",
        ),
    }
    if not plan.real:
        for name, variable, unit in (
            ("nightlights", "radiance", "nW cm-2 sr-1"),
            ("population", "population", "persons"),
        ):
            path = f"inputs/{name}.zarr"
            layout[name] = (path, fine.coords(), years, fine_arrays({variable: unit}, fine), name.capitalize())
    return {
        name: begin(plan.store, path, coords, times, arrays, plan.attrs(title))
        for name, (path, coords, times, arrays, title) in layout.items()
    }


def _with_sector(arrays: dict[str, Any]) -> dict[str, Any]:
    from dataclasses import replace

    return {
        name: replace(spec, dims=("time", "sector", *spec.dims[1:]), chunks=(spec.chunks[0], 4, *spec.chunks[1:]))
        for name, spec in arrays.items()
    }


def _write_records(
    plan: Plan,
    ground: Ground,
    ratios: NDArray,
    totals: dict[int, NDArray],
    in_domain: dict[int, NDArray],
    done: list[dict[str, Any]],
) -> None:
    regions = Regions.from_geojson(plan.store.read_bytes("inputs/regions.geojson"), "inputs/regions.geojson")
    beliefs.write_beliefs(plan, regions, ground.regions.codes, in_domain)
    records = {}
    for year in plan.years:
        share = plant_shares(ground.plants, ground.point_share, len(ground.regions.codes), year)
        tonnes = plant_tonnes(ground, share, totals[year])
        months = [d for d in done if d["year"] == year]
        records[year] = beliefs.year_record(plan, ground, tonnes, in_domain[year], months)
    plan.store.write_json(beliefs.parameters(plan, ground, ratios, records), beliefs.PARAMETERS)
