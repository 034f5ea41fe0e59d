"""Regridding as the pipeline uses it: lazily, block by block. The one module of this room that knows Dask."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import dask.array as da
import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy import sparse

from pipeline.core.chunks import FINE_CHUNK
from pipeline.core.errors import InputError
from pipeline.core.grid import Grid
from pipeline.regrid.axes import Axes
from pipeline.regrid.kernels import Block, cut_columns, regrid_block, take, window
from pipeline.regrid.weights import General, Separable, Weights, weights_for
from pipeline.store.ledger import digest
from pipeline.store.location import Store

BLOCK_BYTES = 96 * 2**20
"""Most that one task's values take as float64, source window or target block; a task needs about three times it."""


def regrid(
    array: xr.DataArray,
    target: Grid,
    method: str,
    *,
    store: Store | None = None,
    chunks: Mapping[str, int] | None = None,
    mask: xr.DataArray | None = None,
    min_valid: float = 0.0,
) -> xr.DataArray:
    """Put a field on another grid, lazily when it is lazy.

    Parameters
    ----------
    array : dims (..., lat, lon) in any order, 1-D cell centres in degrees in either direction; NaN is missing.
    target : the grid to go to.
    method : ``bilinear``; ``conservative``, the mean over the valid part of the cell, for fluxes and densities;
        ``sum``, for amounts per cell such as people: each source cell's amount is spread evenly over it, and the
        total is kept; ``nearest_s2d``; ``nearest_d2s``, the mean of the sources nearest to the cell; ``patch``.
    store : where weights are kept; without one they are made each time.
    chunks : cells of a block of the result along lat and lon; 950 x 1050 at most when not given.
    mask : True where a source cell may be used, dims (lat, lon); a plain NaN costs less.
    min_valid : least valid fraction of a cell that is not to be NaN, 0..1.

    Returns
    -------
    The field with `target.coords()`, float32 for small types and float64 for large ones. Cells of which nothing is
    covered by valid source cells are NaN, for ``sum`` too: unknown is not zero.

    Raises
    ------
    InputError : no rectilinear grid, unknown method, or a mask of another shape.
    """
    field, block = _prepare(array, target, method, store, mask, min_valid)
    data = _values(field, block, target, method, _block_shape(target, chunks), with_fraction=False)
    return _wrap(data, field, target, method)


def regrid_with_fraction(
    array: xr.DataArray,
    target: Grid,
    method: str,
    *,
    store: Store | None = None,
    chunks: Mapping[str, int] | None = None,
    mask: xr.DataArray | None = None,
    min_valid: float = 0.0,
) -> xr.Dataset:
    """As `regrid`, with `valid_fraction`: the part (0..1) of each cell that valid source cells gave the value of.

    Returns
    -------
    Dataset with the field under its own name (or ``field``) and `valid_fraction`.
    """
    field, block = _prepare(array, target, method, store, mask, min_valid)
    both = _values(field, block, target, method, _block_shape(target, chunks), with_fraction=True)
    fraction = _wrap(both[1], field, target, method)
    fraction.attrs = {"units": "1", "long_name": "part of the cell covered by valid source cells"}
    return xr.Dataset({field.name or "field": _wrap(both[0], field, target, method), "valid_fraction": fraction})


def _prepare(
    array: xr.DataArray, target: Grid, method: str, store: Store | None, mask: xr.DataArray | None, min_valid: float
) -> tuple[xr.DataArray, Block]:
    source, goal = Axes.of_array(array), Axes.of_grid(target)
    keep = None
    if mask is not None:
        if set(mask.dims) != {"lat", "lon"} or dict(mask.sizes) != {d: array.sizes[d] for d in ("lat", "lon")}:
            raise InputError(f"a mask of {dict(mask.sizes)}", f"lat, lon of the array, {source.shape}")
        keep = mask.transpose("lat", "lon").values.astype(bool)
    weights = weights_for(source, goal, method, keep, store)
    density = ((1 / source.bands, 1 / source.widths), (goal.bands, goal.widths)) if method == "sum" else None
    return array.transpose(..., "lat", "lon"), Block(weights, density, min_valid)


def _values(
    field: xr.DataArray, block: Block, target: Grid, method: str, shape: tuple[int, int], with_fraction: bool
) -> NDArray | da.Array:
    dtype = np.result_type(field.dtype, np.float32)
    if field.chunks is None:
        return regrid_block(field.values, block, dtype, with_fraction)
    token = digest(field.data.name, target, method, block.min_valid, with_fraction, shape, _fingerprint(block.weights))
    rows, cols = _cuts(target.n_lat, shape[0]), _cuts(target.n_lon, shape[1])
    return da.block([[_tile(field.data, block, (r, c), dtype, with_fraction, token) for c in cols] for r in rows])


