"""Opening netCDF by what the bytes say, and finding what varies between producers: names, axes, units."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import NoReturn

import numpy as np
import xarray as xr

from pipeline.core.errors import CarbonCubeError, InputError
from pipeline.ingest.contract import Rejected

_ENGINES = {b"\x89HDF": "h5netcdf", b"CDF\x01": "scipy", b"CDF\x02": "scipy", b"CDF\x05": "netcdf4"}

KINDS: Mapping[bytes, str] = {
    b"\x89HDF": "an HDF5 file",
    **dict.fromkeys((b"CDF\x01", b"CDF\x02", b"CDF\x05"), "a netCDF-3 file"),
    b"GRIB": "a GRIB file",
    **dict.fromkeys((b"II*\x00", b"MM\x00*"), "a TIFF"),
    b"PK\x03\x04": "a zip archive or workbook",
}
"""What the first four bytes say."""


def refuse_kind(path: str, expected: str) -> NoReturn:
    """Say what a file is instead of what is expected.

    Raises
    ------
    Rejected : another known format: another product.
    InputError : nothing known: damaged.
    """
    start = magic(path)
    if start in KINDS:
        raise Rejected(f"{KINDS[start]}, expected {expected}")
    raise InputError(f"the file begins with {start!r}", expected, "fetch the file again")


def magic(path: str) -> bytes:
    """The first four bytes of a file."""
    with open(path, "rb") as file:
        return file.read(4)


@contextlib.contextmanager
def open_netcdf(path: str, decode_times: bool = True, group: str | None = None) -> Iterator[xr.Dataset]:
    """A netCDF file as a lazily indexed Dataset without Dask; or one group of it, with axes that stand in the root.

    Raises
    ------
    InputError : not netCDF, truncated or damaged.
    """
    engine = _ENGINES.get(magic(path))
    if group is not None and engine != "h5netcdf":
        raise Rejected(f"a netCDF-3 file, which cannot hold the group {group!r}")
    if engine is None:
        refuse_kind(path, "netCDF (CDF or HDF5)")
    with explained():
        ds = xr.open_dataset(path, engine=engine, decode_times=decode_times, cache=False, group=group)  # type: ignore[arg-type]
        if group is not None:
            with xr.open_dataset(path, engine=engine, decode_times=decode_times, cache=False) as root:  # type: ignore[arg-type]
                axes = [d for d in ds.dims if d not in ds.coords and d in root.coords]
                ds = ds.assign_coords({d: root[d].load() for d in axes})
    try:
        with explained():
            yield ds
    finally:
        ds.close()


@contextlib.contextmanager
def explained() -> Iterator[None]:
    """Turn what libraries raise on damaged files into one kind of error."""
    try:
        yield
    except (Rejected, CarbonCubeError):
        raise
    except Exception as error:
        raise InputError(
            f"the file cannot be read ({type(error).__name__}: {error})", "a whole, undamaged file", "fetch it again"
        ) from error


def horizontal(ds: xr.Dataset) -> xr.Dataset:
    """Rename the horizontal axes to `lat`, `lon`, both ascending, longitude -180..180, lazily.

    Raises
    ------
    Rejected : no 1-D axes of degrees.
    """
    names = {}
    for ours, known in (("lat", ("lat", "latitude", "y")), ("lon", ("lon", "longitude", "x"))):
        found = next((n for n in known if n in ds.dims and n in ds.coords), None)
        if found is None:
            raise Rejected(f"no axis of {ours} among the dims {', '.join(map(str, ds.dims)) or 'none'}")
        names[found] = ours
    ds = ds.rename({old: new for old, new in names.items() if old != new})
    for name, bound in (("lat", 90.0), ("lon", 360.0)):
        values = np.asarray(ds[name].values, float)
        if values.size < 2 or not np.all(np.isfinite(values)) or np.abs(values).max() > bound + 1e-3:
            raise Rejected(f"{name} of {values.size} cells is not a list of degrees")
    lon = np.asarray(ds["lon"].values, float)
    if lon.max() > 180:
        ds = ds.assign_coords(lon=np.where(lon > 180, np.round(lon - 360, 9), lon))
    for name in ("lat", "lon"):
        values = ds[name].values
        if np.any(np.diff(values) < 0):
            ds = ds.isel({name: slice(None, None, -1)} if np.all(np.diff(values) < 0) else {name: np.argsort(values)})
    return ds
