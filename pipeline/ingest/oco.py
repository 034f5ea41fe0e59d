"""XCO2 soundings in the layout of the OCO Lite files: OCO-2, OCO-3, ACOS Lite of GOSAT, TanSat."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from pipeline.ingest.columns import Observations, require_any, selected
from pipeline.ingest.contract import Rejected, Rules
from pipeline.ingest.hdf import attribute, check_length, check_units, dataset, has, open_hdf5, read

PLAUSIBLE = (350.0, 500.0)
"""ppm; no column of this century lies outside."""
_MODES = {0: "nadir", 1: "glint", 2: "target", 3: "transition", 4: "sam"}


def xco2_rules(**changes: Any) -> dict[str, Any]:
    """The rules of XCO2 readers with their defaults.

    max_quality_flag : keep flags up to this (0: good only).
    scale : WMO scale, X2007 or X2019, about 0.2 ppm apart; one for all years of a cube.
    modes : observation modes to keep.
    min_land_percent : of the footprint; 0 keeps the sea.
    pbl_hpa : depth of the layer above ground over which the averaging kernel is averaged.
    error_correlation, error_floor (ppm) : r and s_t of the cell's error.
    """
    return {
        "max_quality_flag": 0,
        "scale": "X2007",
        "modes": "nadir glint target transition sam",
        "min_land_percent": 0.0,
        "pbl_hpa": 150.0,
        "error_correlation": 0.55,
        "error_floor": 0.3,
        **changes,
    }


@dataclass(frozen=True)
class LiteReader:
    """One reader for Lite files; `platform` is what their attributes must name, where they name one."""

    name: str
    platform: str
    family: str = "xco2"
    rules: Rules = field(default_factory=xco2_rules)

    @property
    def path(self) -> str:
        """The cube's place in the store."""
        return f"inputs/xco2_{self.name}.zarr"

    def read(self, path: str, rules: Rules) -> Observations:
        """The good soundings of one file."""
        with open_hdf5(path) as file:
            check_platform(file, self.platform)
            return read_lite(file, rules, part=f"{self.name} {path.rsplit('/', 1)[-1]}")


def check_platform(file: h5py.File, platform: str) -> None:
    """Hold a file to its satellite, where it names one.

    Raises
    ------
    Rejected : it names another.
    """
    said = attribute(file, "Platform", "platform", "Sensor", "sensor")
    if said and platform not in re.sub(r"[^a-z0-9]", "", said.lower()):
        raise Rejected(f"the file is of {said!r}, not of {platform}")


def read_lite(file: h5py.File, rules: Rules, part: str) -> Observations:
    """Soundings of an opened Lite file that pass the rules."""
    names = ("latitude", "longitude", "time", "xco2_uncertainty", "xco2_quality_flag", "xco2")
    missing = [name for name in names if not has(file, name)]
    if missing:
        raise Rejected(f"the variables {', '.join(missing)} are missing; it has {', '.join(sorted(file)[:8])}")
    variable, scale = scaled_xco2(file, str(rules["scale"]))
    n = dataset(file, "latitude").shape[0] if dataset(file, "latitude").shape else 0
    for name in ("xco2_uncertainty", variable):
        check_units(dataset(file, name), ("ppm",))
    column = {name: check_length(name, read(dataset(file, name)), n) for name in (*names[:4], variable)}
    time, lost = utc(file, column["time"])
    flag = check_length("xco2_quality_flag", dataset(file, "xco2_quality_flag")[()].astype(np.int64), n)
    value, error = column[variable], column["xco2_uncertainty"]
    checks = {
        "no_place_or_time": lost | ~(np.abs(column["latitude"]) <= 90) | ~(np.abs(column["longitude"]) <= 180),
        "no_value": ~(np.isfinite(value) & (error > 0)),
        "quality_flag": ~((flag >= 0) & (flag <= int(rules["max_quality_flag"]))),
        **_context_checks(file, rules, n),
        "implausible": ~((value > PLAUSIBLE[0]) & (value < PLAUSIBLE[1]) & (error < 20.0)),
    }
    left, counts = selected(n, checks)
    require_any(left, counts, "soundings")
    return Observations(
        time[left],
        column["latitude"][left],
        column["longitude"][left],
        value[left],
        error[left],
        counts,
        pbl_kernel(file, n, float(rules["pbl_hpa"]))[left],
        {
            "source": attribute(file, "title", "Title") or "Lite file",
            "source_version": attribute(file, "BuildId", "CollectionLabel", "product_version"),
            "co2_scale": scale,
            "assumed": "bias-corrected XCO2 in ppm; soundings of a cell weigh equally",
        },
        _day_of(part, time[left]),
        f"{attribute(file, 'BuildId', 'CollectionLabel', 'product_version')}",
    )


def _day_of(part: str, time: NDArray[np.datetime64]) -> str:
    # A Lite file is a day of one instrument, whatever its version.
    return f"{part.split(' ', 1)[0]} {time.min().astype('datetime64[D]')}"


