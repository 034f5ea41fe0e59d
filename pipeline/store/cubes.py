"""Cubes on disk: plain Zarr v3, template first, then whole shards."""

from __future__ import annotations

import base64
import contextlib
import uuid
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import xarray as xr
import zarr
from numpy.typing import NDArray
from zarr.codecs import ZstdCodec

from pipeline.core.errors import InputError, StoreError
from pipeline.store.addresses import CLOSING, close_at_exit, explained
from pipeline.store.location import Store

CODECS = frozenset(
    {
        "bytes",
        "vlen-utf8",
        "transpose",
        "sharding_indexed",
        "crc32c",
        "zstd",
        "blosc",
        "gzip",
        "zlib",
        "lz4",
        "lzma",
        "bz2",
    }
    | {"shuffle", "delta", "fixedscaleoffset", "bitround", "quantize", "packbits"}
)
"""Codecs that may decode our inputs: none of them executes anything."""
_ENCODED_NAN = base64.standard_b64encode(np.array(np.nan, dtype="<f8").tobytes()).decode()
"""xarray's spelling of a `_FillValue` attribute in Zarr v3."""
_COMPRESSOR = ZstdCodec(level=3)


@dataclass(frozen=True)
class ArraySpec:
    """One array of a template: its dims, chunks (and shards), attributes, and what stands where nothing is written."""

    dims: tuple[str, ...]
    dtype: str
    chunks: tuple[int, ...]
    shards: tuple[int, ...] | None = None
    attrs: Mapping[str, Any] = field(default_factory=dict)
    fill_value: int | None = None


def zarr_store(store: Store, path: str, read_only: bool = False) -> Any:
    """What zarr opens for a path of the store: a folder locally, an fsspec mapping elsewhere."""
    full = store.path(path)
    if store.is_local:
        return zarr.storage.LocalStore(full, read_only=read_only)
    return zarr.storage.FsspecStore(fs=_asynchronous(store.fs), path=full, read_only=read_only)


def _asynchronous(fs: Any) -> Any:
    """The file system as zarr's own event loop needs it."""
    if not fs.async_impl:
        from fsspec.implementations.asyn_wrapper import AsyncFileSystemWrapper

        return AsyncFileSystemWrapper(fs, asynchronous=True)
    twin = type(fs)(*fs.storage_args, **{**fs.storage_options, "asynchronous": True})
    close_at_exit(twin, lambda closing: zarr.core.sync.sync(closing, timeout=CLOSING))
    return twin


def open_cube(store: Store, path: str, chunks: dict[str, int] | Literal["auto"] | None = "auto") -> xr.Dataset:
    """Open a cube lazily.

    Parameters
    ----------
    store, path : where; the path ends in ``.zarr``.
    chunks : as `xarray.open_zarr`; ``"auto"`` takes what is stored, `None` gives lazily indexed arrays without Dask.

    Raises
    ------
    InputError : no such cube, damaged metadata, or a codec outside the allowlist.
    """
    if not store.exists(path):
        raise InputError(f"there is no {store.address(path)}", remedy="look at the inputs of the store")
    try:
        with explained(store.url):
            backend = zarr_store(store, path, read_only=True)
            _check_codecs(zarr.open_group(backend, mode="r"), store.address(path))
            return xr.open_zarr(backend, chunks={} if chunks == "auto" else chunks, consolidated=None)
    except (InputError, StoreError):
        raise
    except Exception as error:
        raise InputError(
            f"{store.address(path)} cannot be opened ({type(error).__name__}: {error})",
            "a complete Zarr group",
            "write the cube again",
        ) from error


def _check_codecs(group: zarr.Group, where: str) -> None:
    for name, array in group.arrays():
        metadata = array.metadata.to_dict()
        if metadata.get("dtype") == "|O":
            raise InputError(f"{where}: {name} holds Python objects", "numbers, times or fixed-length strings")
        for codec in _codec_names(metadata):
            if codec not in CODECS:
                raise InputError(
                    f"{where}: {name} is packed with codec {codec!r}", f"one of {', '.join(sorted(CODECS))}"
                )


def _codec_names(metadata: Mapping[str, Any]) -> list[str]:
    names: list[str] = []
    for key in ("codecs", "index_codecs", "filters", "compressor"):
        value = metadata.get(key) or ()
        for codec in (value,) if isinstance(value, Mapping) else value:
            entry = codec if isinstance(codec, Mapping) else codec.to_dict()
            name = str(entry.get("name", entry.get("id")))
            names.append(name.removeprefix("numcodecs."))
            configuration = entry.get("configuration")
            if isinstance(configuration, Mapping):
                names += _codec_names(configuration)
    return names


