"""The prior: CO2 by sector, cell and month before any satellite looks, and how far it may be wrong.

Totals by province and sector come from capacities and people with stated factors, corrected by what the user believes
(`prior_totals.csv`) in a small log-normal least squares; patterns within a province from point sources, lights and
people; months from temperature and the calendar.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation

from pipeline.core.errors import InputError
from pipeline.core.grid import Grid
from pipeline.core.options import InversionOptions, PriorOptions
from pipeline.core.points import annual_tonnes, grid_points
from pipeline.core.provinces import gb_code
from pipeline.core.regions import Regions
from pipeline.core.schema import SECTORS

CLASSES = (*SECTORS, "works", "power floor", "industry floor")
"""Source classes of the state: the sectors as points and proxies place them, industry that no listed plant explains,
and a floor of power and of industry under every land cell."""
CLASS_SECTOR = (0, 1, 2, 3, 1, 0, 1)
"""Sector each class counts to."""
_ITERATIONS = 6
_REACH = 10
"""Cells beyond the border from where air still matters to columns over China; farther sources are background."""
_NEW_YEAR_DIP = {"industry": (0.93, 0.88), "transport": (0.95, 0.88)}
"""January and February over the mean month: the Lunar New Year rest, before the satellites say which month it was."""


@dataclass(frozen=True)
class Proxies:
    """What the pattern is made from, on one grid.

    `lights` (nW cm-2 sr-1, cell mean), `people` (persons per cell), `points` (table), `temperature` (month, lat, lon)
    in K for the twelve months, and `shares` (region, lat, lon) of each cell.
    """

    lights: NDArray[np.float64]
    people: NDArray[np.float64]
    points: pd.DataFrame
    temperature: NDArray[np.float64]
    shares: NDArray[np.float64]


def climatological_temperature(grid: Grid) -> NDArray[np.float64]:
    """A rough normal of 2 m temperature by latitude and month, K, for runs without a year of weather.

    Mean 297 K at 20 N falling 0.75 K a degree, half range 3 K growing 0.45 K a degree, coldest in mid January: a fit by
    eye to the normals of Guangzhou, Wuhan, Beijing and Harbin within about 3 K.
    """
    lat = np.repeat(grid.lat[:, None], grid.n_lon, axis=1)
    swing = -np.cos(2 * np.pi * (np.arange(12) - 0.0) / 12)[:, None, None]
    return 297.0 - 0.75 * (lat - 20.0) + (3.0 + 0.45 * (lat - 20.0)) * swing


def build_prior(
    grid: Grid, year: int, proxies: Proxies, regions: Regions, totals: pd.DataFrame | None, options: PriorOptions
) -> xr.Dataset:
    """The prior of one year.

    Returns
    -------
    Dataset on `grid`: `co2` (time, source, lat, lon) in t per month, the mean; `log_covariance` (total, total_) of the
    yearly totals by region and sector (region-major), of natural logarithms; `pattern` people and lights of foreign
    cells are left to the caller. Attribute `totals_from` says where the level comes from.
    """
    shares = proxies.shares
    tonnes = annual_tonnes(proxies.points, year)
    pattern, first_guess = _patterns(grid, proxies, tonnes, options)
    covariance = _first_covariance(len(regions.codes), options)
    rows = _rows_of_year(totals, year, regions)
    level, covariance = constrain_totals(first_guess, covariance, rows)
    annual = np.einsum("pc,pcyx->cyx", level[:, CLASS_SECTOR[:-2]], pattern)
    annual = _with_floor(annual, level, shares, proxies, options)
    season = seasons(proxies.temperature, year)
    monthly = annual[None] * season[:, CLASS_SECTOR]
    time = np.array([f"{year}-{m:02d}-01" for m in range(1, 13)], "M8[ns]")
    return xr.Dataset(
        {
            "co2": (("time", "source", "lat", "lon"), monthly, {"units": "t"}),
            "log_covariance": (("total", "total_"), covariance, {"units": "1"}),
        },
        coords={"time": time, "source": np.arange(len(CLASSES)), **grid.coords()},
        attrs={"totals_from": "prior_totals" if rows else "capacities, people and stated factors (wide sigma)"},
    )


def _patterns(
    grid: Grid, proxies: Proxies, tonnes: NDArray, options: PriorOptions
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Share of each cell in its region's sector by class (region, class, lat, lon), and first totals (region, sector).

    All classes but the floors; industry's two classes share its total.
    """
    shares = proxies.shares
    covered = shares.sum(axis=0)
    people = np.nan_to_num(proxies.people)
    glow = np.nan_to_num(proxies.lights) * grid.area / 1e6
    inside = np.where(covered > 0, shares / np.maximum(covered, 1e-9), 0.0)
    region_people = (inside * people).sum(axis=(1, 2))
    pattern = np.zeros((len(shares), len(CLASSES) - 2, *grid.shape))
    totals = np.outer(region_people, options.tonnes_per_person)
    spread = {
        "power": glow,
        "industry": glow,
        "transport": np.sqrt(glow * people),
        "residential": people,
    }
    for s, sector in enumerate(SECTORS):
        placed = inside * grid_points(proxies.points, tonnes, grid, sector)
        region_points = placed.sum(axis=(1, 2))
        diffuse = _normalised(inside * (spread[sector] + 1e-6 * grid.area / 1e6))
        share = np.where(region_points > 0, options.point_share[s], 0.0)[:, None, None]
        if sector == "industry":
            pattern[:, s], pattern[:, CLASSES.index("works")] = share * _normalised(placed), (1 - share) * diffuse
        else:
            pattern[:, s] = share * _normalised(placed) + (1 - share) * diffuse
        if options.point_share[s] == 1.0 and region_points.sum() > 0:
            # A region without a listed plant still has some power from small ones.
            totals[:, s] = np.maximum(region_points, 0.05 * totals[:, s])
    return pattern, np.maximum(totals, 1.0)