def _tile(
    data: da.Array,
    block: Block,
    part: tuple[slice, slice],
    dtype: np.dtype,
    with_fraction: bool,
    token: str,
) -> da.Array:
    """One block of target cells, from the window of the source that its weights reach."""
    windows, inner = _cut(block, part)
    n_lat, n_lon = part[0].stop - part[0].start, part[1].stop - part[1].start
    if not (windows[0] and windows[1]):
        lead = ((2,) if with_fraction else ()) + data.shape[:-2]
        chunks = (((2,),) if with_fraction else ()) + data.chunks[:-2] + ((n_lat,), (n_lon,))
        empty = da.full((*lead, n_lat, n_lon), np.nan, dtype=dtype, chunks=chunks)
        return da.concatenate([empty[:1], da.zeros_like(empty[1:])]) if with_fraction else empty
    source = _window(data, windows)
    lead_chunks = _lead_chunks(source, n_lat * n_lon)
    source = source.rechunk((*lead_chunks, source.shape[-2], source.shape[-1]))
    chunks = (*lead_chunks, (n_lat,), (n_lon,))
    return source.map_blocks(
        regrid_block,
        inner,
        dtype,
        with_fraction,
        dtype=dtype,
        chunks=((2,), *chunks) if with_fraction else chunks,
        new_axis=[0] if with_fraction else None,
        name=f"regrid-{token}-{part[0].start}-{part[1].start}",
        meta=np.empty((0,) * (data.ndim + with_fraction), dtype),
    )


def _cut(block: Block, part: tuple[slice, slice]) -> tuple[tuple[list[slice], list[slice]], Block]:
    """The source windows along lat and lon that a part of the target needs, and the block for just these."""
    weights, (rows, cols) = block.weights, part
    inner: Weights
    if isinstance(weights, Separable):
        lat, lon = weights.lat[rows], weights.lon[cols]
        windows = window(lat.indices, lat.shape[1]), window(lon.indices, lon.shape[1])
        if windows[0] and windows[1]:
            inner = Separable(cut_columns(lat, windows[0]), cut_columns(lon, windows[1]))
    else:
        n_lat, n_lon = weights.shape_out
        flat = np.arange(n_lat * n_lon).reshape(n_lat, n_lon)[rows, cols]
        matrix = weights.matrix[flat.ravel()]
        j, i = np.divmod(matrix.indices, weights.shape_in[1])
        windows = window(j, weights.shape_in[0]), window(i, weights.shape_in[1])
        if windows[0] and windows[1]:
            inner = _cut_general(weights, matrix, windows, flat.shape)
    if not (windows[0] and windows[1]):
        return windows, block
    density = block.density
    if density is not None:
        (in_lat, in_lon), (out_lat, out_lon) = density
        density = (take(in_lat, windows[0]), take(in_lon, windows[1])), (out_lat[rows], out_lon[cols])
    return windows, Block(inner, density, block.min_valid)


def _cut_general(
    weights: General, matrix: sparse.csr_array, windows: tuple[list[slice], list[slice]], shape: tuple[int, int]
) -> General:
    n_lat, n_lon = weights.shape_in
    j, i = take(np.arange(n_lat), windows[0]), take(np.arange(n_lon), windows[1])
    place = np.full(n_lat * n_lon, -1)
    place[(j[:, None] * n_lon + i).ravel()] = np.arange(len(j) * len(i))
    cut = sparse.csr_array(
        (matrix.data, place[matrix.indices], matrix.indptr), shape=(shape[0] * shape[1], len(j) * len(i))
    )
    return General(cut, (len(j), len(i)), shape)


def _window(data: da.Array, windows: tuple[list[slice], list[slice]]) -> da.Array:
    rows = [data[..., w, :] for w in windows[0]]
    data = rows[0] if len(rows) == 1 else da.concatenate(rows, axis=-2)
    cols = [data[..., w] for w in windows[1]]
    return cols[0] if len(cols) == 1 else da.concatenate(cols, axis=-1)


def _lead_chunks(source: da.Array, n_out: int) -> tuple[tuple[int, ...], ...]:
    """Chunks of the leading dims: the array's own, split where a task would take too much memory."""
    most = max(1, BLOCK_BYTES // (8 * max(n_out, source.shape[-2] * source.shape[-1])))
    result: list[tuple[int, ...]] = []
    for sizes in reversed(source.chunks[:-2]):
        result.insert(0, tuple(p for n in sizes for p in _split(n, most)))
        most = max(1, most // max(sizes))
    return tuple(result)


def _split(n: int, most: int) -> list[int]:
    return [min(most, n - k) for k in range(0, n, most)] if n else [0]


def _cuts(n: int, step: int) -> list[slice]:
    return [slice(k, min(k + step, n)) for k in range(0, n, step)]


def _block_shape(target: Grid, chunks: Mapping[str, int] | None) -> tuple[int, int]:
    wanted = {"lat": FINE_CHUNK[0], "lon": FINE_CHUNK[1], **(chunks or {})}
    return min(wanted["lat"], target.n_lat), min(wanted["lon"], target.n_lon)


def _fingerprint(weights: Weights) -> list[str]:
    matrices = [m for m in vars(weights).values() if isinstance(m, sparse.csr_array)]
    return [hashlib.sha256(m.data.tobytes() + m.indices.tobytes()).hexdigest() for m in matrices]


def _wrap(data: NDArray | da.Array, field: xr.DataArray, target: Grid, method: str) -> xr.DataArray:
    kept = {name: c for name, c in field.coords.items() if not {"lat", "lon"} & set(c.dims)}
    result = xr.DataArray(
        data,
        dims=field.dims,
        coords={**kept, **target.coords()},
        attrs={**field.attrs, "regrid_method": method},
    )
    # Without a name xarray takes the Dask array's.
    result.name = field.name
    return result
