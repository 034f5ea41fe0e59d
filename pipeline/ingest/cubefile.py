"""Input cubes that grow: a template over whole years, more years later, whole chunks written once they are complete."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import xarray as xr
import zarr
from numpy.typing import NDArray

from pipeline.core.errors import InputError
from pipeline.core.labels import label_coord
from pipeline.core.schema import SCHEMA_VERSION
from pipeline.ingest.axes import Axis
from pipeline.store.cubes import ArraySpec, add_arrays, consolidate, create_template, write_region, zarr_store
from pipeline.store.location import Store

_STEPS = {"year": "Y", "month": "M", "day": "D"}
_TIME_CHUNK = 8784
_EPOCH = "seconds since 1970-01-01"


@dataclass(frozen=True)
class Layer:
    """A variable of a cube: its unit, how it is packed, and attributes.

    Stored = round((value - 0) / scale) in an integer `dtype`, or the value itself in a floating one; `fill` is missing.
    """

    units: str
    dtype: str = "float32"
    scale: float = 1.0
    fill: int | None = None
    attrs: Mapping[str, Any] = field(default_factory=dict)

    def encode(self, values: NDArray) -> NDArray:
        """Physical values to what is stored."""
        if np.dtype(self.dtype).kind == "f":
            return np.asarray(values, self.dtype)
        missing = ~np.isfinite(values)
        packed = np.rint(np.where(missing, 0.0, values) / self.scale)
        limits = np.iinfo(self.dtype)
        top = limits.max if self.fill is None else min(limits.max, self.fill - 1 if self.fill > 0 else limits.max)
        if packed.size and (packed.max() > top or packed.min() < limits.min):
            raise InputError(
                f"values from {packed.min() * self.scale:g} to {packed.max() * self.scale:g} {self.units}",
                f"at most {top * self.scale:g} in {self.dtype} of {self.scale:g}",
            )
        return np.where(missing, self.fill or 0, packed).astype(self.dtype)

    def decode(self, stored: NDArray) -> NDArray[np.float32]:
        """What is stored to physical values, missing as NaN."""
        values = stored.astype(np.float32)
        if np.dtype(self.dtype).kind != "f":
            values *= self.scale
            values[stored == self.fill] = np.nan
        return values

    @property
    def stored_attrs(self) -> dict[str, Any]:
        """Attributes from which any CF reader gets the physical values back."""
        packing: dict[str, Any] = {} if self.scale == 1.0 else {"scale_factor": self.scale}
        if self.fill is not None:
            packing["_FillValue"] = self.fill
        return {"units": self.units, **packing, **self.attrs}


@dataclass(frozen=True)
class CubeFile:
    """A growing cube.

    Parameters
    ----------
    path : in the store.
    layers : its variables.
    step : ``year``, ``month``, ``day`` or hours between fields (an int).
    chunk : (lat, lon) cells of a chunk; 0 is the whole axis.
    dims : extra dimensions between time and space with their labels, such as sectors.
    bits : all layers the cube may ever have, in the order of their bits in `ingested`; `layers` if empty.
    """

    path: str
    layers: Mapping[str, Layer]
    step: str | int
    chunk: tuple[int, int] = (0, 0)
    dims: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    bits: tuple[str, ...] = ()

    @property
    def steps_per_chunk(self) -> int:
        """Fields of one chunk: a day of hours, else one."""
        return 24 // self.step if isinstance(self.step, int) else 1

    def axis(self, years: Iterable[int]) -> NDArray[np.datetime64]:
        """All times of the years, UTC."""
        parts = []
        for year in sorted(set(years)):
            start, stop = np.datetime64(f"{year}-01-01"), np.datetime64(f"{year + 1}-01-01")
            if isinstance(self.step, int):
                part = start + np.arange(0, int((stop - start).astype(int)) * 24, self.step) * np.timedelta64(1, "h")
            else:
                unit = _STEPS[self.step]
                part = np.arange(start.astype(f"M8[{unit}]"), stop.astype(f"M8[{unit}]"), dtype=f"M8[{unit}]")
            parts.append(part.astype("datetime64[ns]"))
        return np.concatenate(parts)

    def create(self, store: Store, years: Sequence[int], lat: NDArray, lon: NDArray, attrs: Mapping[str, Any]) -> None:
        """Make sure the cube is there, covers the years and has the layers; what it holds already stays as it is.

        Raises
        ------
        InputError : the cube that is there has another grid.
        """
        if not store.exists(self.path, "zarr.json"):
            self._template(store, self.path, self.axis(years), lat, lon, attrs)
            return
        self._add_layers(store)
        old = self.times(store)
        self._check_grid(store, lat, lon)
        held = sorted(set(old.astype("M8[Y]").astype(int) + 1970))
        self._check_step(old, held[0])
        if missing := sorted(set(years) - set(held)):
            if missing[0] > held[-1]:
                self._append(store, self.axis([*held, *missing]))
            else:
                self._insert(store, old, self.axis([*held, *missing]), lat, lon, attrs)

    def times(self, store: Store) -> NDArray[np.datetime64]:
        """The time axis as it is now; empty where there is no cube."""
        if not store.exists(self.path, "zarr.json"):
            return np.array([], "datetime64[ns]")
        seconds = _array(self._group(store), "time")[:]
        return np.asarray(seconds).astype("datetime64[s]").astype("datetime64[ns]")

    def write(self, store: Store, values: Mapping[str, NDArray], region: Mapping[str, slice]) -> None:
        """Write physical values of whole chunks."""
        encoded = {name: self.layers[name].encode(data) for name, data in values.items()}
        write_region(store, self.path, encoded, region)

    def read(self, store: Store, region: Mapping[str, slice]) -> dict[str, NDArray[np.float32]]:
        """Physical values of a region of every layer."""
        group = self._group(store)
        index = (region["time"], *(slice(None) for _ in self.dims), region.get("lat", slice(None)), slice(None))
        return {name: layer.decode(np.asarray(_array(group, name)[index])) for name, layer in self.layers.items()}

    def mask(self, names: Iterable[str]) -> int:
        """The bits of `ingested` that stand for some layers: their places among `bits`."""
        order = list(self.bits or self.layers)
        return sum(1 << order.index(name) for name in set(names))

    def mark(self, store: Store, marks: Mapping[int, int]) -> None:
        """Note by index of time which layers are there (bits of `ingested`); one writer at a time."""
        array = _array(self._group(store, "r+"), "ingested")
        bits = np.asarray(array[:])
        for index, mask in marks.items():
            bits[index] = mask
        array[:] = bits

    def _group(self, store: Store, mode: str = "r") -> zarr.Group:
        # Consolidated metadata are for readers; a writer must see the arrays as they are.
        return zarr.open_group(zarr_store(store, self.path, mode == "r"), mode=cast(Any, mode), use_consolidated=False)

    def grid(self, store: Store) -> tuple[Axis, Axis] | None:
        """The cube's own latitude and longitude, if there is a cube."""
        if not store.exists(self.path, "zarr.json"):
            return None
        group = self._group(store)
        return Axis.of(np.asarray(_array(group, "lat")[:])), Axis.of(np.asarray(_array(group, "lon")[:]))

    def _check_grid(self, store: Store, lat: NDArray, lon: NDArray) -> None:
        for name, axis, own in zip(("lat", "lon"), (lat, lon), self.grid(store) or (), strict=False):
            held = own.centres
            if held.shape != axis.shape or np.abs(held - axis).max() > 0.5 * abs(held[1] - held[0]):
                raise InputError(
                    f"{self.path} has {held.size} {name} from {held[0]:.4f} to {held[-1]:.4f}; "
                    f"these files have {axis.size} from {axis[0]:.4f} to {axis[-1]:.4f}",
                    "files of one grid in a cube",
                    "remove the cube, or use another store",
                )

    def _check_step(self, times: NDArray, year: int) -> None:
        own = times[times < np.datetime64(f"{year + 1}-01-01")]
        if not np.array_equal(own, self.axis([year])):
            raise InputError(
                f"{self.path} has {own.size} times in {year}; these files come every {self._every}",
                "files of one time step in a cube",
                "remove the cube, or use another store",
            )

    @property
    def _every(self) -> str:
        return f"{self.step} h" if isinstance(self.step, int) else self.step

    def _template(
        self, store: Store, path: str, times: NDArray, lat: NDArray, lon: NDArray, attrs: Mapping[str, Any]
    ) -> None:
        coords = xr.Dataset(
            coords={
                "time": ("time", times, {"standard_name": "time"}),
                **{name: label_coord(name, names) for name, names in self.dims.items()},
                "lat": ("lat", lat, {"units": "degrees_north", "standard_name": "latitude"}),
                "lon": ("lon", lon, {"units": "degrees_east", "standard_name": "longitude"}),
            }
        )
        coords["time"].encoding = {"units": _EPOCH, "dtype": "int64", "chunks": (_TIME_CHUNK,)}
        arrays = {name: self._spec(layer, (lat.size, lon.size)) for name, layer in self.layers.items()}
        order = self.bits or tuple(self.layers)
        flags = {"flag_masks": [1 << k for k in range(len(order))], "flag_meanings": " ".join(order)}
        long_name = {"long_name": "which layers have been ingested"}
        arrays["ingested"] = ArraySpec(("time",), "int32", (_TIME_CHUNK,), attrs=flags | long_name)
        create_template(store, path, coords, arrays, {"schema_version": SCHEMA_VERSION, **attrs})

    def _spec(self, layer: Layer, size: tuple[int, int]) -> ArraySpec:
        extra = tuple(self.dims)
        chunk = (self.steps_per_chunk, *(len(self.dims[d]) for d in extra))
        cells = tuple(min(c or n, n) for c, n in zip(self.chunk, size, strict=True))
        dims = ("time", *extra, "lat", "lon")
        return ArraySpec(dims, layer.dtype, (*chunk, *cells), attrs=layer.stored_attrs, fill_value=layer.fill)

    def _add_layers(self, store: Store) -> None:
        group = self._group(store, "r+")
        missing = {name: layer for name, layer in self.layers.items() if name not in group}
        if missing:
            sizes = {name: _array(group, name).shape[0] for name in ("time", "lat", "lon")}
            sizes |= {name: len(labels) for name, labels in self.dims.items()}
            specs = {name: self._spec(layer, (sizes["lat"], sizes["lon"])) for name, layer in missing.items()}
            add_arrays(group, sizes, specs)
            consolidate(zarr_store(store, self.path))

    def _append(self, store: Store, times: NDArray) -> None:
        group = self._group(store, "r+")
        old = _array(group, "time").shape[0]
        for name, array in group.arrays():
            if cast(Any, array.metadata).dimension_names[0] == "time":
                array.resize((times.size, *array.shape[1:]))
            if name == "time":
                array[old:] = times[old:].astype("datetime64[s]").astype("int64")
        consolidate(zarr_store(store, self.path))

    def _insert(
        self, store: Store, old: NDArray, new: NDArray, lat: NDArray, lon: NDArray, attrs: Mapping[str, Any]
    ) -> None:
        """Years before those that are there: the chunks are copied to their new places, then the cube is exchanged."""
        staging = f"work/staging/{uuid.uuid4().hex}.zarr"
        try:
            source = self._group(store)
            self._template(store, staging, new, lat, lon, {**attrs, **dict(source.attrs)})
            place = np.searchsorted(new, old)
            for name in (name for name in self.layers if name in source):
                self._copy_chunks(store, name, staging, place)
            target = zarr.open_group(zarr_store(store, staging), mode="r+", use_consolidated=False)
            _array(target, "ingested").oindex[place] = _array(source, "ingested")[:]
            store.move_tree(staging, self.path)
        finally:
            store.remove(staging)

    def _copy_chunks(self, store: Store, name: str, staging: str, place: NDArray) -> None:
        """Copy what is stored of a layer, byte for byte, to where its times are in the new cube."""
        fs, source, target = store.fs, store.path(self.path, name, "c"), store.path(staging, name, "c")
        for path in fs.find(source):
            index, *cells = path[len(source) + 1 :].split("/")
            moved = int(place[int(index) * self.steps_per_chunk]) // self.steps_per_chunk
            new = "/".join([target, str(moved), *cells])
            if store.is_local:
                fs.makedirs(new.rsplit("/", 1)[0], exist_ok=True)
            fs.cp_file(path, new)


def _array(group: zarr.Group, name: str) -> Any:
    return group[name]
