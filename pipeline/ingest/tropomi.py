"""Tropospheric NO2 of TROPOMI: level 2 swaths with pixel corners, and level 3 grids made by HARP."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from pipeline.ingest.binning import COLUMN_GRID
from pipeline.ingest.columns import Observations, require_any, selected
from pipeline.ingest.contract import Rejected, Rules
from pipeline.ingest.gridded import horizontal, open_netcdf
from pipeline.ingest.hdf import attribute, check_units, dataset, has, open_hdf5, read

PLAUSIBLE = (-1e-3, 2e-2)
"""mol m-2; -6e16 to 1.2e18 molecules cm-2, beyond anything seen."""
MOLECULES = 6.02214076e19
"""molecules cm-2 in 1 mol m-2 (Avogadro's constant, SI 2019)."""
_COLUMN = "PRODUCT/nitrogendioxide_tropospheric_column"
_BOUNDS = "PRODUCT/SUPPORT_DATA/GEOLOCATIONS/{}_bounds"
_STREAMS = {"NRTI": "0", "OFFL": "1", "RPRO": "2"}


def no2_rules(**changes: Any) -> dict[str, Any]:
    """The rules of NO2 readers with their defaults.

    min_qa : keep quality above this (0.75 removes clouds, snow and errors; Eskes and Eichmann, product readme).
    error_correlation, error_floor (mol m-2) : r and s_t of the cell's error.
    """
    return {"min_qa": 0.75, "error_correlation": 0.55, "error_floor": 3e-6, **changes}


@dataclass(frozen=True)
class SwathReader:
    """TROPOMI L2 NO2, complete or a subset."""

    family: str = "no2"
    path: str = "inputs/no2_tropomi.zarr"
    rules: Rules = field(default_factory=no2_rules)

    def read(self, path: str, rules: Rules) -> Observations:
        """The good pixels of the scan lines that pass over the region."""
        name = path.rsplit("/", 1)[-1]
        with open_hdf5(path) as file:
            if not has(file, _COLUMN):
                raise Rejected(f"no tropospheric NO2 column: {_what_instead(file)}")
            lat, lon = (_swath(file, f"PRODUCT/{v}") for v in ("latitude", "longitude"))
            lines = scan_lines(lat, lon)
            seen = lat.size
            if not lines.size:
                raise Rejected("the swath does not pass over the region", {"seen": seen, "outside_region": seen})
            part = slice(int(lines[0]), int(lines[-1]) + 1)
            return _pixels(file, part, (lat, lon), rules, name)


def scan_lines(lat: NDArray, lon: NDArray) -> NDArray[np.int64]:
    """Lines with any pixel centre in the region (or 2 degrees beside it); centres that are fill do not count."""
    west, south, east, north = COLUMN_GRID.bounds
    inside = (lat > south - 2) & (lat < north + 2) & (lon > west - 2) & (lon < east + 2)
    return np.flatnonzero(inside.any(axis=1))


def _pixels(file: h5py.File, part: slice, centres: tuple[NDArray, NDArray], rules: Rules, name: str) -> Observations:
    column = dataset(file, _COLUMN)
    for variable in (column, dataset(file, _COLUMN + "_precision")):
        check_units(variable, ("mol m-2", "mol/m2"))
    value, error = _swath(file, _COLUMN, part), _swath(file, _COLUMN + "_precision", part)
    qa = _quality(file, part)
    time, lost = scan_times(file, part, name)
    lat, lon, estimated = _corners(file, part, centres)
    n = value.size
    flat = {"value": value.ravel(), "error": error.ravel(), "qa": qa.ravel()}
    lat, lon = lat.reshape(n, 4), lon.reshape(n, 4)
    good_corners = (np.abs(lat) <= 90).all(axis=1) & (np.abs(lon) <= 180.001).all(axis=1)
    checks = {
        "no_value": ~(np.isfinite(flat["value"]) & (flat["error"] > 0)),
        "quality": ~(flat["qa"] > float(rules["min_qa"])),
        "no_place_or_time": ~good_corners | np.repeat(lost, value.shape[1]),
        "implausible": ~((flat["value"] > PLAUSIBLE[0]) & (flat["value"] < PLAUSIBLE[1])),
    }
    left, counts = selected(n, checks)
    elsewhere = centres[0].size - n
    counts |= {"seen": centres[0].size} | ({"outside_region": elsewhere} if elsewhere else {})
    require_any(left, counts, "pixels")
    return Observations(
        np.repeat(time, value.shape[1])[left], lat[left], lon[left], flat["value"][left], flat["error"][left], counts,
        None,
        {
            "source": attribute(file, "title") or "TROPOMI L2 NO2",
            "source_version": attribute(file, "processor_version"),
            "assumed": "tropospheric vertical column, mol m-2; negative values kept; weights are overlap areas; "
            "the day is the UTC date of the scan line"
            + ("; corners estimated from centres where the file has none" if estimated else ""),
        },
        *_identity(name, file),
    )  # fmt: skip


def _identity(name: str, file: h5py.File) -> tuple[str, str]:
    """The orbit, and a rank by stream and processor: a reprocessed orbit replaces the first one."""
    found = re.match(r"S5P_(\w{4})_L2__NO2____\d{8}T\d{6}_\d{8}T\d{6}_(\d{5})_(\d\d)_(\d{6})_", name)
    if found:
        return f"orbit {found[2]}", f"{found[3]}{_STREAMS.get(found[1], '0')}{found[4]}"
    orbit = attribute(file, "orbit")
    return (f"orbit {int(orbit):05d}" if orbit.isdigit() else name), ""


def _what_instead(file: h5py.File) -> str:
    if "PRODUCT" not in file:
        return f"the file has {', '.join(sorted(file)[:6]) or 'nothing'}, no group PRODUCT"
    names = [n for n, v in file["PRODUCT"].items() if isinstance(v, h5py.Dataset) and v.ndim >= 3]
    if names:
        return f"it holds {', '.join(sorted(names)[:4])}; another product or a subset without it"
    return "the group PRODUCT has dimensions only; the pixel variables were stripped"


def _swath(file: h5py.File, name: str, lines: slice = slice(None)) -> NDArray[np.float64]:
    """A variable (1, scan line, pixel) without its time axis."""
    variable = dataset(file, name)
    if variable.ndim != 3 or variable.shape[0] != 1:
        raise Rejected(f"{name} has shape {variable.shape}, expected (1, scan line, pixel)")
    return read(variable, (0, lines, slice(None)))


def _quality(file: h5py.File, lines: slice) -> NDArray[np.float64]:
    """Quality 0..1; 255 is fill even where the file does not say so, and a packed one always counts in hundredths."""
    variable = dataset(file, "PRODUCT/qa_value")
    qa = read(variable, (0, lines, slice(None)))
    if variable.dtype.kind in "iu" and "scale_factor" not in variable.attrs:
        qa = qa / 100.0
    return np.where(qa <= 1.0001, qa, np.nan)


def scan_times(file: h5py.File, lines: slice, name: str) -> tuple[NDArray[np.datetime64], NDArray[np.bool_]]:
    """UTC of each scan line, and which have none: reference day + delta_time in milliseconds.

    The reference is what the unit of `delta_time` says (``milliseconds since DATE``), else the variable `time` in
    seconds since 2010, else the attribute, else the name.
    """
    delta_variable = dataset(file, "PRODUCT/delta_time")
    delta = read(delta_variable)[0, lines]
    if delta.ndim == 2:
        delta = delta[:, 0]
    unit = attribute(delta_variable, "units")
    if not unit.startswith("milliseconds"):
        raise Rejected(f"delta_time in {unit!r}, expected milliseconds")
    start = _reference(file, unit, name)
    lost = ~np.isfinite(delta) | (np.abs(np.where(np.isfinite(delta), delta, 0)) > 2 * 86_400_000)
    return start + np.where(lost, 0, delta).astype("int64").astype("timedelta64[ms]"), lost


def _reference(file: h5py.File, unit: str, name: str) -> np.datetime64:
    if found := re.search(r"since (\d{4}-\d\d-\d\d)", unit):
        return np.datetime64(found[1], "ns")
    if has(file, "PRODUCT/time"):
        seconds = float(read(dataset(file, "PRODUCT/time")).ravel()[0])
        if np.isfinite(seconds) and seconds > 2e8:
            return np.datetime64("2010-01-01", "ns") + np.timedelta64(int(seconds), "s")
    if found := re.match(r"(\d{4}-\d\d-\d\d)", attribute(file, "time_reference", "time_coverage_start")):
        return np.datetime64(found[1], "ns")
    if found := re.search(r"_(20\d\d)(\d\d)(\d\d)T\d{6}_", name):
        return np.datetime64(f"{found[1]}-{found[2]}-{found[3]}", "ns")
    raise Rejected("no reference day: neither delta_time, time, an attribute nor the name has one")


def _corners(
    file: h5py.File, lines: slice, centres: tuple[NDArray, NDArray]
) -> tuple[NDArray[np.float64], NDArray[np.float64], bool]:
    """Corners (scan line, pixel, 4) from the file, or estimated where a subset lacks them."""
    there = [v for v in ("latitude", "longitude") if has(file, _BOUNDS.format(v))]
    if len(there) == 1:
        raise Rejected(f"corners of {there[0]} without those of the other axis: a damaged file")
    if there:
        lat, lon = (
            read(dataset(file, _BOUNDS.format(v)), (0, lines, slice(None), slice(None)))
            for v in ("latitude", "longitude")
        )
        if lat.shape == (*centres[0][lines].shape, 4) == lon.shape:
            return lat, lon, False
        raise Rejected(f"corners of shape {lat.shape} for {centres[0][lines].shape} pixels")
    lat, lon = (estimated_corners(c[lines]) for c in (centres[0], np.rad2deg(np.unwrap(np.deg2rad(centres[1])))))
    return lat, (lon + 180.0) % 360.0 - 180.0, True


def estimated_corners(centre: NDArray[np.float64]) -> NDArray[np.float64]:
    """Corners from centres (line, pixel): the mean of the four centres around, carried on beyond the edges.

    NaN where any centre around is missing.
    """
    if min(centre.shape) < 2:
        raise Rejected(f"a swath of {centre.shape} pixels without corners")
    padded = np.pad(centre, 1, constant_values=np.nan)
    padded[0, 1:-1], padded[-1, 1:-1] = 2 * centre[0] - centre[1], 2 * centre[-1] - centre[-2]
    padded[:, 0], padded[:, -1] = 2 * padded[:, 1] - padded[:, 2], 2 * padded[:, -2] - padded[:, -3]
    knots = (padded[:-1, :-1] + padded[:-1, 1:] + padded[1:, 1:] + padded[1:, :-1]) / 4
    return np.stack([knots[:-1, :-1], knots[:-1, 1:], knots[1:, 1:], knots[1:, :-1]], axis=-1)


@dataclass(frozen=True)
class HarpReader:
    """TROPOMI NO2 gridded by HARP: cells are taken as pixels.

    Files that kept only columns >= 0 are biased high and come only when ``accept_positive_only`` says so.
    """

    family: str = "no2"
    path: str = "inputs/no2_tropomi_l3.zarr"
    rules: Rules = field(default_factory=lambda: no2_rules(accept_positive_only=False, uncertainty=1.5e-5))

    def read(self, path: str, rules: Rules) -> Observations:
        """The cells of one file over the region."""
        name = path.rsplit("/", 1)[-1]
        with open_netcdf(path, decode_times=False) as raw:
            column = "tropospheric_NO2_column_number_density"
            if column not in raw:
                raise Rejected(f"no {column} among {', '.join(map(str, raw.data_vars)) or 'nothing'}")
            unit = str(raw[column].attrs.get("units", ""))
            if unit not in ("mol/m2", "mol/m^2", "mol m-2"):
                raise Rejected(f"{column} has units {unit!r}, expected mol/m2")
            ds = horizontal(raw)
            history = str(raw.attrs.get("history", ""))
            source = str(raw.attrs.get("source_product", name))
            field_ = ds[column].squeeze("time", drop=True) if "time" in ds[column].dims else ds[column]
            lat, lon = np.asarray(ds["lat"], float), np.asarray(ds["lon"], float)
            west, south, east, north = COLUMN_GRID.bounds
            if lat[-1] < south or lat[0] > north or lon[-1] < west or lon[0] > east:
                where = f"{lon[0]:.1f}..{lon[-1]:.1f} E, {lat[0]:.1f}..{lat[-1]:.1f} N"
                raise Rejected(
                    f"the file covers {where}, not China", {"seen": field_.size, "outside_region": field_.size}
                )
            if re.search(rf"{column}\s*>=?\s*0", history) and not rules["accept_positive_only"]:
                raise Rejected(
                    "only columns >= 0 were kept, which biases means high (accept_positive_only=true takes it)"
                )
            value = np.asarray(field_.transpose("lat", "lon"), np.float64)
        time = _harp_time(source)
        return grid_cells(value, lat, lon, time, rules, f"HARP grid of {source}", (source, ""))


def _harp_time(source: str) -> np.datetime64:
    found = re.search(r"_(20\d\d)(\d\d)(\d\d)T(\d\d)(\d\d)\d\d_", source)
    if not found:
        raise Rejected(f"no time in the name of the source product {source!r}")
    return np.datetime64(f"{found[1]}-{found[2]}-{found[3]}T{found[4]}:{found[5]}", "ns")


def grid_cells(
    value: NDArray[np.float64],
    lat: NDArray,
    lon: NDArray,
    time: np.datetime64,
    rules: Rules,
    source: str,
    identity: tuple[str, str],
    elsewhere: int = 0,
) -> Observations:
    """The cells of a daily grid (lat, lon) as pixels, with the rule's uncertainty; columns in mol m-2.

    Parameters
    ----------
    identity : part and rank, as in `Observations`.
    elsewhere : cells of the file that were cut away before.
    """
    half_lat, half_lon = (lat[1] - lat[0]) / 2, (lon[1] - lon[0]) / 2
    y, x = (g.ravel() for g in np.meshgrid(lat, lon, indexing="ij"))
    flat = value.ravel()
    checks = {
        "no_value": ~np.isfinite(flat),
        "implausible": ~((flat > PLAUSIBLE[0]) & (flat < PLAUSIBLE[1])),
    }
    left, counts = selected(flat.size, checks)
    counts |= {"seen": flat.size + elsewhere} | ({"outside_region": elsewhere} if elsewhere else {})
    require_any(left, counts, "cells")
    y, x = y[left], x[left]
    return Observations(
        np.full(y.size, time, "datetime64[ns]"),
        np.stack([y - half_lat, y - half_lat, y + half_lat, y + half_lat], axis=1),
        np.stack([x - half_lon, x + half_lon, x + half_lon, x - half_lon], axis=1),
        flat[left],
        np.full(y.size, float(rules["uncertainty"])),
        counts,
        None,
        {"source": source, "assumed": f"1 sigma of a cell {rules['uncertainty']} mol m-2, which the file does not say"},
        *identity,
    )
