"""Gridded inventories as monthly fluxes by sector: EDGAR, CEDS, GCP-GridFED, GRACED, ODIAC, and NOx of TROPESS."""

from __future__ import annotations

import calendar
import contextlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from pipeline.core.errors import InputError
from pipeline.core.schema import SECTORS
from pipeline.core.units import DAY, EARTH_RADIUS, M_CO2, M_NO2
from pipeline.ingest.axes import Axis
from pipeline.ingest.contract import Rejected, Rules
from pipeline.ingest.cubefile import CubeFile, Layer
from pipeline.ingest.gridded import open_netcdf
from pipeline.ingest.grids import Contents, OpenGrid
from pipeline.ingest.lazygrid import Cut, LazyGrid, Quantity, cut_region
from pipeline.ingest.rasters import RasterWindow, date_in, opened_raster, region_window

M_C = 0.0120107
"""kg mol-1; IUPAC atomic weights."""
M_N = 0.0140067
"""kg mol-1; IUPAC atomic weights."""
CO2_PER_C = M_CO2 / M_C
TOTAL = ("total",)
FLUX = Quantity("kg m-2 s-1", {"kg m-2 s-1": 1.0}, -1e-9, 0.05)
"""The largest plants give about 1e-3 in a square kilometre."""
_MASS = Quantity("kg m-2 s-1", {}, -1e-9, 0.05)


def month_seconds(time: str) -> float:
    """Seconds of the month that a time lies in."""
    return calendar.monthrange(int(time[:4]), int(time[5:7]))[1] * DAY


def cell_areas(lat: Axis, lon: Axis, rows: slice = slice(None)) -> NDArray[np.float64]:
    """Areas of some rows on the authalic sphere, m2, (lat, lon): R2 dlon (sin north - sin south)."""
    bands = np.diff(np.sin(np.deg2rad(lat.edges)))[rows]
    return EARTH_RADIUS**2 * bands[:, None] * np.deg2rad(np.diff(lon.edges))[None, :]


def inventory_cube(name: str, contents: Contents, layer: str = "co2_flux") -> tuple[CubeFile, Axis, Axis]:
    """The monthly cube of an inventory: by our four sectors, or `total` only."""
    labels = tuple(contents.attrs["sectors"].split())
    path = f"inputs/inventory_{name}.zarr"
    flux = Layer("kg m-2 s-1", attrs={"long_name": "emission of CO2, fossil and process"})
    return CubeFile(path, {layer: flux}, "month", (1024, 1024), {"sector": labels}), contents.lat, contents.lon


@dataclass
class SectorGrid:
    """Fields of an inventory: for each sector it has, sources that are added up."""

    contents: Contents
    sources: Sequence[Sequence[LazyGrid]]

    def read(self, variable: str, time: int, rows: slice) -> NDArray[np.float32]:
        """Flux in kg m-2 s-1, (sector, rows, columns)."""
        return np.stack([np.sum([g.read(variable, time, rows) for g in part], axis=0) for part in self.sources])


@dataclass(frozen=True)
class Field:
    """A variable of a file that goes into a sector, with what turns it into kg m-2 s-1.

    kind : ``flux``, ``month`` (mass per cell and month), ``year`` (mass per cell and year) or ``hour``.
    kg : kg of CO2 in one unit of mass.
    """

    array: xr.DataArray
    sector: str
    kind: str
    kg: float = 1.0


def sector_grid(
    fields: Sequence[Field], times: Sequence[str], ds: xr.Dataset, attrs: Mapping[str, str], prefix: str = ""
) -> SectorGrid:
    """Fields of a Dataset as an inventory; fields of one sector are added, parts carry the prefix.

    An array without a dim of time is held for all times.
    """
    lat, lon = cut_region(ds)
    labels = TOTAL if fields[0].sector == "total" else SECTORS
    inner = tuple(k for k, label in enumerate(labels) if any(f.sector == label for f in fields))
    parts = tuple(f"{prefix}{times[0]}..{times[-1]} {f.array.name}{f.array.attrs.get('part', '')}" for f in fields)
    contents = Contents(
        tuple(times), ("co2_flux",), lat.axis, lon.axis, inner=inner, parts=parts,
        attrs={**attrs, "sectors": " ".join(labels)},
    )  # fmt: skip
    areas = cell_areas(lat.axis, lon.axis)
    sources = [[_lazy(f, contents, (lat, lon), areas) for f in fields if f.sector == labels[k]] for k in inner]
    return SectorGrid(contents, sources)


