"""Regridding: xESMF, the engine behind it, and its lazy application.

Importing this package is all it takes for `import xesmf` to work: it appends a finder for `esmpy` behind all others.
"""

from pipeline.regrid.apply import regrid, regrid_with_fraction
from pipeline.regrid.finder import engine, install

install()

__all__ = ["engine", "install", "regrid", "regrid_with_fraction"]
