"""Features of the learning: proxies, their neighbourhoods, point sources, weather and NO2, never raw position."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy import ndimage

from pipeline.core.grid import Grid
from pipeline.core.units import EARTH_RADIUS

HEATING_BASE = 18.0
"""degrees C; base of heating degree days (the customary European and Chinese choice)."""
CERTAIN = 0.9
"""Sensitivities count up to this: beyond, one month would outweigh all the others."""
FAR = 500.0
"""km; distances to the nearest point source are capped here, so that a domain's edge does not matter."""
BACKGROUND_DEGREES = 6.0
"""Width of the moving median that is taken as the NO2 background of a cell."""


def neighbourhood_mean(field: NDArray[np.floating], cells: int) -> NDArray[np.float64]:
    """Mean over a square of `cells` x `cells` around each cell, over those inside the domain and not NaN.

    Parameters
    ----------
    field : (lat, lon).
    cells : odd width of the square.

    Returns
    -------
    (lat, lon); NaN where the whole square is missing.
    """
    known = np.isfinite(field)
    total = ndimage.uniform_filter(np.where(known, field, 0.0).astype(float), cells, mode="constant")
    weight = ndimage.uniform_filter(known.astype(float), cells, mode="constant")
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(weight > 0.5 / cells**2, total / weight, np.nan)


def distance_to_sources(tonnes: NDArray[np.floating], grid: Grid) -> NDArray[np.float64]:
    """Distance from each cell to the nearest cell that holds a point source, km, at most `FAR`.

    The plane of the grid's middle latitude serves: within `FAR` its error is a few per cent.
    """
    if not (tonnes > 0).any():
        return np.full(grid.shape, FAR)
    km = np.deg2rad(grid.step) * EARTH_RADIUS / 1000.0
    middle = np.cos(np.deg2rad(float(grid.lat.mean())))
    return np.minimum(ndimage.distance_transform_edt(~(tonnes > 0), sampling=(km, km * middle)), FAR)


def year_features(
    radiance: NDArray[np.floating],
    population: NDArray[np.floating],
    point_tonnes: Mapping[str, NDArray[np.floating]],
    grid: Grid,
) -> xr.Dataset:
    """Features of one year: lights, population and point sources in and around each cell.

    Parameters
    ----------
    radiance : nightlights of the year, nW cm-2 sr-1, (lat, lon).
    population : persons per cell, (lat, lon).
    point_tonnes : tonnes of CO2 a year of the known point sources of each sector, (lat, lon).
    grid : the cells.

    Returns
    -------
    Dataset of float32 (lat, lon), one variable a feature; amounts are ln(1 + density), densities per km2.
    """
    km2 = grid.area / 1e6
    lights = np.nan_to_num(np.asarray(radiance, float), nan=0.0)
    people = np.nan_to_num(np.asarray(population, float), nan=0.0) / km2
    fields: dict[str, NDArray[np.floating]] = {"lights": np.log1p(lights), "people": np.log1p(people)}
    for cells in (3, 7):
        fields[f"lights_{cells}x{cells}"] = np.log1p(neighbourhood_mean(lights, cells))
        fields[f"people_{cells}x{cells}"] = np.log1p(neighbourhood_mean(people, cells))
    fields["lights_per_person"] = np.log((lights + 0.1) / (people + 1.0))
    for sector, tonnes in point_tonnes.items():
        fields[f"points_{sector}"] = np.log1p(tonnes / km2)
        fields[f"points_{sector}_3x3"] = np.log1p(neighbourhood_mean(tonnes / km2, 3))
        fields[f"distance_{sector}"] = distance_to_sources(tonnes, grid)
    return _dataset(fields, grid)


def monthly_weather(t2m: xr.DataArray) -> xr.Dataset:
    """Monthly mean temperature and heating degree days.

    Parameters
    ----------
    t2m : 2 m temperature, K, (time, lat, lon), any step up to a day; may be lazy.

    Returns
    -------
    `t2m` in degrees C and `heating_degree_days` = sum over days of max(0, 18 - daily mean), both (time, lat, lon) at
    month starts, float32; days that are missing count as the month's mean day.
    """
    daily = t2m.resample(time="1D").mean() - 273.15
    month = daily.resample(time="MS")
    days = xr.DataArray(month.mean().time.dt.days_in_month, dims="time")
    heating = (HEATING_BASE - daily).clip(min=0).resample(time="MS").mean() * days
    return xr.Dataset({"t2m": month.mean(), "heating_degree_days": heating}).astype("float32")


