"""The facts under `facts/`: cities, provinces, outline and lanes, and the regions they make."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache, lru_cache
from importlib.resources import files
from typing import Any

import numpy as np
import pandas as pd
import shapely
from numpy.typing import NDArray

from pipeline.core.grid import Grid
from pipeline.core.provinces import PROVINCES
from pipeline.core.regions import Regions
from pipeline.core.schema import SECTORS

_FACTS = files("pipeline.world") / "facts"


@cache
def table(name: str) -> pd.DataFrame:
    """One of the tables of facts: ``cities``, ``foreign_cities``, ``point_sources``, ``provinces``; not to change."""
    with (_FACTS / f"{name}.csv").open() as file:
        return pd.read_csv(file, comment="#")


@lru_cache(maxsize=1)
def outline() -> Mapping[str, Any]:
    """The land's outline, its neighbours' and the ship lanes, degrees."""
    return json.loads((_FACTS / "outline.json").read_text())


def provinces() -> pd.DataFrame:
    """Facts by province in the order of `PROVINCES`: million tonnes a year by sector and three shares."""
    facts = table("provinces").set_index("name")
    return facts.loc[[p.name for p in PROVINCES]]


def annual_totals() -> NDArray[np.float64]:
    """CO2 about 2020 by province and sector, t a year, shape (province, sector)."""
    return provinces()[list(SECTORS)].to_numpy(float) * 1e6


@lru_cache(maxsize=1)
def national_regions() -> Regions:
    """The provinces: a rough outline of the land cut by which province's city is nearest."""
    cities = table("cities")
    land = shapely.union_all([shapely.Polygon(outline()[part]) for part in ("mainland", "hainan", "taiwan")])
    points = shapely.MultiPoint(cities[["lon", "lat"]].to_numpy())
    cells = shapely.voronoi_polygons(points, extend_to=land.envelope.buffer(5), ordered=True).geoms
    pieces = np.array([cell.intersection(land) for cell in cells], dtype=object)
    polygons = [shapely.union_all(list(pieces[(cities["province"] == p.name).to_numpy()])) for p in PROVINCES]
    return Regions(
        tuple(p.code for p in PROVINCES),
        tuple(p.name for p in PROVINCES),
        tuple(p.group for p in PROVINCES),
        tuple(_areal(polygon) for polygon in polygons),
    )


def regions_within(regions: Regions, grid: Grid) -> Regions:
    """The regions as far as they lie in a grid; slivers below a quarter of a coarse cell are left out."""
    box = shapely.box(*grid.bounds)
    cut = [polygon if box.contains(polygon) else _areal(polygon.intersection(box)) for polygon in regions.polygons]
    kept = [k for k, (new, old) in enumerate(zip(cut, regions.polygons, strict=True))
            if new.area > min(0.25 / 16, 0.5 * old.area)]  # fmt: skip
    return Regions(
        tuple(regions.codes[k] for k in kept),
        tuple(regions.names[k] for k in kept),
        tuple(regions.groups[k] for k in kept),
        tuple(cut[k] for k in kept),
    )


def _areal(shape: shapely.Geometry) -> shapely.Geometry:
    # An intersection along an edge leaves lines and points behind.
    parts = [g for g in shapely.get_parts(shape) if g.geom_type == "Polygon"]
    return shapely.union_all(parts)


def nearest_distance(lat: NDArray, lon: NDArray, count: int = 3) -> NDArray[np.float64]:
    """Mean distance of each point to its `count` nearest others, km."""
    x, y = lon * 111.2 * np.cos(np.deg2rad(lat)), lat * 111.2
    distance = np.hypot(x[:, None] - x[None], y[:, None] - y[None])
    return np.sort(distance, axis=1)[:, 1 : count + 1].mean(axis=1)
