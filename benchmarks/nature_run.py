"""Skill against a known truth: regional worlds of several seeds, built and scored.

    python benchmarks/nature_run.py --seeds 201-206 --months 1,7 --domain 111,31,119,39

The transport, chemistry, winds and proxies of the world are not those of the inversion (`pipeline/world`). Tuning used
seed 101; use other seeds to test. Prints one line a seed, then the mean and the root mean square.
"""

from __future__ import annotations

import argparse
import tempfile
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import yaml
from distributed import Client, LocalCluster

from pipeline.build import build
from pipeline.core.grid import domain_grid
from pipeline.settings import load
from pipeline.store.location import Store
from pipeline.validate.truth import score_truth
from pipeline.world.make import make_world
from pipeline.world.physics import Physics

COLUMNS = {
    "r2_monthly": "R2",
    "prior_r2_monthly": "prior",
    "r2_annual": "R2 yr",
    "prior_r2_annual": "prior",
    "relative_mae_over_prior": "MAE/prior",
    "national_bias": "bias",
    "prior_bias": "prior",
    "national_z": "z",
    "coverage_90_cells": "cells",
    "coverage_90_provinces_monthly": "provinces",
}


def score_seed(
    seed: int, months: str, domain: str, changes: dict[str, Any], off: Sequence[str], client: Client
) -> dict:
    """Make a world, build it, score it."""
    with tempfile.TemporaryDirectory() as folder:
        store = Store(folder)
        flags = {"year": 2022, "months": months, "domain": domain, "store": folder, "fine": False, "report": False}
        settings = load({**flags, **changes}, environ={})
        physics = Physics().switched(off=tuple(off))
        make_world(store, [2022], seed=seed, domain=domain_grid(domain), months=settings.months, physics=physics)
        built = build(settings, store, client, progress=False)
        return score_truth(store, built.version)[2022]


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


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--seeds", default="201-204", help="a range")
    p.add_argument("--months", default="1,7")
    p.add_argument("--domain", default="111,31,119,39")
    p.add_argument("--set", dest="changes", action="append", default=[], help="a setting, for example learn=false")
    p.add_argument("--off", action="append", default=[], help="a piece of the world's physics to switch off")
    a = p.parse_args()
    first, _, last = a.seeds.partition("-")
    print("seed  " + "  ".join(f"{c:>9s}" for c in COLUMNS.values()))
    rows = []
    warnings.simplefilter("ignore")
    with (
        LocalCluster(n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        for seed in range(int(first), int(last or first) + 1):
            scores = score_seed(seed, a.months, a.domain, parse_changes(a.changes), a.off, client)
            rows.append([scores[c] for c in COLUMNS])
            print(f"{seed:4d}  " + "  ".join(f"{v:9.3f}" for v in rows[-1]), flush=True)
    table = np.array(rows)
    print("mean  " + "  ".join(f"{v:9.3f}" for v in table.mean(axis=0)))
    print("rms   " + "  ".join(f"{v:9.3f}" for v in np.sqrt((table**2).mean(axis=0))))


if __name__ == "__main__":
    main()
