"""Population counts as GeoTIFF: WorldPop, LandScan, GPW and GHS-POP; people are conserved."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from pipeline.ingest.axes import Axis
from pipeline.ingest.contract import Rejected, Rules
from pipeline.ingest.cubefile import CubeFile, Layer
from pipeline.ingest.grids import Contents, OpenGrid
from pipeline.ingest.population import PATH
from pipeline.ingest.rasters import RasterWindow, date_in, opened_raster, region_window

ARC30 = 30.0 / 3600.0
"""degrees; finer counts are summed to this size, which is finer than anything they are used for."""
_CHUNK = (1200, 1200)
FRAME = (66.0, 10.0, 143.0, 62.0)
MAX_PERSONS = 5e5
"""in a cell of 30 arc-seconds; the densest square kilometres hold about 1e5."""
_WORDS = {
    "worldpop": r"ppp|worldpop|_pd_|(?<!ghs_)pop",
    "landscan": r"landscan",
    "gpw": r"gpw|gpw_v4",
    "ghs_pop": r"ghs_pop",
}


@dataclass(frozen=True)
class CountRaster:
    """Counts per cell on a lattice of arc-seconds. Countries of one year are mosaicked: cells add up.

    ``undeclared_missing`` are fill values that files of this kind carry without saying so.
    """

    name: str
    rules: Rules = field(default_factory=dict)
    adds: bool = True
    tiled: bool = True

    def cube(self, contents: Sequence[Contents]) -> tuple[CubeFile, Axis, Axis]:
        """Yearly, persons per cell of 30 arc-seconds (or the files' own size where coarser)."""
        step = contents[0].lat.step
        layer = Layer("persons", attrs={"long_name": "persons in the cell"})
        # The lattice of the first file, carried on over the whole region, so that other countries find their place.
        lat, lon = (
            _carried(axis, low, high)
            for axis, (low, high) in (
                (contents[0].lat, (FRAME[1], FRAME[3])),
                (contents[0].lon, (FRAME[0], FRAME[2])),
            )
        )
        chunk = _CHUNK if step < 0.05 else (0, 0)
        return CubeFile(PATH, {"population": layer}, "year", chunk), lat, lon

    @contextlib.contextmanager
    def open(self, path: str, rules: Rules) -> Iterator[OpenGrid]:  # noqa: ARG002
        """One year of one country, or of the world."""
        name = path.rsplit("/", 1)[-1]
        if not re.search(_WORDS[self.name], name, re.IGNORECASE):
            raise Rejected(f"the name {name!r} is not one of {self.name}")
        if re.search(r"density|_pd_", name, re.IGNORECASE):
            raise Rejected("a density, not counts; fetch the counts, or GPW's density as netCDF with provincial totals")
        year, _ = date_in(name, r"(?<!\d)E?(?P<year>(19|20)\d\d)(?!\d)", self.name)
        with opened_raster(path) as dataset:
            rows, cols, block, lat, lon = region_window(dataset, ARC30)
            attrs = {
                "source": f"{self.name} ({name})",
                "assumed": f"persons per cell, summed over {block} x {block} cells; negative and undeclared fill is "
                "missing; countries of a year add up",
            }
            # Two rasters of one frame and year are the same people, whatever their names.
            part = f"{year} {lat.size} x {lon.size} cells from {lon.first:.3f} E, {lat.first:.3f} N"
            contents = Contents((f"{year}-01-01",), ("population",), lat, lon, parts=(part,), attrs=attrs)
            missing = (() if dataset.nodata is None else (float(dataset.nodata),)) + (-99999.0, -9999.0, -200.0)
            limit = MAX_PERSONS * max(1.0, (lat.step / ARC30) ** 2)
            yield RasterWindow(dataset, contents, rows, cols, block, missing=missing, allowed=(0.0, limit))


def _carried(axis: Axis, low: float, high: float) -> Axis:
    first = axis.first - axis.step * int((axis.first - low) / axis.step)
    return Axis(first, axis.step, int((high - first) / axis.step + 1e-9) + 1)
