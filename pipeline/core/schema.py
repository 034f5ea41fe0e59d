"""What each cube must look like: the contract at every door, as data."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import xarray as xr

from pipeline.core.errors import InputError
from pipeline.core.units import canonical

SCHEMA_VERSION = 1
SECTORS = ("power", "industry", "transport", "residential")
"""Sectors everywhere, in this order."""
INFORMATION = {"outside": 0, "prior": 1, "learned": 2, "observed": 3}
"""Flag values of the `information` layer."""
CONSISTENCY = (
    "innovation_mean",
    "innovation_rms",
    "residual_mean",
    "residual_rms",
    "observation_error_ratio",
    "background_error_ratio",
)
"""What tells whether an inversion's errors are those it believed in (`pipeline.invert.diagnose`)."""
_UNIT_SPELLINGS = {"persons": {"1", "people", "count"}, "ppm": {"1e-6", "umol mol-1"}}


@dataclass(frozen=True)
class Var:
    """A variable of a cube: units, dims in order, whether it may be absent."""

    units: str
    dims: tuple[str, ...] = ("time", "lat", "lon")
    optional: bool = False


@dataclass(frozen=True)
class Schema:
    """A cube: its variables and what its time axis holds (``day``, ``month``, ``year``, ``step``)."""

    name: str
    variables: Mapping[str, Var]
    time: str
    extra_dims: tuple[str, ...] = field(default=())

    @property
    def required(self) -> list[str]:
        """Names of the variables that must be there."""
        return [name for name, var in self.variables.items() if not var.optional]


def _opt(units: str) -> Var:
    return Var(units, optional=True)


INPUTS: dict[str, Schema] = {
    "xco2": Schema(
        "xco2",
        {
            "xco2": Var("ppm"),
            "xco2_uncertainty": Var("ppm"),
            "n_soundings": Var("1"),
            "averaging_kernel_pbl": _opt("1"),
            "obs_time": _opt(""),
        },
        "day",
    ),
    "no2": Schema(
        "no2",
        {
            "no2_column": Var("mol m-2"),
            "no2_column_uncertainty": Var("mol m-2"),
            "valid_fraction": Var("1"),
            "amf_factor": _opt("1"),
        },
        "day",
    ),
    "era5": Schema(
        "era5",
        {
            "u10": Var("m s-1"),
            "v10": Var("m s-1"),
            "u100": Var("m s-1"),
            "v100": Var("m s-1"),
            "blh": Var("m"),
            "t2m": Var("K"),
            "sp": Var("Pa"),
            "tcwv": _opt("kg m-2"),
            "u950": _opt("m s-1"),
            "v950": _opt("m s-1"),
        },
        "step",
    ),
    "nightlights": Schema("nightlights", {"radiance": Var("nW cm-2 sr-1")}, "month or year"),
    "population": Schema("population", {"population": Var("persons")}, "year"),
    "inventory": Schema(
        "inventory",
        {
            "co2_flux": Var("kg m-2 s-1", ("time", "sector", "lat", "lon")),
            "nox_flux": Var("kg m-2 s-1", ("time", "sector", "lat", "lon"), optional=True),
        },
        "month",
        ("sector",),
    ),
}
"""Input cubes; `xco2_<instrument>`, `no2_<instrument>` and `inventory_<name>` follow their family."""

_CELL = ("time", "lat", "lon")
PRODUCTS: dict[str, Schema] = {
    "emissions_025": Schema(
        "emissions_025",
        {
            name: Var("t")
            for name in (
                "co2_emission",
                "co2_emission_sigma",
                "co2_emission_p05",
                "co2_emission_p95",
                "co2_prior",
                "co2_prior_sigma",
                "co2_proxy_prior",
            )
        }
        | {name: Var("1") for name in ("averaging_kernel", "variance_reduction", "n_no2", "n_xco2")}
        | {"information": Var(""), "china_fraction": Var("1", ("lat", "lon")), "cell_area": Var("m2", ("lat", "lon"))},
        "month",
    ),
    "diagnostics_025": Schema(
        "diagnostics_025",
        {name: Var("1") for name in CONSISTENCY},
        "month",
    ),
    "sectors_025": Schema(
        "sectors_025",
        {name: Var("t", ("time", "sector", "lat", "lon")) for name in ("co2_emission", "co2_emission_sigma")},
        "month",
        ("sector",),
    ),
    "samples_025": Schema("samples_025", {"co2_emission": Var("t", ("member", *_CELL))}, "month", ("member",)),
    "region_samples": Schema(
        "region_samples",
        {"co2_emission": Var("t", ("member", "time", "region", "sector"))},
        "month",
        ("member", "region", "sector"),
    ),
    "emissions_001": Schema(
        "emissions_001",
        {name: Var("t") for name in ("co2_emission", "co2_emission_sigma", "co2_emission_p05", "co2_emission_p95")}
        | {"information": Var("")},
        "month",
    ),
    "regions": Schema(
        "regions",
        {
            name: Var("t", ("time", "region", "sector"))
            for name in ("co2_emission", "co2_emission_sigma", "co2_emission_p05", "co2_emission_p95")
        },
        "month",
        ("region", "sector"),
    ),
}
"""Cubes under `products/<version>/`."""

POINT_SOURCE_COLUMNS = (
    "lat", "lon", "name", "sector", "kind", "capacity", "capacity_unit",
    "co2_tonnes_per_year", "start_year", "retire_year", "source",
)  # fmt: skip
PRIOR_TOTAL_COLUMNS = ("region", "year", "sector", "co2_tonnes", "sigma_rel")


