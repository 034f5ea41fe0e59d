"""What is to be made: store, seed, domain, years, months and physics, and the grids that follow."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from pipeline.core.grid import G025, Grid
from pipeline.store.location import Store
from pipeline.world.nature import NATURE_PER_DEGREE
from pipeline.world.physics import Physics
from pipeline.world.weather import Weather

MapUnits = Callable[[Callable[[Any], Any], list[Any]], Iterable[Any]]
"""Runs independent units of work, in order or in parallel: like `map`."""
_LIMITS = (67.0, 11.0, 142.0, 61.0)
_NATURE_MARGIN, _SATELLITE_MARGIN, _WEATHER_MARGIN = 16, 12, 3.0


@dataclass(frozen=True)
class Plan:
    """One call's work; cheap to send to a worker.

    Parameters
    ----------
    store, seed, physics, years, months : as `make_world`.
    domain : the part of G025 with known truth.
    real : whether truth is made from real proxies of the store.
    """

    store: Store
    seed: int
    physics: Physics
    years: tuple[int, ...]
    months: tuple[int, ...]
    domain: Grid = G025
    real: bool = False

    @cached_property
    def outer(self) -> Grid:
        """Where the nature run runs, 0.25 degree."""
        return self.domain.expand(_NATURE_MARGIN).intersect(Grid.from_bounds(*_LIMITS, 4))

    @property
    def nature(self) -> Grid:
        """The nature run's grid for NOx."""
        return Grid.from_bounds(*self.outer.bounds, NATURE_PER_DEGREE)

    @property
    def satellites(self) -> Grid:
        """The satellites' grid."""
        return self.domain.expand(_SATELLITE_MARGIN).intersect(self.outer)

    @cached_property
    def weather(self) -> Weather:
        """True weather on whole degrees around the nature run."""
        west, south, east, north = self.outer.bounds
        m = _WEATHER_MARGIN
        lat = np.arange(np.floor(south) - m, np.ceil(north) + m + 1)
        lon = np.arange(np.floor(west) - m, np.ceil(east) + m + 1)
        return Weather(self.seed, tuple(lat), tuple(lon))

    def attrs(self, title: str) -> dict[str, Any]:
        """Attributes of a cube of this world."""
        return {
            "title": title,
            "source": "CarbonCube demonstration world" + (" on real proxies" if self.real else ""),
            "source_version": "1",
            "license": "CC0-1.0" if not self.real else "synthetic; its hidden truth follows the proxies' licences",
            "synthetic": "true",
            "schema_version": 1,
            "seed": self.seed,
            "ancestry": "meic" if self.real else "",
        }

    def identity(self) -> dict[str, Any]:
        """What all years of one store must share."""
        return {
            "seed": self.seed,
            "physics": self.physics.as_dict(),
            "domain": list(self.domain.bounds),
            "real": self.real,
        }
