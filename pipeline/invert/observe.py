"""From daily NO2 cubes and winds to the observations of a month."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy import sparse

from pipeline.core.grid import Grid
from pipeline.core.options import TransportOptions
from pipeline.invert.model import Observations
from pipeline.invert.tracks import Soundings, passive
from pipeline.transport.footprint import Wind, class_shapes, footprints
from pipeline.transport.winds import overpass_hour

MIN_VALID_FRACTION = 0.25
"""Least share of a cell with valid pixels for its mean to stand for the cell."""
PLAUSIBLE = 0.05
"""mol m-2; columns beyond this (ten times Beijing's winter) are retrieval failures."""


@dataclass(frozen=True)
class DayColumns:
    """One day on the grid, (n_lat, n_lon).

    `column` and `sigma` (NO2 in mol m-2, XCO2 in ppm), NaN where nothing is known; the averaging `kernel` of XCO2.
    """

    column: NDArray[np.float64]
    sigma: NDArray[np.float64]
    kernel: NDArray[np.float64] | float = 1.0


def merge_columns(days: Iterable[xr.Dataset], error_floor: float) -> DayColumns:
    """One day's NO2 columns of all instruments, weighted by precision.

    Each Dataset has `no2_column`, `no2_column_uncertainty` (mol m-2), `valid_fraction` and perhaps `amf_factor`, dims
    (lat, lon). With an air-mass factor recomputed for our own profile the column becomes V = y / amf_factor. A stated
    error below the floor is raised to it in quadrature.
    """
    parts = []
    for day in days:
        y = day["no2_column"].values.astype(float)
        s = day["no2_column_uncertainty"].values.astype(float)
        if "amf_factor" in day:
            factor = day["amf_factor"].values.astype(float)
            y, s = y / factor, s / factor
        enough = (np.abs(y) < PLAUSIBLE) & (day["valid_fraction"].values >= MIN_VALID_FRACTION)
        parts.append((np.where(enough, y, np.nan), s))
    return _by_precision(parts, error_floor)


def as_soundings(day: xr.Dataset, error_floor: float) -> DayColumns:
    """One instrument's XCO2 of one day, ppm, with the averaging kernel of the boundary layer (1 where it is not given).

    Instruments are never averaged: their scales differ by more than what is sought.
    """
    x, s = day["xco2"].values.astype(float), day["xco2_uncertainty"].values.astype(float)
    kernel = np.ones_like(x)
    if "averaging_kernel_pbl" in day:
        given = day["averaging_kernel_pbl"].values.astype(float)
        kernel = np.where(np.isfinite(given), given, 1.0)
    return replace(_by_precision([(x, s)], error_floor), kernel=kernel)


def _by_precision(parts: Iterable[tuple[NDArray, NDArray]], error_floor: float) -> DayColumns:
    weight_sum: NDArray | float = 0.0
    value_sum: NDArray | float = 0.0
    for y, s in parts:
        ok = np.isfinite(y) & np.isfinite(s) & (s > 0)
        w = np.where(ok, 1.0 / (np.where(ok, s, 1.0) ** 2 + error_floor**2), 0.0)
        weight_sum = weight_sum + w
        value_sum = value_sum + w * np.where(ok, y, 0.0)
    total = np.asarray(weight_sum)
    with np.errstate(invalid="ignore", divide="ignore"):
        return DayColumns(
            np.where(total > 0, np.asarray(value_sum) / total, np.nan), np.where(total > 0, total**-0.5, np.nan)
        )


def day_wind(weather: xr.Dataset, day: np.datetime64, ages: float) -> Wind | None:
    """The wind that brought the air of a day's overpass, or `None` where no field is near.

    Parameters
    ----------
    weather : `u`, `v` (m s-1) on the grid, dims (time, lat, lon), any regular step; lazily.
    day : 00:00 UTC of the day.
    ages : hours before the overpass that matter.

    Returns
    -------
    One field a day is held steady; sub-daily fields cover the overpass and the hours before it.
    """
    times = weather["time"].values
    step = np.median(np.diff(times)) if times.size > 1 else np.timedelta64(1, "D")
    if step >= np.timedelta64(20, "h"):
        chosen = weather.sel(time=slice(day, day + np.timedelta64(86399, "s")))
    else:
        start, end = day - np.timedelta64(int((ages + 2) * 3600), "s"), day + np.timedelta64(12, "h")
        chosen = weather.sel(time=slice(start, end))
    if chosen.sizes["time"] == 0:
        return None
    loaded = chosen.load()
    hours = (loaded["time"].values - day) / np.timedelta64(1, "h")
    u, v = (loaded[name].values.astype(np.float32) for name in ("u", "v"))
    if not (np.isfinite(u).any() and np.isfinite(v).any()):
        return None
    return Wind(_filled(u), _filled(v), hours.astype(float))


def _filled(field: NDArray[np.float32]) -> NDArray[np.float32]:
    """Missing wind takes the field's mean of its time: only beyond the edge of the weather cube."""
    if np.isfinite(field).all():
        return field
    mean = np.nanmean(field, axis=(1, 2), keepdims=True)
    return np.where(np.isfinite(field), field, np.nan_to_num(mean)).astype(np.float32)


def observe_month(
    grid: Grid,
    days: Mapping[np.datetime64, DayColumns],
    weather: xr.Dataset,
    wanted: NDArray[np.bool_],
    transport: TransportOptions,
) -> tuple[Observations, dict[str, int]]:
    """All usable columns of a month with their source-receptor matrix.

    Parameters
    ----------
    days : columns by day (00:00 UTC).
    weather : winds as for `day_wind`.
    wanted : cells whose columns are used, (n_lat, n_lon).

    Returns
    -------
    Observations and counts of what was seen, used and dropped.
    """
    usable = {(day, ""): np.flatnonzero(np.isfinite(seen.column) & wanted) for day, seen in days.items()}
    followed = list(_follow(grid, usable, weather, transport))
    counts = {
        "days": len(days),
        "days_without_wind": sum(r.size > 0 for r in usable.values()) - len(followed),
        "missing": sum(int(wanted.sum()) - r.size for r in usable.values()),
        "used": sum(p.receptors.size for p in followed),
    }
    return (
        Observations(
            _stacked(followed, grid, transport),
            _joined([p.receptors for p in followed], np.int64),
            _joined([days[p.key[0]].column.ravel()[p.receptors] for p in followed], float),
            _joined([days[p.key[0]].sigma.ravel()[p.receptors] for p in followed], float),
            _joined([np.full(p.receptors.size, p.number) for p in followed], np.int64),
        ),
        counts,
    )


def observe_tracks(
    grid: Grid,
    days: Mapping[tuple[np.datetime64, str], DayColumns],
    weather: xr.Dataset,
    per_ppm: NDArray[np.float64],
    wanted: NDArray[np.bool_],
    transport: TransportOptions,
) -> Soundings:
    """All usable XCO2 of a month with its source-receptor matrix.

    Parameters
    ----------
    days : XCO2 and its sigma by day, ppm; (`merge_soundings`).
    per_ppm : kg m-2 of CO2 that change XCO2 by 1 ppm, (n_lat, n_lon).
    """
    scheme = passive(transport)
    usable = {key: np.flatnonzero(np.isfinite(seen.column) & wanted) for key, seen in days.items()}
    followed = list(_follow(grid, usable, weather, scheme))
    cell = _joined([p.receptors for p in followed], np.int64)
    kernel = _joined([(days[p.key].kernel + np.zeros(grid.shape)).ravel()[p.receptors] for p in followed], float)
    return Soundings(
        sparse.csr_matrix(sparse.diags(kernel / per_ppm.ravel()[cell]) @ _stacked(followed, grid, scheme)),
        cell,
        _joined([days[p.key].column.ravel()[p.receptors] for p in followed], float),
        _joined([days[p.key].sigma.ravel()[p.receptors] for p in followed], float),
        _joined([np.full(p.receptors.size, p.number) for p in followed], np.int64),
    )


@dataclass(frozen=True)
class _Followed:
    """A day whose air was followed: its key (day, instrument) and number, receptors, their source-receptor matrix."""

    key: tuple[np.datetime64, str]
    number: int
    receptors: NDArray[np.int64]
    matrix: sparse.csr_matrix


def _follow(
    grid: Grid,
    usable: Mapping[tuple[np.datetime64, str], NDArray[np.int64]],
    weather: xr.Dataset,
    scheme: TransportOptions,
) -> Iterator[_Followed]:
    """Follow the air of every day and instrument that has receptors and a wind."""
    hour = overpass_hour(grid.lon)
    for number, (key, receptors) in enumerate(sorted(usable.items(), key=lambda item: item[0])):
        wind = day_wind(weather, key[0], scheme.ages[-1]) if receptors.size else None
        if wind is not None:
            yield _Followed(key, number, receptors, footprints(grid, wind, receptors, hour, scheme))


def _stacked(followed: list[_Followed], grid: Grid, scheme: TransportOptions) -> sparse.csr_matrix:
    n_block = sum(a * b for a, b in class_shapes(grid, scheme))
    empty = sparse.csr_matrix((0, n_block), dtype=np.float32)
    return sparse.vstack([empty, *(p.matrix for p in followed)], format="csr")


def _joined(parts: list[NDArray], dtype: type) -> NDArray:
    return np.concatenate(parts) if parts else np.zeros(0, dtype)
