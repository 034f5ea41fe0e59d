"""Write the product: a month of the 0.25 degree cubes, a tile of the 1 km cube."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from pipeline.core.chunks import Tile
from pipeline.core.grid import block_repeat
from pipeline.core.schema import CONSISTENCY, INFORMATION
from pipeline.product.downscale import downscale
from pipeline.product.layout import REFERENCES
from pipeline.product.uncertainty import (
    Areas,
    area_samples,
    inflate_within,
    interval,
    reference_sigma,
    rounded,
    sigma,
    stated_inflation,
)
from pipeline.product.weights import TileWeights
from pipeline.store.cubes import open_cube, write_region
from pipeline.store.location import Store

OBSERVED_FROM = 0.1
"""Variance reduction from which a cell with observations counts as observed."""

Cubes = dict[str, dict[str, NDArray]]
"""Arrays of one month by cube and variable, without the time axis."""


def month_cubes(
    month: xr.Dataset,
    areas: Areas,
    china_fraction: NDArray[np.floating],
    factor: NDArray[np.floating] | float | None = None,
    learned: bool = False,
) -> Cubes:
    """All 0.25 degree and regional cubes of one month, from its members as the inversion gives them.

    Parameters
    ----------
    month : `co2` (member, sector, lat, lon) and `prior` (sector, lat, lon) in tonnes, the Chinese part of each cell,
        sectors in the order of `SECTORS`; perhaps `proxy_prior` (lat, lon), where `prior` was learned from it;
        `prior_sigma`, `averaging_kernel`, `variance_reduction`, `n_no2` and `n_xco2` (lat, lon), and the layers of
        `diagnostics_025`, NaN where no NO2 was seen.
    areas : what totals are made for.
    china_fraction : (lat, lon); cells with 0 become NaN.
    factor : inflation of the members, (lat, lon) or one number; by default what is stated (`stated_inflation`).
    learned : whether the prior was a learned field (for `information`).
    """
    inside = china_fraction > 0
    raw = month["co2"].transpose("member", "sector", "lat", "lon").values
    raw = np.where(inside, raw, 0.0)
    factor = stated_inflation(raw.sum(axis=1)) if factor is None else factor
    members = inflate_within(raw, factor, areas.shares[: areas.provinces])
    by_sector = members.mean(axis=0)
    total = members.sum(axis=1)
    mean = by_sector.sum(axis=0)
    spread = sigma(total)
    low, high = interval(total)
    totals = area_samples(members, areas.shares)
    prior = month["prior"].transpose("sector", "lat", "lon").values.sum(axis=0)
    emissions = {
        "co2_emission": mean,
        "co2_emission_sigma": spread,
        "co2_emission_p05": low,
        "co2_emission_p95": high,
        "co2_prior": prior,
        "co2_proxy_prior": month["proxy_prior"].values if "proxy_prior" in month else prior,
        **{k: month[v].values for k, v in _PASSED.items()},
    }
    return {
        "emissions_025": {
            **{k: np.where(inside, v, np.nan) for k, v in emissions.items()},
            **{k: np.where(inside, np.nan_to_num(month[k].values), 0).astype("int32") for k in ("n_no2", "n_xco2")},
            "information": information(month, inside, learned),
        },
        "diagnostics_025": {name: np.where(inside, month[name].values, np.nan) for name in CONSISTENCY},
        "sectors_025": {
            "co2_emission": np.where(inside, by_sector, np.nan),
            "co2_emission_sigma": np.where(inside, sigma(members), np.nan),
        },
        "samples_025": {"co2_emission": np.where(inside, rounded(total, mean), np.float32(np.nan))},
        "region_samples": {"co2_emission": totals},
        "regions": _totals(totals, spread, areas),
    }


_PASSED = {
    "co2_prior_sigma": "prior_sigma",
    "averaging_kernel": "averaging_kernel",
    "variance_reduction": "variance_reduction",
}


def information(month: xr.Dataset, inside: NDArray[np.bool_], learned: bool) -> NDArray[np.int8]:
    """Where each cell's value comes from, (lat, lon): observed, else learned or prior, 0 outside."""
    seen = (month["n_no2"].values + month["n_xco2"].values > 0) & (month["variance_reduction"].values >= OBSERVED_FROM)
    otherwise = INFORMATION["learned" if learned else "prior"]
    flag = np.where(seen, INFORMATION["observed"], otherwise)
    return np.where(inside, flag, INFORMATION["outside"]).astype(np.int8)


def _totals(totals: NDArray[np.float64], cell_sigma: NDArray[np.float64], areas: Areas) -> dict[str, NDArray]:
    low, high = interval(totals)
    independent, correlated = reference_sigma(cell_sigma, areas.shares)
    return {
        "co2_emission": totals.mean(axis=0),
        "co2_emission_sigma": sigma(totals),
        "co2_emission_p05": low,
        "co2_emission_p95": high,
        **dict(zip(REFERENCES, (independent, correlated), strict=True)),
    }


def write_month(store: Store, product: str, index: int, cubes: Cubes) -> None:
    """Write one month into all 0.25 degree and regional cubes.

    Parameters
    ----------
    product : folder of the product; index : place of the month on the cubes' time axis.
    """
    for cube, arrays in cubes.items():
        axis = 1 if cube in ("samples_025", "region_samples") else 0
        values = {name: np.expand_dims(array, axis) for name, array in arrays.items()}
        write_region(store, f"{product}/{cube}.zarr", values, {"time": slice(index, index + 1)})


def write_tile(store: Store, product: str, tile: Tile, weights: TileWeights, months: Sequence[int]) -> None:
    """Write one tile of the 1 km cube for some months, from the 0.25 degree cubes as they stand in the product.

    Parameters
    ----------
    weights : of the tile and the year of these months; months : places on the cubes' time axis.
    """
    rows, cols = tile.coarse
    sectors = open_cube(store, f"{product}/sectors_025.zarr", chunks=None)["co2_emission"].isel(lat=rows, lon=cols)
    coarse = open_cube(store, f"{product}/emissions_025.zarr", chunks=None).isel(lat=rows, lon=cols)
    lat, lon = tile.fine
    for k in months:
        flag = coarse["information"].isel(time=k).values
        month = downscale(
            sectors.isel(time=k).values,
            coarse["co2_emission_sigma"].isel(time=k).values,
            weights.share,
            weights.variance,
            weights.land,
        )
        values: dict[str, NDArray] = {
            "co2_emission": month.mean,
            "co2_emission_sigma": month.sigma,
            "co2_emission_p05": month.p05,
            "co2_emission_p95": month.p95,
            "information": np.where(weights.land, block_repeat(flag), 0).astype(np.int8),
        }
        region = {"time": slice(k, k + 1), "lat": lat, "lon": lon}
        write_region(store, f"{product}/emissions_001.zarr", {n: v[None] for n, v in values.items()}, region)


def year_total(store: Store, product: str, months: Sequence[int]) -> NDArray[np.float64]:
    """Tonnes a year by sector, (sector, lat, lon): what the year's weights are made from.

    Parameters
    ----------
    months : places on the time axis of the year's months; where they are not twelve, their mean stands for the others.
    """
    emission = open_cube(store, f"{product}/sectors_025.zarr", chunks=None)["co2_emission"]
    return np.asarray(12.0 * emission.isel(time=list(months)).mean("time", skipna=False).values)
