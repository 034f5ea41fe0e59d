"""Satellites that look at the nature run: clouds, swaths, tracks and noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from pipeline.core.grid import Grid
from pipeline.core.seeds import generator
from pipeline.core.units import GRAVITY, M_AIR, M_CO2, M_NO2
from pipeline.world.fields import correlated
from pipeline.world.physics import GAIN, NOX_PER_NO2, Physics

PIXEL_ERROR = 1.3e-5
"""TROPOMI's random error of a pixel's tropospheric column, mol m-2."""
_PIXELS = 27.0
"""Pixels (5.5 x 3.5 km) in a clear cell of 0.25 degree at 33 N."""
_SHARED = 0.12
"""Part of the pixels' error variance that all pixels of a cell share."""
SCALE_ERROR = 0.22
"""Error of the air-mass factor relative to the column; half its variance correlated over 60 km, half of the cell."""
XCO2_RANDOM, XCO2_TRACK = 0.5, 0.35
"""ppm; errors of a cell's mean XCO2: its own, and the part correlated over 150 km along the track."""
_ORBITS, _CYCLE = 233, 16
"""Orbits in a repeat cycle of so many days (OCO-2)."""
_MISSING_ORBIT = 0.02
"""Share of orbits that were never delivered."""
_LEAST_CLEAR = 0.3
"""A cell with less clear than this has no mean."""


@dataclass(frozen=True)
class Sky:
    """A day's state over a grid: share of clear pixels, surface pressure (Pa), water vapour (kg m-2)."""

    clear: NDArray[np.float32]
    pressure: NDArray[np.float32]
    vapour: NDArray[np.float32]


def clear_fraction(grid: Grid, day: np.datetime64, physics: Physics, seed: int) -> NDArray[np.float32]:
    """Share of each cell without cloud, 0..1; correlated over 500 and 80 km, and from day to day."""
    if not physics.clouds:
        return np.ones(grid.shape, np.float32)
    before = correlated(grid.lat, grid.lon, 500.0, "clouds", day - 1, seed)
    today = correlated(grid.lat, grid.lon, 500.0, "clouds", day, seed)
    small = correlated(grid.lat, grid.lon, 80.0, "small clouds", day, seed)
    field = np.sqrt(0.55) * today + np.sqrt(0.15) * before + np.sqrt(0.30) * small
    chance = ndtri(_climate(grid, day))
    fraction = ndtr((chance * np.sqrt(1 + 0.4**2) - field) / 0.4)
    return np.where(fraction > _LEAST_CLEAR, fraction, 0).astype(np.float32)


def _climate(grid: Grid, day: np.datetime64) -> NDArray[np.float64]:
    """Mean clear share: dry north in winter, wet south in spring, the Sichuan basin always dull."""
    of_year = (day - day.astype("datetime64[Y]").astype("datetime64[D]")).astype(int)
    winter = np.cos(2 * np.pi * (of_year - 10) / 365.25)
    spring = np.exp(-0.5 * ((of_year - 90) / 40.0) ** 2)
    lat, lon = grid.lat[:, None], grid.lon[None]
    north = 1 / (1 + np.exp(-(lat - 33.0) / 3.0))
    basin = np.exp(-0.5 * (((lat - 29.5) / 2.5) ** 2 + ((lon - 106.0) / 3.5) ** 2))
    mean = 0.29 + 0.14 * north + 0.09 * (2 * north - 0.6) * winter - 0.10 * (1 - north) * spring
    return np.clip(mean * (1 - 0.5 * basin), 0.08, 0.85)


def look_no2(
    column: NDArray[np.float32], sky: Sky, grid: Grid, day: np.datetime64, physics: Physics, seed: int
) -> dict[str, NDArray[np.float32]]:
    """The NO2 cube of a day from the column of NOx, kg NO2-equivalent m-2. Negative columns stay.

    The uncertainty is what a retrieval states: the averaged pixel error, and 22 % of the column it observed.
    """
    true = no2_column(column, grid, day, physics)
    seen = (sky.clear > 0) & ~_missing_orbits(grid, day, physics, seed)
    pixels = np.maximum(_PIXELS * sky.clear * np.cos(np.deg2rad(grid.lat))[:, None] / 0.84, 1.0)
    precision = PIXEL_ERROR * np.sqrt((1 - _SHARED) / pixels + _SHARED)
    rng = generator("no2", day, grid.west_index, grid.south_index, seed)
    alone, scale = rng.standard_normal((2, *grid.shape))
    together = correlated(grid.lat, grid.lon, 60.0, "no2 scale", day, seed)
    relative = SCALE_ERROR * np.sqrt(0.5) * (scale + together) * physics.retrieval_scale * physics.noise
    observed = true * (1 + relative) + precision * alone * physics.noise
    stated = np.hypot(precision, SCALE_ERROR * np.maximum(observed, 0) * physics.retrieval_scale)
    return {
        "no2_column": _where(seen, observed),
        "no2_column_uncertainty": _where(seen, stated),
        "valid_fraction": np.where(seen, sky.clear, 0).astype(np.float32),
    }


