"""The wind that carries a column, and the hour at which a satellite looks."""

from __future__ import annotations

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

OVERPASS = 13.5
"""Local solar hour of the afternoon constellation (Aura, S5P, OCO-2: 13:30)."""
_MAX_EXPONENT = 0.25
_MAX_HEIGHT = 500.0


def column_wind(weather: xr.Dataset) -> xr.Dataset:
    """Wind averaged over the layer that holds fresh emissions, lazily.

    With a power law U(z) = U100 (z / 100)^p between 10 and 100 m, p = ln(|U100| / |U10|) / ln 10 in [0, 0.25], the
    mean from the ground to h = min(blh, 500 m) is U100 (h / 100)^p / (p + 1). Where 950 hPa winds are given the mean
    of that and U950 is taken. Exponent and height are bounded because the law does not hold above the surface layer.

    Parameters
    ----------
    weather : `era5` cube: u10, v10, u100, v100 (m s-1), blh (m) and perhaps u950, v950.

    Returns
    -------
    Dataset of `u`, `v` (m s-1), same dims.
    """
    low = np.hypot(weather["u10"], weather["v10"])
    high = np.hypot(weather["u100"], weather["v100"])
    exponent = (np.log(high.clip(min=0.1) / low.clip(min=0.1)) / np.log(10.0)).clip(0.0, _MAX_EXPONENT)
    height = weather["blh"].clip(50.0, _MAX_HEIGHT)
    factor = (height / 100.0) ** exponent / (exponent + 1.0)
    u, v = weather["u100"] * factor, weather["v100"] * factor
    if "u950" in weather and "v950" in weather:
        u, v = (u + weather["u950"]) / 2, (v + weather["v950"]) / 2
    attrs = {"units": "m s-1", "long_name": "mean wind of the layer of fresh emissions"}
    return xr.Dataset({"u": u.assign_attrs(attrs), "v": v.assign_attrs(attrs)})


def overpass_hour(lon: ArrayLike) -> NDArray[np.float64]:
    """UTC hour of the overpass at a longitude, hours since 00:00 of its day: 13.5 - lon / 15."""
    return OVERPASS - np.asarray(lon, float) / 15.0


def at_overpass(field: NDArray[np.floating], hours: ArrayLike, lon: ArrayLike) -> NDArray[np.float64]:
    """A field at each longitude's overpass, linear between its times and held beyond them.

    Parameters
    ----------
    field : (time, n_lat, n_lon); one time is held steady.
    hours : of the times since 00:00 UTC of the day, ascending, (time,).
    lon : degrees east, (n_lon,).

    Returns
    -------
    (n_lat, n_lon), in the unit of the field.
    """
    times, values = np.asarray(hours, float), np.asarray(field, float)
    if times.size == 1:
        return np.asarray(values[0])
    wanted = np.clip(overpass_hour(lon), times[0], times[-1])
    before = np.clip(np.searchsorted(times, wanted, side="right") - 1, 0, times.size - 2)
    weight = (wanted - times[before]) / (times[before + 1] - times[before])
    column = np.arange(values.shape[2])
    return np.asarray(values[before, :, column].T * (1 - weight) + values[before + 1, :, column].T * weight)