def _lazy(f: Field, contents: Contents, cuts: tuple[Cut, Cut], areas: NDArray[np.float64]) -> LazyGrid:
    seconds: dict[str, Callable[[str], float]] = {
        "month": month_seconds,
        "year": lambda t: (365.0 + calendar.isleap(int(t[:4]))) * DAY,
        "hour": lambda t: 3600.0,  # noqa: ARG005
    }

    def scale(time: int) -> NDArray[np.float64]:
        return 1.0 / (areas * seconds[f.kind](contents.times[time]))

    return LazyGrid(
        {"co2_flux": (f.array,)}, "time", cuts[0], cuts[1], {"co2_flux": f.kg},
        {"co2_flux": FLUX if f.kind == "flux" else _MASS}, contents,
        scale=None if f.kind == "flux" else scale,
    )  # fmt: skip


def months_of(year: int) -> list[str]:
    """Starts of the months of a year."""
    return [f"{year}-{month:02d}-01" for month in range(1, 13)]


@dataclass(frozen=True)
class Inventory:
    """A reader of netCDF inventories: `parse` turns an opened file into fields."""

    name: str
    parse: Callable[[xr.Dataset, str], SectorGrid]
    group: str | None = None
    rules: Rules = field(default_factory=dict)
    adds: bool = True
    tiled: bool = False

    def cube(self, contents: Sequence[Contents]) -> tuple[CubeFile, Axis, Axis]:
        """Monthly, on the files' own grid, cut to the region."""
        kinds = {(c.attrs["sectors"], c.attrs.get("division", "")) for c in contents}
        if len(kinds) > 1:
            raise InputError(
                "totals and sectors, or two divisions into sectors, of one inventory",
                "one kind, or they would be counted twice",
            )
        return inventory_cube(self.name, contents[0])

    @contextlib.contextmanager
    def open(self, path: str, rules: Rules) -> Iterator[OpenGrid]:  # noqa: ARG002
        """One file."""
        with open_netcdf(path, group=self.group) as ds:
            yield self.parse(ds, path.rsplit("/", 1)[-1])


_EDGAR_BOOKLET: Mapping[str, str] = {
    "POWER_INDUSTRY": "power",
    "IND_COMBUSTION": "industry", "IND_PROCESSES": "industry", "FUEL_EXPLOITATION": "industry",
    "TRANSPORT": "transport",
    "BUILDINGS": "residential", "AGRICULTURE": "residential", "WASTE": "residential",
}  # fmt: skip
_EDGAR_CODES: Mapping[str, str] = {
    "ENE": "power",
    "IND": "industry", "REF_TRF": "industry", "PRO": "industry", "PRO_FFF": "industry", "PRO_COAL": "industry",
    "PRO_OIL": "industry", "PRO_GAS": "industry", "NMM": "industry", "CHE": "industry", "IRO": "industry",
    "NFE": "industry", "NEU": "industry", "PRU_SOL": "industry",
    "TRO": "transport", "TRO_NORES": "transport", "TNR_OTHER": "transport", "TNR_AVIATION_LTO": "transport",
    "TNR_AVIATION_CDS": "transport",
    "RCO": "residential", "AGS": "residential", "SWD_INC": "residential",
}  # fmt: skip
_EDGAR_SECTORS: Mapping[str, str] = {"TOTALS": "total", **_EDGAR_BOOKLET, **_EDGAR_CODES}
"""EDGAR's sector codes (v4-v8 and 2024) in ours; cruise flight and international shipping are left out."""
_EDGAR_NAME = re.compile(
    r"CO2(?P<part>[a-z_-]*?)_(?P<year>(?:19|20)\d\d)(?P<month>_\d\d?(?=[_.]))?(?P<rest>[_.].*)$", re.I
)
_EDGAR_FOSSIL = ("", "_excl_short-cycle", "_excl_short-cycle_org_c")


