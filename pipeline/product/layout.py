"""Templates of the product cubes: coordinates, arrays, chunks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from pipeline.core.chunks import FINE_CHUNK, FINE_SHARD
from pipeline.core.grid import Grid
from pipeline.core.labels import label_coord
from pipeline.core.schema import PRODUCTS, SECTORS
from pipeline.product.attributes import (
    COUNT,
    LONG_NAMES,
    MASS,
    ProductInfo,
    cube_attributes,
    information_attributes,
    named,
    space_coordinates,
    time_coordinates,
)
from pipeline.product.uncertainty import SECTOR_TOTAL, Areas
from pipeline.store.cubes import ArraySpec, create_template
from pipeline.store.location import Store

REFERENCES = ("co2_emission_sigma_independent", "co2_emission_sigma_correlated")
CUBES = tuple(PRODUCTS)


@dataclass(frozen=True)
class Layout:
    """Template of one cube: its coordinates and its arrays."""

    grid: Grid
    coords: xr.Dataset
    arrays: Mapping[str, ArraySpec]


def layouts(
    grid: Grid, months: NDArray[np.datetime64], n_member: int, areas: Areas, china_fraction: NDArray[np.float64]
) -> dict[str, Layout]:
    """Templates of all product cubes of a run.

    Parameters
    ----------
    grid : coarse cells of the domain; months : starts of the months; n_member : posterior members.
    areas : what totals are made for; china_fraction : (lat, lon).
    """
    time, space = time_coordinates(months), space_coordinates(grid)
    member = {"member": xr.Variable("member", np.arange(n_member), {"long_name": "posterior member"})}
    sector = {"sector": named(label_coord("sector", SECTORS), "emission sector")}
    totals = {
        "region": named(
            label_coord("region", areas.codes), "code of the province, training group or nation", areas.names
        ),
        "sector": named(label_coord("sector", SECTOR_TOTAL), "emission sector, or their total"),
    }
    fixed = {
        name: xr.Variable(
            ("lat", "lon"), values, {"units": units, "long_name": LONG_NAMES[name], "grid_mapping": "crs"}
        )
        for name, values, units in (("china_fraction", china_fraction, "1"), ("cell_area", grid.area, "m2"))
    }
    fine = grid.refine()
    n_lat, n_lon, n_area = *grid.shape, len(areas.codes)
    month = (1, n_lat, n_lon)
    return {
        "emissions_025": Layout(grid, _dataset(time, space, fixed), _arrays("emissions_025", month)),
        "diagnostics_025": Layout(grid, _dataset(time, space), _arrays("diagnostics_025", month, dtype="float32")),
        "sectors_025": Layout(
            grid, _dataset(time, sector, space), _arrays("sectors_025", (1, len(SECTORS), n_lat, n_lon))
        ),
        "samples_025": Layout(
            grid, _dataset(member, time, space), _arrays("samples_025", (n_member, *month), dtype="float32")
        ),
        "region_samples": Layout(
            grid, _dataset(member, time, totals), _arrays("region_samples", (n_member, 1, n_area, len(SECTOR_TOTAL)))
        ),
        "emissions_001": Layout(
            fine,
            _dataset(time, space_coordinates(fine)),
            _arrays("emissions_001", (1, *FINE_CHUNK), shards=(1, *FINE_SHARD), dtype="float32"),
        ),
        "regions": Layout(grid, _dataset(time, totals), _regions(n_area)),
    }


def create(store: Store, product: str, templates: Mapping[str, Layout], info: ProductInfo) -> bool:
    """Write the templates of all cubes under a product's folder; a repeat leaves data alone.

    Gives back whether any was written, and so has no data yet.
    """
    written = []
    for cube, layout in templates.items():
        months = layout.coords["time"].values
        attrs = cube_attributes(cube, info, layout.grid, months)
        written.append(create_template(store, f"{product}/{cube}.zarr", layout.coords, layout.arrays, attrs))
    return any(written)


def _dataset(*groups: Mapping[str, xr.Variable]) -> xr.Dataset:
    variables = {name: variable for group in groups for name, variable in group.items()}
    # CF takes bounds and the grid mapping for plain variables, and so does everything that reads them.
    data = {n: v for n, v in variables.items() if n.endswith("_bnds") or n in ("crs", "china_fraction", "cell_area")}
    return xr.Dataset(data, coords={n: v for n, v in variables.items() if n not in data})


def _arrays(
    cube: str, chunks: tuple[int, ...], shards: tuple[int, ...] | None = None, dtype: str = "float64"
) -> dict[str, ArraySpec]:
    specs = {}
    for name, var in PRODUCTS[cube].variables.items():
        if "time" not in var.dims:
            continue
        kind, attrs = dtype, {**(MASS if var.units == "t" else COUNT), "long_name": LONG_NAMES[name]}
        if name == "information":
            kind, attrs = "int8", information_attributes()
        elif name in ("n_no2", "n_xco2"):
            kind = "int32"
        specs[name] = ArraySpec(var.dims, kind, chunks, shards, attrs)
    return specs


def _regions(n_area: int) -> dict[str, ArraySpec]:
    specs = _arrays("regions", (1, n_area, len(SECTOR_TOTAL)))
    for name in REFERENCES:
        attrs = {"units": "t", "cell_methods": "time: sum", "long_name": LONG_NAMES[name]}
        specs[name] = ArraySpec(("time", "region"), "float64", (1, n_area), None, attrs)
    return specs
