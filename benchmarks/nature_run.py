"""Skill against a known truth: regional worlds of several seeds, built and scored.

    python -m benchmarks.nature_run --seeds 201-220 --months 1-12 --domain 111,31,119,39
    python -m benchmarks.nature_run --seeds 221-230 --months 1-4 --year 2020 --event 2        # a lockdown February

The transport, chemistry, winds and proxies of the world are not those of the inversion (`pipeline/world`). Tuning used
seed 101; use other seeds to test. Prints one line a seed, then means and root mean squares over the seeds (of the bias
of the year, of its months and of z, the measures of the level), then how many plants that no table lists were found.
With `--event`, how far that month lies below the mean of the others: in truth, by the proxies and in the product, and
whether the truth is inside the product's 90 %.
"""

from __future__ import annotations

import argparse
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import yaml
from distributed import Client, LocalCluster
from numpy.typing import NDArray

from pipeline import flow, tasks
from pipeline.build import build
from pipeline.core.grid import domain_grid
from pipeline.core.metrics import interval, total_scores
from pipeline.core.schema import SECTORS
from pipeline.settings import Settings, load
from pipeline.store.location import Store
from pipeline.validate.truth import (
    PLANT_SIZES,
    region_sums,
    score_truth,
    score_unlisted,
    scored_regions,
    size_name,
    true_months,
)
from pipeline.validate.version import NATION, Version
from pipeline.world.make import make_world
from pipeline.world.physics import Physics

YEAR = 2022
COLUMNS = {
    "r2_monthly": "R2",
    "prior_r2_monthly": "prior",
    "r2_annual": "R2 yr",
    "prior_r2_annual": "prior",
    "relative_mae_over_prior": "MAE/prior",
    "national_bias": "bias",
    "prior_bias": "prior",
    "national_bias_monthly": "bias mon",
    "national_z": "z",
    "coverage_90_cells": "cells",
    "coverage_90_provinces_monthly": "provinces",
}


def make_and_build(
    folder: str, seed: int, settings: Mapping[str, Any], physics: Physics, client: Client, year: int = YEAR
) -> tuple[Store, Settings, str]:
    """A world in a folder, and the version built from it; `settings` hold at least `months` and `domain`."""
    store = Store(folder)
    loaded = load({"year": year, "store": folder, "fine": False, "report": False, **settings}, environ={})
    make_world(store, [year], seed=seed, domain=domain_grid(loaded.domain), months=loaded.months, physics=physics)
    return store, loaded, build(loaded, store, client, progress=False).version


def score_seed(
    seed: int, settings: Mapping[str, Any], physics: Physics, client: Client, year: int = YEAR, event: int | None = None
) -> dict[str, float]:
    """Make a world, build it, score it."""
    with tempfile.TemporaryDirectory() as folder:
        store, loaded, version = make_and_build(folder, seed, settings, physics, client, year)
        product = Version(store, version)
        scores = score_product(product, year) | score_unlisted(store, version)[year]
        scores |= score_level(product, loaded, year)
        if event is not None:
            scores |= score_event(product, year, list(loaded.months).index(event))
        return scores


def score_product(product: Version, year: int) -> dict[str, float]:
    """The measures of a product as validation has them, and its share of cells and months below zero."""
    cells = product.cells["co2_emission"].isel(time=product.months(year)).to_numpy()[:, product.land]
    return {**score_truth(product.store, product.name)[year], "negative": float((cells < 0).mean())}


def score_level(product: Version, settings: Settings, year: int) -> dict[str, float]:
    """The nation's bias, z and relative sigma of the year and RMS bias of months, with XCO2 and without it.

    The level is solved again from the evidence of the run's first looks, XCO2 left out, and each member's totals by
    province and sector are moved by as much as it moves. For whole provinces that is the product without XCO2, exactly;
    where the domain cuts one, nearly.
    """
    nation = scored_regions(product).index(NATION)
    truth = region_sums(product, np.where(product.land, true_months(product, year), 0.0))[:, [nation]]
    scores: dict[str, float] = {}
    for name, members in (
        ("", product.members(NATION, year)),
        ("no_xco2_", members_without_xco2(product, settings, year)),
    ):
        got = total_scores(members[..., None], truth, nation=0)
        sigma = members.sum(axis=1).std(ddof=1) / truth.sum()
        scores |= {f"{name}{k}": got[k] for k in ("national_bias", "national_bias_monthly", "national_z")}
        scores[f"{name}national_sigma"] = float(sigma)
    return scores