def scaled_xco2(file: h5py.File, wanted: str) -> tuple[str, str]:
    """The variable that holds XCO2 on a WMO scale: scales are never mixed.

    Raises
    ------
    Rejected : the file does not have it.
    """
    declared = {}
    for name in ("xco2", "xco2_x2019"):
        if has(file, name):
            text = attribute(file[name], "long_name") + " " + attribute(file[name], "comment").split(".")[0]
            found = re.search(r"X(2007|2019)", text)
            # Lite files before version 11.2 say nothing and are on X2007.
            declared["X" + found[1] if found else "X2019" if name.endswith("x2019") else "X2007"] = name
    if wanted not in declared:
        raise Rejected(f"XCO2 on the scales {', '.join(sorted(declared))}, not on {wanted}; see --rule scale=")
    return declared[wanted], wanted


def utc(file: h5py.File, seconds: NDArray[np.float64]) -> tuple[NDArray[np.datetime64], NDArray[np.bool_]]:
    """Times of soundings and which have none: from the id (YYYYMMDDhhmmss..) where there is one, else from `time`."""
    if has(file, "sounding_id"):
        ids = dataset(file, "sounding_id")[()].astype(np.int64)
        if ids.shape == seconds.shape:
            return from_id(ids // 100 if ids.size and ids.max() > 10**15 else ids)
    units = attribute(file["time"], "units")
    found = re.search(r"seconds since (\d{4}-\d\d-\d\d)", units)
    lost = ~np.isfinite(seconds)
    start = np.datetime64(found[1] if found else "1970-01-01", "ns")
    whole = np.where(lost, 0.0, seconds)
    time = start + (whole * 1e3).astype("int64").astype("timedelta64[ms]")
    years = time.astype("M8[Y]").astype(int) + 1970
    return time, lost | (years < 2009) | (years > 2100)


def from_id(ids: NDArray[np.int64]) -> tuple[NDArray[np.datetime64], NDArray[np.bool_]]:
    """Times from sounding ids YYYYMMDDhhmmss, and which are none."""
    parts = [ids // 10**10, ids // 10**8 % 100, ids // 10**6 % 100, ids // 10**4 % 100, ids // 100 % 100, ids % 100]
    year, month, day, hour, minute, second = parts
    good = (year >= 2009) & (year <= 2100) & (month >= 1) & (month <= 12) & (day >= 1) & (day <= 31)
    good &= (hour < 24) & (minute < 60) & (second < 61)
    months = np.where(good, (year - 1970) * 12 + month - 1, 0).astype("M8[M]").astype("M8[s]")
    seconds = (np.where(good, day - 1, 0) * 24 + hour) * 3600 + minute * 60 + second
    return (months + np.where(good, seconds, 0).astype("m8[s]")).astype("datetime64[ns]"), ~good


def _context_checks(file: h5py.File, rules: Rules, n: int) -> dict[str, NDArray[np.bool_]]:
    checks = {}
    kept = [code for code, name in _MODES.items() if name in str(rules["modes"]).split()]
    mode, land = _of_sounding(file, "operation_mode"), _of_sounding(file, "land_fraction")
    if mode is not None:
        checks["mode"] = ~np.isin(check_length("operation_mode", mode[()], n), kept)
    elif len(kept) < len(_MODES):
        raise Rejected("the rule modes needs Sounding/operation_mode, which the file lacks")
    if float(rules["min_land_percent"]) > 0:
        if land is None:
            raise Rejected("min_land_percent needs Sounding/land_fraction, which the file lacks")
        checks["sea"] = ~(check_length("land_fraction", read(land), n) >= float(rules["min_land_percent"]))
    return checks


def _of_sounding(file: h5py.File, name: str) -> h5py.Dataset | None:
    """A variable of the group `Sounding`; subsets made by OPeNDAP have the group's name before an underscore."""
    path = next((p for p in (f"Sounding/{name}", f"Sounding_{name}") if has(file, p)), None)
    return None if path is None else dataset(file, path)


def pbl_kernel(file: h5py.File, n: int, depth: float) -> NDArray[np.float64]:
    """Averaging kernel of the layer above ground: sum(h a) / sum(h) over levels within `depth` hPa of the lowest.

    h is the pressure weight, a the normalised kernel; either order of levels. NaN where the file has none.
    """
    weight = "pressure_weight" if has(file, "pressure_weight") else "pressure_weights"
    names = ("xco2_averaging_kernel", weight, "pressure_levels")
    if not all(has(file, name) for name in names):
        return np.full(n, np.nan)
    kernel, h, p = (check_length(name, read(dataset(file, name)), n) for name in names)
    return layer_kernel(kernel, h, p, depth)


def layer_kernel(
    kernel: NDArray[np.float64], h: NDArray[np.float64], p: NDArray[np.float64], depth: float
) -> NDArray[np.float64]:
    """The formula of `pbl_kernel` on arrays (n, levels); levels with anything missing do not count."""
    if not kernel.shape == h.shape == p.shape or kernel.ndim != 2:
        raise Rejected(f"kernel, weights and levels of shapes {kernel.shape}, {h.shape}, {p.shape}")
    known = np.isfinite(kernel) & np.isfinite(h) & np.isfinite(p)
    lowest = np.max(np.where(known, p, -np.inf), axis=1, keepdims=True)
    use = known & (p >= lowest - depth)
    total = np.where(use, h, 0.0).sum(axis=1)
    mean = np.where(use, h * kernel, 0.0).sum(axis=1) / np.where(total > 0, total, np.nan)
    return np.where((mean > 0) & (mean < 3), mean, np.nan)
