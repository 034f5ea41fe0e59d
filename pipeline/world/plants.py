"""Point sources: the listed, the unlisted, and what each truly emits."""

from __future__ import annotations

import numpy as np
import pandas as pd
import shapely
from numpy.typing import NDArray

from pipeline.core.points import TONNES_PER_CAPACITY, annual_tonnes
from pipeline.core.regions import Regions
from pipeline.core.schema import POINT_SOURCE_COLUMNS
from pipeline.core.seeds import generator
from pipeline.world.geography import annual_totals, provinces, table
from pipeline.world.physics import PLANT_SIGMA, UNLISTED, Physics
from pipeline.world.settlements import scatter

_SIZES = {"coal": (650.0, 0.6, "MW"), "steel": (4.0, 0.6, "Mt/a"), "cement": (2.2, 0.5, "Mt/a")}
"""Median, spread of the logarithm and unit of a made-up plant's capacity."""
SOURCE = "demonstration world (approximate facts and made-up plants)"


def plants(regions: Regions, physics: Physics, seed: int) -> pd.DataFrame:
    """All plants of China: the contract's columns, `region` (index, -1 outside), `listed` and `deviation`.

    `deviation` is a plant's true emission over capacity x factor before provinces are scaled to their totals.
    """
    known = table("point_sources").assign(name=lambda t: t["name"] + " " + t["kind"])
    rng = generator("plants", seed)
    known["region"] = region_of(regions, known["lat"].to_numpy(), known["lon"].to_numpy())
    known = known[known["region"] >= 0]
    everything = pd.concat([known, _made_up(known, regions, rng)], ignore_index=True)
    built = rng.integers(1988, 2019, len(everything)).astype(float)
    late = rng.random(len(everything)) < 0.02
    closing = rng.random(len(everything)) < 0.02
    everything = everything.assign(
        co2_tonnes_per_year=np.nan,
        start_year=np.where(late, rng.integers(2020, 2024, late.size), built),
        retire_year=np.where(closing & ~late, rng.integers(2020, 2024, late.size), np.nan),
        source=SOURCE,
    )
    return hide(everything, physics, seed)


def hide(everything: pd.DataFrame, physics: Physics, seed: int) -> pd.DataFrame:
    """Draw which plants no table lists, and how far each is from capacity x factor."""
    rng = generator("hidden", seed)
    count = len(everything)
    unlisted = (rng.random(count) < UNLISTED) & physics.unlisted
    return everything.assign(listed=~unlisted, deviation=rng.lognormal(-(PLANT_SIGMA**2) / 2, PLANT_SIGMA, count))


def listed(everything: pd.DataFrame) -> pd.DataFrame:
    """The table the pipeline gets to see."""
    return everything.loc[everything["listed"], list(POINT_SOURCE_COLUMNS)].reset_index(drop=True)


def running(everything: pd.DataFrame, year: int) -> NDArray[np.float64]:
    """Relative true emission of each plant in a year, t before scaling; 0 when not running."""
    return annual_tonnes(everything, year) * everything["deviation"].to_numpy()


def region_of(regions: Regions, lat: NDArray, lon: NDArray) -> NDArray[np.int64]:
    """Index of the region that holds each point, -1 where none."""
    result = np.full(lat.size, -1)
    point, polygon = shapely.STRtree(regions.polygons).query(shapely.points(lon, lat), predicate="intersects")[:, ::-1]
    result[point] = polygon
    return result


def _made_up(known: pd.DataFrame, regions: Regions, rng: np.random.Generator) -> pd.DataFrame:
    """Plants near cities that bring each province's capacity to its facts."""
    facts, totals, cities = provinces(), annual_totals(), table("cities")
    rows: list[tuple[object, ...]] = []
    for k, name in enumerate(regions.names):
        near = {c: cities.loc[cities["province"] == name, c].to_numpy() for c in ("name", "lat", "lon", "population")}
        wanted = {
            "coal": totals[k, 0],
            "steel": totals[k, 1] * facts["steel"].iloc[k],
            "cement": totals[k, 1] * facts["cement"].iloc[k],
        }
        here = known[known["region"] == k]
        for kind, tonnes in wanted.items():
            rows += [(*row, k) for row in _fill(_known_tonnes(here, kind), near, kind, tonnes, rng)]
    return pd.DataFrame(rows, columns=["name", "sector", "kind", "lat", "lon", "capacity", "capacity_unit", "region"])


def _known_tonnes(known: pd.DataFrame, kind: str) -> float:
    """What the known plants of a kind emit by capacity, t a year; gas counts with coal, both are power."""
    own = known[known["kind"].isin(("coal", "gas") if kind == "coal" else (kind,))]
    return sum(
        capacity * TONNES_PER_CAPACITY[other, unit]
        for other, unit, capacity in zip(own["kind"], own["capacity_unit"], own["capacity"], strict=True)
    )


def _fill(
    have: float, near: dict[str, NDArray], kind: str, tonnes: float, rng: np.random.Generator
) -> list[tuple[object, ...]]:
    """Rows of plants that emit what is lacking of `tonnes`, t a year, scattered about cities."""
    median, sigma, unit = _SIZES[kind]
    lacking = max(tonnes - have, 0.0) / TONNES_PER_CAPACITY[kind, unit]
    count = max(int(lacking / (median * np.exp(sigma**2 / 2)) + 0.5), int(have == 0 and tonnes > 0))
    size = np.round(np.minimum(median * rng.lognormal(0, sigma, count), 4 * median), 1)
    weight = near["population"].astype(float) ** 0.6
    at = rng.choice(weight.size, count, p=weight / weight.sum())
    lat, lon = scatter(near["lat"][at], near["lon"][at], np.full(count, 22.0), rng)
    sector = "power" if kind == "coal" else "industry"
    return [
        (f"Synthetic {near['name'][a]} {kind} {n + 1}", sector, kind, lat[n], lon[n], size[n], unit)
        for n, a in enumerate(at)
    ]
