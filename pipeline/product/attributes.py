"""What the product cubes say of themselves: CF-1.11 and ACDD-1.3 attributes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyproj
import xarray as xr
from numpy.typing import NDArray

from pipeline.core.grid import Grid
from pipeline.core.schema import INFORMATION, SCHEMA_VERSION

MASS = {
    "units": "t",
    "cell_methods": "area: sum time: sum",
    "grid_mapping": "crs",
    "coverage_content_type": "modelResult",
}
COUNT = {"units": "1", "grid_mapping": "crs"}
LONG_NAMES = {
    "co2_emission": "fossil and process CO2 emitted in the month, posterior mean",
    "co2_emission_sigma": "standard deviation of co2_emission, calibrated total uncertainty",
    "co2_emission_p05": "5 % quantile of co2_emission",
    "co2_emission_p95": "95 % quantile of co2_emission",
    "co2_prior": "prior mean of the CO2 emitted in the month",
    "co2_prior_sigma": "standard deviation of the prior",
    "co2_proxy_prior": "what proxies and believed totals had before anything was learned from satellites",
    "averaging_kernel": "diagonal of the averaging kernel given the level: the totals of provinces by sector are held, "
    "their uncertainty is not in it (correlated errors may take it out of 0..1)",
    "variance_reduction": "1 - posterior variance / prior variance of the cell before calibration, both with the "
    "uncertainty of the level, relative to the posterior mean",
    "n_no2": "NO2 observations that touched the cell in the month",
    "n_xco2": "XCO2 observations that touched the cell in the month",
    "innovation_mean": "mean of NO2 innovations y - h(prior) over the root of their believed variance R + HBH^T",
    "innovation_rms": "root of the mean squared NO2 innovation over its believed variance R + HBH^T; 1 expected",
    "residual_mean": "mean of NO2 residuals y - h(posterior) over the sigma of the columns",
    "residual_rms": "root mean square of NO2 residuals over the sigma of the columns; below 1 expected",
    "observation_error_ratio": "error variance of NO2 columns by Desroziers et al. (2005) over the believed R, which "
    "is inflated because neighbours err together",
    "background_error_ratio": "error variance of the prior's NO2 columns by Desroziers et al. (2005) over the believed "
    "HBH^T",
    "information": "where the cell's value comes from",
    "china_fraction": "share of the cell inside the regions of the product",
    "cell_area": "area of the cell",
    "co2_emission_sigma_independent": "standard deviation of the total had the cells been independent (reference)",
    "co2_emission_sigma_correlated": "standard deviation of the total had the cells been fully correlated (reference)",
}
SUMMARIES = {
    "emissions_025": "Monthly CO2 emissions of China at 0.25 degree from satellite NO2 and XCO2, winds and proxies.",
    "diagnostics_025": "Whether the errors that the inversion of NO2 believed in were those seen, at 0.25 degree.",
    "sectors_025": "Monthly CO2 emissions of China by sector at 0.25 degree.",
    "samples_025": "Posterior members of monthly CO2 emissions at 0.25 degree; member k is one draw everywhere.",
    "region_samples": "Posterior members of monthly CO2 totals of provinces, training groups and nation, by sector.",
    "emissions_001": "Monthly CO2 emissions of China at 0.01 degree; 25 x 25 cells sum to their 0.25 degree cell.",
    "regions": "Monthly CO2 totals of provinces, training groups and the nation, by sector, with uncertainty.",
}


@dataclass(frozen=True)
class ProductInfo:
    """What is the same in every cube of a product.

    Parameters
    ----------
    version : of the product; code_version : of the program; settings : JSON text without secrets.
    regrid_engine : which regridding engine was used.
    synthetic : whether any input was made by a simulation.
    license : of the product.
    """

    version: str
    code_version: str
    settings: str
    regrid_engine: str
    synthetic: bool
    license: str = "CC-BY-4.0; inputs keep their own licences, listed in provenance.json"


def cube_attributes(cube: str, info: ProductInfo, grid: Grid, months: NDArray[np.datetime64]) -> dict[str, Any]:
    """Attributes of a cube; nothing in them depends on when or where it was made."""
    west, south, east, north = grid.bounds
    first, last = months.min().astype("datetime64[M]"), months.max().astype("datetime64[M]") + 1
    kind = "Simulated demonstration: " if info.synthetic else ""
    return {
        "Conventions": "CF-1.11, ACDD-1.3",
        "title": f"{kind}CarbonCube CO2 emissions of China, {cube}",
        "summary": f"{kind}{SUMMARIES[cube]} Fossil and process CO2, tonnes of CO2 per cell and month.",
        "license": info.license,
        "keywords": "CO2 emissions, China, satellite, inversion",
        "source": f"CarbonCube {info.code_version}",
        "time_coverage_start": f"{first}-01T00:00:00Z",
        "time_coverage_end": f"{last}-01T00:00:00Z",
        "time_coverage_resolution": "P1M",
        "geospatial_lat_min": south,
        "geospatial_lat_max": north,
        "geospatial_lon_min": west,
        "geospatial_lon_max": east,
        "geospatial_lat_resolution": f"{grid.step:g} degree",
        "geospatial_lon_resolution": f"{grid.step:g} degree",
        "product_version": info.version,
        "schema_version": SCHEMA_VERSION,
        "settings": info.settings,
        "code_version": info.code_version,
        "regrid_engine": info.regrid_engine,
        "synthetic": "true" if info.synthetic else "false",
    }


def information_attributes() -> dict[str, Any]:
    """CF flags of the `information` layer."""
    return {
        "long_name": LONG_NAMES["information"],
        "flag_values": [int(v) for v in INFORMATION.values()],
        "flag_meanings": " ".join(INFORMATION),
        "grid_mapping": "crs",
    }


def time_coordinates(months: NDArray[np.datetime64]) -> dict[str, xr.Variable]:
    """Month starts `time` with `time_bnds`, in whole days since 1970."""
    starts = months.astype("datetime64[M]")
    bounds = np.stack([starts, starts + 1], axis=1).astype("datetime64[ns]")
    encoding = {"units": "days since 1970-01-01", "dtype": "int64"}
    attrs = {"standard_name": "time", "long_name": "start of the month", "bounds": "time_bnds", "axis": "T"}
    return {
        "time": xr.Variable("time", bounds[:, 0], attrs, encoding),
        "time_bnds": xr.Variable(("time", "bnds"), bounds, encoding=encoding),
    }


def space_coordinates(grid: Grid) -> dict[str, xr.Variable]:
    """`lat` and `lon` with bounds and the grid mapping `crs` (EPSG:4326)."""
    axes = grid.coords()
    result: dict[str, xr.Variable] = {}
    for name, axis, edges in (("lat", "Y", grid.lat_edges), ("lon", "X", grid.lon_edges)):
        attrs = {**axes[name].attrs, "axis": axis, "bounds": f"{name}_bnds"}
        result[name] = xr.Variable(name, axes[name].values, attrs)
        result[f"{name}_bnds"] = xr.Variable((name, "bnds"), np.stack([edges[:-1], edges[1:]], axis=1))
    result["crs"] = xr.Variable((), np.int32(0), pyproj.CRS.from_epsg(4326).to_cf())
    return result


def named(coord: xr.Variable, long_name: str, names: Sequence[str] = ()) -> xr.Variable:
    """A label coordinate with its long name and, where labels are codes, the names they stand for in `names`."""
    extra = {"long_name": long_name} | ({"names": list(names)} if names else {})
    return xr.Variable(coord.dims, coord.values, {**coord.attrs, **extra})
