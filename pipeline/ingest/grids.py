"""Gridded products: what a file holds is looked up first, then every chunk of the cube is filled once, whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline.core.errors import InputError
from pipeline.ingest.axes import Axis
from pipeline.ingest.contract import Granule, Rejected, Rules
from pipeline.ingest.cubefile import CubeFile
from pipeline.ingest.sources import local_file
from pipeline.store.location import Store

ROWS_AT_ONCE = 1024
"""Rows of a large raster read at a time, when the cube's chunks do not say."""


@dataclass(frozen=True)
class Contents:
    """What a file holds of the cube.

    Parameters
    ----------
    times : of its fields, UTC.
    variables : layers of the cube it has.
    lat, lon : its cells, after the cut to the region.
    rank : 0 for final data, higher for preliminary ones that give way.
    attrs : for the cube: source, what was assumed.
    """

    times: tuple[str, ...]
    variables: tuple[str, ...]
    lat: Axis
    lon: Axis
    rank: int = 0
    attrs: Mapping[str, Any] = ()  # type: ignore[assignment]

    def to_facts(self) -> dict[str, Any]:
        """As JSON values for the ledger."""
        return {
            "times": list(self.times), "variables": list(self.variables), "lat": self.lat.to_json(),
            "lon": self.lon.to_json(), "rank": self.rank, "attrs": dict(self.attrs),
        }  # fmt: skip

    @classmethod
    def from_facts(cls, facts: Mapping[str, Any]) -> Contents:
        """Back from the ledger."""
        lat, lon = Axis.from_json(facts["lat"]), Axis.from_json(facts["lon"])
        return cls(tuple(facts["times"]), tuple(facts["variables"]), lat, lon, int(facts["rank"]), facts["attrs"])


class OpenGrid(Protocol):
    """An opened file."""

    contents: Contents

    def read(self, variable: str, time: int, rows: slice) -> NDArray[np.floating]:
        """One field in physical units, rows of the contents' own axes, shape ([dims], rows, all columns)."""


class GridReader(Protocol):
    """A reader of gridded files; `open` raises `Rejected` when the file is not the product or not of the region."""

    @property
    def rules(self) -> Rules:
        """Default rules."""

    @property
    def adds(self) -> bool:
        """Whether files that share cells and time are added up; else the first one's values stay."""

    def cube(self, contents: Contents) -> tuple[CubeFile, Axis, Axis]:
        """The cube these files make, with its axes."""

    def open(self, path: str, rules: Rules) -> AbstractContextManager[OpenGrid]:
        """Open one local file."""


@dataclass(frozen=True)
class Source:
    """A file and what it holds."""

    granule: Granule
    key: str
    contents: Contents


def slots(cube: CubeFile, times: NDArray, sources: Sequence[Source]) -> dict[int, list[Source]]:
    """The sources of each chunk of time, by the chunk's first index; final data first, then by address.

    Raises
    ------
    InputError : a time that is none of the cube's.
    """
    found: dict[int, list[Source]] = {}
    for source in sorted(sources, key=lambda s: (s.contents.rank, s.granule.address)):
        for index in sorted({i - i % cube.steps_per_chunk for i in time_index(times, source).values()}):
            found.setdefault(index, []).append(source)
    return dict(sorted(found.items()))


def time_index(times: NDArray, source: Source) -> dict[int, int]:
    """Index in the cube of each of a file's fields that lies on the cube's axis."""
    own = np.array(source.contents.times, "datetime64[ns]")
    place = np.searchsorted(times, own)
    hit = (place < times.size) & (times[np.minimum(place, times.size - 1)] == own)
    return {int(k): int(place[k]) for k in np.flatnonzero(hit)}


