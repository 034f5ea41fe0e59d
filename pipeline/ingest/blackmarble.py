"""Black Marble nightlights: VNP46A3 (monthly) and VNP46A4 (annual) tiles of 10 degrees, HDF5."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import h5py
import numpy as np
from numpy.typing import NDArray

from pipeline.core.errors import InputError
from pipeline.ingest.axes import Axis
from pipeline.ingest.contract import Rejected, Rules
from pipeline.ingest.cubefile import CubeFile, Layer
from pipeline.ingest.grids import Contents, OpenGrid
from pipeline.ingest.hdf import dataset, has, open_hdf5, read
from pipeline.ingest.viirs import PATH

TILE = 2400
STEP = 10.0 / TILE
FRAME = (70.0, 10.0, 140.0, 60.0)
"""W, S, E, N of the cube: whole tiles around the analysis grid."""
_GROUP = "HDFEOS/GRIDS/VIIRS_Grid_DNB_2d/Data Fields"
_NAME = re.compile(r"VNP46A(?P<kind>[34])\.A(?P<year>\d{4})(?P<day>\d{3})\.h(?P<h>\d\d)v(?P<v>\d\d)", re.I)


@dataclass(frozen=True)
class BlackMarble:
    """Reads tiles into one cube; `layer` is the composite: snow free or snow covered, all or near-nadir angles."""

    rules: Rules = field(default_factory=lambda: {"layer": "AllAngle_Composite_Snow_Free", "min_observations": 1})
    adds: bool = False
    tiled: bool = True

    def cube(self, contents: Sequence[Contents]) -> tuple[CubeFile, Axis, Axis]:
        """Monthly or yearly; a tile is four chunks, so that tiles are written side by side."""
        west, south, east, north = FRAME
        lat = Axis(south + STEP / 2, STEP, round((north - south) / STEP))
        lon = Axis(west + STEP / 2, STEP, round((east - west) / STEP))
        layer = Layer("nW cm-2 sr-1", attrs={"long_name": "nighttime light"})
        return CubeFile(PATH, {"radiance": layer}, str(contents[0].attrs["step"]), (1200, 1200)), lat, lon

    @contextlib.contextmanager
    def open(self, path: str, rules: Rules) -> Iterator[OpenGrid]:
        """One tile."""
        name = path.rsplit("/", 1)[-1]
        found = _NAME.search(name)
        if not found:
            raise Rejected(f"the name {name!r} is not VNP46A3.A<year><day>.h..v.. or VNP46A4")
        h, v = int(found["h"]), int(found["v"])
        west, north = -180.0 + 10.0 * h, 90.0 - 10.0 * v
        if not (FRAME[0] <= west < FRAME[2] and FRAME[1] < north <= FRAME[3]):
            raise Rejected(f"tile h{h:02d}v{v:02d} from {west:g} E, {north:g} N is not of the region")
        day = np.datetime64(f"{found['year']}-01-01") + np.timedelta64(int(found["day"]) - 1, "D")
        monthly = found["kind"] == "3"
        time = f"{str(day)[:7]}-01" if monthly else f"{found['year']}-01-01"
        with open_hdf5(path) as file:
            variable, counts = _variables(file, rules)
            contents = Contents(
                (time,), ("radiance",),
                Axis(north - 10.0 + STEP / 2, STEP, TILE), Axis(west + STEP / 2, STEP, TILE),
                attrs={
                    "source": f"Black Marble VNP46A{found['kind']}, {rules['layer']}",
                    "step": "month" if monthly else "year",
                    "assumed": "nW cm-2 sr-1 after scale; 65535 or -999.9 is missing; rows from the north",
                },
            )  # fmt: skip
            yield _Tile(contents, variable, counts, int(rules["min_observations"]))


def _variables(file: h5py.File, rules: Rules) -> tuple[h5py.Dataset, h5py.Dataset | None]:
    name = f"{_GROUP}/{rules['layer']}"
    if not has(file, name):
        group = file.get(_GROUP)
        seen = ", ".join(sorted(group)[:6]) if isinstance(group, h5py.Group) else ", ".join(sorted(file)[:6])
        raise Rejected(f"no {rules['layer']} (the file has {seen})")
    variable = dataset(file, name)
    if variable.shape != (TILE, TILE):
        raise Rejected(f"{rules['layer']} has shape {variable.shape}, expected {(TILE, TILE)}")
    counts = dataset(file, f"{name}_Num") if has(file, f"{name}_Num") else None
    return variable, counts


@dataclass
class _Tile:
    contents: Contents
    variable: h5py.Dataset
    counts: h5py.Dataset | None
    least: int

    def read(self, variable: str, time: int, rows: slice) -> NDArray[np.float32]:  # noqa: ARG002
        """Rows from the south, all columns; cells with too few observations are missing."""
        north = slice(TILE - rows.stop, TILE - rows.start)
        values = read(self.variable, (north, slice(None)))
        if self.variable.dtype.kind == "u":
            raw = self.variable[north]
            values = np.where(raw == np.iinfo(raw.dtype).max, np.nan, values)
            if "scale_factor" not in self.variable.attrs:
                values = values * 0.1
        values[values <= -999.0] = np.nan
        if self.counts is not None:
            values[~(self.counts[north] >= self.least) | (self.counts[north] == 65535)] = np.nan
        if np.nanmax(values, initial=0.0) > 5e5 or np.nanmin(values, initial=0.0) < -10.0:
            raise InputError(
                f"radiances from {np.nanmin(values):g} to {np.nanmax(values):g}", "-10 to 5e5 nW cm-2 sr-1"
            )
        return values[::-1].astype(np.float32)
