"""Reanalysis on single levels: ERA5 from the old and the new CDS, as netCDF or GRIB, and other GRIB of this kind."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from pipeline.ingest.axes import Axis
from pipeline.ingest.contract import Rejected, Rules
from pipeline.ingest.cubefile import CubeFile, Layer
from pipeline.ingest.gridded import explained, magic, open_netcdf
from pipeline.ingest.grids import Contents, OpenGrid
from pipeline.ingest.lazygrid import LazyGrid, Quantity, cut_region, iso

_WIND = Quantity("m s-1", {"m s-1": 1.0}, -120.0, 120.0)
QUANTITIES: dict[str, Quantity] = {
    "u10": _WIND,
    "v10": _WIND,
    "u100": _WIND,
    "v100": _WIND,
    "blh": Quantity("m", {"m": 1.0}, -50.0, 15_000.0),
    "t2m": Quantity("K", {"K": 1.0}, 180.0, 345.0),
    "sp": Quantity("Pa", {"Pa": 1.0}, 30_000.0, 112_000.0),
    "tcwv": Quantity("kg m-2", {"kg m-2": 1.0}, -1.0, 150.0),
    "u950": _WIND,
    "v950": _WIND,
}
"""Layers of the cube; the limits hold a margin around the records of the atmosphere."""
_NAMES = {
    "u10": ("u10", "10m_u_component_of_wind"),
    "v10": ("v10", "10m_v_component_of_wind"),
    "u100": ("u100", "100m_u_component_of_wind"),
    "v100": ("v100", "100m_v_component_of_wind"),
    "blh": ("blh", "boundary_layer_height"),
    "t2m": ("t2m", "2m_temperature"),
    "sp": ("sp", "surface_pressure"),
    "tcwv": ("tcwv", "total_column_water_vapour"),
    "u950": ("u", "u_component_of_wind"),
    "v950": ("v", "v_component_of_wind"),
}
_LEVELS = ("pressure_level", "level", "isobaricInhPa")
STEPS = (1, 3, 6)


@dataclass(frozen=True)
class Reanalysis:
    """Reads reanalysis files into one cube; a file may hold any of the variables and any times of one step."""

    path: str
    source: str
    rules: Rules = field(default_factory=dict)
    adds: bool = False
    tiled: bool = False

    def cube(self, contents: Sequence[Contents]) -> tuple[CubeFile, Axis, Axis]:
        """Hours apart as far as the files' times tell; layers the files have; a chunk holds a day."""
        step = time_step([t for c in contents for t in c.times])
        names = [name for name in QUANTITIES if any(name in c.variables for c in contents)]
        layers = {name: Layer(QUANTITIES[name].units) for name in names}
        return CubeFile(self.path, layers, step, bits=tuple(QUANTITIES)), contents[0].lat, contents[0].lon

    @contextlib.contextmanager
    def open(self, path: str, rules: Rules) -> Iterator[OpenGrid]:  # noqa: ARG002
        """One file, netCDF or GRIB by its first bytes."""
        if magic(path) == b"GRIB":
            from pipeline.ingest.grib import open_grib

            with open_grib(path, self.source) as grid:
                yield grid
            return
        with open_netcdf(path) as ds:
            yield lazy(ds, self.source)


def time_step(times: Sequence[str]) -> int:
    """Hours between fields: the largest step of 1, 3 or 6 on which all hours of the day lie; 1 where none fits.

    Hours that are not there stay missing in the cube, and `ingested` and the doctor say so.
    """
    hours = {int(t[11:13]) for t in times}
    common = math.gcd(24, *hours)
    return common if common in STEPS else 1


