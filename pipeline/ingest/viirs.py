"""Nightlights from GeoTIFF: the NPP-VIIRS-like yearly series and VIIRS VNL composites."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from pipeline.ingest.axes import Axis
from pipeline.ingest.contract import Rejected, Rules
from pipeline.ingest.cubefile import CubeFile, Layer
from pipeline.ingest.grids import Contents
from pipeline.ingest.rasters import RasterWindow, date_in, opened_raster, region_window

CHUNK = (1024, 1024)
_UNITS = "nW cm-2 sr-1"
PATH = "inputs/nightlights.zarr"


@dataclass(frozen=True)
class ViirsLike:
    """NPP-VIIRS-like nightlights (Chen et al. 2021, ESSD 13:889): 8-bit, radiance = DN x 2.0 nW cm-2 sr-1."""

    rules: Rules = field(default_factory=lambda: {"radiance_per_dn": 2.0})
    adds: bool = False
    tiled: bool = False

    def cube(self, contents: Sequence[Contents]) -> tuple[CubeFile, Axis, Axis]:
        """Yearly, on the files' own grid, packed as they are."""
        layer = Layer(
            _UNITS, "uint8", float(contents[0].attrs["radiance_per_dn"]), 255, {"long_name": "nighttime light"}
        )
        return CubeFile(PATH, {"radiance": layer}, "year", CHUNK), contents[0].lat, contents[0].lon

    @contextlib.contextmanager
    def open(self, path: str, rules: Rules) -> Iterator[RasterWindow]:
        """One year."""
        year, _ = date_in(path.rsplit("/", 1)[-1], r"(?<!\d)(?P<year>(19|20)\d\d)(?!\d)", "VIIRS-like")
        with opened_raster(path) as dataset:
            if dataset.dtypes[0] != "uint8":
                raise Rejected(
                    f"the raster holds {dataset.dtypes[0]}, expected the 8-bit numbers of the VIIRS-like series"
                )
            rows, cols, _, lat, lon = region_window(dataset)
            attrs = {
                "source": "NPP-VIIRS-like nighttime light (Chen et al. 2021)",
                "radiance_per_dn": rules["radiance_per_dn"],
                "assumed": f"radiance = DN x {rules['radiance_per_dn']} nW cm-2 sr-1; its nodata value 0 is dark "
                "land, a measurement; below about 2 nW cm-2 sr-1 it reads 0; a year's value holds for all its months",
            }
            time = f"{year}-01-01"
            contents = Contents((time,), ("radiance",), lat, lon, parts=(time,), attrs=attrs)
            yield RasterWindow(dataset, contents, rows, cols, scale=float(rules["radiance_per_dn"]))


@dataclass(frozen=True)
class ViirsVnl:
    """EOG VIIRS Nighttime Lights (VNL) GeoTIFF, annual V2 or monthly V1; float radiance, 15 arc-seconds.

    Names: ``VNL_v22_npp-j01_2022_global_...average_masked...tif`` or ``SVDNB_npp_20220101-20220131_75N060E_vcmcfg_..``.
    """

    rules: Rules = field(default_factory=dict)
    adds: bool = False
    tiled: bool = False

    def cube(self, contents: Sequence[Contents]) -> tuple[CubeFile, Axis, Axis]:
        """Yearly or monthly, on the 15 arc-second lattice."""
        layer = Layer(_UNITS, "float32", attrs={"long_name": "nighttime light"})
        step = str(contents[0].attrs["step"])
        return CubeFile(PATH, {"radiance": layer}, step, CHUNK), contents[0].lat, contents[0].lon

    @contextlib.contextmanager
    def open(self, path: str, rules: Rules) -> Iterator[RasterWindow]:  # noqa: ARG002
        """One year or month."""
        name = path.rsplit("/", 1)[-1]
        monthly = _MONTHLY in name.lower() or name.lower().startswith("svdnb")
        pattern = r"_(?P<year>20\d\d)(?P<month>\d\d)01-20\d{6}_" if monthly else r"_(?P<year>20\d\d)(\d{2}-20\d{4})?_"
        year, month = date_in(name, pattern, "VNL")
        if not _MEAN.search(name):
            raise Rejected(f"the name {name!r} is not of mean radiances (average, average_masked, avg_rade9)")
        with opened_raster(path) as dataset:
            if dataset.dtypes[0] not in ("float32", "float64"):
                raise Rejected(f"the raster holds {dataset.dtypes[0]}, expected radiances as float32")
            rows, cols, _, lat, lon = region_window(dataset)
            attrs = {
                "source": f"EOG VIIRS Nighttime Lights, {'monthly' if monthly else 'annual'} composite",
                "step": "month" if monthly else "year",
                "assumed": "radiance in nW cm-2 sr-1 as stored; small negative radiances are kept",
            }
            time = f"{year}-{month:02d}-01"
            contents = Contents((time,), ("radiance",), lat, lon, parts=(time,), attrs=attrs)
            missing = () if dataset.nodata is None else (float(dataset.nodata),)
            yield RasterWindow(dataset, contents, rows, cols, missing=(*missing, -999.0), allowed=(-10.0, 5e5))


_MONTHLY = "vcmcfg"
_MEAN = re.compile(r"average|avg_rade", re.IGNORECASE)
"""Extremes, medians and numbers of observations come beside the means, as rasters of the same shape."""
