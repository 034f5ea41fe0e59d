"""From daily NO2 cubes and winds to the observations of a month."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy import sparse

from pipeline.core.grid import Grid
from pipeline.core.options import TransportOptions
from pipeline.invert.model import Observations
from pipeline.transport.footprint import Wind, class_shapes, footprints
from pipeline.transport.winds import overpass_hour

MIN_VALID_FRACTION = 0.25
"""Least share of a cell with valid pixels for its mean to stand for the cell."""
PLAUSIBLE = 0.05
"""mol m-2; columns beyond this (ten times Beijing's winter) are retrieval failures."""


@dataclass(frozen=True)
class DayColumns:
    """NO2 of one day on the grid: `column`, `sigma` (mol m-2), NaN where nothing is known, (n_lat, n_lon)."""

    column: NDArray[np.float64]
    sigma: NDArray[np.float64]


def merge_instruments(days: Iterable[xr.Dataset], error_floor: float) -> DayColumns:
    """One day's columns of all instruments, weighted by precision.

    Each Dataset has `no2_column`, `no2_column_uncertainty` (mol m-2), `valid_fraction` and perhaps `amf_factor`, dims
    (lat, lon). With an air-mass factor recomputed for our own profile the column becomes V = y / amf_factor. A stated
    error below the floor is raised to it in quadrature.
    """
    weight_sum: NDArray | float = 0.0
    value_sum: NDArray | float = 0.0
    for day in days:
        y = day["no2_column"].values.astype(float)
        s = day["no2_column_uncertainty"].values.astype(float)
        if "amf_factor" in day:
            factor = day["amf_factor"].values.astype(float)
            y, s = y / factor, s / factor
        ok = np.isfinite(y) & np.isfinite(s) & (s > 0) & (np.abs(y) < PLAUSIBLE)
        ok &= day["valid_fraction"].values >= MIN_VALID_FRACTION
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
    n_block = sum(a * b for a, b in class_shapes(grid, transport))
    matrices: list[sparse.csr_matrix] = [sparse.csr_matrix((0, n_block), dtype=np.float32)]
    cells, columns, sigmas, numbers = [], [], [], []
    counts = {"days": len(days), "days_without_wind": 0, "missing": 0, "used": 0}
    hour = overpass_hour(grid.lon)
    for number, (day, seen) in enumerate(sorted(days.items())):
        usable = np.isfinite(seen.column) & wanted
        counts["missing"] += int((wanted & ~usable).sum())
        if not usable.any():
            continue
        wind = day_wind(weather, day, transport.ages[-1])
        if wind is None:
            counts["days_without_wind"] += 1
            continue
        receptors = np.flatnonzero(usable)
        matrices.append(footprints(grid, wind, receptors, hour, transport))
        cells.append(receptors)
        columns.append(seen.column.ravel()[receptors])
        sigmas.append(seen.sigma.ravel()[receptors])
        numbers.append(np.full(receptors.size, number))
        counts["used"] += receptors.size
    return (
        Observations(
            sparse.vstack(matrices, format="csr"),
            _joined(cells, np.int64),
            _joined(columns, float),
            _joined(sigmas, float),
            _joined(numbers, np.int64),
        ),
        counts,
    )


def _joined(parts: list[NDArray], dtype: type) -> NDArray:
    return np.concatenate(parts) if parts else np.zeros(0, dtype)
