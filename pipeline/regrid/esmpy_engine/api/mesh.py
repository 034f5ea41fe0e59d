"""A mesh of polygons."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.regrid.esmpy_engine.api.constants import CoordSys, MeshLoc


class Mesh:
    """Polygons over shared nodes; concave ones are fine.

    Parameters
    ----------
    parametric_dim, spatial_dim : 2 and 2.
    coord_sys : only spherical degrees.
    """

    def __init__(self, parametric_dim: int, spatial_dim: int, coord_sys: CoordSys | None = None) -> None:
        if (parametric_dim, spatial_dim) != (2, 2) or coord_sys not in (None, CoordSys.SPH_DEG):
            raise ValueError(
                f"a mesh of dims {parametric_dim}, {spatial_dim} in {coord_sys!r}; expected 2, 2 in spherical degrees"
            )
        self.coord_sys = CoordSys.SPH_DEG
        self.rank = 1
        self.size: list[int | None] = [None] * len(MeshLoc)
        self.mask: list[NDArray | None] = [None] * len(MeshLoc)
        self.node_lon = self.node_lat = np.zeros(0)
        self.element_lon: NDArray | None = None
        self.element_lat: NDArray | None = None
        self.elements: list[NDArray] = []
        self.finalized = False

    def add_nodes(self, node_count: int, node_ids: NDArray, node_coords: NDArray, node_owners: NDArray) -> None:
        """Nodes by longitude and latitude in turn; ids count from 1 and are in order."""
        if not np.array_equal(node_ids, np.arange(node_count) + 1) or np.any(node_owners):
            raise ValueError("mesh nodes must be numbered 1..n and belong to one process")
        coords = np.asarray(node_coords, float).reshape(node_count, 2)
        self.node_lon, self.node_lat = coords[:, 0].copy(), coords[:, 1].copy()
        self.size[MeshLoc.NODE] = int(node_count)

    def add_elements(
        self,
        element_count: int,
        element_ids: NDArray,
        element_types: NDArray,
        element_conn: NDArray,
        element_coords: NDArray | None = None,
    ) -> None:
        """Polygons by their number of sides and their nodes, counted from 0, counter-clockwise.

        Raises
        ------
        ValueError : fewer than three sides, an unknown node, or no area.
        """
        types, conn = np.asarray(element_types, np.int64), np.asarray(element_conn, np.int64)
        if len(element_ids) != element_count or len(types) != element_count or np.any(types < 3):
            raise ValueError(f"{element_count} mesh elements with sides {types}; expected at least 3 each")
        conn = conn[: types.sum()]
        if len(conn) < types.sum() or conn.min(initial=0) < 0 or conn.max(initial=0) >= len(self.node_lon):
            raise ValueError(f"mesh elements name nodes up to {conn.max(initial=0)}; there are {len(self.node_lon)}")
        self.elements = np.split(conn, np.cumsum(types)[:-1])
        for k, nodes in enumerate(self.elements):
            if len(np.unique(nodes)) < 3:
                raise ValueError(f"mesh element {k + 1} has fewer than three distinct nodes")
        if element_coords is not None:
            coords = np.asarray(element_coords, float).reshape(element_count, 2)
            self.element_lon, self.element_lat = coords[:, 0].copy(), coords[:, 1].copy()
        self.size[MeshLoc.ELEMENT] = int(element_count)

    @property
    def element_count(self) -> int:
        """Number of polygons."""
        return self.size[MeshLoc.ELEMENT] or 0

    def destroy(self) -> None:
        """Mark as done; memory is Python's to free."""
        self.finalized = True
