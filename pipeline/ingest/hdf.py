"""Reading HDF5 variables with their fill values and units, declared or not."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from pipeline.core.units import canonical
from pipeline.ingest.contract import Rejected
from pipeline.ingest.gridded import explained, magic, refuse_kind

UNDECLARED = 1e30
"""Beyond this a number is a fill value whether the file says so or not (netCDF's default is 9.96921e36)."""
_FILLS = (-999999.0, -9999.0, -32767.0, -999.0)


@contextlib.contextmanager
def open_hdf5(path: str) -> Iterator[h5py.File]:
    """An HDF5 or netCDF-4 file.

    Raises
    ------
    InputError : another format, truncated or damaged.
    """
    if magic(path) != b"\x89HDF":
        refuse_kind(path, "HDF5")
    with explained(), h5py.File(path, "r") as file:
        yield file


def dataset(file: h5py.Group, name: str) -> h5py.Dataset:
    """A variable by its path.

    Raises
    ------
    Rejected : there is none, or it is a group.
    """
    found = file.get(name)
    if not isinstance(found, h5py.Dataset):
        seen = ", ".join(sorted(file)[:8]) or "nothing"
        raise Rejected(f"no variable {name!r} (the file has {seen})")
    return found


def has(file: h5py.Group, name: str) -> bool:
    """Whether there is a variable of this path."""
    return isinstance(file.get(name), h5py.Dataset)


def attribute(node: Any, *names: str) -> str:
    """The first of some attributes as text, empty where there is none."""
    for name in names:
        if name in node.attrs:
            value = node.attrs[name]
            value = value.flat[0] if isinstance(value, np.ndarray) and value.size else value
            return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
    return ""


def check_units(variable: h5py.Dataset, allowed: Sequence[str]) -> str:
    """The unit of a variable, which must be one of some.

    Raises
    ------
    Rejected : another unit, or none.
    """
    unit = attribute(variable, "units", "Units")
    if canonical(unit) not in {canonical(u) for u in allowed} or not unit:
        raise Rejected(f"{variable.name} has units {unit or 'none'!r}, expected {' or '.join(map(repr, allowed))}")
    return unit


def read(variable: h5py.Dataset, select: Any = ()) -> NDArray[np.float64]:
    """Values as float64 in the file's unit: packing undone, fill values NaN.

    Fill values are what the file declares (`_FillValue`, `missing_value`), what several producers use without saying,
    and anything beyond 1e30.
    """
    raw = variable[select]
    if raw.dtype.kind not in "fiu":
        raise Rejected(f"{variable.name} holds {raw.dtype}, not numbers")
    values = raw.astype(np.float64)
    gone = ~np.isfinite(values) | (np.abs(values) > UNDECLARED)
    for name in ("_FillValue", "missing_value"):
        if name in variable.attrs:
            declared = np.asarray(variable.attrs[name]).ravel()
            if declared.size and declared.dtype.kind in "fiu":
                gone |= raw == declared[0].astype(raw.dtype)
    if raw.dtype.kind == "f":
        for fill in _FILLS:
            gone |= values == fill
    scale, offset = (_number(variable, name, default) for name, default in (("scale_factor", 1.0), ("add_offset", 0.0)))
    values[gone] = np.nan
    return values * scale + offset


def _number(variable: h5py.Dataset, name: str, default: float) -> float:
    value = np.asarray(variable.attrs.get(name, default)).ravel()
    if value.size != 1 or value.dtype.kind not in "fiu" or not np.isfinite(value[0]):
        raise Rejected(f"{variable.name} has {name} = {variable.attrs.get(name)!r}")
    return float(value[0])


def check_length(name: str, array: NDArray, length: int) -> NDArray:
    """Hold an array to the number of records.

    Raises
    ------
    Rejected : another length.
    """
    if array.shape[:1] != (length,):
        raise Rejected(f"{name} has shape {array.shape}, expected {length} records")
    return array