def edgar(ds: xr.Dataset, name: str) -> SectorGrid:
    """EDGAR: `fluxes` or `emi_co2` in kg m-2 s-1, `emissions` in tonnes a year or month; totals or one sector."""
    variable = next((v for v in ("fluxes", "emissions", "emi_co2") if v in ds), None)
    if variable is None:
        raise Rejected(f"no fluxes, emissions or emi_co2 among {', '.join(map(str, ds.data_vars)) or 'nothing'}")
    year, code = _edgar_name(name)
    array = ds[variable]
    unit = str(array.attrs.get("units", "")).lower().replace(" ", "")
    monthly = "time" in array.dims and array.sizes["time"] == 12
    if "time" in array.dims and not monthly:
        raise Rejected(f"{array.sizes['time']} times, expected 12 months or one year")
    masses = ("tonnes", "t", "tonnes/year", "t/cell")
    kinds = {"kgm-2s-1": "flux", "kg/m2/s": "flux"} | dict.fromkeys(masses, "mass")
    if unit not in kinds:
        raise Rejected(f"{variable} has units {unit or 'none'!r}, expected kg m-2 s-1 or tonnes")
    kind = kinds[unit] if kinds[unit] == "flux" else "month" if monthly else "year"
    assumed = "as stated by the file; " + ("months as given" if monthly else "a year's mean held for its months")
    division = "booklet" if code in _EDGAR_BOOKLET else "codes" if code in _EDGAR_CODES else "totals"
    attrs = {"source": f"EDGAR ({name})", "assumed": f"{assumed}; tonnes of CO2", "division": division}
    chosen = Field(array, _EDGAR_SECTORS[code], kind, 1.0 if kind == "flux" else 1000.0)
    return sector_grid([chosen], months_of(year), ds, attrs, f"{code} ")


def _edgar_name(name: str) -> tuple[int, str]:
    """Year and sector code that a file's name says; the year is the one after the species, not the release's."""
    found = _EDGAR_NAME.search(name)
    if not found:
        raise Rejected(f"the name {name!r} does not say CO2 and then a year, as EDGAR files do")
    if found["part"].lower() not in _EDGAR_FOSSIL:
        raise Rejected(f"CO2{found['part']} is not fossil CO2 (biofuel), or is not known")
    if found["month"]:
        raise Rejected("a single month of EDGAR; take the year, or the file that has its twelve months")
    rest = found["rest"].upper()
    code = next((c for c in sorted(_EDGAR_SECTORS, key=len, reverse=True) if re.search(rf"_{c}[_.]", rest)), None)
    code = None if "_TRO_RES" in rest else code
    if code is None and re.search(r"TNR_|SHIP|AVIATION", rest):
        raise Rejected("cruise flight or shipping, which is not of a province")
    if code is None and (unknown := re.search(r"(?<=_)(?!BKL)[A-Z]{3}\w*", found["rest"])):
        raise Rejected(f"the sector {unknown[0]!r} holds no fossil CO2 of a province, or is not known")
    return int(found["year"]), code or "TOTALS"


_CEDS_SECTORS = dict(
    enumerate(("residential", "power", "industry", "transport", "residential", "industry", "residential"))
)
"""CEDS: agriculture, energy, industry, transport, residential-commercial, solvents, waste; 7, shipping, is left out."""


def ceds(ds: xr.Dataset, name: str) -> SectorGrid:
    """CEDS for input4MIPs: `CO2_em_anthro` (time, sector, lat, lon) in kg m-2 s-1, months."""
    variable = next((v for v in ("CO2_em_anthro", "CO2_em_AIR_anthro") if v in ds), None)
    if variable != "CO2_em_anthro":
        raise Rejected(f"no CO2_em_anthro among {', '.join(map(str, ds.data_vars)) or 'nothing'}")
    array = ds[variable]
    if set(array.dims) != {"time", "sector", "lat", "lon"}:
        raise Rejected(f"{variable} has dims {array.dims}")
    factor = FLUX.factor(str(array.attrs.get("units", "")), variable)
    fields = [
        Field(array.isel(sector=k).assign_attrs(part=f" sector {k}"), _CEDS_SECTORS[k], "flux", factor)
        for k in range(array.sizes["sector"])
        if k in _CEDS_SECTORS
    ]
    times = [f"{str(t)[:7]}-01" for t in ds["time"].values]
    attrs = {"source": f"CEDS ({name})", "assumed": "sectors by their numbers 0..7; international shipping left out"}
    return sector_grid(fields, times, ds, attrs)


