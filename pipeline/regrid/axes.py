"""The rectilinear grids a field comes from and goes to."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from pipeline.core.errors import InputError
from pipeline.core.grid import Grid

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Axes:
    """Cell centres and edges of a rectilinear grid in degrees, ascending or descending.

    Parameters
    ----------
    lat, lon : centres, shapes (n_lat,) and (n_lon,).
    lat_edges, lon_edges : edges, one more each.
    """

    lat: Floats
    lon: Floats
    lat_edges: Floats
    lon_edges: Floats

    @classmethod
    def of_array(cls, array: xr.DataArray) -> Axes:
        """The grid of an array by its coordinates `lat` and `lon`; edges are the midpoints, end cells mirrored.

        Raises
        ------
        InputError : no such 1-D coordinates, fewer than two cells, not monotonic, or not finite degrees.
        """
        lat, lon = _centres(array, "lat", 90.0), _centres(array, "lon", 540.0)
        return cls(lat, lon, np.clip(midpoint_edges(lat), -90.0, 90.0), midpoint_edges(lon))

    @classmethod
    def of_grid(cls, grid: Grid) -> Axes:
        """The grid of a `Grid`, with its exact edges."""
        return cls(grid.lat, grid.lon, grid.lat_edges, grid.lon_edges)

    @property
    def shape(self) -> tuple[int, int]:
        """(n_lat, n_lon)."""
        return len(self.lat), len(self.lon)

    @cached_property
    def closed(self) -> bool:
        """Whether the longitudes go once around the globe."""
        return bool(np.isclose(abs(self.lon_edges[-1] - self.lon_edges[0]), 360.0, atol=1e-6))

    @property
    def bands(self) -> Floats:
        """|sin north - sin south| of each row, shape (n_lat,): the cell area is R2 x band x width in radians."""
        return np.abs(np.diff(np.sin(np.deg2rad(self.lat_edges))))

    @property
    def widths(self) -> Floats:
        """Width of each column, degrees, shape (n_lon,)."""
        return np.abs(np.diff(self.lon_edges))

    @property
    def fingerprint(self) -> str:
        """A hash of all coordinates."""
        digest = hashlib.sha256()
        for part in (self.lat, self.lon, self.lat_edges, self.lon_edges):
            digest.update(np.ascontiguousarray(part, dtype="<f8").tobytes() + b"/")
        return digest.hexdigest()


def midpoint_edges(centres: Floats) -> Floats:
    """Edges half way between centres; the end cells reach as far out as in, (n,) -> (n + 1,)."""
    inner = (centres[1:] + centres[:-1]) / 2
    return np.concatenate([[2 * centres[0] - inner[0]], inner, [2 * centres[-1] - inner[-1]]])


def _centres(array: xr.DataArray, name: str, bound: float) -> Floats:
    if name not in array.coords or array[name].dims != (name,) or array.sizes[name] < 2:
        raise InputError(
            f"array {array.name!r} with dims {array.dims} has no 1-D coordinate {name!r} of at least two cells",
            "a rectilinear field with dims (..., lat, lon)",
            "for swaths use xesmf.Regridder itself",
        )
    values = np.asarray(array[name].values, dtype=float)
    steps = np.diff(values)
    if not (np.isfinite(values).all() and np.abs(values).max() <= bound and (np.all(steps > 0) or np.all(steps < 0))):
        raise InputError(
            f"{name} of array {array.name!r} runs {values[0]}..{values[-1]} unevenly ordered or out of range",
            f"strictly ascending or descending degrees within {bound:g}",
        )
    return values
