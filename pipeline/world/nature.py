"""The nature run of a month: hourly emissions carried by the true winds, columns kept at the satellites' overpass."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass, fields

import numba
import numpy as np
from numpy.typing import NDArray

from pipeline.core.grid import Grid, block_sum
from pipeline.core.units import DAY, KG_PER_TONNE
from pipeline.world.advect import Mesh, advance
from pipeline.world.clock import hour_factor
from pipeline.world.fields import correlated
from pipeline.world.physics import DIFFUSION, LIFETIME, LIFETIME_RANGE, STACK_SHARE, Physics
from pipeline.world.weather import STEP, Weather

OVERPASS = 13.5
"""Local solar time of all satellites, hours."""
_OVERPASS_HOURS = range(4, 10)
"""UTC hours between which the overpass lies over 69..143 E."""
_SPIN_UP = {"nox": 1, "co2": 3}
"""Days of history before the month."""
NATURE_PER_DEGREE = 8


@dataclass(frozen=True)
class Sources:
    """All that emits in a year, on the nature run's grid of 0.125 degree.

    Parameters
    ----------
    bounds : west, south, east, north, degrees.
    year : whose days `fraction` and `soil_season` hold.
    index : region of each cell; off the land that of the nearest one.
    annual : CO2 of the cell in the year, t, (sector, n_lat, n_lon), float32.
    fraction : of the year's CO2 that is emitted on a day, (region, sector, day).
    ratio : NOx:CO2 by region and sector, kg NO2-equivalent per t.
    soil : NOx from soils in the year, kg per cell; `soil_season` (day,) has mean 1.
    abroad : NOx from neighbours and ships, kg per cell and year.
    abroad_co2 : CO2 from neighbours, t per cell and year.
    """

    bounds: NDArray[np.float64]
    year: NDArray[np.int64]
    index: NDArray[np.int16]
    annual: NDArray[np.float32]
    fraction: NDArray[np.float64]
    ratio: NDArray[np.float64]
    soil: NDArray[np.float32]
    soil_season: NDArray[np.float64]
    abroad: NDArray[np.float32]
    abroad_co2: NDArray[np.float32]

    @property
    def grid(self) -> Grid:
        """The grid of 0.125 degree."""
        return _grid_of(self.bounds)

    def co2(self, factor: NDArray[np.float64]) -> NDArray[np.float32]:
        """The yearly CO2 times a factor by region and sector, (sector, n_lat, n_lon)."""
        return self.annual * factor.T.astype(np.float32)[:, self.index]

    def days(self) -> int:
        """Days of the year."""
        return self.fraction.shape[2]

    def day(self, day: np.datetime64) -> int:
        """Number of a day in the year, from 0; the history of 1 January is taken to emit like the first day."""
        first = np.datetime64(int(self.year) - 1970, "Y").astype("datetime64[D]")
        return int(np.clip((day - first).astype(int), 0, self.days() - 1))

    def to_bytes(self) -> bytes:
        """As an NPZ archive."""
        buffer = io.BytesIO()
        np.savez(buffer, **{f.name: getattr(self, f.name) for f in fields(self)})
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, raw: bytes) -> Sources:
        """From an NPZ archive."""
        with np.load(io.BytesIO(raw), allow_pickle=False) as archive:
            return cls(**{f.name: archive[f.name] for f in fields(cls)})


@dataclass(frozen=True)
class Columns:
    """What a month of the nature run leaves at the overpass, on the grid of 0.25 degree, by day.

    Parameters
    ----------
    nox : column of NOx, kg NO2-equivalent m-2.
    co2 : column of CO2 above the inflow, kg m-2.
    lifetime : of NOx, h, on the same grid.
    """

    nox: NDArray[np.float32]
    co2: NDArray[np.float32]
    lifetime: NDArray[np.float32]


def month_days(year: int, month: int) -> NDArray[np.datetime64]:
    """All days of a month."""
    first = np.datetime64(f"{year}-{month:02d}", "M")
    return np.arange(first.astype("M8[D]"), (first + 1).astype("M8[D]"), dtype="M8[D]")


def lifetime(grid: Grid, day: np.datetime64, physics: Physics, seed: int) -> NDArray[np.float32]:
    """Lifetime of NOx on a day, h: longer in the north and in winter, with the weather of the day on top."""
    if not physics.lifetime:
        return np.full(grid.shape, LIFETIME, np.float32)
    of_year = (day - day.astype("datetime64[Y]").astype("datetime64[D]")).astype(int)
    winter = np.cos(2 * np.pi * (of_year - 15) / 365.25)
    north = 1 / (1 + np.exp(-(grid.lat - 31.0) / 4.0))
    mean = 3.5 + 0.3 * north + (0.6 + 0.8 * north) * winter
    noise = correlated(grid.lat, grid.lon, 800.0, "lifetime", day, seed)
    return np.clip(mean[:, None] * np.exp(0.15 * noise), *LIFETIME_RANGE).astype(np.float32)


def run_month(sources: Sources, weather: Weather, days: NDArray[np.datetime64], physics: Physics) -> Columns:
    """Columns at the overpass on each of the days."""
    fine, coarse = sources.grid, coarse_of(sources.grid)
    taus = [lifetime(fine, day, physics, weather.seed) for day in days]
    nox = np.stack([average(v, fine) for v in _nox_days(sources, weather, days, taus, physics)])
    co2 = np.stack(list(_co2_days(sources, weather, days, physics)))
    return Columns(nox, co2, np.stack([average(tau, fine) for tau in taus]).reshape(len(days), *coarse.shape))


def _grid_of(bounds: NDArray[np.float64]) -> Grid:
    west, south, east, north = bounds.tolist()
    return Grid.from_bounds(west, south, east, north, NATURE_PER_DEGREE)


def coarse_of(grid: Grid) -> Grid:
    """The grid of 0.25 degree with the same edges."""
    return Grid.from_bounds(*grid.bounds, 4)


def average(values: NDArray, grid: Grid) -> NDArray[np.float32]:
    """Area-weighted mean of 2 x 2 cells."""
    return (block_sum(values * grid.area, 2) / coarse_of(grid).area).astype(np.float32)


def _nox_days(
    sources: Sources,
    weather: Weather,
    days: NDArray[np.datetime64],
    taus: list[NDArray[np.float32]],
    physics: Physics,
) -> Iterator[NDArray[np.float32]]:
    """NOx column, kg m-2, at each day's overpass: one tracer from the ground, one from high stacks."""
    grid, mesh = sources.grid, Mesh(sources.grid)
    stack = np.array(STACK_SHARE) if physics.stack_height else np.zeros(4)
    weight = overpass_weight(grid)
    low, high = np.zeros(grid.shape, np.float32), np.zeros(grid.shape, np.float32)
    first = days[0] - _SPIN_UP["nox"]
    winds = _Winds(weather, grid, first, days[-1])
    area = grid.area.astype(np.float32)
    for day in np.arange(first, days[-1] + 1):
        tau = taus[max(int((day - days[0]).astype(int)), 0)] * np.float32(3600.0)
        by_sector, steady = nox_of_day(sources, day, physics)
        by_sector, steady = by_sector / (area * np.float32(DAY)), steady / (area * np.float32(DAY))
        seen = np.zeros(grid.shape, np.float32)
        for hour in range(24):
            if hour in _OVERPASS_HOURS and day >= days[0]:
                seen += weight[hour] * (low + high)
            factor = hour_factor(hour)
            ground, aloft = winds.at(day, hour)
            emitted = combine(by_sector, factor * (1 - stack)) + steady
            advance(low, ground, emitted, tau, mesh, 3600.0, DIFFUSION)
            if physics.stack_height:
                advance(high, aloft, combine(by_sector, factor * stack), tau, mesh, 3600.0, DIFFUSION)
        if day >= days[0]:
            yield seen


