"""Weather: travelling waves on the monsoon's mean flow, known at any time, and what a reanalysis makes of it.

The wind comes from a streamfunction, so that it has no divergence:

    u = -dpsi/dphi / R,    v = dpsi/dlambda / (R cos phi),    psi = sum_k a_k cos(k . x - omega_k t + p_k)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from pipeline.core.seeds import generator
from pipeline.core.units import EARTH_RADIUS
from pipeline.world.fields import correlated, nodes, spread
from pipeline.world.physics import WIND_ERROR, WIND_ERROR_MONTH

VARIABLES = {
    "u10": "m s-1", "v10": "m s-1", "u100": "m s-1", "v100": "m s-1",
    "blh": "m", "t2m": "K", "sp": "Pa", "tcwv": "kg m-2",
}  # fmt: skip
STEP = 3
"""hours between fields."""
_WAVES = 60
_WIND = 3.4
"""m s-1; spread of each component of the 100 m wind around its mean."""
_COS = float(np.cos(np.deg2rad(36.0)))
_HOUR = np.timedelta64(1, "h")
_EPOCH = np.datetime64("2015-01-01T00", "h")


@dataclass(frozen=True)
class Weather:
    """The true weather of a seed on a lattice of points (`lat`, `lon` in degrees)."""

    seed: int
    lat: tuple[float, ...]
    lon: tuple[float, ...]

    def at(self, times: NDArray[np.datetime64]) -> dict[str, NDArray[np.float32]]:
        """All variables at UTC times, each (time, lat, lon)."""
        hours = (times.astype("datetime64[h]") - _EPOCH) / _HOUR
        winter = _winter(times)[:, None, None]
        local = (hours[:, None, None] % 24 + np.array(self.lon)[None, None] / 15.0) % 24
        day = np.clip(np.sin(np.pi * (local - 7.0) / 11.0), 0, None) * (local > 7) * (local < 18)
        u, v = self._flow(hours, winter)
        shear = (10.0 ** -(0.24 - 0.12 * day)).astype(np.float32)
        turn = np.deg2rad(14.0 * (1 - day)).astype(np.float32)
        height = self._boundary_layer(times, winter, day)
        t2m = self._temperature(times, winter, day)
        return {
            "u10": shear * (u * np.cos(turn) - v * np.sin(turn)),
            "v10": shear * (u * np.sin(turn) + v * np.cos(turn)),
            "u100": u,
            "v100": v,
            "blh": height,
            "t2m": t2m,
            "sp": self._pressure(times),
            "tcwv": np.clip(1.5 * np.exp((t2m - 258.0) / 17.0), 1.0, 60.0).astype(np.float32),
        }

    def seen(self, times: NDArray[np.datetime64]) -> dict[str, NDArray[np.float32]]:
        """What a reanalysis has: the truth with wind errors of 1 m/s (300 km, 12 h) and 0.3 m/s in a month's mean."""
        fields = self.at(times)
        for part in "uv":
            error = WIND_ERROR * self._hourly_error(times, part) + WIND_ERROR_MONTH * self._monthly_error(times, part)
            fields[f"{part}100"] = np.asarray(fields[f"{part}100"] + error, np.float32)
            fields[f"{part}10"] = np.asarray(fields[f"{part}10"] + 0.75 * error, np.float32)
        return fields

    @cached_property
    def _waves(self) -> Mapping[str, NDArray[np.float64]]:
        rng = generator("waves", self.seed)
        length = np.exp(rng.uniform(np.log(500e3), np.log(4500e3), _WAVES))
        angle = rng.uniform(-1.4, 1.4, _WAVES)
        k, m = 2 * np.pi / length * np.cos(angle), 2 * np.pi / length * np.sin(angle)
        # Kinetic energy falls towards small scales.
        speed = length**0.5 * rng.lognormal(0, 0.3, _WAVES)
        speed *= _WIND * np.sqrt(2) / np.sqrt((speed**2).sum() / 2)
        return {
            "k": k,
            "m": m,
            "omega": k * rng.normal(8.0, 3.0, _WAVES) + m * rng.normal(0.0, 3.0, _WAVES),
            "phase": rng.uniform(0, 2 * np.pi, _WAVES),
            "speed": speed,
        }

    def _flow(self, hours: NDArray, winter: NDArray) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        w = self._waves
        lat, lon = np.deg2rad(np.array(self.lat)), np.deg2rad(np.array(self.lon) - 105.0)
        in_time = np.exp(-1j * (w["omega"][None] * hours[:, None] * 3600.0 - w["phase"][None]))
        in_lat = np.exp(1j * w["m"][None] * EARTH_RADIUS * lat[:, None])
        in_lon = np.exp(1j * w["k"][None] * EARTH_RADIUS * _COS * lon[:, None])
        wave = (in_lat[:, None] * in_lon[None]).reshape(-1, _WAVES).T.astype(np.complex64)
        size = np.hypot(w["k"], w["m"])
        shape = (hours.size, lat.size, lon.size)
        strength = (0.9 + 0.25 * winter).astype(np.float32)
        u = ((in_time * (w["speed"] * w["m"] / size)).astype(np.complex64) @ wave).imag.reshape(shape)
        v = -((in_time * (w["speed"] * w["k"] / size)).astype(np.complex64) @ wave).imag.reshape(shape)
        mean_u, mean_v = self._monsoon(winter)
        cos = np.cos(lat)[None, :, None].astype(np.float32)
        return (strength * u + mean_u).astype(np.float32), (strength * v * np.float32(_COS) / cos + mean_v).astype(
            np.float32
        )

    def _monsoon(self, winter: NDArray) -> tuple[NDArray, NDArray]:
        """Westerlies by latitude alone and the monsoon by longitude alone: both free of divergence."""
        lat, lon = np.array(self.lat)[None, :, None], np.array(self.lon)[None, None]
        west = 0.8 + 2.2 / (1 + np.exp(-(lat - 38.0) / 4.0)) - 1.2 / (1 + np.exp((lat - 24.0) / 3.0))
        east = 1 / (1 + np.exp(-(lon - 107.0) / 4.0))
        south = (0.3 - 2.1 * winter) * east * _COS / np.cos(np.deg2rad(lat))
        return west, south

    def _boundary_layer(self, times: NDArray, winter: NDArray, day: NDArray) -> NDArray[np.float32]:
        noise = self._slow("blh", times, 500.0)
        top = (1150.0 - 450.0 * winter) * np.exp(0.3 * noise)
        return (180.0 + 60.0 * np.exp(0.3 * noise) + top * day).astype(np.float32)

    def _temperature(self, times: NDArray, winter: NDArray, day: NDArray) -> NDArray[np.float32]:
        lat = np.array(self.lat)[None, :, None]
        mean = 300.0 - 0.55 * np.maximum(lat - 20.0, 0) - 0.006 * self.height[None]
        cold = (0.28 * np.maximum(lat - 15.0, 0) + 3.0) * winter
        return (mean - cold + 7.0 * day + 2.5 * self._slow("t2m", times, 700.0)).astype(np.float32)

    def _pressure(self, times: NDArray) -> NDArray[np.float32]:
        return (101325.0 * np.exp(-self.height / 8200.0)[None] + 400.0 * self._slow("sp", times, 900.0)).astype(
            np.float32
        )

    @cached_property
    def height(self) -> NDArray[np.float64]:
        """Height of the ground, m, from three smooth plateaus."""
        lat, lon = np.array(self.lat)[:, None], np.array(self.lon)[None]

        def box(south: float, north: float, west: float, east: float, soft: float) -> NDArray[np.float64]:
            def step(x: NDArray) -> NDArray:
                return 1 / (1 + np.exp(-x / soft))

            return step(lat - south) * step(north - lat) * step(lon - west) * step(east - lon)

        return np.maximum.reduce(
            [
                4600.0 * box(28.5, 36.5, 77, 101.5, 0.6),
                1800.0 * box(23.5, 27.8, 98, 106, 0.8),
                1150.0 * box(35, 50, 96, 115, 1.5),
                900.0 * box(36, 50, 73, 96, 1.5),
                np.full((lat.size, lon.size), 40.0),
            ]
        )

    def _slow(self, name: str, times: NDArray, km: float) -> NDArray[np.float32]:
        """A field that changes over two days."""
        return self._smooth_in_time(name, times, km, 24, 30.0)

    def _hourly_error(self, times: NDArray, part: str) -> NDArray[np.float32]:
        return self._smooth_in_time(f"error-{part}", times, 300.0, 6, 12.0)

    def _monthly_error(self, times: NDArray, part: str) -> NDArray[np.float32]:
        months, index = np.unique(times.astype("datetime64[M]"), return_inverse=True)
        lat, lon = np.array(self.lat), np.array(self.lon)
        return np.stack([correlated(lat, lon, 300.0, "month-error", part, m, self.seed) for m in months])[index]

    def _smooth_in_time(self, name: str, times: NDArray, km: float, slot: int, hours: float) -> NDArray[np.float32]:
        """White noise on slots of so many hours, drawn by slot, with correlation exp(-(t / hours)^2 / 2)."""
        now = (times.astype("datetime64[h]") - _EPOCH) / _HOUR / slot
        sigma = hours / np.sqrt(2) / slot
        slots = np.arange(np.floor(now.min() - 4 * sigma), np.ceil(now.max() + 4 * sigma) + 1)
        weight = np.exp(-0.5 * ((now[:, None] - slots[None]) / sigma) ** 2)
        weight = (weight / np.sqrt((weight**2).sum(axis=1, keepdims=True))).astype(np.float32)
        rows, cols = nodes(km)
        noise = np.stack(
            [generator(name, int(s), self.seed).standard_normal((rows.size, cols.size), np.float32) for s in slots]
        )
        lattice = spread(noise, np.array(self.lat), np.array(self.lon), km)
        return np.tensordot(weight, lattice, axes=(1, 0))


def _winter(times: NDArray[np.datetime64]) -> NDArray[np.float64]:
    """1 in mid-January, -1 in mid-July."""
    day = (times.astype("datetime64[D]") - times.astype("datetime64[Y]").astype("datetime64[D]")).astype(int)
    return np.cos(2 * np.pi * (day - 15) / 365.25)
