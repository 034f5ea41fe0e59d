"""GOSAT XCO2 by ACOS: level 2 granules, joined by sounding id, and Lite files."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import h5py
import numpy as np
from numpy.typing import NDArray

from pipeline.ingest.columns import Observations, require_any, selected
from pipeline.ingest.contract import Rejected, Rules
from pipeline.ingest.hdf import attribute, check_length, dataset, has, open_hdf5, read
from pipeline.ingest.oco import check_platform, from_id, layer_kernel, read_lite, xco2_rules

PPM = 1e6


@dataclass(frozen=True)
class AcosReader:
    """Reads ACOS L2 (`/RetrievalResults`) and Lite.

    L2 values are not bias-corrected and lie on no WMO scale, so they come only when ``allow_uncorrected`` says so.
    """

    family: str = "xco2"
    path: str = "inputs/xco2_gosat.zarr"
    rules: Rules = field(
        default_factory=lambda: xco2_rules(allow_uncorrected=False, max_outcome=2, max_uncertainty_ppm=3.0)
    )

    def read(self, path: str, rules: Rules) -> Observations:
        """The good soundings of one file."""
        name = path.rsplit("/", 1)[-1]
        with open_hdf5(path) as file:
            if not has(file, "RetrievalResults/xco2"):
                check_platform(file, "gosat")
                return read_lite(file, rules, part=f"gosat {name}")
            if not rules["allow_uncorrected"]:
                raise Rejected(
                    "a level 2 granule, whose XCO2 is not bias-corrected (take it with --rule allow_uncorrected=true)"
                )
            return _level2(file, rules, name)


def _level2(file: h5py.File, rules: Rules, name: str) -> Observations:
    ids = dataset(file, "RetrievalResults/sounding_id_reference")[()].astype(np.int64)
    n = ids.size
    value, error = (_ppm(file, f"RetrievalResults/{v}", n) for v in ("xco2", "xco2_uncert"))
    lat, lon = (_joined(file, f"SoundingGeometry/sounding_{v}", ids) for v in ("latitude", "longitude"))
    outcome = check_length("outcome_flag", dataset(file, "RetrievalResults/outcome_flag")[()], n)
    time, lost = from_id(ids)
    checks = {
        "no_place_or_time": lost | ~(np.abs(lat) <= 90) | ~(np.abs(lon) <= 180),
        "not_converged": ~((outcome >= 1) & (outcome <= int(rules["max_outcome"]))),
        "no_value": ~(np.isfinite(value) & (error > 0)),
        "uncertain": ~(error <= float(rules["max_uncertainty_ppm"])),
        "implausible": ~((value > 340.0) & (value < 500.0)),
    }
    left, counts = selected(n, checks)
    require_any(left, counts, "soundings")
    return Observations(
        time[left], lat[left], lon[left], value[left], error[left], counts,
        _kernel(file, ids, float(rules["pbl_hpa"]))[left],
        {
            "source": "GOSAT ACOS L2",
            "source_version": attribute(file, "ProductionDateTime") or _version(name),
            "co2_scale": "none (not bias-corrected)",
            "assumed": "mole fraction x 1e6 ppm; results joined to geometry by sounding id; time from the id",
        },
        f"gosat {name.split('_Production')[0]}",
        _version(name),
    )  # fmt: skip


def _version(name: str) -> str:
    found = re.search(r"v(\d+)_", name)
    return found[1] if found else ""


def _ppm(file: h5py.File, name: str, n: int) -> NDArray[np.float64]:
    variable = dataset(file, name)
    unit = attribute(variable, "Units", "units")
    # "Mole Mole^{-1}" in the files; other spellings are seen in other versions.
    if re.sub(r"[^a-z]", "", unit.lower()) not in ("molemole", "molmol", "molemolecule"):
        raise Rejected(f"{name} has units {unit!r}, expected mole per mole")
    return check_length(name, read(variable), n) * PPM


def _joined(file: h5py.File, name: str, ids: NDArray[np.int64]) -> NDArray[np.float64]:
    """A variable of the soundings at the retrieved ones: by sounding id where it lists all, never by index."""
    values = read(dataset(file, name))
    if values.shape[0] == ids.size:
        return values
    everything = dataset(file, "SoundingHeader/sounding_id")[()].astype(np.int64)
    if everything.shape != values.shape[:1]:
        raise Rejected(
            f"{name} has {values.shape[0]} records; there are {ids.size} results, {everything.size} soundings"
        )
    order = np.argsort(everything, kind="stable")
    place = np.searchsorted(everything, ids, sorter=order)
    found = place < everything.size
    at = order[np.where(found, place, 0)]
    return np.where(found & (everything[at] == ids), values[at], np.nan)


def _kernel(file: h5py.File, ids: NDArray[np.int64], depth: float) -> NDArray[np.float64]:
    group = "RetrievalResults"
    names = [
        f"{group}/{v}" for v in ("xco2_avg_kernel_norm", "xco2_pressure_weighting_function", "vector_pressure_levels")
    ]
    if not all(has(file, name) for name in names):
        return np.full(ids.size, np.nan)
    kernel, h, p = (check_length(name, read(dataset(file, name)), ids.size) for name in names)
    return layer_kernel(kernel, h, p / 100.0, depth)