_GRIDFED_UNIT = re.compile(r"kg(co2)?([/.]?(grid)?(cell|mon|month)(-1)?){0,2}", re.I)


def gridfed(ds: xr.Dataset, name: str) -> SectorGrid:
    """GCP-GridFED: group `CO2`, `TOTAL` in kg of CO2 per cell and month."""
    if "TOTAL" not in ds:
        raise Rejected(f"no TOTAL in the group CO2, but {', '.join(map(str, ds.data_vars)) or 'nothing'}")
    year, _ = date_in(name, r"(?P<year>(19|20)\d\d)(?=\D*\.nc)", "GridFED")
    array = ds["TOTAL"]
    unit = str(array.attrs.get("units", ""))
    if not _GRIDFED_UNIT.fullmatch(re.sub(r"[\s()]", "", unit)):
        raise Rejected(f"TOTAL has units {unit or 'none'!r}, expected kg CO2 cell-1 month-1")
    if array.sizes.get("time") != 12:
        raise Rejected(f"{array.sizes.get('time', 'no')} times, expected 12 months")
    attrs = {"source": f"GCP-GridFED ({name})", "assumed": "kg of CO2 per cell and month"}
    return sector_grid([Field(array, "total", "month", 1.0)], months_of(year), ds, attrs)


_GRACED = {
    "power": "power", "industry": "industry", "residential": "residential", "ground transport": "transport",
    "domestic aviation": "transport",
}  # fmt: skip


def graced(ds: xr.Dataset, name: str) -> SectorGrid:
    """GRACED: kg of C per hour and cell, one variable a sector, a time axis of months or of all days of months.

    The layout is taken from its description, not from a file: names are matched without case and underscores.
    """
    names = {re.sub(r"[_\s]+", " ", str(v)).strip().lower(): str(v) for v in ds.data_vars}
    found = {ours: names[ours] for ours in _GRACED if ours in names}
    if not found or "time" not in ds.dims:
        raise Rejected(f"no sectors with a time axis among {', '.join(map(str, ds.data_vars)) or 'nothing'}")
    times, mean = _whole_months(ds["time"].values)
    lat, lon = cut_region(ds)
    ds = ds.isel({lat.dim: lat.part, lon.dim: lon.part})
    fields = []
    for ours, theirs in found.items():
        unit = re.sub(r"[\s*^]", "", str(ds[theirs].attrs.get("units", ""))).lower()
        if unit not in ("kgc/h", "kgch-1", "kgc/hr", "kgchr-1"):
            raise Rejected(f"{theirs} has units {unit or 'none'!r}, expected kg C h-1")
        fields.append(Field(mean(ds[theirs]).rename(theirs), _GRACED[ours], "hour", CO2_PER_C))
    attrs = {"source": f"GRACED ({name})", "assumed": "kg of carbon per hour and cell x 44/12; days averaged to months"}
    return sector_grid(fields, times, ds, attrs)


def _whole_months(times: NDArray[np.datetime64]) -> tuple[list[str], Callable[[xr.DataArray], xr.DataArray]]:
    months = times.astype("datetime64[M]")
    if np.unique(times.astype("datetime64[Y]")).size > 1:
        raise Rejected(f"times {str(times[0])[:10]}..{str(times[-1])[:10]}, expected one year in a file")
    kept = []
    for month in np.unique(months):
        days = calendar.monthrange(*(int(p) for p in str(month).split("-")))[1]
        have = int((months == month).sum())
        if have not in (1, days) or (have == 1 and times.size > np.unique(months).size):
            raise Rejected(f"{have} of {days} days of {month}: a month needs all its days")
        kept.append(f"{month}-01")
    daily = times.size > len(kept)
    if not daily and times.size == 1 and times[0] != months[0].astype(times.dtype):
        raise Rejected(f"one field at {times[0]}: a month needs all its days in one file")
    return kept, (lambda a: a.groupby("time.month").mean("time").rename(month="time")) if daily else (lambda a: a)


