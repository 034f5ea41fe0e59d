"""Where people live and work: cities, made-up towns around them, countryside, roads and industrial zones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.core.seeds import generator
from pipeline.world.geography import nearest_distance, provinces, table

_TOWNS_PER_CITY = 36
_ZONES_PER_CITY = 10
_BENDS = 4
"""Times a road between two cities is broken and bent."""
_CORE_SHARE = 0.62
"""Part of a prefecture's townspeople who live in its seat."""


@dataclass(frozen=True)
class Settlements:
    """Blobs (lat, lon, km, mass) and lines, as arrays with one entry each.

    Parameters
    ----------
    people : built-up places, persons.
    rural : countryside of each prefecture, persons; wide blobs.
    work : traffic and services of built-up places, displaced from `people`, relative mass.
    zones : industrial zones, relative mass.
    roads : ends (n, 4) and relative traffic (n,) of main roads.
    """

    people: NDArray[np.float64]
    rural: NDArray[np.float64]
    work: NDArray[np.float64]
    zones: NDArray[np.float64]
    roads: tuple[NDArray[np.float64], NDArray[np.float64]]


def settle(seed: int) -> Settlements:
    """China's settlements: real cities with approximate people, towns, zones and roads drawn around them."""
    cities = table("cities")
    rng = generator("settlements", seed)
    urban = provinces()["urban"].loc[cities["province"]].to_numpy()
    apart = nearest_distance(cities["lat"].to_numpy(), cities["lon"].to_numpy())
    people = _people(cities, urban, apart, rng)
    return Settlements(
        people,
        _rural(cities, urban, apart, rng),
        _work(people, rng),
        _zones(cities, urban, apart, rng),
        _roads(cities, rng),
    )


def foreign_settlements() -> NDArray[np.float64]:
    """Cities around China as blobs (lat, lon, km, persons), with a wide half for their surroundings."""
    cities = table("foreign_cities")
    lat, lon, people = (cities[c].to_numpy(float) for c in ("lat", "lon", "population"))
    core = np.stack([lat, lon, _width(0.5 * people), 500.0 * people], axis=1)
    around = np.stack([lat, lon, np.full(lat.size, 45.0), 500.0 * people], axis=1)
    return np.concatenate([core, around])


def _width(thousands: NDArray) -> NDArray:
    """e-folding radius of a place of so many thousand people, km: a million fills 2.6 km."""
    return 2.6 * (np.maximum(thousands, 1.0) / 1000.0) ** 0.38


def scatter(lat: NDArray, lon: NDArray, km: NDArray, rng: np.random.Generator) -> tuple[NDArray, NDArray]:
    """Move points in a random direction by an exponential distance of mean `km`."""
    distance, angle = rng.exponential(1.0, lat.size) * km, rng.uniform(0, 2 * np.pi, lat.size)
    north, east = distance * np.sin(angle) / 111.2, distance * np.cos(angle) / 111.2
    return lat + north, lon + east / np.cos(np.deg2rad(lat))


