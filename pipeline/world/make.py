"""Make a world: the flow from ground to cubes."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipeline import __version__
from pipeline.core.chunks import tiles
from pipeline.core.errors import UsageError
from pipeline.core.grid import G025, Grid
from pipeline.core.regions import Regions
from pipeline.core.schema import POINT_SOURCE_COLUMNS
from pipeline.store.location import Store
from pipeline.world import beliefs
from pipeline.world.emissions import nox_ratios, plant_shares, plant_tonnes, zone_scale
from pipeline.world.geography import regions_within
from pipeline.world.ground import Ground, MadeUp
from pipeline.world.layout import lay_out
from pipeline.world.months import MonthTask, make_month, sources_path
from pipeline.world.output import finish
from pipeline.world.physics import Physics
from pipeline.world.plan import MapUnits, Plan
from pipeline.world.plants import listed
from pipeline.world.real import Real
from pipeline.world.sources import domain_totals, join, year_sources
from pipeline.world.tiles import SumTask, TileTask, make_tile, sum_tile


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


def make_on(
    store: Store,
    years: Sequence[int],
    seed: int = 0,
    physics: Physics | None = None,
    map_units: MapUnits = map,
    *,
    months: Sequence[int] | None = None,
) -> None:
    """Add satellites and weather to real proxies of a store; the hidden truth is those proxies at MEIC's totals.

    Reads nightlights, population, point sources, regions and `inputs/inventory_meic_table.parquet`; writes satellite
    and wind cubes, believed totals and `truth/`. Everything written says that it is synthetic and descends from MEIC.

    Raises
    ------
    InputError : a proxy or the table is missing, or lacks a year.
    """
    _make(_plan(store, years, seed, months, physics, G025, real=True), on_proxies, map_units)


def on_proxies(plan: Plan) -> Ground:
    """The ground of a plan on the real proxies of its store."""
    return Real(plan.store, plan.physics, plan.seed)


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
    beliefs.check_store(plan)
    ground = ground_of(plan)
    if not plan.real:
        _write_geography(plan, ground)
    totals = {year: ground.daily(year).sum(axis=2) for year in plan.years}
    sums = map_units(sum_tile, [SumTask(plan, tile, ground_of) for tile in tiles(G025)])
    scale = zone_scale(np.sum(list(sums), axis=0), ground.point_share[1])
    cubes = lay_out(plan)
    work = [TileTask(plan, tile, ground_of, scale, totals, cubes) for tile in tiles(plan.domain)]
    spread = join(plan, ground, scale, totals, list(map_units(make_tile, work)))
    ratios = nox_ratios(ground.regions, plan.physics, plan.seed)
    in_domain = {}
    for year in plan.years:
        sources = year_sources(plan, ground, spread[year], totals[year], ratios, year)
        in_domain[year] = domain_totals(plan, sources, len(ground.regions.codes))
        plan.store.write_bytes(sources.to_bytes(), sources_path(year))
    done = list(map_units(make_month, [MonthTask(plan, y, m, cubes) for y in plan.years for m in plan.months]))
    # The weather comes last: its years are those that a store is taken to have.
    for name in sorted(cubes, key=lambda name: name == "era5"):
        if name == "era5":
            _write_records(plan, ground, ratios, totals, in_domain, done)
        finish(plan.store, cubes[name])
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
        tonnes = plant_tonnes(ground.plants, share, totals[year])
        months = [d for d in done if d["year"] == year]
        records[year] = beliefs.year_record(plan, ground, tonnes, in_domain[year], months)
    plan.store.write_json(beliefs.parameters(plan, ground, ratios, records), beliefs.PARAMETERS)
