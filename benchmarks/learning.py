"""Skill of the learning, of the 1 km weights and of the uncertainty in worlds whose truth is known.

    python -m benchmarks.learning --seeds 1,2,3 --out docs/learning

makes a regional world for each seed, hides the satellites over one 2-degree block in six, builds the product and
compares it with the truth. Prints the tables of docs/learning.md and writes its figure. `--calibrate` prints by how
much the members would have to be spread, by size of the emission: run it on seeds that are not those of the test.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from pipeline.core.grid import Grid, block_repeat, block_sum, domain_grid
from pipeline.core.metrics import coverage, log_r2, r2
from pipeline.core.points import annual_tonnes, grid_points
from pipeline.core.regions import Regions
from pipeline.core.schema import SECTORS
from pipeline.core.seeds import generator
from pipeline.learn.blocks import block_index
from pipeline.product.uncertainty import inflate, interval
from pipeline.store.cubes import open_cube, write_cube
from pipeline.store.location import Store
from pipeline.world.make import make_world

YEAR = 2022
HIDDEN = 1 / 6
SIZES = (0.0, 1e3, 1e4, 3e4, 1e5, 3e5, 1e6, np.inf)
"""t a month; classes of the calibration."""
FACTORS = np.arange(0.6, 3.001, 0.05)
BINS = 17
"""Of the rank histogram: 50 members leave 51 places, three to a bin."""


@dataclass
class Case:
    """One world with its product, on the coarse cells that lie wholly in China.

    Months of the product are `time`; fields are (time, lat, lon) in tonnes unless said.
    """

    seed: int
    grid: Grid
    regions: Regions
    whole: NDArray[np.bool_]
    hidden: NDArray[np.bool_]
    truth: NDArray[np.float64]
    proxy_prior: NDArray[np.float64]
    coarse: xr.Dataset
    samples: NDArray[np.float32]
    provinces: xr.Dataset
    store: Store
    product: str


def make_case(root: Path, seed: int, domain: str, months: Sequence[int]) -> Store:
    """A world of a seed with some blocks hidden from its satellites, and the product built in it."""
    store = Store(str(root / f"{domain.replace(',', '_')}-{seed}"))
    chosen = ",".join(map(str, months))
    if not store.exists("work/hidden.json"):
        make_world(store, [YEAR], seed=seed, domain=domain_grid(domain), months=months)
        for name in store.names("inputs"):
            if name.startswith(("no2", "xco2")):
                cube = open_cube(store, f"inputs/{name}", chunks=None).load()
                keep = ~hidden_blocks(cube["lat"].values, cube["lon"].values, seed)
                masked = cube.map(lambda a, keep=keep: a.where(xr.DataArray(keep, dims=("lat", "lon"))))
                write_cube(store, f"inputs/{name}", masked.assign_attrs(cube.attrs), {"time": 1})
        store.write_json({"share": HIDDEN}, "work/hidden.json")
    command = [sys.executable, "-W", "ignore", "-m", "pipeline.build", "--year", str(YEAR), "--months", chosen]
    subprocess.run([*command, "--domain", domain, "--store", store.url, "--workers", "1"], check=True)
    return store


def hidden_blocks(lat: NDArray[np.float64], lon: NDArray[np.float64], seed: int) -> NDArray[np.bool_]:
    """Cells in the 2-degree blocks that the satellites of a seed do not see, (lat, lon)."""
    number = np.floor(lat / 2).astype(int)[:, None] * 1000 + np.floor(lon / 2).astype(int)
    drawn = {int(b): generator("hidden", seed, int(b)).random() < HIDDEN for b in np.unique(number)}
    return np.vectorize(drawn.__getitem__)(number)


def open_case(store: Store, seed: int, domain: str) -> Case:
    """Read a world and its newest product."""
    grid = domain_grid(domain)
    product = "products/" + sorted(n for n in store.names("products") if n.startswith("2"))[-1]
    coarse = open_cube(store, f"{product}/emissions_025.zarr", chunks=None).load()
    time = coarse["time"].values
    truth = open_cube(store, "truth/emissions_025.zarr", chunks=None)["co2_emission"].sel(time=time)
    (prepared,) = [n for n in store.names("work", "prepare") if n.endswith(".zarr")][-1:]
    prior = open_cube(store, f"work/prepare/{prepared}", chunks=None)["co2"].sum("source")
    prior = prior.sel(lat=coarse["lat"], lon=coarse["lon"], method="nearest").sel(time=time)
    regions = Regions.from_geojson(store.read_bytes("inputs/regions.geojson"), "regions")
    return Case(
        seed=seed,
        grid=grid,
        regions=regions,
        whole=coarse["china_fraction"].values > 0.999,
        hidden=hidden_blocks(grid.lat, grid.lon, seed),
        truth=truth.transpose("time", "sector", "lat", "lon").values.astype(float),
        proxy_prior=prior.values,
        coarse=coarse,
        samples=open_cube(store, f"{product}/samples_025.zarr", chunks=None)["co2_emission"].values,
        provinces=open_cube(store, f"{product}/regions.zarr", chunks=None).load(),
        store=store,
        product=product,
    )


def held_out(case: Case) -> dict[str, float]:
    """R2 over cells whose block no satellite saw, and over the others: proxy prior and product."""
    truth, mean = case.truth.sum(axis=1), case.coarse["co2_emission"].values
    row = {"seed": float(case.seed)}
    for name, cells in (("hidden", case.whole & case.hidden), ("seen", case.whole & ~case.hidden)):
        t, p, x = (a[:, cells] for a in (truth, case.proxy_prior, mean))
        row[f"cells {name}"] = float(cells.sum())
        for label, field in (("prior", p), ("product", x)):
            row[f"R2 {name} {label}"] = r2(field, t)
            row[f"log R2 {name} {label}"] = log_r2(field, t)
    return row


def fine_truth(case: Case) -> NDArray[np.float64]:
    """Truth of the first month at 1 km, tonnes: each sector's year shared out as in the year's truth."""
    year = open_cube(case.store, "truth/emissions_001.zarr", chunks=None)["co2_emission"].isel(time=0)
    field = np.nan_to_num(year.transpose("sector", "lat", "lon").values.astype(float))
    total = block_sum(field)
    share = np.divide(case.truth[0], total, out=np.zeros_like(total), where=total > 0)
    return (field * block_repeat(share)).sum(axis=0)


def misplaced(case: Case) -> dict[str, float]:
    """Share of the mass in the wrong 1 km cell of its coarse cell, sum |w - w_true| E / (2 sum E)."""
    truth = fine_truth(case)
    fine = open_cube(case.store, f"{case.product}/emissions_001.zarr", chunks=None)["co2_emission"].isel(time=0)
    product = fine.values.astype(float)
    land = np.isfinite(product)
    lights = _proxy(case, "nightlights", "radiance") * land
    people = _proxy(case, "population", "population") * land
    points = pd.read_parquet(f"{case.store.path('inputs')}/point_sources.parquet")
    tonnes = annual_tonnes(points, YEAR)
    plants = sum(grid_points(points, tonnes, case.grid.refine(), s) for s in SECTORS) * land
    mixtures = [_misplaced(case, plants + c * lights, land, truth) for c in 10.0 ** np.arange(-1, 5, 0.25)]
    return {
        "seed": float(case.seed),
        "uniform": _misplaced(case, land.astype(float), land, truth),
        "population": _misplaced(case, people, land, truth),
        "lights": _misplaced(case, lights, land, truth),
        "best plants + lights": min(mixtures),
        "product": _misplaced(case, np.nan_to_num(product), land, truth),
    }


def _proxy(case: Case, cube: str, name: str) -> NDArray[np.float64]:
    fine = case.grid.refine()
    field = open_cube(case.store, f"inputs/{cube}.zarr", chunks=None)[name].isel(time=0)
    near = field.sel(lat=fine.lat, lon=fine.lon, method="nearest", tolerance=0.006)
    return np.nan_to_num(near.values.astype(float))


def _misplaced(case: Case, weight: NDArray, land: NDArray, truth: NDArray) -> float:
    weight = np.where(block_repeat(block_sum(weight) > 0), weight, land)
    share = weight * block_repeat(1 / np.maximum(block_sum(weight), 1e-30))
    inside = block_repeat(case.whole)
    gap = np.abs(share * block_repeat(block_sum(truth)) - truth)
    return float(gap[inside].sum() / (2 * truth[inside].sum()))


def covered(case: Case) -> list[dict[str, float | str]]:
    """Coverage of the 90 % interval by training group, over coarse cells, 1 km cells and provinces."""
    truth = case.truth.sum(axis=1)
    low, high = (case.coarse[f"co2_emission_{q}"].values for q in ("p05", "p95"))
    fine = open_cube(case.store, f"{case.product}/emissions_001.zarr", chunks=None).isel(time=0).load()
    true_fine = fine_truth(case)
    fractions = case.regions.fractions(case.grid)
    group = np.array(case.regions.groups)
    rows: list[dict[str, float | str]] = []
    for name in ("all", *case.regions.group_names):
        share = fractions.sum(axis=0) if name == "all" else fractions[group == name].sum(axis=0)
        cells = case.whole & (share > 0.5)
        if cells.sum() < 50:
            continue
        f = block_repeat(cells) & np.isfinite(fine["co2_emission"].values)
        at_1km = (true_fine[f], fine["co2_emission_p05"].values[f], fine["co2_emission_p95"].values[f])
        rows.append(
            {
                "seed": float(case.seed),
                "region": name,
                "cells": coverage(truth[:, cells], low[:, cells], high[:, cells]),
                "hidden": coverage(*(a[:, cells & case.hidden] for a in (truth, low, high))),
                "1 km": coverage(*at_1km),
                "provinces": _provinces(case, fractions) if name == "all" else float("nan"),
            }
        )
    return rows


def _provinces(case: Case, fractions: NDArray[np.float64]) -> float:
    inside = fractions.sum(axis=0)
    share = np.divide(fractions, inside, out=np.zeros_like(fractions), where=inside > 0)
    truth = np.einsum("rij,tij->tr", share, np.nan_to_num(case.truth.sum(axis=1)))
    n = len(case.regions.codes)
    low, high = (case.provinces[f"co2_emission_{q}"].values[:, :n, -1] for q in ("p05", "p95"))
    some = truth.sum(axis=0) > 1e5
    return coverage(truth[:, some], low[:, some], high[:, some])


def ranks(case: Case) -> NDArray[np.float64]:
    """Share of truths in each part of the members' distribution: flat where the members are calibrated."""
    truth, members = case.truth.sum(axis=1)[:, case.whole], case.samples[:, :, case.whole]
    place = (np.sum(members < truth, axis=0) + 0.5) / (len(members) + 1)
    counts, _ = np.histogram(place, bins=BINS, range=(0, 1))
    return counts / counts.sum()


