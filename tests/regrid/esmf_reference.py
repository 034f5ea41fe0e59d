"""Reference cases of native ESMF: the small set beside this file, and the full one where it is at hand."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from scipy import sparse

HERE = Path(__file__).parent / "reference"
FULL = Path(
    os.environ.get("CARBONCUBE_ESMF_REFERENCE", Path(__file__).parents[3] / "shared" / "reference" / "esmf" / "weights")
)


@dataclass(frozen=True)
class Case:
    name: str
    source: xr.Dataset
    target: xr.Dataset
    method: str
    kwargs: dict[str, Any]
    weights: sparse.csr_array
    unmapped: np.ndarray


def dataset(arrays: dict[str, np.ndarray]) -> xr.Dataset:
    """A grid as xESMF takes it, from `lon`, `lat` and perhaps `lon_b`, `lat_b`, `mask`."""
    flat = arrays["lon"].ndim == 1
    stream = flat and "points" in arrays
    dims = {
        "lon": ("points",) if stream else ("lon",),
        "lat": ("points",) if stream else ("lat",),
        "lon_b": ("lon_b",),
        "lat_b": ("lat_b",),
        "mask": ("lat", "lon"),
    }
    if not flat:
        dims = {
            "lon": ("y", "x"),
            "lat": ("y", "x"),
            "lon_b": ("y_b", "x_b"),
            "lat_b": ("y_b", "x_b"),
            "mask": ("y", "x"),
        }
    return xr.Dataset(coords={k: (dims[k], v) for k, v in arrays.items() if k in dims and k != "mask"}).assign(
        {"mask": (dims["mask"], arrays["mask"].astype("i4"))} if "mask" in arrays else {}
    )


def matrix(row, col, value, shape) -> tuple[sparse.csr_array, np.ndarray]:
    """The weights with NaN as 0, and which targets are marked unmapped by a NaN."""
    unmapped = np.zeros(shape[0], bool)
    unmapped[row[np.isnan(value)]] = True
    entries = (np.nan_to_num(value), (row.astype(int), col.astype(int)))
    return sparse.coo_array(entries, shape=shape).tocsr(), unmapped


def small(name: str) -> Case:
    with np.load(HERE / f"{name}.npz") as data:
        meta = json.loads(str(data["meta"]))
        grids = {}
        for which in ("src", "dst"):
            arrays = {k[4:]: data[k] for k in data.files if k.startswith(which + ".")}
            if meta["kwargs"].get({"src": "locstream_in", "dst": "locstream_out"}[which]):
                arrays["points"] = np.zeros(0)
            grids[which] = dataset(arrays)
        shape = (int(np.prod(meta["shape_out"])), int(np.prod(meta["shape_in"])))
        weights, unmapped = matrix(data["row"], data["col"], data["S"], shape)
    return Case(name, grids["src"], grids["dst"], meta["method"], meta["kwargs"], weights, unmapped)


def full(name: str) -> tuple[Case, xr.Dataset, xr.Dataset]:
    parts = []
    for kind in ("weights", "src", "dst"):
        with xr.open_dataset(FULL / f"{name}.{kind}.nc", engine="h5netcdf") as opened:
            parts.append(opened.load())
    weights, source, target = parts
    shape = (int(weights.attrs["n_b"]), int(weights.attrs["n_a"]))
    entries, unmapped = matrix(weights["row"].values - 1, weights["col"].values - 1, weights["S"].values, shape)
    kwargs = json.loads(weights.attrs["kwargs"])
    grids = source.drop_vars("f"), target.drop_vars("f")
    return Case(name, *grids, weights.attrs["method"], kwargs, entries, unmapped), source, target


SMALL = sorted(p.stem for p in HERE.glob("*.npz") if not p.stem.startswith("x6"))
WHOLE = sorted(p.name.removesuffix(".weights.nc") for p in FULL.glob("[!x]*.weights.nc")) + sorted(
    p.name.removesuffix(".weights.nc") for p in FULL.glob("x[!6]*.weights.nc")
)


def weight_tolerance(name: str) -> float:
    """What the weights must agree to: 1e-10, on swaths 1e-6.

    Case c1 (30 arc-seconds) carries ESMF's own rounding of 1e-8, see `test_small_cells_beat_the_reference`.
    """
    return {"g": 1e-6, "c": 2e-8}.get(name[0], 1e-10)
