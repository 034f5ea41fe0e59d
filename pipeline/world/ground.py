"""What the world stands on: regions, maps, plants and totals by day, made up from facts or taken from real proxies."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.core.grid import Grid
from pipeline.core.regions import Regions
from pipeline.world.clock import daily_factors, days_of
from pipeline.world.geography import annual_totals, national_regions, provinces
from pipeline.world.patterns import Maps, draw
from pipeline.world.physics import Physics
from pipeline.world.plants import plants
from pipeline.world.settlements import Settlements, settle

BASE_DAYS = 366
"""Days of 2020, the year of the facts."""


class Ground(Protocol):
    """Where and when a world emits, by region of `regions`."""

    @property
    def regions(self) -> Regions:
        """All regions of the country."""

    @property
    def towns(self) -> Settlements:
        """Settlements for what no proxy tells: soils and the like."""

    @property
    def plants(self) -> pd.DataFrame:
        """All plants: the contract's columns, `region`, `listed`, `deviation`."""

    @property
    def point_share(self) -> NDArray[np.float64]:
        """Share of power and of industry that plants carry, (2, region)."""

    def maps(self, grid: Grid, land: NDArray[np.bool_]) -> Maps:
        """Maps on any grid."""

    def daily(self, year: int) -> NDArray[np.float64]:
        """CO2 by region, sector and day, t."""


@dataclass(frozen=True)
class MadeUp:
    """China from the facts under `facts/`, drawn by a seed."""

    physics: Physics
    seed: int

    @property
    def regions(self) -> Regions:
        """The provinces."""
        return national_regions()

    @cached_property
    def towns(self) -> Settlements:
        """Cities, towns, zones and roads."""
        return settle(self.seed)

    @cached_property
    def plants(self) -> pd.DataFrame:
        """Known and made-up plants."""
        return plants(self.regions, self.physics, self.seed)

    @cached_property
    def point_share(self) -> NDArray[np.float64]:
        """All of power; steel's and cement's share of industry."""
        facts, table = provinces(), self.plants
        has = np.array([
            np.bincount(table.loc[table["sector"] == s, "region"], minlength=len(self.regions.codes)) > 0
            for s in ("power", "industry")
        ])  # fmt: skip
        return np.stack([np.ones(len(facts)), (facts["steel"] + facts["cement"]).to_numpy()]) * has

    def maps(self, grid: Grid, land: NDArray[np.bool_]) -> Maps:
        """Maps drawn from the settlements."""
        return draw(grid, land, self.towns, self.seed)

    def daily(self, year: int) -> NDArray[np.float64]:
        """The facts about 2020 times seasons, weeks, holidays, events and trend."""
        return annual_totals()[:, :, None] / BASE_DAYS * daily_factors(self.regions, year)


def fractions(daily: NDArray[np.float64]) -> NDArray[np.float64]:
    """Share of each day in its year; even where nothing is emitted."""
    total = daily.sum(axis=2, keepdims=True)
    even = np.full_like(daily, 1.0 / daily.shape[2])
    return np.divide(daily, total, out=even, where=total > 0)


def soil_season(year: int) -> NDArray[np.float64]:
    """NOx from soils by day over its yearly mean: most in June and July."""
    phase = 2 * np.pi * (np.arange(days_of(year).size) - 190) / 365.25
    season = np.exp(1.6 * (np.cos(phase) - 1))
    return season / season.mean()