def conformal_quantile(scores: NDArray[np.float64], blocks: NDArray[np.int64], level: float = 0.9) -> float:
    """Quantile of the scores with the finite-sample correction of split conformal prediction, n = number of blocks.

    Rows of a block hang together, so n counts blocks and every block has the same weight: the (n + 1) / n level
    quantile of the block-weighted distribution, which for one row a block is the ceil((n + 1) level)-th smallest.

    Returns
    -------
    The quantile; infinite where n is too small for the level.
    """
    _, inverse, counts = np.unique(blocks, return_inverse=True, return_counts=True)
    n = int(counts.size)
    if not n or (n + 1) * level > n:
        return float("inf")
    rank = (n + 1) / n * level
    order = np.argsort(scores, kind="stable")
    weight = (1.0 / counts[inverse])[order] / n
    place = int(np.searchsorted(np.cumsum(weight), rank - 1e-12))
    return float(scores[order][min(place, order.size - 1)])


def calibration(cases: Iterable[Case]) -> list[dict[str, float | str]]:
    """By how much the members' spread would have to be multiplied to cover 90 % of the truths, by size of emission.

    `factor` is the conformal quantile over 2-degree blocks of the smallest factor that covers each cell and month;
    what the product states already is in the members.
    """
    parts: list[tuple[NDArray, ...]] = []
    for case in cases:
        truth = case.truth.sum(axis=1)[:, case.whole]
        label = block_index(case.grid, 2.0)[case.whole] + 10**9 * case.seed
        beside = (np.broadcast_to(a, truth.shape).ravel() for a in (case.hidden[case.whole], label))
        parts.append((case.samples[:, :, case.whole].reshape(len(case.samples), -1), truth.ravel(), *beside))
    members, truth, hidden, block = (np.concatenate(part, axis=-1) for part in zip(*parts, strict=True))
    size, need = members.mean(axis=0), np.full(truth.shape, np.inf)
    for f in FACTORS[::-1]:
        low, high = interval(inflate(members, f))
        need[(low <= truth) & (truth <= high)] = f
    classes = {f"{low:g}-{high:g} t": (size >= low) & (size < high) for low, high in pairwise(SIZES)}
    classes |= {"all": size >= 0, "hidden": hidden, "seen": ~hidden}
    rows: list[dict[str, float | str]] = []
    for name, keep in classes.items():
        if keep.any():
            x, t = members[:, keep], truth[keep]
            low, high = interval(x)
            rows.append(
                {
                    "cells": name,
                    "n": float(keep.sum()),
                    "sigma ln": float(np.median(np.log(np.maximum(x, 1e-6)).std(axis=0, ddof=1))),
                    "covered": coverage(t, low, high),
                    "below p05": float(np.mean(t < low)),
                    "above p95": float(np.mean(t > high)),
                    "factor": conformal_quantile(need[keep], block[keep]),
                }
            )
    return rows


