"""The MEIC grid: one file a month, sector and species, as ESRI ASCII or as netCDF with a flat array."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pipeline.core.errors import InputError
from pipeline.core.schema import SECTORS
from pipeline.ingest.axes import Axis
from pipeline.ingest.contract import Rejected, Rules
from pipeline.ingest.cubefile import CubeFile
from pipeline.ingest.gridded import magic, open_netcdf
from pipeline.ingest.grids import Contents, OpenGrid
from pipeline.ingest.inventories import cell_areas, inventory_cube, month_seconds

_SECTORS: Mapping[str, str] = {
    "power": "power",
    "industry": "industry",
    "residential": "residential",
    "transportation": "transport",
    "agriculture": "residential",
}
_NAME = re.compile(
    r"^(?P<year>\d{4})_{1,2}(?P<month>\d{1,2})_{1,2}(?P<sector>[a-z]+)_{1,2}(?P<species>\w+)\.(asc|nc)$", re.I
)
_SHAPE = (200, 320)
_CORNER = (70.0, 10.0)
_STEP = 0.25
MAX_TONNES = 3e7
"""t a month in a cell; the largest cluster of plants makes about a tenth of it."""


@dataclass
class MemoryGrid:
    """A small field that was read whole: fluxes (sector, lat, lon), one time."""

    contents: Contents
    values: NDArray[np.float32]

    def read(self, variable: str, time: int, rows: slice) -> NDArray[np.float32]:  # noqa: ARG002
        """Rows of the field, (sector, rows, columns)."""
        return self.values[:, rows]


@dataclass(frozen=True)
class MeicReader:
    """Reads ``YYYY_MM_sector_CO2.asc`` and ``.nc``, the month with or without zero, ``_`` or ``__`` between."""

    rules: Rules = field(default_factory=dict)
    adds: bool = True
    tiled: bool = False

    def cube(self, contents: Sequence[Contents]) -> tuple[CubeFile, Axis, Axis]:
        """Monthly by sector, on MEIC's own 0.25 degree grid."""
        return inventory_cube("meic", contents[0])

    @contextlib.contextmanager
    def open(self, path: str, rules: Rules) -> Iterator[OpenGrid]:  # noqa: ARG002
        """One month of one sector."""
        name = path.rsplit("/", 1)[-1]
        found = _NAME.match(name)
        if not found:
            raise Rejected(f"the name {name!r} is not YYYY_MM_sector_species.asc or .nc")
        sector, species = found["sector"].lower(), found["species"].upper()
        if sector not in _SECTORS or species != "CO2":
            raise Rejected(f"sector {sector!r}, species {species!r}; expected {', '.join(_SECTORS)} and CO2")
        month = int(found["month"])
        if not 1 <= month <= 12:
            raise Rejected(f"month {month}")
        tonnes = _netcdf(path) if magic(path)[:3] in (b"CDF", b"\x89HD") else _ascii(path)
        time = f"{found['year']}-{month:02d}-01"
        yield _grid(_checked(tonnes), time, sector)


def _grid(tonnes: NDArray[np.float64], time: str, sector: str) -> MemoryGrid:
    lat = Axis(_CORNER[1] + _STEP / 2, _STEP, _SHAPE[0])
    lon = Axis(_CORNER[0] + _STEP / 2, _STEP, _SHAPE[1])
    flux = tonnes[::-1] * 1000.0 / (cell_areas(lat, lon) * month_seconds(time))
    attrs = {
        "source": "MEIC grid",
        "ancestry": "meic",
        "sectors": " ".join(SECTORS),
        "assumed": "tonnes of CO2 per cell and month; row 0 is the north; transportation is transport, agriculture "
        "goes to residential; -9999 is missing",
    }
    contents = Contents(
        (time,), ("co2_flux",), lat, lon, inner=(SECTORS.index(_SECTORS[sector]),), parts=(f"{time[:7]} {sector}",),
        attrs=attrs,
    )  # fmt: skip
    return MemoryGrid(contents, flux[None].astype(np.float32))


def _ascii(path: str) -> NDArray[np.float64]:
    """North first, after six header lines."""
    header: dict[str, float] = {}
    try:
        with open(path, encoding="ascii") as file:
            for _ in range(6):
                key, value = file.readline().split()
                header[key.lower()] = float(value)
            values = np.array(file.read().split(), dtype=np.float64)
    except (ValueError, UnicodeDecodeError) as error:
        raise InputError(f"not an ESRI ASCII grid ({error})", "six header lines, then numbers") from error
    _check_frame(
        (int(header.get("nrows", 0)), int(header.get("ncols", 0))),
        (header.get("xllcorner", np.nan), header.get("yllcorner", np.nan)),
        header.get("cellsize", np.nan),
    )
    if values.size != _SHAPE[0] * _SHAPE[1]:
        raise InputError(f"{values.size} numbers", f"{_SHAPE[0] * _SHAPE[1]}", "fetch the file again")
    values[values == header.get("nodata_value", -9999.0)] = np.nan
    return values.reshape(_SHAPE)


def _netcdf(path: str) -> NDArray[np.float64]:
    """A 1-D `z` in the order of rows from the north; `dimension` is (columns, rows)."""
    with open_netcdf(path, decode_times=False) as ds:
        names = ("z", "dimension", "x_range", "y_range", "spacing")
        missing = [n for n in names if n not in ds.variables]
        if missing:
            raise Rejected(f"the variables {', '.join(missing)} are missing, so this is not a MEIC grid")
        columns, rows = (int(v) for v in ds["dimension"].values[:2])
        corner = float(ds["x_range"].values[0]), float(ds["y_range"].values[0])
        _check_frame((rows, columns), corner, float(ds["spacing"].values[0]))
        values = np.asarray(ds["z"].values, np.float64)
    if values.shape != (rows * columns,):
        raise Rejected(f"z has shape {values.shape}, expected {rows * columns} values")
    values[~(values > -9998.0)] = np.nan
    return values.reshape(rows, columns)


def _check_frame(shape: tuple[int, int], corner: tuple[float, float], step: float) -> None:
    near = abs(corner[0] - _CORNER[0]) < 1e-3 and abs(corner[1] - _CORNER[1]) < 1e-3 and abs(step - _STEP) < 1e-6
    if shape != _SHAPE or not near:
        raise Rejected(f"{shape} cells of {step:g} degree from {corner}, expected {_SHAPE} of 0.25 from {_CORNER}")


def _checked(tonnes: NDArray[np.float64]) -> NDArray[np.float64]:
    known = tonnes[np.isfinite(tonnes)]
    if not known.size:
        raise Rejected("no cell has a value", {"seen": tonnes.size, "missing": tonnes.size})
    if known.min() < 0 or known.max() > MAX_TONNES:
        raise InputError(f"{known.min():g} to {known.max():g} t in a cell and month", f"0 to {MAX_TONNES:g}")
    return tonnes
