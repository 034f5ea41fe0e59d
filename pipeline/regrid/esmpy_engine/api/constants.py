"""The enumerations of esmpy that xESMF names, with esmpy's values."""

from __future__ import annotations

from enum import IntEnum


class CoordSys(IntEnum):
    """Coordinate systems."""

    CART = 0
    SPH_DEG = 1
    SPH_RAD = 2


class StaggerLoc(IntEnum):
    """Where in a grid cell a value sits; used as a list index."""

    CENTER = 0
    EDGE1 = 1
    EDGE2 = 2
    CORNER = 3


class MeshLoc(IntEnum):
    """Where on a mesh a value sits; used as a list index."""

    NODE = 0
    ELEMENT = 1


class GridItem(IntEnum):
    """What a grid carries besides coordinates."""

    MASK = 0
    AREA = 1


class RegridMethod(IntEnum):
    """Ways to compute weights."""

    BILINEAR = 0
    PATCH = 1
    CONSERVE = 2
    NEAREST_STOD = 3
    NEAREST_DTOS = 4
    CONSERVE_2ND = 5


class ExtrapMethod(IntEnum):
    """Ways to fill target points that no source cell holds."""

    NONE = 0
    NEAREST_STOD = 1
    NEAREST_IDAVG = 2
    NEAREST_D = 3
    CREEP = 4
    CREEP_NRST_D = 5


class NormType(IntEnum):
    """What conservative weights are divided by: the whole target cell, or the part of it the source covers."""

    DSTAREA = 0
    FRACAREA = 1


class UnmappedAction(IntEnum):
    """What to do with target points that no source cell holds."""

    ERROR = 0
    IGNORE = 1


class LineType(IntEnum):
    """What joins two points of the sphere."""

    CART = 0
    GREAT_CIRCLE = 1


class PoleMethod(IntEnum):
    """Value of the artificial pole of a periodic grid."""

    NONE = 0
    ALLAVG = 1
    NPNTAVG = 2
    TEETH = 3