def _normalised(field: NDArray[np.float64]) -> NDArray[np.float64]:
    total = field.sum(axis=(-2, -1), keepdims=True)
    return np.divide(field, total, out=np.zeros_like(field), where=total > 0)


def _first_covariance(n_region: int, options: PriorOptions) -> NDArray[np.float64]:
    """Covariance of ln totals, (region x sector) squared: nation + sector + province + each of its own."""
    n_sector = len(SECTORS)
    one_r, one_s = np.ones((n_region, n_region)), np.ones((n_sector, n_sector))
    eye_r, eye_s = np.eye(n_region), np.eye(n_sector)
    return (
        options.sigma_nation**2 * np.kron(one_r, one_s)
        + options.sigma_sector**2 * np.kron(one_r, eye_s)
        + options.sigma_province**2 * np.kron(eye_r, one_s)
        + options.sigma_province_sector**2 * np.kron(eye_r, eye_s)
    )


Row = tuple[NDArray[np.bool_], float, float]


def _rows_of_year(totals: pd.DataFrame | None, year: int, regions: Regions) -> list[Row]:
    """Rows of `prior_totals.csv` for a year as (which region x sector, tonnes, relative sigma)."""
    if totals is None:
        return []
    rows: list[Row] = []
    for entry in totals[totals["year"] == year].itertuples():
        code, sector = gb_code(str(entry.region)), str(entry.sector)
        if code == "CN":
            of_region = regions.in_cn()
        elif code in regions.codes:
            of_region = np.array([c == code for c in regions.codes])
        else:
            raise InputError(f"prior_totals names region {entry.region!r}", f"CN or one of {', '.join(regions.codes)}")
        if sector != "total" and sector not in SECTORS:
            raise InputError(f"prior_totals names sector {sector!r}", f"total or one of {', '.join(SECTORS)}")
        of_sector = np.array([sector in ("total", s) for s in SECTORS])
        tonnes, sigma = float(entry.co2_tonnes), float(entry.sigma_rel)
        if not (tonnes > 0 and sigma > 0):
            raise InputError(f"prior_totals {code} {year} {sector}: {tonnes} t, sigma {sigma}", "both positive")
        rows.append((np.outer(of_region, of_sector).ravel(), tonnes, sigma))
    return rows