def nox_of_day(sources: Sources, day: np.datetime64, physics: Physics) -> tuple[NDArray[np.float32], NDArray]:
    """NOx of a day by sector, and from soils, neighbours and ships, kg NO2-equivalent per cell."""
    k = sources.day(day)
    by_sector = sources.co2(sources.fraction[:, :, k] * sources.ratio)
    steady = sources.soil * np.float32(sources.soil_season[k] / sources.days() * physics.soil)
    return by_sector, steady + sources.abroad * np.float32(physics.foreign / sources.days())


def _co2_days(
    sources: Sources, weather: Weather, days: NDArray[np.datetime64], physics: Physics
) -> Iterator[NDArray[np.float32]]:
    """CO2 column above the inflow, kg m-2, at 0.25 degree."""
    grid = coarse_of(sources.grid)
    mesh, weight, area = Mesh(grid), overpass_weight(grid), grid.area.astype(np.float32)
    column = np.zeros(grid.shape, np.float32)
    first = days[0] - _SPIN_UP["co2"]
    winds = _Winds(weather, grid, first, days[-1])
    abroad = block_sum(sources.abroad_co2, 2) / sources.days() * physics.foreign
    for day in np.arange(first, days[-1] + 1):
        tonnes = sources.co2(sources.fraction[:, :, sources.day(day)])
        to_flux = np.float32(KG_PER_TONNE / DAY) / area
        by_sector = block_sum(tonnes, 2).astype(np.float32) * to_flux
        steady = abroad.astype(np.float32) * to_flux
        seen = np.zeros(grid.shape, np.float32)
        for hour in range(24):
            if hour in _OVERPASS_HOURS:
                seen += weight[hour] * column
            emitted = combine(by_sector, hour_factor(hour)) + steady
            advance(column, winds.at(day, hour)[1], emitted, None, mesh, 3600.0, DIFFUSION)
        if day >= days[0]:
            yield seen


