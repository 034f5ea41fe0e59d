"""Gridded products: what a file holds is looked up first, then every chunk of the cube is filled once, whole."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline.core.errors import CarbonCubeError, InputError
from pipeline.ingest.axes import Axis
from pipeline.ingest.contract import Granule, Rejected, Rules
from pipeline.ingest.cubefile import CubeFile
from pipeline.ingest.sources import local_file
from pipeline.store.location import Store

MAX_BESIDE = 0.005
"""degrees; rasters of a kind may lie a fraction of their fine cells beside each other, coarse grids may not."""


@dataclass(frozen=True)
class Contents:
    """What a file holds of the cube.

    Parameters
    ----------
    times : of its fields, UTC, ISO.
    variables : layers of the cube it has.
    lat, lon : its cells, after the cut to the region.
    rank : 0 for final data, higher for preliminary ones that give way.
    inner : for each extra dimension of the cube (sector), the labels it has, as indexes; empty is all.
    parts : what of the world it is, where files are added up: no two may be the same.
    open_ended : whether the source holds more than was asked for, so that the ledger must not call it done.
    attrs : for the cube: source, what was assumed.
    """

    times: tuple[str, ...]
    variables: tuple[str, ...]
    lat: Axis
    lon: Axis
    rank: int = 0
    inner: tuple[int, ...] = ()
    parts: tuple[str, ...] = ()
    open_ended: bool = False
    attrs: Mapping[str, Any] = field(default_factory=dict)

    def to_facts(self) -> dict[str, Any]:
        """As JSON values for the ledger."""
        return {
            "times": list(self.times), "variables": list(self.variables), "lat": self.lat.to_json(),
            "lon": self.lon.to_json(), "rank": self.rank, "inner": list(self.inner), "parts": list(self.parts),
            "attrs": dict(self.attrs),
        }  # fmt: skip

    @classmethod
    def from_facts(cls, facts: Mapping[str, Any]) -> Contents:
        """Back from the ledger."""
        lat, lon = Axis.from_json(facts["lat"]), Axis.from_json(facts["lon"])
        times, variables, inner, parts = (tuple(facts[n]) for n in ("times", "variables", "inner", "parts"))
        return cls(times, variables, lat, lon, int(facts["rank"]), inner, parts, attrs=facts["attrs"])


class OpenGrid(Protocol):
    """An opened file."""

    contents: Contents

    def read(self, variable: str, time: int, rows: slice) -> NDArray[np.floating]:
        """One field in physical units on rows of the contents' own axes, shape ([inner], rows, all columns)."""


class GridReader(Protocol):
    """A reader of gridded files; `open` raises `Rejected` when the file is not the product or not of the region."""

    @property
    def rules(self) -> Rules:
        """Default rules."""

    @property
    def adds(self) -> bool:
        """Whether files that share cells and time are added up; else the first one's values stay."""

    @property
    def tiled(self) -> bool:
        """Whether a file may cover a part of the cube only."""

    def cube(self, contents: Sequence[Contents]) -> tuple[CubeFile, Axis, Axis]:
        """The cube that files with these contents make together, and its axes when it is new."""

    def open(self, path: str, rules: Rules) -> AbstractContextManager[OpenGrid]:
        """Open one local file."""


@dataclass(frozen=True)
class Share:
    """A file's fields for some chunks of time.

    Parameters
    ----------
    fields : index in the cube by index in the file.
    known : whether the file was used in an earlier run.
    """

    granule: Granule
    key: str
    variables: tuple[str, ...]
    lat: Axis
    lon: Axis
    inner: tuple[int, ...]
    fields: Mapping[int, int]
    known: bool = False


@dataclass(frozen=True)
class Slot:
    """One chunk of time to fill.

    Parameters
    ----------
    start, steps : of time.
    shares : its sources; where several have a cell, the first stays.
    sources : keys of all files the chunk will then hold.
    keep : whether what the chunk holds already is right and only to be added to.
    held : which layers it holds already, by index of time.
    """

    start: int
    steps: int
    shares: tuple[Share, ...]
    sources: tuple[str, ...] = ()
    keep: bool = False
    held: Mapping[int, int] = field(default_factory=dict)


class ShareError(InputError):
    """A file that cannot be read after all: which, and why."""

    def __init__(self, key: str, reason: str) -> None:
        self.key, self.reason = key, reason
        super().__init__(reason)


@dataclass(frozen=True)
class Target:
    """Where slots are written: the cube as it is in the store, and how files are joined."""

    store: Store
    cube: CubeFile
    lat: Axis
    lon: Axis
    adds: bool


