"""The whole flow: ``python -m pipeline.build --year 2022``.

    granules -> cubes -> regrid -> transport -> inversion <-> learning -> 1 km -> product -> report

Each step of `build` is one stage; what a stage makes is named once and handed to the next. Everything that takes long
is a unit of work: any worker runs it, the ledger keeps it, nobody does it twice.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from distributed import Client

from pipeline import command, flow, preview, tasks
from pipeline.cluster import connect
from pipeline.core.chunks import tiles
from pipeline.settings import Settings
from pipeline.store import publish
from pipeline.store.conditional import require_publishing
from pipeline.store.ledger import digest
from pipeline.store.location import Store
from pipeline.units import Runner, Unit


@dataclass
class Built:
    """What a run made: version, whether there was nothing to do, time by stage, diagnostics by month, predictions."""

    version: str
    nothing_to_do: bool = False
    stages: dict[str, dict[str, Any]] = field(default_factory=dict)
    diagnostics: list[dict[str, Any]] = field(default_factory=list)
    predictions: list[dict[str, Any]] = field(default_factory=list)


def build(settings: Settings, store: Store, client: Client, *, fresh: bool = False, progress: bool = True) -> Built:
    """Make the product of the settings' years and months, and publish it.

    Parameters
    ----------
    settings : what to make.
    store : where inputs are and the product goes; already claimed.
    client : who does the work.
    fresh : do everything again, whatever the ledger has.
    progress : show bars.
    """
    run = Runner(client, store, fresh, progress, preview.unit_memory(settings))
    inputs = flow.inspect_inputs(store, settings)
    key = digest(inputs.fingerprints, settings.science(), flow.code())
    version, published = flow.version_of(store, key, settings, fresh)
    if published:
        return Built(version, nothing_to_do=True)
    mark = flow.begin(store, key, version)

    started, expected = time.perf_counter(), preview.predict(settings, store, inputs.grid, command.workers_of(client))
    grid, physics, marks = inputs.grid, settings.physics(), inputs.fingerprints
    months = [(year, month) for year in settings.year for month in settings.months]
    names = {(y, m): f"{y}-{m:02d}" for y, m in months}

    def monthly(stage: str, function: Any, source: dict[str, Any], suffix: str = ".zarr") -> dict[str, dict[str, Any]]:
        """A stage with one unit a month; `source` holds what each month reads, by month name."""
        depends = physics if source else settings.unsolved()
        units = [
            Unit(n, (marks, depends, source.get(n)), (settings, grid, y, m, *([source[n]] if source else [])), suffix)
            for (y, m), n in names.items()
        ]
        return run.run(stage, function, units)

    def yearly(stage: str, function: Any, source: dict[int, Any]) -> dict[str, dict[str, Any]]:
        """A stage with one unit a year."""
        depends = physics if source else settings.unsolved()
        units = [
            Unit(str(y), (marks, depends, source.get(y)), (settings, grid, y, *([source[y]] if source else [])))
            for y in settings.year
        ]
        return run.run(stage, function, units)

    flow.build_weights(store, grid)
    prepared = flow.outputs(yearly("prepare", tasks.prepare_year, {}))
    observed = flow.outputs(monthly("observe", tasks.observe, {}, suffix=".npz"))
    paths = {n: {"prepared": prepared[str(y)], "observed": observed[n]} for (y, m), n in names.items()}
    looked = monthly("first look", tasks.first_look, paths)
    looks, evidence = flow.outputs(looked, ".zarr"), flow.outputs(looked, "-evidence.npz")
    seen = {n: {**p, "evidence": evidence[n]} for n, p in paths.items()}
    level = flow.solve_level(run, settings, seen)
    models: dict[str, Any] = {}
    if settings.learn:
        observed_of = {y: {str(m): observed[names[y, m]] for m in settings.months} for y in settings.year}
        sources = {y: {"prepared": prepared[str(y)], "observed": observed_of[y]} for y in settings.year}
        described = flow.outputs(yearly("features", tasks.year_features, sources))
        learned, models = flow.learn(run, settings, looks, described)
        paths = {n: {**p, "learned": learned} for n, p in paths.items()}
    given = {n: {**p, "evidence": evidence[n], "level": level} for n, p in paths.items()}
    solved = monthly("invert", tasks.invert, given)
    posterior = flow.outputs(solved)

    # What the ledger says of a version counts for the cubes it was said of, not for cubes made anew in their place.
    empty = flow.create_product(store, settings, version, inputs)
    _write(run, settings, version, [posterior[n] for n in names.values()], empty)

    diagnostics = [solved[n]["diagnostics"] for n in names.values()]
    predictions = expected.judged(run.stages, diagnostics, command.peak_memory(client), time.perf_counter() - started)
    if not flow.claim_publication(store, key, version):
        # Another run with the same inputs shared this version and publishes it.
        store.remove(mark)
        return build(settings, store, client, progress=progress)
    if settings.report:
        run.keep_performance(f"{publish.product_path(version)}/report/performance.html")
    account: dict[str, Any] = {
        "stages": run.stages,
        "units": run.used,
        "diagnostics": diagnostics,
        "predictions": predictions,
        "workers": expected.workers,
    }
    flow.publish_product(store, settings, inputs, version, key, account, models)
    store.remove(mark)
    return Built(version, stages=run.stages, diagnostics=diagnostics, predictions=predictions)


def _write(run: Runner, settings: Settings, version: str, posterior: Sequence[str], empty: bool) -> None:
    """Fill the product's cubes: a unit a month from its `posterior`, then a unit a tile and year."""
    product = publish.product_path(version)
    months = [(year, month) for year in settings.year for month in settings.months]
    coarse = [
        Unit(f"{y}-{m:02d}", (version, path), (settings, product, k, path, settings.learn))
        for k, ((y, m), path) in enumerate(zip(months, posterior, strict=True))
    ]
    run.run("product 0.25", tasks.write_month_025, coarse, empty)
    if settings.fine:
        places = {y: [k for k, (year, _) in enumerate(months) if year == y] for y in settings.year}
        fine = [
            Unit(f"{y}-{tile.name}", (version, y), (settings, product, tile, y, places[y]))
            for y in settings.year
            for tile in tiles(settings.grid)
        ]
        run.run("product 1 km", tasks.write_tile_001, fine, empty)


def main(argv: list[str] | None = None) -> int:
    """The command line: exit code 0, or 2 usage, 3 input, 4 store, 5 partial."""
    return command.run(argv, _main)


def _main(request: command.Request) -> command.Summary:
    settings, started = request.settings, time.perf_counter()
    store = Store.at(settings.store, settings.storage)
    store.claim(request.default_store, command.VERSION)
    if request.preview:
        return command.Summary(*preview.preview(settings, store))
    require_publishing(store)
    where = (settings.scheduler, settings.workers, settings.memory_limit)
    with connect(*where, unit_memory=preview.unit_memory(settings), options=settings.cluster) as client:
        command.watch(client, request)
        world = flow.demonstration_world(store, settings, client) if request.default_store else None
        built = build(settings, store, client, fresh=request.fresh, progress=request.progress)
        told = {
            "nothing_to_do": built.nothing_to_do,
            "stages": built.stages,
            "diagnostics": built.diagnostics,
            "predictions": built.predictions,
            "memory": command.peak_memory(client),
        }
        return command.summary(settings, store, built.version, told, world, time.perf_counter() - started)


if __name__ == "__main__":
    raise SystemExit(main())
