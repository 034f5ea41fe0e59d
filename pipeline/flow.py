"""The parts of a build that are no units of work: what goes in, which version it becomes, and how it is published."""

from __future__ import annotations

import datetime as dt
import json
import uuid
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import xarray as xr
from distributed import Client

from pipeline import __version__, tasks
from pipeline.access import input_names, open_family, open_input, open_points, open_prior_totals, open_regions
from pipeline.core.errors import InputError, StoreError
from pipeline.core.grid import Grid
from pipeline.core.schema import SECTORS
from pipeline.guard import origins, refuse_dependent
from pipeline.learn.distribute import domain_of, learn_fields, on_cluster
from pipeline.learn.fit import LearnSettings
from pipeline.product.attributes import ProductInfo
from pipeline.product.layout import create, layouts
from pipeline.product.uncertainty import areas
from pipeline.regrid import engine, regrid
from pipeline.report.page import write_report
from pipeline.settings import Settings
from pipeline.store import publish
from pipeline.store.conditional import create_once
from pipeline.store.cubes import open_cube, write_cube
from pipeline.store.ledger import Ledger
from pipeline.store.location import Store
from pipeline.store.verify import manifest
from pipeline.units import Runner, Unit, code_digest, fingerprint
from pipeline.world.make import make_world

TABLES = ("point_sources", "point_sources.parquet", "regions.geojson", "prior_totals.csv")


@dataclass(frozen=True)
class Inputs:
    """What a run reads: fingerprint of each input, the grid the inversion solves, what is synthetic, ancestry."""

    fingerprints: dict[str, str]
    grid: Grid
    synthetic: bool
    ancestry: tuple[str, ...]


def code() -> str:
    """Digest of the code that computes."""
    return code_digest()


def demonstration_world(store: Store, settings: Settings, client: Client) -> str | None:
    """Make the demonstration world for the years that the store lacks; a line that says so, or `None`.

    Only ever called for the default store: what a user brings is never mixed with what is made up.
    """
    have = set()
    if "era5" in input_names(store):
        cube = open_input(store, "era5")
        if cube.attrs.get("synthetic") != "true":
            return None
        have = {int(y) for y in cube["time"].dt.year.values}
    wanted = [year for year in settings.year if year not in have]
    if not wanted:
        return None
    make_world(store, wanted, seed=settings.seed, map_units=on_cluster(client))
    return f"made a demonstration world (synthetic) for {', '.join(map(str, wanted))} in {store.url}"


def inspect_inputs(store: Store, settings: Settings) -> Inputs:
    """Look at every input before anything is computed.

    Raises
    ------
    InputError : something is missing, not what the contract says, or does not reach the domain or the years, or
        descends from an inventory that the product is to be independent of.
    """
    open_points(store), open_regions(store), open_prior_totals(store)
    cubes = {"era5": open_input(store, "era5", settings.year)}
    families = {f: open_family(store, f, settings.year) for f in ("no2", "xco2")}
    if not families["no2"]:
        raise InputError(
            f"{store.url} has no NO2 cube", "inputs/no2.zarr or inputs/no2_<instrument>.zarr", "ingest one"
        )
    cubes |= families["no2"] | families["xco2"]
    cubes |= {name: open_input(store, name) for name in ("nightlights", "population")}
    tables = [t for t in TABLES if store.exists(f"inputs/{t}")]
    names = [f"{name}.zarr" for name in cubes] + tables
    marks = {name: fingerprint(store, f"inputs/{name}") for name in sorted(names)}
    found = origins(store, cubes, tables)
    refuse_dependent(found, settings.independent_of)
    ancestry = {ancestor for origin in found for ancestor in origin.ancestry}
    synthetic = any(ds.attrs.get("synthetic") == "true" for ds in cubes.values())
    return Inputs(marks, solved_grid(cubes["era5"], settings), synthetic, tuple(sorted(ancestry)))


def solved_grid(weather: xr.Dataset, settings: Settings) -> Grid:
    """The domain with a margin, as far as the weather reaches."""
    lat, lon = weather["lat"].values, weather["lon"].values
    reach = Grid.from_bounds(float(lon[0]), float(lat[0]), float(lon[-1]), float(lat[-1]), per_degree=4)
    inner = settings.grid
    # Half a weather cell beyond the outermost centres still belongs to the cube.
    slack = int(np.ceil(2 * max(np.diff(lat).max(), np.diff(lon).max())))
    if not reach.expand(slack).contains(inner):
        raise InputError(
            f"era5 reaches W={lon[0]:g} S={lat[0]:g} E={lon[-1]:g} N={lat[-1]:g}",
            f"at least the domain {', '.join(f'{b:g}' for b in inner.bounds)}",
            "bring weather of a larger area or shrink --domain",
        )
    return inner.expand(settings.transport.margin).intersect(reach.expand(slack))


