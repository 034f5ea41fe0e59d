"""Weights of a pair of rectilinear grids: made once, through xESMF, and kept in the store."""

from __future__ import annotations

import io
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy import sparse

from pipeline.core.errors import InputError, StoreError
from pipeline.regrid.axes import Axes
from pipeline.regrid.finder import engine
from pipeline.store.ledger import digest
from pipeline.store.location import Store

METHODS = ("bilinear", "conservative", "sum", "nearest_s2d", "nearest_d2s", "patch")
"""What `regrid` offers; `sum` is conservative for amounts per cell."""
_SEPARABLE = frozenset({"bilinear", "conservative", "sum", "nearest_s2d"})
_STRIP = 5e-4
"""degrees; half the width of a strip. Parallels bend away from great circles by 1e-11 of a cell over it."""
_LAYOUT = 1
_GENERAL_LIMIT = 4_000_000
"""Target cells a general matrix is made for: beyond it takes gigabytes."""


@dataclass(frozen=True)
class Separable:
    """Weights w[j, i, k, l] = lat[j, k] lon[i, l] of target cell (j, i) and source cell (k, l)."""

    lat: sparse.csr_array
    lon: sparse.csr_array


@dataclass(frozen=True)
class General:
    """Weights as one matrix over flat cells (longitude fastest) of the target and the source shapes."""

    matrix: sparse.csr_array
    shape_in: tuple[int, int]
    shape_out: tuple[int, int]


Weights = Separable | General


def weights_for(
    source: Axes, target: Axes, method: str, mask: NDArray[np.bool_] | None = None, store: Store | None = None
) -> Weights:
    """Weights from source to target, from the store where it has them, else made and put there.

    Parameters
    ----------
    source, target : the grids.
    method : one of `METHODS`.
    mask : True where a source cell takes part, shape of the source; a mask leaves no separable weights.
    store : keeps them under ``work/weights/``, keyed by grids, method, mask and engine.

    Raises
    ------
    InputError : unknown method, or a general matrix for too large a target.
    StoreError : the kept weights are damaged.
    """
    if method not in METHODS:
        raise InputError(f"regridding method {method!r}", f"one of {', '.join(METHODS)}")
    masked = None if mask is None else np.packbits(mask).tobytes().hex()
    key = digest("weights", _LAYOUT, engine(), method, source.fingerprint, target.fingerprint, masked)
    name = f"work/weights/{key}.npz"
    found = None if store is None else _read(store, name)
    if found is not None:
        return found
    made = _make(source, target, "conservative" if method == "sum" else method, mask)
    if store is not None:
        store.write_bytes(_pack(made), name)
    return made


def separable(source: Axes, target: Axes, method: str, mask: NDArray[np.bool_] | None = None) -> bool:
    """Whether the weights of a pair are a product of one matrix per axis.

    They are not with a mask, nor for methods that choose among targets, nor beyond the last rows of a global
    grid, where ESMF interpolates towards the mean of the row.
    """
    if mask is not None or method not in _SEPARABLE:
        return False
    beyond = target.lat.max() > source.lat.max() or target.lat.min() < source.lat.min()
    return not (method == "bilinear" and source.closed and beyond)


def _make(source: Axes, target: Axes, method: str, mask: NDArray[np.bool_] | None) -> Weights:
    if separable(source, target, method, mask):
        lon = _along_lon(source, target, method)
        return Separable(_along_lat(source, target, method, lon), lon)
    if target.shape[0] * target.shape[1] > _GENERAL_LIMIT:
        raise InputError(
            f"{method}{' with a mask' if mask is not None else ''} onto {target.shape[0]} x {target.shape[1]} cells",
            f"at most {_GENERAL_LIMIT} target cells for a method without separable weights",
            "set masked cells to NaN instead of giving a mask, or regrid part by part",
        )
    given, wanted = _dataset(source), _dataset(target)
    if mask is not None:
        given["mask"] = (("lat", "lon"), mask.astype(np.int32))
    periodic = source.closed and method != "conservative"
    return General(_matrix(given, wanted, method, periodic), source.shape, target.shape)


def _along_lat(source: Axes, target: Axes, method: str, lon: sparse.csr_array) -> sparse.csr_array:
    """Weights along a meridian: those of a strip of one column of cells, and for bilinear of two of points.

    Conservative: the strip is so narrow that parallels and great circles agree. Bilinear: ESMF's cells are bent, so
    the weights along a meridian depend a little on how far the target is from the columns. The strip is as wide as
    the source's cells and the target stands where w (1 - w), on which the bend depends, has its mean over the
    targets: exact where all targets stand alike (points to the cells between them), else a compromise.
    """
    strip = np.array([-_STRIP, _STRIP])
    columns, at = np.zeros(1), 0.0
    if method == "bilinear":
        mapped = np.diff(lon.indptr) > 0
        products = (1 - (lon**2).sum(axis=1)[mapped]) / 2
        mean = np.clip(products.mean() if mapped.any() else 0.0, 0.0, 0.25)
        columns = np.array([0.0, float(np.median(np.abs(np.diff(source.lon))))])
        at = columns[1] * (1 - np.sqrt(1 - 4 * mean)) / 2
    given = _dataset(Axes(source.lat, columns, source.lat_edges, strip))
    wanted = _dataset(Axes(target.lat, np.array([at]), target.lat_edges, strip))
    matrix = _matrix(given, wanted, method).tocoo()
    column = matrix.coords[1] // len(columns)
    return _csr(matrix.coords[0], column, matrix.data, (len(target.lat), len(source.lat)))