def fill(
    target: Target, reader: GridReader, slots: Sequence[Slot], rules: Rules, options: Mapping[str, Any]
) -> list[dict[int, int]]:
    """Fill chunks of time that have the same sources; gives back for each which layers every time step has.

    Each file is fetched and opened once. Memory is one block of rows times the time steps of a chunk.

    Raises
    ------
    ShareError : a file cannot be read.
    """
    with ExitStack() as stack:
        opened = {}
        for share in slots[0].shares:
            with _blamed(share):
                path = stack.enter_context(local_file(share.granule, options))
                opened[share.key] = stack.enter_context(reader.open(path, rules))
        return [_fill_one(target, slot, opened) for slot in slots]


@contextmanager
def _blamed(share: Share) -> Iterator[None]:
    try:
        yield
    except ShareError:
        raise
    except Rejected as verdict:
        raise ShareError(share.key, verdict.reason) from verdict
    except Exception as error:
        text = str(error) if isinstance(error, CarbonCubeError) else f"{type(error).__name__}: {error}"
        raise ShareError(share.key, text) from error


def _fill_one(target: Target, slot: Slot, opened: Mapping[str, OpenGrid]) -> dict[int, int]:
    rows = target.cube.chunk[0] or target.lat.size
    time = slice(slot.start, slot.start + slot.steps)
    for top in range(0, target.lat.size, rows):
        block = slice(top, min(top + rows, target.lat.size))
        region = {"time": time, "lat": block}
        base = target.cube.read(target.store, region) if slot.keep else {}
        target.cube.write(target.store, _assemble(target, slot, block, opened, base), region)
    marks = {slot.start + k: 0 for k in range(slot.steps)}
    for share in slot.shares:
        for index in share.fields.values():
            marks[index] |= target.cube.mask(share.variables)
    return marks


def _assemble(
    target: Target, slot: Slot, block: slice, opened: Mapping[str, OpenGrid], base: Mapping[str, NDArray]
) -> dict[str, NDArray[np.float32]]:
    """The values of one block of rows: what is there already, then every source in turn."""
    inner = tuple(len(labels) for labels in target.cube.dims.values())
    shape = (slot.steps, *inner, block.stop - block.start, target.lon.size)
    names = [name for name in target.cube.layers if name in base or any(name in s.variables for s in slot.shares)]
    result = {name: base[name] if name in base else np.full(shape, np.nan, np.float32) for name in names}
    for share in slot.shares:
        place = _place(share, target, block)
        if place is None:
            continue
        own_rows, rows, cols, own_cols = place
        for time, index in share.fields.items():
            for name in share.variables:
                with _blamed(share):
                    values = opened[share.key].read(name, time, own_rows)[..., own_cols]
                whole = result[name][index - slot.start]
                for n, label in enumerate(share.inner or (None,)):
                    part = whole if label is None else whole[label]
                    new = values if label is None else values[n]
                    part[..., rows, cols] = _joined(part[..., rows, cols], new, target.adds)
    return result


def _joined(old: NDArray, new: NDArray, adds: bool) -> NDArray:
    if not adds:
        return np.where(np.isnan(old), new, old)
    return np.where(np.isnan(old), new, old + np.where(np.isnan(new), 0, new))


def _place(share: Share, target: Target, block: slice) -> tuple[slice, slice, slice, slice] | None:
    """Where a file's cells and a block of the cube overlap: its rows, the block's rows and columns, its columns."""
    row0, _ = share.lat.offset_in(target.lat, "rows")
    col0, _ = share.lon.offset_in(target.lon, "columns")
    first, last = max(row0, block.start), min(row0 + share.lat.size, block.stop)
    left, right = max(col0, 0), min(col0 + share.lon.size, target.lon.size)
    if first >= last or left >= right:
        return None
    return (
        slice(first - row0, last - row0),
        slice(first - block.start, last - block.start),
        slice(left, right),
        slice(left - col0, right - col0),
    )


def check_fit(contents: Contents, lat: Axis, lon: Axis, tiled: bool) -> dict[str, float]:
    """How far a file's cells lie beside the cube's, in cells.

    Raises
    ------
    Rejected : another spacing, or (where files are not tiles) one that covers only part of the cube.
    """
    beside = {}
    for name, own, cube in (("lat", contents.lat, lat), ("lon", contents.lon, lon)):
        offset, residual = own.offset_in(cube, name)
        if abs(residual) * cube.step > MAX_BESIDE:
            raise Rejected(
                f"{name} lie {abs(residual) * cube.step:.4g} degree beside the cube's, at most {MAX_BESIDE} are allowed"
            )
        # A lattice that lies a fraction of a cell beside may lose one cell to the cut at the region's edge.
        if not tiled and (offset > 1 or offset + own.size < cube.size - 1):
            raise Rejected(
                f"{name} {own.centres[0]:.3f}..{own.centres[-1]:.3f} does not cover the cube's "
                f"{cube.centres[0]:.3f}..{cube.centres[-1]:.3f}"
            )
        beside[name] = round(residual, 4)
    return beside