def build_weights(store: Store, grid: Grid) -> None:
    """Make the regridding weights that the tasks will look up, so that no task makes them."""
    whole = tasks.whole_grid(open_regions(store), grid)
    for cube, variable, method in (
        ("nightlights", "radiance", "conservative"),
        ("population", "population", "sum"),
        ("era5", "t2m", "bilinear"),
    ):
        regrid(open_input(store, cube)[variable].isel(time=0), whole, method, store=store)
    regrid(open_input(store, "era5")["u10"].isel(time=0), grid, "bilinear", store=store)
    for family in ("no2", "xco2"):
        for ds in open_family(store, family).values():
            name = "no2_column" if family == "no2" else "xco2"
            regrid(ds[name].isel(time=0), grid, "conservative", store=store)


def outputs(results: Mapping[str, dict[str, Any]], ending: str = "") -> dict[str, str]:
    """The path that each unit of a stage wrote; the one with this ending, where there are several."""
    return {name: next(p for p in result["outputs"] if p.endswith(ending)) for name, result in results.items()}


def results_of(store: Store, version: str, stage: str) -> dict[str, dict[str, Any]]:
    """Results of the units of a stage that a version was made from, by name, as the ledger has them."""
    keys = store.read_json(publish.product_path(version), "provenance.json")["units"][stage]
    found = {name: Ledger(store, stage).find(name, key) for name, key in keys.items()}
    return {name: entry["result"] for name, entry in found.items() if entry is not None}


def solve_level(run: Runner, settings: Settings, months: Mapping[str, Mapping[str, str]]) -> str:
    """Solve the level of all months together; the path of what was found."""
    unit = Unit("all", (settings.physics(), months), (settings, months), suffix=".npz")
    return next(iter(outputs(run.run("level", tasks.solve_levels, [unit])).values()))


def version_of(store: Store, key: str, settings: Settings, fresh: bool) -> tuple[str, bool]:
    """The version a run with these inputs and settings becomes, and whether it is published already.

    A run that died is continued under its own version; nothing points to it until it is whole.
    """
    path = f"work/runs/{key}.json"
    record = None if fresh else store.read_json(path)
    if record is not None:
        version = str(record["version"])
        pointed = not settings.whole_year or all(publish.latest(store, y) == version for y in settings.year)
        if record["published"] and pointed and store.exists(publish.product_path(version)):
            return version, True
        # Once it was published, or somebody began to, or died doing so, it is never described again.
        if not record["published"] and not store.exists(_claim(key, version)):
            return version, False
    version = publish.new_version()
    store.write_json({"version": version, "published": False}, path)
    return version, False


def begin(store: Store, key: str, version: str) -> str:
    """Leave a mark that a run is under way, to be removed once it is published; its path.

    Pruning keeps away from what a run may be using (`pipeline.store.prune`).
    """
    path = f"work/runs/{key}-{version}-{uuid.uuid4().hex[:8]}-under-way.json"
    store.write_json({"version": version}, path)
    return path


def claim_publication(store: Store, key: str, version: str) -> bool:
    """Whether this run is the one to describe and publish the version: of several that share it only the first."""
    return create_once(store, _claim(key, version), {"version": version})


def _claim(key: str, version: str) -> str:
    return f"work/runs/{key}-{version}-publishing.json"


def learn(
    run: Runner, settings: Settings, looks: Mapping[str, str], described: Mapping[str, str]
) -> tuple[str, dict[str, Any]]:
    """Learn one model a region over all months; the path of the learned fields, and the models by region."""
    unit = Unit(
        "all", (settings.physics(), sorted(looks.values()), sorted(described.values())), (settings, looks, described)
    )
    (result,) = run.run_here("learn", _learn, [unit], run.client).values()
    fields, models = sorted(result["outputs"], key=lambda path: path.endswith(".json"))
    return fields, run.store.read_json(models)