def fill_slot(
    store: Store, reader: GridReader, start: int, sources: Sequence[Source], rules: Rules, options: Mapping[str, Any]
) -> dict[str, Any]:
    """Read one chunk of time from its sources and write it; gives back which layers each time step has.

    Memory is one block of rows times the time steps of a chunk.
    """
    cube, lat, lon = one_cube(store, reader, sources)
    times = cube.times(store)
    steps = min(cube.steps_per_chunk, times.size - start)
    rows = cube.chunk[0] or lat.size
    filled: dict[int, int] = {start + k: 0 for k in range(steps)}
    with ExitStack() as stack:
        opened = [
            (s, stack.enter_context(reader.open(stack.enter_context(local_file(s.granule, options)), rules)))
            for s in sources
        ]
        for top in range(0, lat.size, rows):
            block = slice(top, min(top + rows, lat.size))
            data = _assemble(cube, (lat, lon), block, (start, steps), opened, times, reader.adds)
            cube.write(store, data, {"time": slice(start, start + steps), "lat": block})
    for source, _ in opened:
        mask = sum(1 << k for k, name in enumerate(cube.layers) if name in source.contents.variables)
        for index in time_index(times, source).values():
            if index in filled:
                filled[index] |= mask
    return {"marks": {str(k): v for k, v in filled.items()}, "sources": [s.key for s in sources]}


def _assemble(
    cube: CubeFile,
    axes: tuple[Axis, Axis],
    block: slice,
    window: tuple[int, int],
    opened: Sequence[tuple[Source, OpenGrid]],
    times: NDArray,
    adds: bool,
) -> dict[str, NDArray[np.float32]]:
    start, steps = window
    inner = tuple(len(labels) for labels in cube.dims.values())
    shape = (steps, *inner, block.stop - block.start, axes[1].size)
    result = {name: np.full(shape, np.nan, np.float32) for name in cube.layers}
    for source, grid in opened:
        place = _place(grid.contents, axes, block)
        if place is None:
            continue
        own_rows, rows, cols, own_cols = place
        for time, index in time_index(times, source).items():
            if not start <= index < start + steps:
                continue
            for name in source.contents.variables:
                values = grid.read(name, time, own_rows)[..., own_cols]
                target = result[name][index - start, ..., rows, cols]
                target[...] = _joined(target, values, adds)
    return result


def _joined(old: NDArray, new: NDArray, adds: bool) -> NDArray:
    if not adds:
        return np.where(np.isnan(old), new, old)
    return np.where(np.isnan(old), new, old + np.where(np.isnan(new), 0, new))


def _place(contents: Contents, axes: tuple[Axis, Axis], block: slice) -> tuple[slice, slice, slice, slice] | None:
    """Where a file's cells and a block of the cube overlap: its rows, the block's rows and columns, its columns."""
    row0, _ = contents.lat.offset_in(axes[0], "rows")
    col0, _ = contents.lon.offset_in(axes[1], "columns")
    first, last = max(row0, block.start), min(row0 + contents.lat.size, block.stop)
    left, right = max(col0, 0), min(col0 + contents.lon.size, axes[1].size)
    if first >= last or left >= right:
        return None
    return (
        slice(first - row0, last - row0),
        slice(first - block.start, last - block.start),
        slice(left, right),
        slice(left - col0, right - col0),
    )


def check_fit(contents: Contents, lat: Axis, lon: Axis, whole: bool) -> dict[str, float]:
    """How far a file's cells lie beside the cube's, in cells.

    Raises
    ------
    Rejected : another spacing, or (where `whole` files are expected) a file that covers only part of the cube.
    """
    beside = {}
    for name, own, cube in (("lat", contents.lat, lat), ("lon", contents.lon, lon)):
        offset, residual = own.offset_in(cube, name)
        # A lattice that lies a fraction of a cell beside may lose one cell to the cut at the region's edge.
        if whole and (offset > 1 or offset + own.size < cube.size - 1):
            raise Rejected(
                f"{name} {own.centres[0]:.3f}..{own.centres[-1]:.3f} does not cover the cube's "
                f"{cube.centres[0]:.3f}..{cube.centres[-1]:.3f}"
            )
        beside[name] = round(residual, 4)
    return beside


def one_cube(store: Store, reader: GridReader, sources: Sequence[Source]) -> tuple[CubeFile, Axis, Axis]:
    """The cube that some files make together, on the grid it has already or else on the first file's.

    Raises
    ------
    InputError : files whose steps or grids differ.
    """
    first, lat, lon = reader.cube(sources[0].contents)
    for source in sources[1:]:
        cube, *_ = reader.cube(source.contents)
        if cube.step != first.step:
            raise InputError(
                f"{source.granule.name} comes every {cube.step}, {sources[0].granule.name} every {first.step}",
                "files of one time step in a cube",
                "ingest them into different stores",
            )
    lat, lon = first.grid(store) or (lat, lon)
    return first, lat, lon
