"""A national year at 1 km: weights, closure, sigma, writing. `python -m benchmarks.product --months 12 --workers 2`.

Everything but the clock is the product's own code; inputs are made up with the sparsity of the real ones (lights on a
tenth of the land, 3 000 plants).
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from itertools import pairwise

import numpy as np
import pandas as pd
import shapely
import xarray as xr
from dask.distributed import Client

from pipeline.core.chunks import Tile, tiles
from pipeline.core.grid import G025, Grid
from pipeline.core.regions import Regions
from pipeline.core.schema import CONSISTENCY, SECTORS
from pipeline.core.seeds import generator
from pipeline.product.attributes import ProductInfo
from pipeline.product.encode import month_cubes, write_month, write_tile, year_total
from pipeline.product.layout import create, layouts
from pipeline.product.uncertainty import areas
from pipeline.product.weights import tile_weights
from pipeline.store.location import Store


def country(grid: Grid) -> Regions:
    """A country of 30 wedges of an ellipse that covers about half of the grid."""
    west, south, east, north = grid.bounds
    centre = np.array([(west + east) / 2, (south + north) / 2])
    axes = np.array([east - west, north - south]) * 0.42
    angle = np.linspace(0, 2 * np.pi, 31)
    wedges = []
    for a, b in pairwise(angle):
        t = np.linspace(a, b, 400)
        wobble = 1 + 0.02 * np.sin(40 * t)
        rim = centre + axes * np.stack([np.cos(t), np.sin(t)], axis=1) * wobble[:, None]
        wedges.append(shapely.Polygon([centre, *rim]))
    names = [f"P{k:02d}" for k in range(30)]
    return Regions(tuple(names), tuple(names), tuple(f"g{k // 5}" for k in range(30)), tuple(wedges))


def plants(grid: Grid, n: int = 3000) -> pd.DataFrame:
    """Power and industry plants anywhere on the grid."""
    rng = generator("plants")
    west, south, east, north = grid.bounds
    return pd.DataFrame(
        {
            "lat": rng.uniform(south, north, n),
            "lon": rng.uniform(west, east, n),
            "sector": rng.choice(["power", "industry"], n),
            "kind": "coal",
            "capacity": 600.0,
            "capacity_unit": "MW",
            "co2_tonnes_per_year": np.nan,
            "start_year": np.nan,
            "retire_year": np.nan,
        }
    )


def made_month(grid: Grid, k: int, n_member: int = 50) -> xr.Dataset:
    """A month of members, half a million tonnes in a mean cell."""
    rng = generator("month", k)
    plane = ("lat", "lon")
    level = rng.gamma(0.3, 4e5, (len(SECTORS), *grid.shape))
    draws = np.exp(0.5 * rng.standard_normal((n_member, *level.shape), dtype=np.float32) - 0.125)
    names = ("averaging_kernel", "variance_reduction", "n_no2", "n_xco2", *CONSISTENCY)
    fields = {n: (plane, rng.random(grid.shape)) for n in names}
    return xr.Dataset(
        {
            "co2": (("member", "sector", *plane), level * draws),
            "prior": (("sector", *plane), level),
            "prior_sigma": (plane, 0.7 * level.sum(axis=0)),
            **fields,
        }
    )


def write_one_month(store: Store, grid: Grid, k: int) -> float:
    """One month of the 0.25 degree cubes; seconds."""
    regions = country(grid)
    fractions = regions.fractions(grid)
    month = made_month(grid, k)
    start = time.perf_counter()
    write_month(store, "p", k, month_cubes(month, areas(regions, fractions), fractions.sum(axis=0)))
    return time.perf_counter() - start


def write_one_tile(store: Store, grid: Grid, tile: Tile, months: int) -> tuple[float, float, float]:
    """One tile of a year; seconds for weights, for the months, and peak memory of this process in GB."""
    regions = country(grid)
    china = regions.fractions(grid).sum(axis=0)
    rng = generator("proxies", tile.name)
    shape = tuple(s.stop - s.start for s in tile.fine)
    lights = np.where(rng.random(shape) < 0.1, rng.gamma(0.5, 20.0, shape), 0.0).astype(np.float32)
    proxies = {"radiance": lights, "population": rng.gamma(0.3, 300.0, shape).astype(np.float32)}
    start = time.perf_counter()
    emission = year_total(store, "p", range(months))
    weights = tile_weights(tile, grid, proxies, plants(grid), 2022, emission, regions, china)
    middle = time.perf_counter()
    write_tile(store, "p", tile, weights, range(months))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    return middle - start, time.perf_counter() - middle, peak


def run(grid: Grid, months: int, workers: int, folder: str) -> dict[str, float]:
    """Write a product of `months` months on a local cluster and time it."""
    store = Store(folder)
    regions = country(grid)
    fractions = regions.fractions(grid)
    times = np.array([f"2022-{m + 1:02d}-01" for m in range(months)], "datetime64[ns]")
    info = ProductInfo("benchmark", "0", "{}", "none", True)
    create(store, "p", layouts(grid, times, 50, areas(regions, fractions), fractions.sum(axis=0)), info)
    with Client(n_workers=workers, threads_per_worker=1, dashboard_address=None, processes=True) as client:
        start = time.perf_counter()
        coarse = client.gather(client.map(lambda k: write_one_month(store, grid, k), range(months)))
        middle = time.perf_counter()
        fine = client.gather(client.map(lambda t: write_one_tile(store, grid, t, months), list(tiles(grid))))
        end = time.perf_counter()
    weights, shares, peaks = zip(*fine, strict=True)
    return {
        "coarse_wall_s": middle - start,
        "coarse_task_s": float(np.mean(coarse)),
        "fine_wall_s": end - middle,
        "weights_task_s": float(np.mean(weights)),
        "months_task_s": float(np.mean(shares)),
        "peak_task_gb": max(peaks),
        "fine_gb": store.fs.du(store.path("p/emissions_001.zarr")) / 1e9,
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--months", type=int, default=12)
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for name, value in run(G025, arguments.months, arguments.workers, folder).items():
            print(f"{name:16s} {value:10.2f}")