def figure(cases: Sequence[Case], path: Path) -> None:
    """Rank histogram of the truth among the members, all seeds together."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    fig, ax = plt.subplots(figsize=(5, 2.6), layout="constrained")
    ax.bar(
        (np.arange(BINS) + 0.5) / BINS, np.mean([ranks(c) for c in cases], axis=0), width=0.9 / BINS, color="#33658a"
    )
    ax.axhline(1 / BINS, color="k", lw=0.8)
    ax.set(xlabel="place of the truth among the members", ylabel="share of cell-months", xlim=(0, 1))
    path.parent.mkdir(parents=True, exist_ok=True)
    fig.savefig(path, dpi=130)


def table(rows: Sequence[dict], title: str) -> None:
    """Print rows as a Markdown table."""
    print(f"\n{title}\n\n| " + " | ".join(rows[0]) + " |\n|" + "---|" * len(rows[0]))
    for row in rows:
        print("| " + " | ".join(f"{v:.3g}" if isinstance(v, float) else str(v) for v in row.values()) + " |")


def main(argv: list[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", default="1,2,3")
    parser.add_argument("--domain", default="108,27,122,41")
    parser.add_argument("--months", default="1,4,7,10")
    parser.add_argument("--work", type=Path, default=Path("learning-worlds"), help="where worlds and products are made")
    parser.add_argument("--out", type=Path, default=Path("docs/learning"))
    parser.add_argument("--calibrate", action="store_true")
    options = parser.parse_args(argv)
    months = [int(m) for m in options.months.split(",")]
    cases = []
    for seed in (int(s) for s in options.seeds.split(",")):
        store = make_case(options.work, seed, options.domain, months)
        cases.append(open_case(store, seed, options.domain))
    if options.calibrate:
        table(calibration(cases), "Spread that would have covered 90 %")
    table([held_out(c) for c in cases], "Blocks that no satellite saw")
    table([misplaced(c) for c in cases], "Misplaced mass inside 0.25 degree cells")
    table([row for c in cases for row in covered(c)], "Coverage of the 90 % interval")
    figure(cases, options.out / "ranks.png")


if __name__ == "__main__":
    main()