def input_schema(cube: str) -> Schema:
    """The schema of an input cube by its name, families included (`no2_tropomi` is a `no2`).

    Raises
    ------
    InputError : no cube of the contract has this name.
    """
    family = cube if cube in INPUTS else cube.split("_", 1)[0]
    if family not in INPUTS:
        raise InputError(f"input cube {cube!r}", f"one of {', '.join(INPUTS)} (or <family>_<name>)")
    return INPUTS[family]


def check(ds: xr.Dataset, schema: Schema, where: str) -> xr.Dataset:
    """Hold a Dataset to its schema and give it back in normal form, lazily.

    Normal form: dims in the schema's order, latitude ascending, longitude -180..180 ascending, time as
    ``datetime64[ns]`` increasing. Values are not touched.

    Parameters
    ----------
    ds : the cube as opened.
    schema : what it must look like.
    where : name or address for the message.

    Raises
    ------
    InputError : missing variable or dim, wrong unit, empty or unsorted or repeated coordinates, newer schema version.
    """
    _check_version(ds, where)
    missing = [name for name in schema.required if name not in ds.data_vars]
    if missing:
        raise InputError(
            f"{where} lacks {', '.join(missing)} (it has {', '.join(map(str, ds.data_vars)) or 'nothing'})",
            f"the variables {', '.join(schema.required)}",
            "write the cube again or check its ingest",
        )
    present = [name for name in schema.variables if name in ds.data_vars]
    for name in present:
        _check_variable(ds[name], schema.variables[name], f"{where}: {name}")
    ds = ds[present]
    if any("lat" in schema.variables[name].dims for name in present):
        ds = _normal_horizontal(ds, where)
    if "time" in ds.dims:
        ds = _normal_time(ds, where)
    return ds.transpose(*_dim_order(ds, schema))


def _dim_order(ds: xr.Dataset, schema: Schema) -> list[str]:
    order: list[str] = []
    for var in sorted(schema.variables.values(), key=lambda v: -len(v.dims)):
        order += [d for d in var.dims if d not in order]
    return [d for d in order if d in ds.dims]


def _check_version(ds: xr.Dataset, where: str) -> None:
    raw = str(ds.attrs.get("schema_version", SCHEMA_VERSION))
    version = re.match(r"\d+", raw)
    if version is None or int(version.group()) > SCHEMA_VERSION:
        raise InputError(
            f"{where} has schema_version {raw}", f"at most {SCHEMA_VERSION}", "update carboncube to read this cube"
        )


def _check_variable(array: xr.DataArray, spec: Var, where: str) -> None:
    if set(array.dims) != set(spec.dims):
        raise InputError(
            f"{where} has dims ({', '.join(map(str, array.dims))})", f"({', '.join(spec.dims)})", "rename or reshape it"
        )
    if not spec.units:
        return
    if "units" not in array.attrs:
        raise InputError(f"{where} has no attribute 'units'", f"units {spec.units!r}", "state the unit in the cube")
    seen, expected = canonical(str(array.attrs["units"])), canonical(spec.units)
    if seen != expected and seen not in _UNIT_SPELLINGS.get(expected, ()):
        raise InputError(
            f"{where} has units {array.attrs['units']!r}", f"{spec.units!r}", "convert the values and restate the unit"
        )


def _normal_horizontal(ds: xr.Dataset, where: str) -> xr.Dataset:
    for dim, bound in (("lat", 90.0), ("lon", 360.0)):
        if dim not in ds.coords:
            raise InputError(f"{where} has no coordinate {dim!r}", "1-D cell centres in degrees", "add the coordinate")
        values = np.asarray(ds[dim].values, dtype=float)
        if values.ndim != 1 or values.size < 2:
            raise InputError(f"{where}: {dim} has shape {values.shape}", "a 1-D axis of at least two cells")
        if not np.all(np.isfinite(values)) or np.abs(values).max() > bound + 1e-6:
            raise InputError(f"{where}: {dim} runs {values.min()}..{values.max()}", f"finite degrees within {bound:g}")
        steps = np.diff(values)
        if not (np.all(steps > 0) or np.all(steps < 0)):
            raise InputError(f"{where}: {dim} is not monotonic", "strictly ascending or descending cell centres")
    lon = np.asarray(ds["lon"].values, dtype=float)
    if lon.max() > 180:
        # Rounded at 1e-12 so that 253.125 - 360 and a grid written as -106.875 are the same cell.
        ds = ds.assign_coords(lon=("lon", np.where(lon > 180, np.round(lon - 360, 12), lon), ds["lon"].attrs))
    for dim in ("lat", "lon"):
        values = ds[dim].values
        if np.any(np.diff(values) < 0):
            ds = ds.isel({dim: np.argsort(values, kind="stable")})
    return ds


def _normal_time(ds: xr.Dataset, where: str) -> xr.Dataset:
    time = ds["time"]
    if not np.issubdtype(time.dtype, np.datetime64):
        raise InputError(f"{where}: time has type {time.dtype}", "datetime64 in UTC", "write CF times")
    if time.size == 0:
        raise InputError(f"{where} has no time step", "at least one")
    values = time.values.astype("datetime64[ns]")
    steps = np.diff(values)
    if np.any(steps == np.timedelta64(0)):
        raise InputError(f"{where} has the time {values[1:][steps == np.timedelta64(0)][0]} twice", "each time once")
    ds = ds.assign_coords(time=("time", values, time.attrs))
    return ds.sortby("time") if np.any(steps < np.timedelta64(0)) else ds
