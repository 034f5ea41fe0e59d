"""Skill against a known truth: regional worlds of several seeds, built and scored.

    python benchmarks/nature_run.py --seeds 201-206 --months 1,7 --domain 111,31,119,39

The transport, chemistry, winds and proxies of the world are not those of the inversion (`pipeline/world`). Tuning used
seed 101; use other seeds to test. Prints one line a seed, then means and root mean squares over the seeds (of the bias
of the year, of its months and of z, the measures of the level), then how many plants that no table lists were found.
"""

from __future__ import annotations

import argparse
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import yaml
from distributed import Client, LocalCluster

from pipeline.build import build
from pipeline.core.grid import domain_grid
from pipeline.settings import Settings, load
from pipeline.store.location import Store
from pipeline.validate.truth import PLANT_SIZES, score_truth, score_unlisted
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
    folder: str, seed: int, settings: Mapping[str, Any], physics: Physics, client: Client
) -> tuple[Store, Settings, str]:
    """A world in a folder, and the version built from it; `settings` hold at least `months` and `domain`."""
    store = Store(folder)
    loaded = load({"year": YEAR, "store": folder, "fine": False, "report": False, **settings}, environ={})
    make_world(store, [YEAR], seed=seed, domain=domain_grid(loaded.domain), months=loaded.months, physics=physics)
    return store, loaded, build(loaded, store, client, progress=False).version


def score_seed(seed: int, settings: Mapping[str, Any], physics: Physics, client: Client) -> dict[str, float]:
    """Make a world, build it, score it."""
    with tempfile.TemporaryDirectory() as folder:
        store, _, version = make_and_build(folder, seed, settings, physics, client)
        return score_truth(store, version)[YEAR] | score_unlisted(store, version)[YEAR]


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
        name = f"{size / 1e6:g}mt"
        there, found = (sum(row[f"{what}_{name}"] for row in rows) for what in ("plants", "found"))
        lines.append(f"unlisted plants of {size / 1e6:g} Mt a year or more found: {found:.0f} of {there:.0f}")
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
    a = arguments(__doc__).parse_args()
    settings = {"months": a.months, "domain": a.domain, **parse_changes(a.changes)}
    physics = Physics().switched(off=tuple(a.off), on=tuple(a.on))
    print("seed  " + "".join(f"{c:>11s}" for c in COLUMNS.values()))
    rows = []
    with one_process() as client:
        for seed in parse_seeds(a.seeds):
            rows.append(score_seed(seed, settings, physics, client))
            print(line(str(seed), [rows[-1][c] for c in COLUMNS]), flush=True)
    print("\n".join(summary(rows)))


if __name__ == "__main__":
    main()
