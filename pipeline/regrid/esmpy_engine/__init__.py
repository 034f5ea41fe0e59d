"""A NumPy stand-in for `esmpy`: the part of its interface that xESMF calls, written from ESMF's definitions.

It is found under the name `esmpy` only where native ESMF is not installed (see `pipeline.regrid.finder`).
"""

from pipeline.regrid.esmpy_engine import api
from pipeline.regrid.esmpy_engine.api.constants import (
    CoordSys,
    ExtrapMethod,
    GridItem,
    LineType,
    MeshLoc,
    NormType,
    PoleMethod,
    RegridMethod,
    StaggerLoc,
    UnmappedAction,
)
from pipeline.regrid.esmpy_engine.api.field import Field
from pipeline.regrid.esmpy_engine.api.grid import Grid
from pipeline.regrid.esmpy_engine.api.locstream import LocStream
from pipeline.regrid.esmpy_engine.api.mesh import Mesh
from pipeline.regrid.esmpy_engine.api.regrid import Regrid

__engine__ = "carboncube-numpy"
__version__ = "1.0"

__all__ = [
    "CoordSys",
    "ExtrapMethod",
    "Field",
    "Grid",
    "GridItem",
    "LineType",
    "LocStream",
    "Mesh",
    "MeshLoc",
    "NormType",
    "PoleMethod",
    "Regrid",
    "RegridMethod",
    "StaggerLoc",
    "UnmappedAction",
    "api",
]