def create_template(
    store: Store, path: str, coords: xr.Dataset, arrays: Mapping[str, ArraySpec], attrs: Mapping[str, Any]
) -> bool:
    """Write a cube's metadata and coordinates; the data are to follow, region by region. A repeat leaves data alone.

    Gives back whether it was written: it holds no data then.

    Parameters
    ----------
    coords : Dataset that holds all coordinates (and bounds) and so all dimension sizes.
    arrays : the variables to come.
    attrs : attributes of the cube.
    """
    with explained(store.url):
        if store.exists(path, "zarr.json"):
            group = zarr.open_group(zarr_store(store, path), mode="r")
            if all(name in group for name in arrays) and group.metadata.consolidated_metadata is not None:
                return False
            store.remove(path)
        # Made aside, so that of two that make it at once neither clears what the other has begun to fill.
        staging = f"work/staging/{uuid.uuid4().hex}.zarr"
        backend = zarr_store(store, staging)
        coords.assign_attrs(attrs).to_zarr(backend, mode="w", zarr_format=3, consolidated=False)
        add_arrays(zarr.open_group(backend, mode="a"), coords.sizes, arrays)
        consolidate(backend)
        store.place_tree(staging, path)
        return True


def consolidate(backend: Any) -> None:
    """Gather the metadata of a group in one object, so that it opens with one request.

    Zarr warns at every call that the v3 specification does not know of it yet; a reader that does not either reads the
    arrays' own metadata, which are there too.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Consolidated metadata")
        zarr.consolidate_metadata(backend)


def add_arrays(group: zarr.Group, sizes: Mapping[Any, int], arrays: Mapping[str, ArraySpec]) -> None:
    """Create arrays without data in a group whose dims have these sizes; metadata are not consolidated."""
    for name, spec in arrays.items():
        floating = np.issubdtype(np.dtype(spec.dtype), np.floating)
        group.create_array(
            name,
            shape=tuple(sizes[d] for d in spec.dims),
            dtype=spec.dtype,
            chunks=spec.chunks,
            shards=spec.shards,
            compressors=_COMPRESSOR,
            fill_value=np.nan if floating else spec.fill_value or 0,
            dimension_names=spec.dims,
            attributes={**spec.attrs, **({"_FillValue": _ENCODED_NAN} if floating else {})},
        )


def write_region(store: Store, path: str, values: Mapping[str, NDArray], region: Mapping[str, slice]) -> None:
    """Write arrays into one region of a template; the region must be made of whole shards.

    Writing part of a shard from several tasks loses data silently, so it is refused.

    Raises
    ------
    StoreError : shape or alignment does not fit, or the store cannot be written.
    """
    with explained(store.url):
        group = zarr.open_group(zarr_store(store, path), mode="r+")
    for name, data in values.items():
        array = group[name]
        if not isinstance(array, zarr.Array):
            raise StoreError(f"{path}: {name} is not an array", "a variable of the template")
        dims: Sequence[str] = array.metadata.dimension_names  # type: ignore[union-attr,assignment]
        unit = array.shards or array.chunks
        index = tuple(region.get(d, slice(0, n)) for d, n in zip(dims, array.shape, strict=True))
        for d, s, n, u in zip(dims, index, array.shape, unit, strict=True):
            if s.start % u or (s.stop % u and s.stop != n):
                raise StoreError(f"{path}: {name} region {d}={s.start}:{s.stop}", f"whole shards of {u} along {d}")
        expected = tuple(s.stop - s.start for s in index)
        if data.shape != expected:
            raise StoreError(f"{path}: {name} data of shape {data.shape}", f"{expected} for this region")
        with explained(store.url):
            array[index] = np.ascontiguousarray(data, dtype=array.dtype)


def write_cube(store: Store, path: str, ds: xr.Dataset, chunks: Mapping[str, int] | None = None) -> None:
    """Write a whole cube so that readers see it complete or not at all; Dask arrays are computed as they are written.

    Parameters
    ----------
    chunks : chunk sizes by dim; a dim that is not named is one chunk.
    """
    sizes = chunks or {}
    encoding: dict[str, dict[str, Any]] = {}
    for name, array in ds.variables.items():
        encoding[str(name)] = {"chunks": tuple(min(sizes.get(str(d), n), n) or 1 for d, n in array.sizes.items())}
        if array.dtype.kind in "fiu":
            encoding[str(name)]["compressors"] = (_COMPRESSOR,)
        if not array.ndim:
            del encoding[str(name)]["chunks"]
        if np.issubdtype(array.dtype, np.datetime64):
            encoding[str(name)] |= {"units": "seconds since 1970-01-01", "dtype": "int64"}
    lazy = {
        str(name): array.chunk({d: min(sizes.get(str(d), n), n) or 1 for d, n in array.sizes.items()})
        for name, array in ds.data_vars.items()
        if array.chunks is not None
    }
    clean = ds.assign(lazy).drop_encoding()
    staging = f"work/staging/{uuid.uuid4().hex}.zarr"
    try:
        with explained(store.url):
            backend = zarr_store(store, staging)
            clean.to_zarr(backend, mode="w", zarr_format=3, encoding=encoding, consolidated=False)
            consolidate(backend)
        store.move_tree(staging, path)
    except BaseException:
        # What a failed write leaves is removed where that can be done; its own error is the one to tell.
        with contextlib.suppress(Exception):
            store.remove(staging)
        raise