def overpass_weight(grid: Grid) -> dict[int, NDArray[np.float32]]:
    """Weight of each UTC hour in the column at the overpass, (1, n_lon): linear between full hours."""
    at = OVERPASS - grid.lon / 15.0
    return {h: np.maximum(1.0 - np.abs(h - at), 0.0).astype(np.float32)[None] for h in _OVERPASS_HOURS}


def combine(fields_by_sector: NDArray[np.float32], factor: NDArray[np.float64]) -> NDArray[np.float32]:
    """Sum over sectors with a factor each."""
    return np.tensordot(factor.astype(np.float32), fields_by_sector, axes=(0, 0))


class _Winds:
    """True winds on a grid at the middle of any hour: near the ground and at stack height, (u, v) each.

    The profile is the power law through 10 and 100 m, up to where most of the plume is: 0.4 of the boundary layer
    (at most 250 m) for what leaves at the ground, 0.6 of it (150 to 500 m) for high stacks, where the wind has veered
    by 4 degrees, by 12 in shallow layers.
    """

    def __init__(self, weather: Weather, grid: Grid, first: np.datetime64, last: np.datetime64) -> None:
        begin = first.astype("datetime64[h]")
        self._begin = begin
        times = np.arange(begin, (last + 1).astype("datetime64[h]") + STEP + 1, np.timedelta64(STEP, "h"))
        fields_ = weather.at(times)
        speed100 = np.hypot(fields_["u100"], fields_["v100"])
        speed10 = np.hypot(fields_["u10"], fields_["v10"])
        exponent = np.clip(np.log10(np.maximum(speed100, 0.1) / np.maximum(speed10, 0.1)), 0.05, 0.25)
        ground = np.clip(0.4 * fields_["blh"], 40.0, 250.0)
        aloft = np.clip(0.6 * fields_["blh"], 150.0, 500.0)
        veer = np.deg2rad(4.0 + 8.0 * np.clip((600.0 - fields_["blh"]) / 400.0, 0, 1))
        u, v = fields_["u100"], fields_["v100"]
        low, high = (ground / 100.0) ** exponent, (aloft / 100.0) ** exponent
        turned = u * np.cos(veer) + v * np.sin(veer), v * np.cos(veer) - u * np.sin(veer)
        self._lattice = [u * low, v * low, turned[0] * high, turned[1] * high]
        self._row, self._row_weight = _between(np.array(weather.lat), grid.lat)
        self._col, self._col_weight = _between(np.array(weather.lon), grid.lon)
        self._kept: dict[int, list[NDArray[np.float32]]] = {}

    def at(self, day: np.datetime64, hour: int) -> tuple[tuple[NDArray, NDArray], tuple[NDArray, NDArray]]:
        hours = int((day.astype("datetime64[h]") - self._begin).astype(int)) + hour + 0.5
        k, t = int(hours // STEP), np.float32(hours % STEP / STEP)
        self._kept = {n: self._kept[n] if n in self._kept else self._on_grid(n) for n in (k, k + 1)}
        u0, v0, u1, v1 = (a + t * (b - a) for a, b in zip(self._kept[k], self._kept[k + 1], strict=True))
        return (u0, v0), (u1, v1)

    def _on_grid(self, k: int) -> list[NDArray[np.float32]]:
        return [
            _bilinear(np.ascontiguousarray(f[k], np.float32), self._row, self._row_weight, self._col, self._col_weight)
            for f in self._lattice
        ]


def _between(lattice: NDArray, points: NDArray) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    at = np.clip(np.searchsorted(lattice, points) - 1, 0, lattice.size - 2)
    weight = (points - lattice[at]) / (lattice[at + 1] - lattice[at])
    return at, np.clip(weight, 0, 1).astype(np.float32)


@numba.njit(nogil=True, cache=True, fastmath=True)
def _bilinear(values, row, row_weight, col, col_weight):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    out = np.empty((row.size, col.size), np.float32)
    one = np.float32(1)
    line = np.empty(values.shape[1], np.float32)
    for j in range(row.size):
        a, b, w = values[row[j]], values[row[j] + 1], row_weight[j]
        for i in range(line.size):
            line[i] = a[i] * (one - w) + b[i] * w
        for i in range(col.size):
            k = col[i]
            out[j, i] = line[k] * (one - col_weight[i]) + line[k + 1] * col_weight[i]
    return out


def on_grid(values: NDArray[np.float32], weather: Weather, grid: Grid) -> NDArray[np.float32]:
    """A field on the weather's lattice carried to a grid by bilinear interpolation."""
    row, row_weight = _between(np.array(weather.lat), grid.lat)
    col, col_weight = _between(np.array(weather.lon), grid.lon)
    return _bilinear(np.ascontiguousarray(values, np.float32), row, row_weight, col, col_weight)
