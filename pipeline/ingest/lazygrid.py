"""An opened netCDF or Zarr on a grid of degrees, cut to the region and read a few fields at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from pipeline.core.errors import InputError
from pipeline.core.units import canonical
from pipeline.ingest.axes import BOX, Axis
from pipeline.ingest.contract import Rejected
from pipeline.ingest.gridded import explained
from pipeline.ingest.grids import Contents

FIELDS_AT_ONCE = 24
"""Time steps read together, since files pack some hours into one chunk."""
_FILL = 1e30


@dataclass(frozen=True)
class Quantity:
    """What a variable must be: unit after conversion, units files may have with their factor, and what can be true."""

    units: str
    accepted: Mapping[str, float]
    low: float
    high: float

    def factor(self, unit: str, name: str) -> float:
        """What to multiply with.

        Raises
        ------
        Rejected : a unit that is not known for this quantity.
        """
        known = {canonical(u): f for u, f in self.accepted.items()}
        if canonical(unit) not in known or not unit:
            raise Rejected(f"{name} has units {unit or 'none'!r}, expected {' or '.join(map(repr, self.accepted))}")
        return known[canonical(unit)]


@dataclass(frozen=True)
class Cut:
    """One horizontal axis: its name in the file, which part lies in the region, whether it runs backwards."""

    dim: str
    part: slice | NDArray[np.int64]
    backwards: bool
    axis: Axis


def cut_axis(ds: xr.Dataset, names: tuple[str, ...], low: float, high: float, wraps: bool = False) -> Cut:
    """The part of an axis between two degrees; longitudes of 0..360 are handled.

    Raises
    ------
    Rejected : no such axis, not monotonic, or nothing of it in the region.
    """
    dim = next((n for n in names if n in ds.dims and n in ds.coords), None)
    if dim is None:
        raise Rejected(f"no axis {' or '.join(names)} among the dims {', '.join(map(str, ds.dims)) or 'none'}")
    values = np.asarray(ds[dim].values, float)
    if values.ndim != 1 or values.size < 2 or not np.all(np.isfinite(values)) or np.abs(values).max() > 360.001:
        raise Rejected(f"{dim} of {values.size} cells is not a list of degrees")
    if wraps:
        values = np.where(values > 180.0, values - 360.0, values)
    inside = np.flatnonzero((values >= low) & (values <= high))
    if inside.size < 2:
        raise Rejected(f"{dim} {values.min():.2f}..{values.max():.2f} lies outside the region {low:g}..{high:g}")
    chosen = values[inside]
    backwards = bool(chosen[0] > chosen[-1])
    axis = Axis.of(np.round(chosen[::-1] if backwards else chosen, 9))
    contiguous = inside[-1] - inside[0] + 1 == inside.size
    part = slice(int(inside[0]), int(inside[-1]) + 1) if contiguous else inside
    return Cut(dim, part, backwards, axis)


@dataclass
class LazyGrid:
    """Variables of a Dataset by our names, read in blocks of time.

    Parameters
    ----------
    arrays : by our name, the array and others that fill its gaps; dims (time, lat, lon) under the file's names.
    factors : to our unit.
    quantities : limits of what can be true.
    contents : as looked up.
    fields_at_once : time steps read together.
    scale : a further factor of a field by its index, a number or an array over the cut (lat, lon).
    """

    arrays: Mapping[str, tuple[xr.DataArray, ...]]
    time_dim: str
    lat: Cut
    lon: Cut
    factors: Mapping[str, float]
    quantities: Mapping[str, Quantity]
    contents: Contents
    scale: Callable[[int], NDArray | float] | None = None
    fields_at_once: int = FIELDS_AT_ONCE
    _held: dict[str, tuple[int, NDArray]] = field(default_factory=dict)

    def read(self, variable: str, time: int, rows: slice) -> NDArray[np.float32]:
        """One field on rows of the cut, ascending, in our unit; missing is NaN.

        Raises
        ------
        InputError : values that no such field can have: a fill value nobody declared, or another unit than stated.
        """
        # What has no axis of time is held for all times.
        place = time if any(self.time_dim in part.dims for part in self.arrays[variable]) else 0
        block = place // self.fields_at_once
        if variable not in self._held or self._held[variable][0] != block:
            self._held[variable] = (block, self._load(variable, block * self.fields_at_once))
        values = self._held[variable][1][place % self.fields_at_once]
        if self.scale is not None:
            values = values * self.scale(time)
        q = self.quantities[variable]
        wrong = (values < q.low) | (values > q.high)
        if wrong.any():
            raise InputError(
                f"{variable} of {float(values[wrong][0]):g} {q.units} in {int(wrong.sum())} cells of field {time}",
                f"{q.low:g} to {q.high:g}",
                "check the unit and the fill value",
            )
        return values[rows].astype(np.float32)

    def _load(self, variable: str, start: int) -> NDArray[np.float64]:
        first, *others = self.arrays[variable]
        values = self._part(first, start)
        for other in others:
            values = np.where(np.isnan(values), self._part(other, start), values)
        steps = (
            slice(None),
            *(slice(None, None, -1) if cut.backwards else slice(None) for cut in (self.lat, self.lon)),
        )
        return values[steps] * self.factors[variable]

    def _part(self, array: xr.DataArray, start: int) -> NDArray[np.float64]:
        select = {self.lat.dim: self.lat.part, self.lon.dim: self.lon.part}
        if self.time_dim in array.dims:
            select[self.time_dim] = slice(start, start + self.fields_at_once)
        else:
            array = array.expand_dims(self.time_dim)
        with explained():
            raw = array.isel(select).transpose(self.time_dim, self.lat.dim, self.lon.dim).values
        values = np.array(raw, np.float64)
        values[~(np.abs(values) < _FILL)] = np.nan
        return values


def cut_region(ds: xr.Dataset) -> tuple[Cut, Cut]:
    """Latitude and longitude of a Dataset, cut to the region."""
    lat = cut_axis(ds, ("latitude", "lat", "y", "g0_lat_1"), BOX[1], BOX[3])
    return lat, cut_axis(ds, ("longitude", "lon", "x", "g0_lon_2"), BOX[0], BOX[2], wraps=True)


def iso(times: NDArray[np.datetime64]) -> tuple[str, ...]:
    """Times as ISO text to the second."""
    return tuple(str(t) for t in times.astype("datetime64[s]"))