def _along_lon(source: Axes, target: Axes, method: str) -> sparse.csr_array:
    """Weights along a parallel, exact: lunes from the equator to the pole have great-circle sides only.

    Points are taken on the equator, for bilinear between two rows either side of it.
    """
    height = np.array([0.0, 90.0])
    rows = np.array([-_STRIP, _STRIP]) if method == "bilinear" else np.zeros(1)
    given = _dataset(Axes(rows, source.lon, height, source.lon_edges))
    wanted = _dataset(Axes(np.zeros(1), target.lon, height, target.lon_edges))
    matrix = _matrix(given, wanted, method, source.closed and method == "bilinear").tocoo()
    column = matrix.coords[1] % len(source.lon)
    return _csr(matrix.coords[0], column, matrix.data, (len(target.lon), len(source.lon)))


def _matrix(given: xr.Dataset, wanted: xr.Dataset, method: str, periodic: bool = False) -> sparse.csr_array:
    """The weights of an `xesmf.Regridder` as a SciPy matrix, (cells of wanted, cells of given)."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Input array is not F_CONTIGUOUS")
        made = _regridder_class()(given, wanted, method, periodic=periodic).weights.data
    return _csr(made.coords[0], made.coords[1], made.data, made.shape)


@cache
def _regridder_class() -> Any:
    """`xesmf.Regridder`, but for a check of indices that costs each process 1.6 s of compiling."""
    # Importing xESMF takes seconds, which only the process that makes weights should pay.
    import sparse as sparse_arrays
    import xesmf

    class Regridder(xesmf.Regridder):
        def _compute_weights(self, grid_in: Any, grid_out: Any) -> xr.DataArray:
            w = super()._compute_weights(grid_in, grid_out)
            made = _csr(w["row_dst"] - 1, w["col_src"] - 1, w["weights"], (self.n_out, self.n_in)).tocoo()
            # Sorted and without repeats by construction: said so, nothing is checked.
            data = sparse_arrays.COO(np.stack(made.coords), made.data, made.shape, has_duplicates=False, sorted=True)
            return xr.DataArray(data, dims=("out_dim", "in_dim"), name="weights")

    return Regridder


def _csr(row: NDArray, col: NDArray, data: NDArray, shape: tuple[int, int]) -> sparse.csr_array:
    matrix = sparse.csr_array(sparse.coo_array((np.asarray(data, float), (row, col)), shape=shape))
    matrix.sum_duplicates()
    matrix.eliminate_zeros()
    return matrix


def _dataset(axes: Axes) -> xr.Dataset:
    """What xESMF wants: centres and edges."""
    return xr.Dataset(
        coords={
            "lat": ("lat", axes.lat, {"units": "degrees_north"}),
            "lon": ("lon", axes.lon, {"units": "degrees_east"}),
            "lat_b": ("lat_edge", axes.lat_edges),
            "lon_b": ("lon_edge", axes.lon_edges),
        }
    )


def _pack(weights: Weights) -> bytes:
    arrays: dict[str, Any] = {}
    if isinstance(weights, General):
        arrays = {"shape_in": weights.shape_in, "shape_out": weights.shape_out}
    for name, matrix in vars(weights).items():
        if isinstance(matrix, sparse.csr_array):
            for part in ("data", "indices", "indptr", "shape"):
                arrays[f"{name}.{part}"] = np.asarray(getattr(matrix, part))
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def _read(store: Store, name: str) -> Weights | None:
    try:
        raw = store.read_bytes(name)
    except FileNotFoundError:
        return None
    try:
        with np.load(io.BytesIO(raw), allow_pickle=False) as arrays:
            return _unpack(arrays.__getitem__, set(arrays.files))
    except (ValueError, KeyError, EOFError, OSError, zipfile.BadZipFile) as error:
        raise StoreError(
            f"the weights {store.address(name)} are damaged ({error})", remedy="remove the file, then run again"
        ) from error


def _unpack(get: Callable[[str], NDArray], names: set[str]) -> Weights:
    def csr(name: str) -> sparse.csr_array:
        parts = tuple(get(f"{name}.{part}") for part in ("data", "indices", "indptr"))
        return sparse.csr_array(parts, shape=tuple(int(n) for n in get(f"{name}.shape")))

    if "shape_in" not in names:
        return Separable(csr("lat"), csr("lon"))
    n_in, n_out = get("shape_in"), get("shape_out")
    return General(csr("matrix"), (int(n_in[0]), int(n_in[1])), (int(n_out[0]), int(n_out[1])))