def _learn(
    store: Store, settings: Settings, looks: Mapping[str, str], described: Mapping[str, str], client: Client, out: str
) -> dict[str, Any]:
    posterior = xr.concat([open_cube(store, p, chunks=None).load() for _, p in sorted(looks.items())], "time")
    years = [open_cube(store, p, chunks=None).load() for _, p in sorted(described.items())]
    static = [str(n) for n, a in years[0].data_vars.items() if "year" in a.dims]
    monthly = [str(n) for n, a in years[0].data_vars.items() if "time" in a.dims]
    features = (
        xr.concat([y[static] for y in years], "year"),
        xr.concat([y[monthly] for y in years], "time"),
    )
    regions = open_regions(store)
    domain = domain_of(settings.grid, regions.fractions(settings.grid), regions.groups)
    learned = learn_fields(
        posterior, features, domain, LearnSettings(seed=settings.seed), on_cluster(client), close_to="prior"
    )
    prior = posterior["prior"].transpose("time", "sector", "lat", "lon").values
    ratio = np.divide(learned.fields["co2_learned"].values, prior, out=np.ones_like(prior), where=prior > 0)
    fields = learned.fields.assign(ratio=(("time", "sector", "lat", "lon"), ratio, {"units": "1"}))
    write_cube(store, out, fields.assign_coords(sector=np.arange(len(SECTORS))))
    models = out.removesuffix(".zarr") + "-models.json"
    store.write_json({m.group: asdict(m) for m in learned.models}, models)
    return {"outputs": [out, models]}


def create_product(store: Store, settings: Settings, version: str, inputs: Inputs) -> bool:
    """Write the templates of all product cubes that are not there; whether any was not, and so has no data yet."""
    regions, grid = open_regions(store), settings.grid
    fractions = regions.fractions(grid)
    months = np.array([tasks.month_start(y, m) for y in settings.year for m in settings.months], "M8[ns]")
    templates = layouts(grid, months, settings.inversion.members, areas(regions, fractions), fractions.sum(axis=0))
    if not settings.fine:
        del templates["emissions_001"]
    info = ProductInfo(
        version=version,
        code_version=__version__,
        settings=json.dumps(settings.science(), sort_keys=True),
        regrid_engine=" ".join(engine()),
        synthetic=inputs.synthetic,
    )
    return create(store, publish.product_path(version), templates, info)


def publish_product(
    store: Store,
    settings: Settings,
    inputs: Inputs,
    version: str,
    key: str,
    account: Mapping[str, Any],
    models: Mapping[str, Any],
) -> None:
    """Provenance, models, report and manifest, then the pointer: only now can anyone see the version.

    Parameters
    ----------
    account : what the run tells of itself: `stages`, `units` (their keys in the ledger), `diagnostics`,
        `predictions`.
    models : of the learning, by region.
    """
    product = publish.product_path(version)
    for group, model in models.items():
        store.write_json(model, f"{product}/models/{group}.json")
    provenance = {
        "version": version,
        "created": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "code_version": __version__,
        "code_digest": code(),
        "settings": settings.shown(),
        "inputs": [{"name": n, "fingerprint": f} for n, f in inputs.fingerprints.items()],
        "granules": _granules(store),
        "ancestry": list(inputs.ancestry),
        "synthetic": inputs.synthetic,
        "regrid_engine": " ".join(engine()),
        **account,
        "scores": {group: model["scores"] for group, model in models.items()},
    }
    store.write_json(provenance, f"{product}/provenance.json")
    if settings.report:
        write_report(store, version, truth=store.exists("truth"))
    sums = manifest(store, version)
    _check_months(sums, settings, store.address(product))
    store.write_json(sums, f"{product}/manifest.json")
    if settings.whole_year:
        publish.point_to(store, version, settings.year)
    else:
        publish.note_partial(
            store, version, {"domain": settings.domain, "year": settings.year, "months": settings.months}
        )
    store.write_json({"version": version, "published": True}, f"work/runs/{key}.json")


def _check_months(objects: Collection[str], settings: Settings, where: str) -> None:
    """Refuse to publish a product that lacks a month, whatever took it: readers would see missing values.

    Raises
    ------
    StoreError : names the months.
    """
    months = [f"{year}-{month:02d}" for year in settings.year for month in settings.months]
    # Totals are never all missing, so that each month has its chunk.
    lost = [m for k, m in enumerate(months) if f"region_samples.zarr/co2_emission/c/0/{k}/0/0" not in objects]
    if lost:
        raise StoreError(
            f"{where} has lost {', '.join(lost)}", "every month that was written", "run again: it makes a new version"
        )


def _granules(store: Store) -> list[dict[str, Any]]:
    """Every granule that ingest saw: used, or set aside and why."""
    return [{"unit": e["unit"], "status": e["status"], **e["result"]} for e in Ledger(store, "ingest").entries()]