def lazy(ds: xr.Dataset, source: str) -> LazyGrid:
    """The variables of an opened Dataset that the cube knows.

    Raises
    ------
    Rejected : none of them, another unit, no usable time, or elsewhere.
    """
    time_dim = next((d for d in ("valid_time", "time") if d in ds.dims), None)
    if time_dim is None:
        scalar = next((c for c in ("valid_time", "time") if c in ds.coords and ds[c].ndim == 0), None)
        if scalar is None:
            raise Rejected(f"no dim of time among {', '.join(map(str, ds.dims)) or 'none'}")
        ds, time_dim = ds.expand_dims(scalar), scalar
    arrays = {ours: found for ours in QUANTITIES if (found := _find(ds, ours, time_dim)) is not None}
    if not arrays:
        raise Rejected(f"none of {', '.join(QUANTITIES)} among {', '.join(map(str, ds.data_vars)) or 'nothing'}")
    for ours, found in arrays.items():
        # One monthly mean stands at a full hour like any field; only this attribute of the new CDS tells.
        if (kind := str(found[0].attrs.get("GRIB_stepType", "instant"))) != "instant":
            raise Rejected(f"{ours} is of the kind {kind!r}, a mean or sum over time, expected instantaneous values")
    times = ds[time_dim].values
    if not np.issubdtype(times.dtype, np.datetime64) or times.size == 0 or np.isnat(times).any():
        raise Rejected(f"times of type {times.dtype}, {times.size} of them")
    check_hours(times)
    factors = {ours: QUANTITIES[ours].factor(str(a[0].attrs.get("units", "")), ours) for ours, a in arrays.items()}
    lat, lon = cut_region(ds)
    attrs = {"source": source, "assumed": "values at the full hour, UTC; int16 packing undone; region 66..143E 10..62N"}
    contents = Contents(iso(times), tuple(arrays), lat.axis, lon.axis, _rank(ds), attrs=attrs)
    return LazyGrid(arrays, time_dim, lat, lon, factors, QUANTITIES, contents)


def _find(ds: xr.Dataset, ours: str, time_dim: str) -> tuple[xr.DataArray, ...] | None:
    name = next((n for n in _NAMES[ours] if n in ds.data_vars), None)
    if name is None:
        return None
    array = ds[name]
    level = next((d for d in _LEVELS if d in array.dims or d in array.coords), None)
    if ours.endswith("950"):
        if level is None or 950 not in np.atleast_1d(ds[level].values):
            return None
        array = array.sel({level: 950}) if level in array.dims else array
    for dim in [d for d in array.dims if d in ("number", "realization") and array.sizes[d] == 1]:
        array = array.isel({dim: 0})
    extra = [d for d in array.dims if d not in (time_dim, "latitude", "longitude", "lat", "lon", "expver")]
    if extra:
        raise Rejected(f"{name} has the further dims {', '.join(map(str, extra))}")
    return _versions(array)


def _versions(array: xr.DataArray) -> tuple[xr.DataArray, ...]:
    """Final values (experiment 1) first, then preliminary ones (5) for their gaps, in any order of the file."""
    if "expver" not in array.dims:
        return (array,)
    versions = [int(str(v)) for v in array["expver"].values]
    return tuple(array.isel(expver=k, drop=True) for k in sorted(range(len(versions)), key=lambda k: versions[k]))


def _rank(ds: xr.Dataset) -> int:
    """1 where any of the file is preliminary (ERA5T), so that a final file replaces it."""
    if "expver" not in ds.coords and "expver" not in ds.data_vars:
        return 0
    values = np.atleast_1d(ds["expver"].values)
    return int(any(int(str(v)) != 1 for v in values if str(v).strip().isdigit()))


def check_hours(times: NDArray[np.datetime64]) -> None:
    """Refuse times between the hours, and monthly or yearly means, which have the variables too.

    Raises
    ------
    Rejected : with the first of them, or how far they are apart.
    """
    between = (times - times.astype("datetime64[h]")) != np.timedelta64(0)
    if between.any():
        raise Rejected(f"a field at {str(times[between][0])[:19]}, expected full hours")
    if times.size > 1 and np.median(np.diff(times) / np.timedelta64(1, "h")) > 24.5:
        days = float(np.median(np.diff(times) / np.timedelta64(24, "h")))
        raise Rejected(f"a field every {days:.1f} days, expected every 1, 3 or 6 hours: means over months?")


def read_all(grid: OpenGrid, variable: str) -> NDArray[np.float32]:
    """All fields of a variable, (time, lat, lon); for small files and checks."""
    with explained():
        rows = slice(0, grid.contents.lat.size)
        return np.stack([grid.read(variable, k, rows) for k in range(len(grid.contents.times))])
