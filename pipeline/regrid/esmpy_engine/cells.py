"""The cells of a grid, as nodes and the quadrilaterals between them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.regrid.esmpy_engine.sphere import Floats, Ints, to_xyz


@dataclass(frozen=True)
class Cells:
    """Quadrilateral cells between nodes.

    Parameters
    ----------
    lon, lat : degrees, shape (n_nodes,).
    xyz : unit vectors of the nodes, shape (n_nodes, 3).
    corner : nodes of each cell in order around it, shape (n_cells, 4); a triangle repeats its last node.
    """

    lon: Floats
    lat: Floats
    xyz: Floats
    corner: Ints

    def take(self, keep: Ints) -> Cells:
        """Some of the cells."""
        return Cells(self.lon, self.lat, self.xyz, self.corner[keep])


def quads(lon: Floats, lat: Floats, wrap: bool = False) -> Cells:
    """Cells between the nodes of a two-dimensional lattice.

    Parameters
    ----------
    lon, lat : degrees, shape (ny, nx); flat index iy * nx + ix, as ESMF counts.
    wrap : join the last column to the first.
    """
    ny, nx = lon.shape
    node = np.arange(ny * nx).reshape(ny, nx)
    if wrap:
        node = np.concatenate([node, node[:, :1]], axis=1)
    corner = np.stack([node[:-1, :-1], node[:-1, 1:], node[1:, 1:], node[1:, :-1]], axis=-1).reshape(-1, 4)
    flat_lon, flat_lat = lon.ravel(), lat.ravel()
    return Cells(flat_lon, flat_lat, to_xyz(flat_lon, flat_lat), corner)


def degenerate(cells: Cells, tolerance: float = 1e-10) -> NDArray[np.bool_]:
    """Which cells have no width: fewer than three distinct corners. A pole row's triangles are not degenerate."""
    xyz = cells.xyz[cells.corner]
    same = np.abs(xyz - np.roll(xyz, -1, axis=1)).max(axis=2) <= tolerance
    across = np.abs(xyz[:, :2] - xyz[:, 2:]).max(axis=2) <= tolerance
    return np.asarray((same.sum(axis=1) >= 2) | across.any(axis=1))
