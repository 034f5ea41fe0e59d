"""The classes of esmpy under the module paths that xESMF spells out."""

from pipeline.regrid.esmpy_engine.api import constants, field, grid, locstream, mesh, regrid

__all__ = ["constants", "field", "grid", "locstream", "mesh", "regrid"]
