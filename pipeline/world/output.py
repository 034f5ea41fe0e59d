"""Cubes that grow by years: a template holds old and new times, units write their own, a move makes them visible."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from pipeline.core.errors import InputError
from pipeline.core.grid import Grid
from pipeline.core.labels import label_coord
from pipeline.core.schema import SECTORS
from pipeline.store.cubes import ArraySpec, create_template, open_cube, write_region
from pipeline.store.location import Store


@dataclass(frozen=True)
class Growing:
    """A cube being written.

    Parameters
    ----------
    path : of the finished cube; until then it lies under `work/staging`.
    times : its whole time axis.
    """

    path: str
    times: NDArray[np.datetime64] = field(compare=False)

    @property
    def staging(self) -> str:
        """Where it grows."""
        return f"work/staging/world-{self.path.replace('/', '-')}"

    def write(
        self,
        store: Store,
        values: Mapping[str, NDArray],
        times: NDArray[np.datetime64],
        window: Mapping[str, slice] | None = None,
    ) -> None:
        """Write consecutive times of the axis (and whole chunks of a window)."""
        first = int(np.searchsorted(self.times, times[0]))
        region = {"time": slice(first, first + len(times)), **(window or {})}
        write_region(store, self.staging, values, region)


def begin(
    store: Store,
    path: str,
    coords: Mapping[str, xr.Variable],
    times: NDArray[np.datetime64],
    arrays: Mapping[str, ArraySpec],
    attrs: Mapping[str, Any],
) -> Growing:
    """Lay out a cube that holds `times` and every time it held before; the old ones are copied.

    Raises
    ------
    InputError : the cube that is there has another grid.
    """
    old = open_cube(store, path, chunks=None) if store.exists(path) else None
    kept = np.array([], "M8[ns]") if old is None else np.setdiff1d(old["time"].values, times.astype("M8[ns]"))
    axis = np.union1d(kept, times.astype("M8[ns]"))
    growing = Growing(path, axis)
    store.remove(growing.staging)
    template = xr.Dataset(coords={"time": ("time", axis, {"standard_name": "time"}), **coords})
    template["time"].encoding = {"units": "seconds since 1970-01-01", "dtype": "int64"}
    create_template(store, growing.staging, template, arrays, attrs)
    if old is not None:
        _copy(store, growing, old, kept, arrays)
    return growing


def finish(store: Store, growing: Growing) -> None:
    """Put the finished cube in place."""
    store.move_tree(growing.staging, growing.path)


def _copy(
    store: Store, growing: Growing, old: xr.Dataset, kept: NDArray[np.datetime64], arrays: Mapping[str, ArraySpec]
) -> None:
    for name, spec in arrays.items():
        at, step = spec.dims.index("time"), spec.chunks[spec.dims.index("time")]
        shape = open_cube(store, growing.staging, chunks=None)[name].shape
        if old[name].shape[:at] + old[name].shape[at + 1 :] != shape[:at] + shape[at + 1 :]:
            raise InputError(
                f"{store.address(growing.path)} has another grid", "the same domain for every year of a store"
            )
        for k in range(0, kept.size, step):
            part = kept[k : k + step]
            growing.write(store, {name: old[name].sel(time=part).values}, part)


def cube_arrays(units: Mapping[str, str], grid_shape: tuple[int, int], time_chunk: int = 1) -> dict[str, ArraySpec]:
    """float32 variables (time, lat, lon), one chunk for every so many times."""
    return {
        name: ArraySpec(("time", "lat", "lon"), "float32", (time_chunk, *grid_shape), None, {"units": unit})
        for name, unit in units.items()
    }


def fine_arrays(units: Mapping[str, str], grid: Grid, sectors: bool = False) -> dict[str, ArraySpec]:
    """float32 variables of the fine grid in chunks of whole tiles' quarters."""
    chunk = (min(950, grid.n_lat), min(1050, grid.n_lon))
    lead: tuple[str, ...] = ("time", "sector") if sectors else ("time",)
    return {
        name: ArraySpec((*lead, "lat", "lon"), "float32", (*(1 for _ in lead), *chunk), None, {"units": unit})
        for name, unit in units.items()
    }


def sector_coord() -> dict[str, xr.Variable]:
    """The coordinate of sectors."""
    return {"sector": label_coord("sector", SECTORS)}


def lattice_coords(lat: tuple[float, ...], lon: tuple[float, ...]) -> dict[str, xr.Variable]:
    """CF coordinates of points that are not cells."""
    return {
        "lat": xr.Variable("lat", np.array(lat), {"units": "degrees_north", "standard_name": "latitude"}),
        "lon": xr.Variable("lon", np.array(lon), {"units": "degrees_east", "standard_name": "longitude"}),
    }
