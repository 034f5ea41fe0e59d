"""A logically rectangular grid: centres, corners, mask."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.regrid.esmpy_engine.api.constants import CoordSys, GridItem, StaggerLoc
from pipeline.regrid.esmpy_engine.cells import Cells, quads

_STAGGERS = len(StaggerLoc)


class Grid:
    """A two-dimensional grid in degrees; arrays have shape (nx, ny), Fortran order, as esmpy's.

    Parameters
    ----------
    max_index : number of cells (nx, ny).
    staggerloc : stagger locations that get coordinates at once.
    coord_sys : only spherical degrees.
    num_peri_dims : 1 for a grid that closes in x.

    Raises
    ------
    ValueError : another rank, coordinate system or number of periodic dims.
    """

    def __init__(
        self,
        max_index: NDArray | Sequence[int],
        staggerloc: StaggerLoc | Sequence[StaggerLoc] | None = None,
        coord_sys: CoordSys | None = None,
        num_peri_dims: int | None = None,
    ) -> None:
        self.max_index = np.asarray(max_index, dtype=np.int32)
        if (
            self.max_index.shape != (2,)
            or coord_sys not in (None, CoordSys.SPH_DEG)
            or num_peri_dims not in (None, 0, 1)
        ):
            raise ValueError(
                f"a grid of max_index {self.max_index}, coord_sys {coord_sys!r}, num_peri_dims {num_peri_dims}; "
                "expected two dims in spherical degrees, at most x periodic"
            )
        self.coord_sys = CoordSys.SPH_DEG
        self.rank = 2
        self.num_peri_dims = int(num_peri_dims or 0)
        self.periodic_dim = 0 if self.num_peri_dims else None
        self.pole_dim = 1 if self.num_peri_dims else None
        self.staggerloc = [False] * _STAGGERS
        self.size: list[NDArray | None] = [None] * _STAGGERS
        self.lower_bounds: list[NDArray | None] = [None] * _STAGGERS
        self.upper_bounds: list[NDArray | None] = [None] * _STAGGERS
        self.coords: list[list[NDArray | None]] = [[None, None] for _ in range(_STAGGERS)]
        self.mask: list[NDArray | None] = [None] * _STAGGERS
        self.finalized = False
        for stagger in [staggerloc] if isinstance(staggerloc, int) else staggerloc or []:
            self.add_coords(staggerloc=stagger)

    def add_coords(self, staggerloc: StaggerLoc = StaggerLoc.CENTER) -> None:
        """Make room for the coordinates of a stagger location."""
        if staggerloc not in (StaggerLoc.CENTER, StaggerLoc.CORNER):
            raise ValueError(f"coordinates at {staggerloc!r}; expected CENTER or CORNER")
        shape = self.max_index + (staggerloc == StaggerLoc.CORNER) * np.array([1 - self.num_peri_dims, 1])
        self.staggerloc[staggerloc] = True
        self.size[staggerloc] = shape
        self.lower_bounds[staggerloc], self.upper_bounds[staggerloc] = np.zeros(2, np.int32), shape.copy()
        self.coords[staggerloc] = [np.zeros(tuple(shape), order="F") for _ in range(2)]

    def get_coords(self, coord_dim: int, staggerloc: StaggerLoc = StaggerLoc.CENTER) -> NDArray:
        """The writable array of longitudes (0) or latitudes (1), not a copy."""
        array = self.coords[staggerloc][coord_dim]
        if array is None:
            raise ValueError(f"the grid has no coordinates at {staggerloc!r}; call add_coords first")
        return array

    def add_item(self, item: GridItem, staggerloc: StaggerLoc = StaggerLoc.CENTER, from_file: bool = False) -> None:
        """Make room for a mask, 1 everywhere."""
        if item != GridItem.MASK or staggerloc != StaggerLoc.CENTER or from_file:
            raise ValueError(f"grid item {item!r} at {staggerloc!r}; expected a mask at CENTER, filled by the caller")
        self.mask[staggerloc] = np.ones(tuple(self.max_index), np.int32, order="F")

    @property
    def has_corners(self) -> bool:
        """Whether corner coordinates are there."""
        return self.staggerloc[StaggerLoc.CORNER]

    def cells(self, staggerloc: StaggerLoc) -> Cells:
        """The quadrilaterals between the points of a stagger location: between corners they are the grid's cells."""
        lon, lat = (self.get_coords(dim, staggerloc).T for dim in (0, 1))
        return quads(lon, lat, wrap=self.num_peri_dims == 1)

    def active(self, mask_values: Sequence[int] | None) -> NDArray[np.bool_]:
        """Which cells are not masked, flat, x fastest."""
        mask = self.mask[StaggerLoc.CENTER]
        if mask is None or mask_values is None:
            return np.ones(int(np.prod(self.max_index)), bool)
        return ~np.isin(mask.T.ravel(), mask_values)

    def destroy(self) -> None:
        """Mark as done; memory is Python's to free."""
        self.finalized = True
