"""Points and polygons of grids, point lists and meshes, in one flat order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.regrid.esmpy_engine.api.constants import StaggerLoc
from pipeline.regrid.esmpy_engine.api.grid import Grid
from pipeline.regrid.esmpy_engine.api.locstream import LocStream
from pipeline.regrid.esmpy_engine.api.mesh import Mesh
from pipeline.regrid.esmpy_engine.sphere import Floats, Ints, polygon_area, to_xyz

Place = Grid | LocStream | Mesh


def points(place: Place) -> tuple[Floats, Floats]:
    """Longitude and latitude of centres, degrees, flat, x fastest.

    Raises
    ------
    ValueError : a mesh whose elements have no coordinates.
    """
    if isinstance(place, Grid):
        lon, lat = (place.get_coords(dim, StaggerLoc.CENTER).T.ravel() for dim in (0, 1))
        return lon, lat
    if isinstance(place, LocStream):
        return np.asarray(place["ESMF:Lon"], float), np.asarray(place["ESMF:Lat"], float)
    if place.element_lon is None or place.element_lat is None:
        raise ValueError("the mesh's elements have no coordinates; expected them for this method")
    return place.element_lon, place.element_lat


def active(place: Place, mask_values: Sequence[int] | None) -> NDArray[np.bool_]:
    """Which points or polygons take part, flat."""
    if isinstance(place, Grid):
        return place.active(mask_values)
    return np.ones(place.size if isinstance(place, LocStream) else place.element_count, bool)


def polygons(place: Place) -> Iterator[tuple[Ints, Floats, Floats]]:
    """Polygons in batches of one number of vertices: their flat indices, longitudes and latitudes (n, m), degrees.

    Raises
    ------
    ValueError : points have no polygons.
    """
    if isinstance(place, LocStream):
        raise ValueError("points have no area; expected a grid with corners or a mesh for the conservative method")
    if isinstance(place, Grid):
        cells = place.cells(StaggerLoc.CORNER)
        yield np.arange(len(cells.corner)), cells.lon[cells.corner], cells.lat[cells.corner]
        return
    sides = np.array([len(nodes) for nodes in place.elements])
    for m in np.unique(sides):
        ids = np.flatnonzero(sides == m)
        nodes = np.stack([place.elements[k] for k in ids])
        yield ids, place.node_lon[nodes], place.node_lat[nodes]


def cell_area(place: Place) -> Floats:
    """Cell areas, steradians, in the shape of a field's values."""
    parts = [(ids, np.abs(polygon_area(to_xyz(lon, lat)))) for ids, lon, lat in polygons(place)]
    area = np.zeros(sum(len(ids) for ids, _ in parts))
    for ids, values in parts:
        area[ids] = values
    return area.reshape(tuple(place.max_index)[::-1]).T if isinstance(place, Grid) else area