def other_months_no2(no2: xr.DataArray, grid: Grid) -> xr.Dataset:
    """NO2 of a cell in the *other* months of the same year, and how far it stands above its surroundings.

    The learned field serves as the prior of a month whose own columns are then inverted, so a month's own columns must
    not be among its features:  x_m = sum over m' != m of n_m' x_m' / sum of n_m'.

    Parameters
    ----------
    no2 : tropospheric columns, mol m-2, (time, lat, lon), daily, NaN where unseen; already on `grid`.

    Returns
    -------
    `no2_other_months` and `no2_excess_other_months`, 1e-5 mol m-2, (time, lat, lon) at month starts, float32; NaN
    where no other month saw the cell.
    """
    grouped = no2.astype("float64").resample(time="MS")
    total, count = grouped.sum(skipna=True).compute(), grouped.count().compute()
    year = total["time"].dt.year
    others = (total.groupby(year).map(_others)) / (count.groupby(year).map(_others)).where(lambda n: n > 0)
    scaled = (others * 1e5).transpose("time", "lat", "lon")
    background = np.stack([_background(field, grid) for field in scaled.values])
    return xr.Dataset({"no2_other_months": scaled, "no2_excess_other_months": scaled - background}).astype("float32")


def other_months_shift(
    shift: NDArray[np.floating], sensitivity: NDArray[np.floating], time: NDArray[np.datetime64], grid: Grid
) -> xr.Dataset:
    """What observations said of a cell in the *other* months of the same year.

    A cell whose prior is wrong is wrong all year, so this carries what was seen in clear months to those nothing was
    seen in; a month's own posterior is not in it. Each month's shift d of ln(posterior / prior), with a sensitivity s,
    stands for evidence of precision s / (1 - s) in units of the prior's; together they would have shifted by

        sum d / (1 - s)  /  (1 + sum s / (1 - s)),     over m' != m

    which is 0 where nothing was seen and near it where a plume from elsewhere says a little.

    Parameters
    ----------
    shift : ln(posterior mean / prior), (time, lat, lon); sensitivity : s, 0..1, likewise.
    time : month starts.

    Returns
    -------
    `shift_other_months`, (time, lat, lon) float32.
    """
    known = np.isfinite(shift) & (sensitivity > 0)
    s = np.where(known, np.minimum(sensitivity, CERTAIN), 0.0)
    years = time.astype("datetime64[Y]")
    moment, precision = (other_steps(field / (1.0 - s), years) for field in (np.where(known, shift, 0.0), s))
    field = (("time", "lat", "lon"), (moment / (1.0 + precision)).astype(np.float32))
    return xr.Dataset({"shift_other_months": field}, coords={"time": time, **grid.coords()})


def other_steps(field: NDArray[np.floating], years: NDArray[np.datetime64]) -> NDArray[np.floating]:
    """Sum over the other steps of the same year."""
    total = {year: field[years == year].sum(axis=0) for year in np.unique(years)}
    return np.stack([total[year] - step for year, step in zip(years, field, strict=True)])


def season(time: NDArray[np.datetime64]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Sine and cosine of the month's place in the year."""
    month = time.astype("datetime64[M]").astype(int) % 12
    angle = 2 * np.pi * (month + 0.5) / 12
    return np.sin(angle).astype(np.float32), np.cos(angle).astype(np.float32)


def prior_features(prior: NDArray[np.floating], sectors: tuple[str, ...], grid: Grid) -> xr.Dataset:
    """What the prior says of a month: ln of its density (t km-2) and the share of each sector.

    Parameters
    ----------
    prior : tonnes, (sector, lat, lon).
    """
    total = np.nansum(prior, axis=0)
    fields = {"prior_density": np.log(np.maximum(total, 1e-6) / (grid.area / 1e6))}
    with np.errstate(invalid="ignore", divide="ignore"):
        fields |= {f"prior_share_{s}": np.where(total > 0, prior[k] / total, 0.0) for k, s in enumerate(sectors)}
    return _dataset(fields, grid)


def _others(group: xr.DataArray) -> xr.DataArray:
    return group.sum("time") - group


def _background(field: NDArray[np.floating], grid: Grid) -> NDArray[np.float64]:
    # A median over a wide square of every second cell: plumes are narrow against it, and it is cheap.
    cells = max(3, int(BACKGROUND_DEGREES / grid.step) // 2 | 1)
    filled = np.where(np.isfinite(field), field, np.nanmedian(field) if np.isfinite(field).any() else 0.0)
    coarse = ndimage.median_filter(filled[::2, ::2], size=min(cells, *filled[::2, ::2].shape), mode="nearest")
    return np.repeat(np.repeat(coarse, 2, axis=0), 2, axis=1)[: grid.n_lat, : grid.n_lon]


def _dataset(fields: Mapping[str, NDArray[np.floating]], grid: Grid) -> xr.Dataset:
    return xr.Dataset({n: (("lat", "lon"), v.astype(np.float32)) for n, v in fields.items()}, coords=grid.coords())
