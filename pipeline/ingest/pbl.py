"""Merged planetary boundary-layer height over China (0.25 degree, 06 UTC), one netCDF a day."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from pipeline.ingest.axes import Axis
from pipeline.ingest.contract import Rejected, Rules
from pipeline.ingest.cubefile import CubeFile, Layer
from pipeline.ingest.gridded import open_netcdf
from pipeline.ingest.grids import Contents, OpenGrid
from pipeline.ingest.lazygrid import LazyGrid, Quantity, cut_region

_BLH = {"blh": Quantity("m", {"m": 1.0}, 0.0, 10_000.0)}


@dataclass(frozen=True)
class PblReader:
    """A daily field beside the reanalysis: it is kept in a cube of its own, since its time step is another."""

    path: str = "inputs/pbl.zarr"
    rules: Rules = field(default_factory=dict)
    adds: bool = False
    tiled: bool = False

    def cube(self, contents: Sequence[Contents]) -> tuple[CubeFile, Axis, Axis]:
        """Daily, on the files' own grid."""
        layer = Layer("m", attrs={"long_name": "boundary layer height at 06 UTC"})
        return CubeFile(self.path, {"blh": layer}, "day"), contents[0].lat, contents[0].lon

    @contextlib.contextmanager
    def open(self, path: str, rules: Rules) -> Iterator[OpenGrid]:  # noqa: ARG002
        """One file."""
        with open_netcdf(path) as ds:
            name = next((n for n in ds.data_vars if "boundary layer height" in str(n).lower()), None)
            if name is None:
                raise Rejected(f"no boundary layer height among {', '.join(map(str, ds.data_vars)) or 'nothing'}")
            if "time" not in ds.dims or not np.issubdtype(ds["time"].dtype, np.datetime64):
                raise Rejected("no time axis")
            lat, lon = cut_region(ds)
            days = tuple(str(t) for t in ds["time"].values.astype("datetime64[D]"))
            if len(set(days)) < len(days):
                raise Rejected(f"{len(days)} fields of {len(set(days))} days, expected one a day")
            hours = sorted({str(t)[11:16] for t in ds["time"].values})
            factor = {"blh": _BLH["blh"].factor(str(ds[name].attrs.get("units", "")), "blh")}
            attrs = {
                "source": "merged planetary boundary-layer height, China",
                "assumed": f"the field of {', '.join(hours)} UTC stands for its day; -999 outside China is missing",
            }
            contents = Contents(days, ("blh",), lat.axis, lon.axis, attrs=attrs)
            yield LazyGrid({"blh": (ds[name],)}, "time", lat, lon, factor, _BLH, contents)
