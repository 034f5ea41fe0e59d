"""A list of points."""

from __future__ import annotations

from typing import Any

from pipeline.regrid.esmpy_engine.api.constants import CoordSys


class LocStream(dict):
    """Points by key: ``ESMF:Lon`` and ``ESMF:Lat`` in degrees, ``ESMF:Mask``, each an array of one dim.

    Parameters
    ----------
    location_count : number of points.
    coord_sys : only spherical degrees.
    """

    def __init__(self, location_count: int, coord_sys: CoordSys | None = None) -> None:
        super().__init__()
        if coord_sys not in (None, CoordSys.SPH_DEG):
            raise ValueError(f"a location stream in {coord_sys!r}; expected spherical degrees")
        self.size = int(location_count)
        self.coord_sys = CoordSys.SPH_DEG
        self.rank = 1
        self.finalized = False

    @property
    def mask(self) -> Any:
        """The mask, or `None`."""
        return self.get("ESMF:Mask")

    def destroy(self) -> None:
        """Mark as done; memory is Python's to free."""
        self.finalized = True
