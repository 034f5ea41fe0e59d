"""ARCO-ERA5: the analysis-ready Zarr of ERA5 in the cloud, cut to China once, month by month."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from pipeline.ingest.axes import Axis
from pipeline.ingest.contract import Rules, Skipped
from pipeline.ingest.cubefile import CubeFile
from pipeline.ingest.era5 import Reanalysis, lazy
from pipeline.ingest.gridded import explained
from pipeline.ingest.grids import OpenGrid
from pipeline.store.cubes import open_cube
from pipeline.store.location import Store


@dataclass(frozen=True)
class ArcoReader:
    """Reads a Zarr store with ERA5 variables; `years` must be named, since the store holds decades.

    Its chunks are global, so that an hour of a surface variable is 4 MB to fetch and 0.25 MB to keep.
    """

    years: tuple[int, ...]
    anonymous: bool
    cut: Reanalysis = field(default_factory=lambda: Reanalysis("inputs/era5.zarr", "ARCO-ERA5 (ECMWF, Copernicus)"))
    rules: Rules = field(default_factory=dict)
    adds: bool = False
    tiled: bool = False

    def cube(self, contents: Sequence) -> tuple[CubeFile, Axis, Axis]:
        """As ERA5 from files."""
        return self.cut.cube(contents)

    @contextlib.contextmanager
    def open(self, path: str, rules: Rules) -> Iterator[OpenGrid]:  # noqa: ARG002
        """The years of a store at an address."""
        parent, name = path.rstrip("/").rsplit("/", 1)
        with explained():
            ds = open_cube(Store(parent, self._options(path)), name, chunks=None)
        with contextlib.closing(ds):
            grid = lazy(_of_years(ds, self.years), self.cut.source)
            grid.fields_at_once = 1
            grid.contents = replace(grid.contents, open_ended=True)
            yield grid

    def _options(self, path: str) -> dict[str, object]:
        if not self.anonymous:
            return {}
        return {"token": "anon"} if path.startswith(("gs://", "gcs://")) else {"anon": True}


def _of_years(ds: xr.Dataset, years: tuple[int, ...]) -> xr.Dataset:
    times: NDArray[np.datetime64] = ds["time"].values
    known = np.isin(times.astype("M8[Y]").astype(int) + 1970, years)
    # The axis runs ahead of the data; the attribute says how far they go.
    if stop := ds.attrs.get("valid_time_stop"):
        known &= times < np.datetime64(str(stop)[:10]) + np.timedelta64(1, "D")
    if not known.any():
        raise Skipped(f"times {str(times[0])[:10]}..{str(times[-1])[:10]}, none of {', '.join(map(str, years))}")
    return ds.isel(time=np.flatnonzero(known))
