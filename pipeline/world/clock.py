"""When each sector emits: seasons, weeks, the Lunar New Year, lockdowns, trends, and hours of the day."""

from __future__ import annotations

import datetime as dt

import numpy as np
from numpy.typing import NDArray

from pipeline.core.provinces import BY_CODE
from pipeline.core.regions import Regions

LUNAR_NEW_YEAR = {
    2019: dt.date(2019, 2, 5), 2020: dt.date(2020, 1, 25), 2021: dt.date(2021, 2, 12), 2022: dt.date(2022, 2, 1),
    2023: dt.date(2023, 1, 22), 2024: dt.date(2024, 2, 10),
}  # fmt: skip
"""First day of the Chinese calendar's year."""
_NEW_YEAR_DIP = np.array([0.06, 0.22, 0.32, 0.02])
"""Depth of the dip around the Lunar New Year by sector."""
_WEEKEND = np.array([0.99, 0.96, 0.90, 1.02])
"""Saturday and Sunday over the other days."""
_TREND = np.array([0.020, 0.010, 0.015, -0.020])
"""Change a year from 2020."""
_LOCKDOWN_2020 = np.array([0.16, 0.26, 0.55, -0.04])
"""Loss in February 2020 against a usual one; transport falls most."""
_LOCKDOWN_2022 = np.array([0.10, 0.15, 0.40, -0.05])
"""Loss in Shanghai in April 2022; half of it around."""
_EAST_2022 = {"310000": 1.5, "320000": 0.6, "330000": 0.5, "340000": 0.35, "220000": 0.8}
_HOURS = np.array(
    [
        [0.82, 0.79, 0.77, 0.77, 0.79, 0.84, 0.92, 1.00, 1.07, 1.11, 1.13, 1.12,
         1.07, 1.06, 1.08, 1.09, 1.10, 1.13, 1.16, 1.16, 1.12, 1.06, 0.98, 0.88],
        [0.86, 0.85, 0.85, 0.85, 0.86, 0.88, 0.93, 1.00, 1.08, 1.12, 1.13, 1.11,
         1.06, 1.10, 1.12, 1.12, 1.11, 1.08, 1.05, 1.03, 1.00, 0.96, 0.92, 0.89],
        [0.45, 0.35, 0.30, 0.30, 0.38, 0.58, 0.95, 1.35, 1.45, 1.30, 1.22, 1.20,
         1.18, 1.22, 1.25, 1.28, 1.36, 1.50, 1.48, 1.28, 1.10, 0.98, 0.84, 0.64],
        [0.70, 0.66, 0.64, 0.64, 0.70, 0.86, 1.08, 1.18, 1.12, 1.02, 1.06, 1.18,
         1.12, 0.96, 0.90, 0.92, 1.02, 1.22, 1.36, 1.36, 1.26, 1.14, 0.98, 0.82],
    ]
)  # fmt: skip
"""Hours 0..23 of Beijing time by sector, order of magnitude of published temporal profiles."""


def days_of(year: int) -> NDArray[np.datetime64]:
    """All days of a year."""
    return np.arange(f"{year}-01-01", f"{year + 1}-01-01", dtype="datetime64[D]")


def hour_factor(utc_hour: int) -> NDArray[np.float64]:
    """Emission of each sector in an hour over its daily mean; all of China keeps Beijing time."""
    return (_HOURS / _HOURS.mean(axis=1, keepdims=True))[:, (utc_hour + 8) % 24]


def week_and_holiday(days: NDArray[np.datetime64]) -> NDArray[np.float64]:
    """Factor of the weekday and of the Lunar New Year, shape (sector, day)."""
    weekday = (days.astype(int) + 3) % 7
    week = np.where(weekday[None] >= 5, _WEEKEND[:, None], 1.0) / ((5 + 2 * _WEEKEND) / 7)[:, None]
    return week * (1.0 - _NEW_YEAR_DIP[:, None] * _holiday(days)[None])


def daily_factors(regions: Regions, year: int) -> NDArray[np.float64]:
    """Emission of a day over that of a mean day of 2020 without events, shape (region, sector, day)."""
    days = days_of(year)
    north = _northern(regions)[:, None]
    phase = 2 * np.pi * np.arange(days.size) / days.size
    january, may = np.cos(phase - 0.24)[None], np.cos(2 * (phase - 0.5))[None]
    cold = np.maximum(np.cos(phase - 0.24), 0.0)[None] ** 1.5
    season = np.stack(
        [
            1 + 0.10 * north * january + 0.09 * may * (1 - 0.4 * north),
            1 - 0.04 * january - 0.04 * north * january,
            1 - 0.03 * january + 0 * north,
            1 + (0.15 + 1.5 * north) * cold,
        ],
        axis=1,
    )
    season /= season.mean(axis=2, keepdims=True)
    trend = (1.0 + _TREND) ** (year - 2020)
    return season * week_and_holiday(days)[None] * trend[None, :, None] * _events(regions, days)


def _northern(regions: Regions) -> NDArray[np.float64]:
    lat = np.array([polygon.centroid.y for polygon in regions.polygons])
    return 1 / (1 + np.exp(-(lat - 33.0) / 2.0))


def _bump(days: NDArray[np.datetime64], first: str, last: str, soft: float) -> NDArray[np.float64]:
    """1 between two days, with soft edges."""
    d0 = (days - np.datetime64(first)).astype(float)
    d1 = (np.datetime64(last) - days).astype(float)
    return 1 / (1 + np.exp(-d0 / soft)) / (1 + np.exp(-d1 / soft))


def _holiday(days: NDArray[np.datetime64]) -> NDArray[np.float64]:
    year = int(str(days[0])[:4])
    start = np.datetime64(LUNAR_NEW_YEAR.get(year, dt.date(year, 2, 4)), "D")
    return _bump(days, str(start - 3), str(start + 8), 2.0)


def _events(regions: Regions, days: NDArray[np.datetime64]) -> NDArray[np.float64]:
    spring2020 = _bump(days, "2020-01-29", "2020-03-01", 2.5)
    hubei = np.array([1.4 if code == "420000" else 1.0 for code in regions.codes])
    spring2022 = _bump(days, "2022-03-30", "2022-05-28", 3.0)
    east = np.array([_EAST_2022.get(code, 0.15 if code in BY_CODE else 0.5) for code in regions.codes])
    loss = (
        hubei[:, None, None] * _LOCKDOWN_2020[None, :, None] * spring2020
        + east[:, None, None] * _LOCKDOWN_2022[None, :, None] * spring2022
    )
    return 1.0 - loss
