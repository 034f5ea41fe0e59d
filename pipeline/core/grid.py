"""The grids: frozen rectilinear boxes of whole cells, with exact nesting."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from pipeline.core.errors import UsageError
from pipeline.core.units import EARTH_RADIUS

FINE_PER_COARSE = 25
"""Fine (0.01 degree) cells along one side of a coarse (0.25 degree) cell."""


@dataclass(frozen=True)
class Grid:
    """A longitude-latitude grid of square cells whose edges are whole multiples of the cell size.

    Parameters
    ----------
    per_degree : cells per degree (4 for 0.25 degree, 100 for 0.01 degree).
    west_index, south_index : west and south edge in units of a cell, counted from 0 E, 0 N.
    n_lon, n_lat : number of cells.

    Edges are integers over `per_degree`, so grids that share edges share them to the last bit.
    """

    per_degree: int
    west_index: int
    south_index: int
    n_lon: int
    n_lat: int

    @classmethod
    def from_bounds(cls, west: float, south: float, east: float, north: float, per_degree: int) -> Grid:
        """The smallest grid of whole cells that holds the box (snaps outward), degrees."""
        slack = 1e-9
        i0, j0 = math.floor(west * per_degree + slack), math.floor(south * per_degree + slack)
        i1, j1 = math.ceil(east * per_degree - slack), math.ceil(north * per_degree - slack)
        if i1 <= i0 or j1 <= j0:
            raise UsageError(
                f"the box W={west} S={south} E={east} N={north} is empty",
                "west < east and south < north, degrees",
                "give the domain as W,S,E,N",
            )
        return cls(per_degree, i0, j0, i1 - i0, j1 - j0)

    @classmethod
    def of_centres(cls, lat: ArrayLike, lon: ArrayLike, per_degree: int) -> Grid:
        """The grid whose cell centres these are, degrees, ascending.

        Raises
        ------
        UsageError : they are not the centres of neighbouring whole cells.
        """
        y, x = np.asarray(lat, float), np.asarray(lon, float)
        half = 0.5 / per_degree
        grid = cls.from_bounds(x[0] - half, y[0] - half, x[-1] + half, y[-1] + half, per_degree)
        if grid.shape != (y.size, x.size) or np.abs(grid.lat - y).max() > 1e-6 or np.abs(grid.lon - x).max() > 1e-6:
            raise UsageError(
                f"cells at {y[:2]} N, {x[:2]} E", f"centres of neighbouring whole cells of {1 / per_degree:g} degree"
            )
        return grid

    @property
    def shape(self) -> tuple[int, int]:
        """(n_lat, n_lon)."""
        return self.n_lat, self.n_lon

    @property
    def step(self) -> float:
        """Cell size in degrees."""
        return 1.0 / self.per_degree

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """West, south, east, north in degrees."""
        return self.lon_edges[0], self.lat_edges[0], self.lon_edges[-1], self.lat_edges[-1]

    @cached_property
    def lon_edges(self) -> NDArray[np.float64]:
        """Longitude edges, degrees east, shape (n_lon + 1,)."""
        return (self.west_index + np.arange(self.n_lon + 1)) / self.per_degree

    @cached_property
    def lat_edges(self) -> NDArray[np.float64]:
        """Latitude edges, degrees north, ascending, shape (n_lat + 1,)."""
        return (self.south_index + np.arange(self.n_lat + 1)) / self.per_degree

    @cached_property
    def lon(self) -> NDArray[np.float64]:
        """Longitude of the cell centres, degrees east."""
        return (self.west_index + np.arange(self.n_lon) + 0.5) / self.per_degree

    @cached_property
    def lat(self) -> NDArray[np.float64]:
        """Latitude of the cell centres, degrees north, ascending."""
        return (self.south_index + np.arange(self.n_lat) + 0.5) / self.per_degree

    @cached_property
    def area(self) -> NDArray[np.float64]:
        """Cell area on the authalic sphere, m2, shape (n_lat, n_lon): R2 dlon (sin north - sin south)."""
        bands = np.diff(np.sin(np.deg2rad(self.lat_edges))) * EARTH_RADIUS**2 * np.deg2rad(self.step)
        return np.repeat(bands[:, None], self.n_lon, axis=1)

    def refine(self, factor: int = FINE_PER_COARSE) -> Grid:
        """The grid whose cells divide each of ours into factor x factor."""
        return Grid(
            self.per_degree * factor,
            self.west_index * factor,
            self.south_index * factor,
            self.n_lon * factor,
            self.n_lat * factor,
        )

    def expand(self, cells: int) -> Grid:
        """The grid with so many more cells on each side."""
        return Grid(
            self.per_degree,
            self.west_index - cells,
            self.south_index - cells,
            self.n_lon + 2 * cells,
            self.n_lat + 2 * cells,
        )

    def contains(self, other: Grid) -> bool:
        """Whether every cell of `other` is one of ours."""
        return self.per_degree == other.per_degree and (
            self.west_index <= other.west_index
            and self.south_index <= other.south_index
            and self.west_index + self.n_lon >= other.west_index + other.n_lon
            and self.south_index + self.n_lat >= other.south_index + other.n_lat
        )

    def intersect(self, other: Grid) -> Grid:
        """The cells that both grids have."""
        i0, j0 = max(self.west_index, other.west_index), max(self.south_index, other.south_index)
        i1 = min(self.west_index + self.n_lon, other.west_index + other.n_lon)
        j1 = min(self.south_index + self.n_lat, other.south_index + other.n_lat)
        if self.per_degree != other.per_degree or i1 <= i0 or j1 <= j0:
            raise UsageError(f"grids {self} and {other} share no cell", "overlapping grids of one cell size")
        return Grid(self.per_degree, i0, j0, i1 - i0, j1 - j0)

    def window(self, inner: Grid) -> tuple[slice, slice]:
        """Slices (lat, lon) that cut `inner` out of an array on this grid."""
        if not self.contains(inner):
            raise UsageError(f"grid {inner} is not inside {self}", "a grid of whole cells of the outer one")
        j, i = inner.south_index - self.south_index, inner.west_index - self.west_index
        return slice(j, j + inner.n_lat), slice(i, i + inner.n_lon)

    def locate(self, lat: ArrayLike, lon: ArrayLike) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
        """Row, column and whether inside, of points in degrees; a point on an edge belongs to the north-east cell."""
        row = np.floor(np.asarray(lat, float) * self.per_degree + 1e-9).astype(np.int64) - self.south_index
        col = np.floor(np.asarray(lon, float) * self.per_degree + 1e-9).astype(np.int64) - self.west_index
        return row, col, (row >= 0) & (row < self.n_lat) & (col >= 0) & (col < self.n_lon)

    def coords(self) -> dict[str, xr.Variable]:
        """CF coordinates `lat` and `lon` for a Dataset on this grid."""
        return {
            "lat": xr.Variable(
                "lat", self.lat, {"units": "degrees_north", "standard_name": "latitude", "long_name": "latitude"}
            ),
            "lon": xr.Variable(
                "lon", self.lon, {"units": "degrees_east", "standard_name": "longitude", "long_name": "longitude"}
            ),
        }


def block_sum(fine: NDArray, factor: int = FINE_PER_COARSE) -> NDArray[np.float64]:
    """Sum blocks of factor x factor over the last two axes, in float64: (..., n*f, m*f) -> (..., n, m)."""
    *lead, n_lat, n_lon = fine.shape
    blocks = fine.reshape(*lead, n_lat // factor, factor, n_lon // factor, factor)
    return blocks.sum(axis=(-3, -1), dtype=np.float64)


def block_repeat(coarse: NDArray, factor: int = FINE_PER_COARSE) -> NDArray:
    """Give each cell's value to its factor x factor children: (..., n, m) -> (..., n*f, m*f)."""
    return np.repeat(np.repeat(coarse, factor, axis=-2), factor, axis=-1)