def constrain_totals(
    first: NDArray[np.float64], covariance: NDArray[np.float64], rows: list[Row]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Bring totals by region and sector in line with believed sums.

    Maximises the posterior of t = ln(total / first) with t ~ N(0, S) and ln(sum of a row) ~ N(ln tonnes, sigma^2) by
    Gauss-Newton; the row's derivative by t is each part's share of the sum.

    Returns
    -------
    Totals (region, sector) in t, and the posterior covariance of their logarithms.
    """
    shape, base = first.shape, first.ravel()
    if not rows:
        return first, covariance
    t = np.zeros(base.size)
    sigma = np.array([s for _, _, s in rows])
    for _ in range(_ITERATIONS):
        parts = np.array([np.where(which, base * np.exp(t), 0.0) for which, _, _ in rows])
        sums = np.maximum(parts.sum(axis=1), 1e-9)
        design = parts / sums[:, None]
        misfit = np.log([tonnes for _, tonnes, _ in rows]) - np.log(sums) + design @ t
        gain = np.linalg.solve(design @ covariance @ design.T + np.diag(sigma**2), design @ covariance).T
        t = gain @ misfit
    posterior = covariance - gain @ design @ covariance
    return (base * np.exp(t)).reshape(shape), (posterior + posterior.T) / 2


def _with_floor(
    annual: NDArray, level: NDArray, shares: NDArray, proxies: Proxies, options: PriorOptions
) -> NDArray[np.float64]:
    """Move a share of power and industry to floors that follow lights weakly: (source, lat, lon)."""
    moved = options.floor_share * level[:, :2]
    glow = np.sqrt(np.nan_to_num(proxies.lights))
    weak = _normalised(shares * (glow + 0.05 * glow.mean() + 1e-6))
    kept = annual.copy()
    kept[[k for k, s in enumerate(CLASS_SECTOR[:-2]) if s < 2]] *= 1.0 - options.floor_share
    return np.concatenate([kept, np.einsum("ps,pyx->syx", moved, weak)])


def seasons(temperature: NDArray[np.float64], year: int) -> NDArray[np.float64]:
    """Share of each month in the year by sector and cell, (month, sector, lat, lon), summing to 1 over months.

    Residential: 0.35 evenly, 0.65 by heating degree days below 288 K (15 C; China heats below about 5-8 C, cooks all
    year); power rises 1.2 % a kelvin below 288 K and 2 % above 295 K; industry and transport rest at the New Year.
    """
    starts = np.datetime64(f"{year}-01", "M") + np.arange(13)
    length = np.diff(starts.astype("M8[D]")).astype(float)[:, None, None]
    cold, hot = np.maximum(288.15 - temperature, 0), np.maximum(temperature - 295.15, 0)
    heat = cold * length
    evenly = np.broadcast_to(length / length.sum(), heat.shape).copy()
    heating = np.divide(heat, heat.sum(0), out=evenly, where=heat.sum(0) > 1.0)
    power = length * (1 + 0.012 * cold + 0.02 * hot)
    residential = 0.35 * length / length.sum() + 0.65 * heating
    even = np.ones_like(temperature) * length
    result = np.stack([power, even.copy(), even.copy(), residential], axis=1)
    for s, sector in enumerate(SECTORS):
        for month, factor in enumerate(_NEW_YEAR_DIP.get(sector, ())):
            result[month, s] *= factor
    return result / result.sum(axis=0)


def other_nox(
    grid: Grid, co2: NDArray[np.float64], proxies: Proxies, options: InversionOptions, year: int
) -> NDArray[np.float64]:
    """NOx that is no Chinese CO2 source's, kg NO2-equivalent s-1 per cell, (month, lat, lon).

    Soils by temperature, exp(0.103 T) with T in C up to 30 (Yienger and Levy 1995), scaled to `soil_flux` at 25 C; on
    cells of no region, lights at China's mean NOx per light (where the proxy knows them) and a floor for ships and
    unlit land.
    """
    inside = np.clip(proxies.shares.sum(axis=0), 0.0, 1.0)
    warmth = np.minimum(proxies.temperature - 273.15, 30.0)
    soil = options.soil_flux * np.exp(0.103 * (warmth - 25.0)) * grid.area
    glow = np.nan_to_num(proxies.lights) * grid.area
    seconds = np.diff((np.datetime64(f"{year}-01", "M") + np.arange(13)).astype("M8[s]")).astype(float)
    ratio = np.array(options.nox_ratio)[list(CLASS_SECTOR)]
    chinese = np.einsum("c,mcyx->m", ratio, co2) / seconds
    per_light = chinese / max(float((glow * inside).sum()), 1.0)
    foreign = per_light[:, None, None] * glow + options.foreign_floor * grid.area
    near = binary_dilation(inside > 0, iterations=_REACH)
    return np.where(near, soil * np.maximum(inside, 0.3) + foreign * (1.0 - inside), 0.0)