def no2_column(column: NDArray[np.float32], grid: Grid, day: np.datetime64, physics: Physics) -> NDArray[np.float64]:
    """The column: gain V / (f M_NO2) + free troposphere, mol m-2."""
    of_year = (day - day.astype("datetime64[Y]").astype("datetime64[D]")).astype(int)
    summer = -np.cos(2 * np.pi * (of_year - 20) / 365.25)
    free = (4.5e-6 + 1.5e-6 * summer + 5e-8 * (35.0 - grid.lat))[:, None] * physics.no2_background
    return (GAIN if physics.gain else 1.0) * column / (NOX_PER_NO2 * M_NO2) + free


def look_xco2(
    column: NDArray[np.float32], sky: Sky, grid: Grid, day: np.datetime64, physics: Physics, seed: int
) -> dict[str, NDArray[np.float32]]:
    """The XCO2 cube of a day from the CO2 column above the inflow, kg m-2: narrow tracks, mostly nothing."""
    true = xco2_background(grid, day, physics, seed) + enhancement(column, sky.pressure, sky.vapour)
    track = tracks(grid, day)
    rng = generator("xco2", day, grid.west_index, grid.south_index, seed)
    soundings = rng.poisson(45.0 * np.clip(2 * sky.clear - 1, 0, 1) + 1e-9)
    if not physics.clouds:
        soundings = np.full(grid.shape, 45)
    seen = track & (soundings > 2)
    own = XCO2_RANDOM * np.sqrt(0.6 + 0.4 * 20.0 / np.maximum(soundings, 1))
    along = XCO2_TRACK * correlated(grid.lat, grid.lon, 150.0, "xco2 track", day, seed)
    observed = true + (own * rng.standard_normal(grid.shape) + along) * physics.noise
    return {
        "xco2": _where(seen, observed),
        "xco2_uncertainty": _where(seen, np.hypot(own, XCO2_TRACK)),
        "n_soundings": np.where(seen, soundings, 0).astype(np.float32),
    }


def enhancement(column: NDArray, pressure: NDArray, vapour: NDArray) -> NDArray[np.float64]:
    """XCO2 above the inflow: V (M_air / M_CO2) / (p / g - w) 1e6, ppm; V in kg m-2, 15.7e-3 a ppm at sea level."""
    return 1e6 * column * (M_AIR / M_CO2) / (pressure / GRAVITY - vapour)


def xco2_background(grid: Grid, day: np.datetime64, physics: Physics, seed: int) -> NDArray[np.float64]:
    """XCO2 without China's emissions, ppm: trend, season, north-south slope, offset of the day, biosphere."""
    lat = grid.lat[:, None] + 0 * grid.lon[None]
    value = np.full(grid.shape, 410.0)
    if physics.xco2_background:
        since = (day - np.datetime64("2020-01-01", "D")).astype(float)
        season = np.cos(2 * np.pi * (since - 120.0) / 365.25)
        offset = generator("xco2 day", day, seed).normal(0, 0.15)
        value = 411.5 + 2.4 * since / 365.25 + (2.0 + 0.05 * (lat - 35)) * season + 0.02 * (lat - 35) + offset
    if physics.biosphere:
        week = (day.astype(int)) / 7.0
        k, t = int(np.floor(week)), week % 1
        a, b = (correlated(grid.lat, grid.lon, 1000.0, "biosphere", n, seed) for n in (k, k + 1))
        value = value + 0.25 * ((1 - t) * a + t * b) / np.hypot(1 - t, t)
    return value


def tracks(grid: Grid, day: np.datetime64) -> NDArray[np.bool_]:
    """Cells that OCO-2's swath of 10 km touches on a UTC day: 233 orbits in 16 days, 13:30 local solar time."""
    per_day = _ORBITS / _CYCLE
    begin = float((day - np.datetime64("2015-01-01", "D")).astype(int))
    orbit = np.arange(np.ceil(begin * per_day), np.floor((begin + 1) * per_day) + 1)
    hour = (orbit / per_day - begin) * 24.0
    lon35 = (13.5 - hour) * 15.0
    # Ascending by day: the ground track drifts west by 0.29 degree per degree of latitude.
    centre = lon35[None, :] - 0.29 * (grid.lat[:, None] - 35.0)
    half = 0.5 * grid.step + 0.045 / np.cos(np.deg2rad(grid.lat))
    near = np.abs(grid.lon[None, :, None] - centre[:, None, :]) < half[:, None, None]
    return np.asarray(near.any(axis=2))


def _missing_orbits(grid: Grid, day: np.datetime64, physics: Physics, seed: int) -> NDArray[np.bool_]:
    """Whole orbits of 25.4 degrees that were never delivered."""
    rng = generator("orbits", day, seed)
    strip = ((grid.lon + rng.uniform(0, 25.4)) // 25.4).astype(int)
    lost = rng.random(20) < _MISSING_ORBIT * physics.clouds
    return np.broadcast_to(lost[strip][None], grid.shape)


def _where(seen: NDArray[np.bool_], values: NDArray) -> NDArray[np.float32]:
    return np.where(seen, values, np.nan).astype(np.float32)