G025 = Grid.from_bounds(73, 17, 136, 55, 4)
"""The analysis grid: 0.25 degree, 152 x 252."""
G001 = G025.refine()
"""The fine grid: 0.01 degree, 3800 x 6300."""

DOMAINS: dict[str, tuple[float, float, float, float]] = {
    "china": (73, 17, 136, 55),
    "beijing-tianjin-hebei": (113, 36, 120, 43),
    "yangtze-delta": (116, 28, 123, 34),
    "pearl-delta": (111, 21, 116, 25),
    "shanxi": (110, 34, 115, 41),
    "sichuan": (101, 26, 109, 33),
}
"""Named domains, W, S, E, N in degrees."""


def domain_grid(domain: str) -> Grid:
    """The part of G025 that a domain names: a name of `DOMAINS` or ``W,S,E,N`` in degrees, snapped outward.

    Raises
    ------
    UsageError : unknown name, malformed box, or a box that leaves G025.
    """
    if domain.lower() in DOMAINS:
        return Grid.from_bounds(*DOMAINS[domain.lower()], per_degree=4)
    try:
        west, south, east, north = (float(part) for part in domain.split(","))
    except ValueError:
        raise UsageError(
            f"domain {domain!r}", f"one of {', '.join(DOMAINS)} or W,S,E,N in degrees", "see --help"
        ) from None
    if not all(math.isfinite(v) for v in (west, south, east, north)):
        raise UsageError(f"domain {domain!r}", "finite degrees")
    grid = Grid.from_bounds(west, south, east, north, per_degree=4)
    if not G025.contains(grid):
        raise UsageError(
            f"domain {domain!r} leaves the analysis grid", "a box inside 73..136 E, 17..55 N", "shrink --domain"
        )
    return grid