def members_without_xco2(product: Version, settings: Settings, year: int) -> NDArray[np.float64]:
    """The nation's members had XCO2 been left out of the level, (member, month), t."""
    looked, prepared = (flow.results_of(product.store, product.name, stage) for stage in ("first look", "prepare"))
    evidence, years = flow.outputs(looked, "-evidence.npz"), flow.outputs(prepared)
    months = {m: {"evidence": e, "prepared": years[m[:4]]} for m, e in evidence.items() if m.startswith(str(year))}
    blind = settings.model_copy(update={"inversion": replace(settings.inversion, xco2=False)})
    used, left_out = (
        np.stack([level.log_co2(root, s.prior) for level, root in tasks.levels_of(product.store, s, months).values()])
        for s in (settings, blind)
    )
    moved = np.exp(left_out - used).reshape(len(months), len(product.regions.codes), len(SECTORS), -1)
    total = np.zeros_like(product.members(NATION, year))
    for p, code in enumerate(product.regions.codes):
        if product.regions.in_cn()[p]:
            for s, sector in enumerate(SECTORS):
                total += product.members(code, year, sector) * moved[:, p, s].T
    return total


def score_event(product: Version, year: int, place: int) -> dict[str, float]:
    """How far the total of one month, the `place`-th of the run, lies below the mean of the others, as ln."""
    nation = scored_regions(product).index(NATION)
    proxies = np.nan_to_num(product.cells["co2_proxy_prior"].isel(time=product.months(year)).to_numpy())
    truth = np.where(product.land, true_months(product, year), 0.0)
    members = product.members(NATION, year)
    low, high = interval(members)
    totals = {"product": members.mean(axis=0)}
    totals |= {k: region_sums(product, field)[:, nation] for k, field in (("truth", truth), ("proxies", proxies))}
    fell = {f"fall_{k}": float(np.log(t[place] / np.delete(t, place).mean())) for k, t in totals.items()}
    return fell | {"event_inside": float(low[place] <= totals["truth"][place] <= high[place])}


def parse_changes(texts: Sequence[str]) -> dict[str, Any]:
    """``inversion.members=20`` as nested settings."""
    changes: dict[str, Any] = {}
    for text in texts:
        path, value = text.split("=", 1)
        *heads, last = path.split(".")
        place = changes
        for head in heads:
            place = place.setdefault(head, {})
        place[last] = yaml.safe_load(value)
    return changes


def parse_seeds(text: str) -> list[int]:
    """``201-204`` or ``201``."""
    first, _, last = text.partition("-")
    return list(range(int(first), int(last or first) + 1))


def line(name: str, values: Sequence[float]) -> str:
    """A row of the table."""
    return f"{name:<6s}" + "".join(f"{v:11.3f}" for v in values)


def summary(rows: Sequence[Mapping[str, float]]) -> list[str]:
    """Lines over all seeds: mean, root mean square, unlisted plants by size and false alarms."""
    table = np.array([[row[c] for c in COLUMNS] for row in rows])
    lines = [line("mean", table.mean(axis=0).tolist()), line("rms", np.sqrt((table**2).mean(axis=0)).tolist())]
    for size in PLANT_SIZES:
        there, found = (sum(row[f"{what}_{size_name(size)}"] for row in rows) for what in ("plants", "found"))
        lines.append(f"unlisted plants of {size / 1e6:g} Mt a year or more found: {found:.0f} of {there:.0f}")
    if "event_inside" in rows[0]:
        fell = {k: np.mean([row[f"fall_{k}"] for row in rows]) for k in ("truth", "proxies", "product")}
        inside = np.mean([row["event_inside"] for row in rows])
        falls = ", ".join(f"{k} {v:+.3f}" for k, v in fell.items())
        lines.append(f"month of the event, ln of it over the mean of the others: {falls}; inside 90 %: {inside:.0%}")
    blocks, alarms = (sum(row[what] for row in rows) for what in ("blocks", "false_alarms"))
    return [*lines, f"blocks without one that are flagged: {alarms / max(blocks, 1):.1%} of {blocks:.0f}"]


@contextmanager
def one_process() -> Iterator[Client]:
    """A Dask client whose one worker is this process."""
    warnings.simplefilter("ignore")
    with (
        LocalCluster(n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        yield client


def arguments(description: str | None) -> argparse.ArgumentParser:
    """What every command that makes worlds takes."""
    p = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--seeds", default="201-204", help="a range")
    p.add_argument("--months", default="1,7")
    p.add_argument("--domain", default="111,31,119,39")
    p.add_argument("--set", dest="changes", action="append", default=[], help="a setting, for example learn=false")
    p.add_argument("--off", action="append", default=[], help="a piece of the world's physics to switch off")
    p.add_argument("--on", action="append", default=[], help="a piece of the world's physics to switch on")
    return p


def main() -> None:
    p = arguments(__doc__)
    p.add_argument("--year", type=int, default=YEAR)
    p.add_argument("--event", type=int, metavar="M", help="a month to look at by itself")
    a = p.parse_args()
    settings = {"months": a.months, "domain": a.domain, **parse_changes(a.changes)}
    physics = Physics().switched(off=tuple(a.off), on=tuple(a.on))
    print("seed  " + "".join(f"{c:>11s}" for c in COLUMNS.values()))
    rows = []
    with one_process() as client:
        for seed in parse_seeds(a.seeds):
            rows.append(score_seed(seed, settings, physics, client, a.year, a.event))
            print(line(str(seed), [rows[-1][c] for c in COLUMNS]), flush=True)
    print("\n".join(summary(rows)))


if __name__ == "__main__":
    main()