@dataclass(frozen=True)
class Odiac:
    """ODIAC 1 km GeoTIFF: tonnes of carbon per cell and month, land only; ``odiac2022_1km_excl_intl_2101.tif``."""

    rules: Rules = field(default_factory=dict)
    adds: bool = True
    tiled: bool = False

    def cube(self, contents: Sequence[Contents]) -> tuple[CubeFile, Axis, Axis]:
        """Monthly totals on the 30 arc-second grid, cut to the region."""
        return inventory_cube("odiac", contents[0])

    @contextlib.contextmanager
    def open(self, path: str, rules: Rules) -> Iterator[OpenGrid]:  # noqa: ARG002
        """One month."""
        name = path.rsplit("/", 1)[-1]
        year, month = date_in(name, r"_(?P<year>\d\d)(?P<month>\d\d)\.tiff?$", "ODIAC")
        with opened_raster(path) as dataset:
            rows, cols, _, lat, lon = region_window(dataset)
            time = f"{year}-{month:02d}-01"
            attrs = {
                "source": f"ODIAC ({name})",
                "sectors": "total",
                "assumed": "tonnes of carbon per cell and month x 44/12; land only",
            }
            contents = Contents((time,), ("co2_flux",), lat, lon, inner=(0,), parts=(time,), attrs=attrs)
            missing = () if dataset.nodata is None else (float(dataset.nodata),)
            window = RasterWindow(dataset, contents, rows, cols, missing=missing, allowed=(0.0, 1e7))
            yield _CarbonRaster(window, contents)


@dataclass
class _CarbonRaster:
    window: RasterWindow
    contents: Contents

    def read(self, variable: str, time: int, rows: slice) -> NDArray[np.float32]:
        """Flux of CO2 in kg m-2 s-1, (1, rows, columns)."""
        tonnes = self.window.read(variable, time, rows).astype(np.float64)
        areas = cell_areas(self.contents.lat, self.contents.lon, rows)
        flux = tonnes * 1000.0 * CO2_PER_C / (areas * month_seconds(self.contents.times[time]))
        return flux[None].astype(np.float32)


@dataclass(frozen=True)
class TropessNox:
    """TROPESS (TCR-2) anthropogenic NOx in kg of N m-2 s-1, as kg NO2-equivalent: x 46.0055 / 14.0067."""

    path: str = "inputs/nox_tropess.zarr"
    rules: Rules = field(default_factory=dict)
    adds: bool = False
    tiled: bool = False

    def cube(self, contents: Sequence[Contents]) -> tuple[CubeFile, Axis, Axis]:
        """Monthly; an auxiliary cube, since an inventory needs CO2."""
        layer = Layer("kg m-2 s-1", attrs={"long_name": "anthropogenic NOx, kg NO2-equivalent"})
        return CubeFile(self.path, {"nox_flux": layer}, "month"), contents[0].lat, contents[0].lon

    @contextlib.contextmanager
    def open(self, path: str, rules: Rules) -> Iterator[OpenGrid]:  # noqa: ARG002
        """One file of months."""
        with open_netcdf(path) as ds:
            if "nox" not in ds or "time" not in ds.dims:
                raise Rejected(f"no nox with a time axis among {', '.join(map(str, ds.data_vars)) or 'nothing'}")
            unit = re.sub(r"\s", "", str(ds["nox"].attrs.get("units", "")))
            if unit not in ("kgN/m2/s", "kgNm-2s-1"):
                raise Rejected(f"nox has units {unit or 'none'!r}, expected kgN/m2/s")
            times = tuple(f"{str(t)[:7]}-01" for t in ds["time"].values)
            lat, lon = cut_region(ds)
            attrs = {"source": "TROPESS TCR-2 anthropogenic NOx", "assumed": "kg of N, turned into kg NO2-equivalent"}
            contents = Contents(times, ("nox_flux",), lat.axis, lon.axis, attrs=attrs)
            limits = {"nox_flux": Quantity("kg m-2 s-1", {}, 0.0, 1e-6)}
            yield LazyGrid({"nox_flux": (ds["nox"],)}, "time", lat, lon, {"nox_flux": M_NO2 / M_N}, limits, contents)
