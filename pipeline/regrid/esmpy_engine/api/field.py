"""Values on a grid, point list or mesh."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pipeline.regrid.esmpy_engine.api.constants import MeshLoc, StaggerLoc
from pipeline.regrid.esmpy_engine.api.grid import Grid
from pipeline.regrid.esmpy_engine.api.locstream import LocStream
from pipeline.regrid.esmpy_engine.api.mesh import Mesh
from pipeline.regrid.esmpy_engine.shapes import cell_area


class Field:
    """Values at centres: shape (nx, ny, ...) on a grid, (n, ...) on a point list or a mesh's polygons.

    Parameters
    ----------
    grid : where the values are.
    meshloc : only ELEMENT.
    ndbounds : sizes of further dims.
    """

    def __init__(
        self,
        grid: Grid | LocStream | Mesh,
        meshloc: MeshLoc = MeshLoc.ELEMENT,
        ndbounds: int | Sequence[int] | None = None,
        staggerloc: StaggerLoc = StaggerLoc.CENTER,
    ) -> None:
        if meshloc != MeshLoc.ELEMENT or staggerloc != StaggerLoc.CENTER:
            raise ValueError(f"a field at {meshloc!r}, {staggerloc!r}; expected mesh elements or grid centres")
        self.grid = grid
        extra = (ndbounds,) if isinstance(ndbounds, int) else tuple(ndbounds or ())
        # Only xESMF's online application and `get_area` read the values; weights do not need them.
        self._shape = (*horizontal_shape(grid), *extra)
        self._data: np.ndarray | None = None
        self.finalized = False

    @property
    def data(self) -> np.ndarray:
        """The writable values, zero at first."""
        if self._data is None:
            self._data = np.zeros(self._shape, order="F")
        return self._data

    def get_area(self) -> None:
        """Fill with the areas of the cells, steradians, great-circle edges."""
        self.data[...] = cell_area(self.grid)

    def destroy(self) -> None:
        """Drop the values."""
        self._data = None
        self.finalized = True


def horizontal_shape(grid: Grid | LocStream | Mesh) -> tuple[int, ...]:
    """(nx, ny) of a grid, (n,) of points or polygons."""
    if isinstance(grid, Grid):
        return tuple(int(n) for n in grid.max_index)
    return (grid.size if isinstance(grid, LocStream) else grid.element_count,)
