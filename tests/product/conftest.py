"""A small country of two provinces with a coast, a lake of unlit land, plants and towns."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import shapely
import xarray as xr

from pipeline.core.chunks import tiles
from pipeline.core.grid import Grid
from pipeline.core.regions import Regions
from pipeline.core.schema import CONSISTENCY, SECTORS
from pipeline.product.uncertainty import areas


@pytest.fixture(scope="session")
def country():
    grid = Grid.from_bounds(110, 30, 113, 32, 4)  # 8 x 12 coarse cells
    west = shapely.box(110.3, 30.1, 111.6, 31.9)
    # A slanted coast through cells, and a sliver that holds no cell centre.
    east = shapely.union(
        shapely.Polygon([(111.6, 30.1), (112.62, 30.1), (112.3, 31.9), (111.6, 31.9)]),
        shapely.box(112.9004, 31.26, 112.9006, 31.30),
    )
    regions = Regions(("110000", "710000"), ("West", "East"), ("north", "south"), (west, east))
    fractions = regions.fractions(grid)
    rng = np.random.default_rng(3)
    fine = grid.refine()
    radiance = np.where(rng.random(fine.shape) < 0.1, rng.gamma(1.0, 20.0, fine.shape), 0.0).astype(np.float32)
    radiance[100:150, 75:125] = 0.0  # dark land: coarse rows 4, 5 and columns 3, 4
    population = rng.gamma(0.5, 100.0, fine.shape).astype(np.float32)
    population[100:150, 75:125] = 0.0
    points = pd.DataFrame(
        {
            "lat": [30.605, 31.505],
            "lon": [111.105, 112.005],
            "name": ["a", "b"],
            "sector": ["power", "industry"],
            "kind": ["coal", "cement"],
            "capacity": [1000.0, 3.0],
            "capacity_unit": ["MW", "Mt/a"],
            "co2_tonnes_per_year": [np.nan, 9e5],
            "start_year": [2000, np.nan],
            "retire_year": [np.nan, np.nan],
            "source": ["test", "test"],
        }
    )
    return SimpleNamespace(
        grid=grid,
        fine=fine,
        tile=next(tiles(grid)),
        regions=regions,
        fractions=fractions,
        china=fractions.sum(axis=0),
        areas=areas(regions, fractions),
        proxies={"radiance": radiance, "population": population},
        points=points,
    )


@pytest.fixture(scope="session")
def month(country):
    rng = np.random.default_rng(5)
    shape = country.grid.shape
    level = rng.gamma(0.4, 1e5, (len(SECTORS), *shape)) * (country.china > 0)
    level[0][rng.random(shape) < 0.3] = 0.0
    draw = np.exp(0.6 * rng.standard_normal((50, len(SECTORS), *shape)) - 0.18)
    plane = ("lat", "lon")
    return xr.Dataset(
        {
            "co2": (("member", "sector", *plane), level * draw),
            "prior": (("sector", *plane), level),
            "prior_sigma": (plane, 0.7 * level.sum(axis=0)),
            "averaging_kernel": (plane, rng.random(shape)),
            "variance_reduction": (plane, rng.random(shape)),
            "n_no2": (plane, rng.integers(0, 3, shape).astype(float)),
            "n_xco2": (plane, np.zeros(shape)),
            **{name: (plane, rng.normal(1, 0.2, shape)) for name in CONSISTENCY},
        },
        coords={"sector": list(SECTORS), "lat": country.grid.lat, "lon": country.grid.lon},
    )