def _people(cities: pd.DataFrame, urban: NDArray, apart: NDArray, rng: np.random.Generator) -> NDArray:
    lat, lon = cities["lat"].to_numpy(), cities["lon"].to_numpy()
    total = cities["population"].to_numpy(float) * urban
    core = total * _CORE_SHARE
    # A large city is a centre and suburbs, not one cone.
    parts = np.repeat(np.arange(len(cities)), 1 + np.minimum(core // 700, 8).astype(int))
    first = np.r_[True, parts[1:] != parts[:-1]]
    share = np.where(first, 2.0, rng.lognormal(-0.4, 0.5, parts.size))
    share /= np.bincount(parts, share)[parts]
    y, x = scatter(lat[parts], lon[parts], np.where(first, 0.0, 3.0 * _width(core[parts])), rng)
    centres = np.stack([y, x, _width(core[parts] * share), 1e3 * core[parts] * share], axis=1)
    of = np.repeat(np.arange(len(cities)), _TOWNS_PER_CITY)
    size = rng.lognormal(0.0, 1.0, of.size)
    size *= (total - core)[of] / np.bincount(of, size)[of]
    y, x = scatter(lat[of], lon[of], np.clip(0.55 * apart, 12, 110)[of], rng)
    towns = np.stack([y, x, np.maximum(_width(size), 0.6), 1e3 * size], axis=1)
    return np.concatenate([centres, towns])


def _rural(cities: pd.DataFrame, urban: NDArray, apart: NDArray, rng: np.random.Generator) -> NDArray:
    lat, lon = cities["lat"].to_numpy(), cities["lon"].to_numpy()
    of = np.repeat(np.arange(len(cities)), 6)
    km = np.clip(0.5 * apart, 10, 90)[of]
    y, x = scatter(lat[of], lon[of], 0.9 * km, rng)
    people = 1e3 * (cities["population"].to_numpy(float) * (1 - urban))[of] / 6
    return np.stack([y, x, 0.45 * km, people], axis=1)


def _work(people: NDArray, rng: np.random.Generator) -> NDArray:
    y, x = scatter(people[:, 0], people[:, 1], 0.7 * people[:, 2], rng)
    mass = people[:, 3] ** 1.05 * rng.lognormal(-0.1, 0.45, len(people))
    return np.stack([y, x, 2.0 * people[:, 2], mass], axis=1)


def _zones(cities: pd.DataFrame, urban: NDArray, apart: NDArray, rng: np.random.Generator) -> NDArray:
    of = np.repeat(np.arange(len(cities)), _ZONES_PER_CITY)
    y, x = scatter(cities["lat"].to_numpy()[of], cities["lon"].to_numpy()[of], np.clip(0.3 * apart, 12, 40)[of], rng)
    mass = (cities["population"].to_numpy(float) * urban)[of] ** 0.8 * rng.lognormal(-0.5, 1.0, of.size)
    return np.stack([y, x, rng.uniform(0.8, 2.5, of.size), mass], axis=1)


def _roads(cities: pd.DataFrame, rng: np.random.Generator) -> tuple[NDArray, NDArray]:
    """Each city to its three nearest within 500 km; traffic by gravity: sqrt(P1 P2) x length."""
    lat, lon, people = (cities[c].to_numpy(float) for c in ("lat", "lon", "population"))
    x, y = lon * 111.2 * np.cos(np.deg2rad(lat)), lat * 111.2
    distance = np.hypot(x[:, None] - x[None], y[:, None] - y[None])
    near = np.argsort(distance, axis=1, kind="stable")[:, 1:4]
    pairs = sorted({(min(i, int(j)), max(i, int(j))) for i in range(len(cities)) for j in near[i]})
    a, b = np.array([pair for pair in pairs if distance[pair] < 500.0]).T
    length = distance[a, b]
    traffic = np.sqrt(people[a] * people[b]) * np.minimum(length, 200.0) * rng.lognormal(-0.1, 0.4, a.size)
    ends = np.stack([lat[a], lon[a], lat[b], lon[b]], axis=1)
    for _ in range(_BENDS):
        ends = _bent(ends, rng)
    pieces = 2**_BENDS
    return ends, np.repeat(traffic / pieces, pieces)


def _bent(ends: NDArray, rng: np.random.Generator) -> NDArray:
    """Break each line in two at a middle that is moved aside by a tenth of its length."""
    a, b = ends[:, :2], ends[:, 2:]
    aside = np.stack([b[:, 1] - a[:, 1], a[:, 0] - b[:, 0]], axis=1) * rng.normal(0, 0.1, (len(ends), 1))
    middle = (a + b) / 2 + aside
    return np.stack([np.hstack([a, middle]), np.hstack([middle, b])], axis=1).reshape(-1, 4)
