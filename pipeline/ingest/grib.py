"""GRIB with several variables, heights and steps in one file: messages are listed first and decoded when read."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from pipeline.core.errors import InputError
from pipeline.ingest.contract import Rejected
from pipeline.ingest.era5 import QUANTITIES, check_hours
from pipeline.ingest.grids import Contents
from pipeline.ingest.lazygrid import Cut, cut_region

_LAYERS: dict[tuple[str, str, int], str] = {
    ("10u", "heightAboveGround", 10): "u10",
    ("10v", "heightAboveGround", 10): "v10",
    ("100u", "heightAboveGround", 100): "u100",
    ("100v", "heightAboveGround", 100): "v100",
    ("2t", "heightAboveGround", 2): "t2m",
    ("10u", "surface", 0): "u10",
    ("10v", "surface", 0): "v10",
    ("100u", "surface", 0): "u100",
    ("100v", "surface", 0): "v100",
    ("2t", "surface", 0): "t2m",
    ("blh", "surface", 0): "blh",
    ("hpbl", "surface", 0): "blh",
    ("sp", "surface", 0): "sp",
    ("tcwv", "surface", 0): "tcwv",
    ("tcwv", "entireAtmosphere", 0): "tcwv",
    ("u", "isobaricInhPa", 950): "u950",
    ("v", "isobaricInhPa", 950): "v950",
}
"""ecCodes short name, type of level and level: several heights stand in one file, and only these are meant."""
_MEANS = ("moda", "mnth", "edmo", "edmm")
"""Streams of ECMWF that hold monthly means, one field a month."""
_GRIDS = ("regular_ll", "regular_gg")


def _eccodes() -> Any:
    try:
        import eccodes
    except (ImportError, RuntimeError, OSError) as error:
        raise InputError(
            f"a GRIB file, and ecCodes is not there ({error})", remedy='install it: pip install "carboncube[grib]"'
        ) from error
    return eccodes


@dataclass
class GribGrid:
    """Messages of an opened file: offset by layer and time."""

    file: IO[bytes]
    contents: Contents
    offsets: dict[tuple[str, str], int]
    lat: Cut
    lon: Cut
    shape: tuple[int, int]

    def read(self, variable: str, time: int, rows: slice) -> NDArray[np.float32]:
        """One field on rows of the cut, ascending; missing is NaN.

        Raises
        ------
        InputError : a damaged message, or values no such field can have.
        """
        offset = self.offsets[variable, self.contents.times[time]]
        values = self._decode(offset)[self.lat.part][:, self.lon.part]
        values = values[:: -1 if self.lat.backwards else 1, :: -1 if self.lon.backwards else 1]
        q = QUANTITIES[variable]
        if np.nanmin(values) < q.low or np.nanmax(values) > q.high:
            raise InputError(
                f"{variable} from {np.nanmin(values):g} to {np.nanmax(values):g} {q.units}", f"{q.low:g} to {q.high:g}"
            )
        return values[rows].astype(np.float32)

    def _decode(self, offset: int) -> NDArray[np.float64]:
        eccodes = _eccodes()
        self.file.seek(offset)
        with _explained(eccodes):
            message = eccodes.codes_grib_new_from_file(self.file)
            try:
                eccodes.codes_set(message, "missingValue", 1e36)
                values = eccodes.codes_get_values(message).reshape(self.shape)
            finally:
                eccodes.codes_release(message)
        return np.where(np.abs(values) < 1e30, values, np.nan)


@contextlib.contextmanager
def open_grib(path: str, source: str) -> Iterator[GribGrid]:
    """A GRIB file, either edition, on a regular or regular Gaussian grid.

    Raises
    ------
    InputError : damaged, or ecCodes is not installed.
    Rejected : none of the layers, another grid, or elsewhere.
    """
    eccodes = _eccodes()
    with open(path, "rb") as file:
        offsets: dict[tuple[str, str], int] = {}
        early: dict[tuple[str, str], bool] = {}
        seen: set[str] = set()
        grid: dict[str, Any] = {}
        for offset, message in _messages(eccodes, file):
            name, level_type, level = (eccodes.codes_get(message, k) for k in ("shortName", "typeOfLevel", "level"))
            seen.add(str(name))
            layer = _LAYERS.get((str(name), str(level_type), int(level)))
            if layer is None or eccodes.codes_get(message, "stepType") != "instant":
                continue
            if eccodes.codes_is_defined(message, "stream") and eccodes.codes_get(message, "stream") in _MEANS:
                raise Rejected("means over months, expected fields every 1, 3 or 6 hours")
            _check_unit(layer, str(eccodes.codes_get(message, "units")))
            _same_grid(grid, _grid(eccodes, message))
            key, preliminary = (layer, _valid_time(eccodes, message)), _preliminary(eccodes, message)
            if key not in offsets or (early[key] and not preliminary):
                offsets[key], early[key] = offset, preliminary
        if not offsets:
            raise Rejected(f"none of {', '.join(QUANTITIES)} among {', '.join(sorted(seen)[:12]) or 'no message'}")
        axes = xr.Dataset(coords={"latitude": grid["lat"], "longitude": grid["lon"]})
        lat, lon = cut_region(axes)
        times = tuple(sorted({time for _, time in offsets}))
        check_hours(np.array(times, "datetime64[ns]"))
        names = tuple(n for n in QUANTITIES if any(layer == n for layer, _ in offsets))
        if gaps := [f"{n} at {t}" for n in names for t in times if (n, t) not in offsets]:
            raise Rejected(f"{gaps[0]} is missing ({len(gaps)} gaps in all), expected every variable at every time")
        attrs = {"source": source, "assumed": "instantaneous values at the valid time of each message, UTC"}
        contents = Contents(times, names, lat.axis, lon.axis, int(any(early.values())), attrs=attrs)
        yield GribGrid(file, contents, offsets, lat, lon, (len(grid["lat"]), len(grid["lon"])))


@contextlib.contextmanager
def _explained(eccodes: Any) -> Iterator[None]:
    try:
        yield
    except (eccodes.CodesInternalError, ValueError) as error:
        raise InputError(f"a damaged GRIB message ({error})", "a whole file", "fetch it again") from error


def _messages(eccodes: Any, file: IO[bytes]) -> Iterator[tuple[int, Any]]:
    while True:
        with _explained(eccodes):
            message = eccodes.codes_grib_new_from_file(file)
        if message is None:
            return
        try:
            with _explained(eccodes):
                yield int(eccodes.codes_get(message, "offset")), message
        finally:
            eccodes.codes_release(message)


def _preliminary(eccodes: Any, message: Any) -> bool:
    """Whether a message is ERA5T (experiment 5); other producers have no such key."""
    expver = str(eccodes.codes_get(message, "expver")) if eccodes.codes_is_defined(message, "expver") else ""
    return expver.strip().isdigit() and int(expver) == 5


def _valid_time(eccodes: Any, message: Any) -> str:
    day, clock = (int(eccodes.codes_get(message, k)) for k in ("validityDate", "validityTime"))
    text = f"{day // 10000:04d}-{day // 100 % 100:02d}-{day % 100:02d}T{clock // 100:02d}:{clock % 100:02d}:00"
    try:
        return str(np.datetime64(text, "s"))
    except ValueError:
        raise InputError(f"a message valid at {text}", "a date and time") from None


def _grid(eccodes: Any, message: Any) -> dict[str, Any]:
    kind = str(eccodes.codes_get(message, "gridType"))
    if kind not in _GRIDS:
        raise Rejected(f"a {kind} grid, expected {' or '.join(_GRIDS)}; convert it to longitude and latitude first")
    lat, lon = (np.asarray(eccodes.codes_get_array(message, f"distinct{v}")) for v in ("Latitudes", "Longitudes"))
    northward = eccodes.codes_get(message, "jScansPositively") == 1
    return {"lat": np.sort(lat)[:: 1 if northward else -1], "lon": lon}


def _same_grid(held: dict[str, Any], found: dict[str, Any]) -> None:
    if not held:
        held.update(found)
    elif any(not np.array_equal(held[k], found[k]) for k in held):
        raise Rejected("messages on different grids in one file")


def _check_unit(layer: str, unit: str) -> None:
    QUANTITIES[layer].factor(unit, layer)
