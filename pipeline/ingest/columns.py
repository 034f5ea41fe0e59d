"""Satellite columns: what a reader gives, how a file becomes sums by day and cell, and how days are put together."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline.core.errors import StoreError
from pipeline.ingest.binning import COLUMN_GRID, SUMS, bin_points, bin_polygons, cell_means
from pipeline.ingest.contract import Granule, Rejected, Rules
from pipeline.ingest.cubefile import CubeFile, Layer
from pipeline.store.location import Store

DAY = np.timedelta64(1, "D")


@dataclass(frozen=True)
class Observations:
    """The observations of one file that passed its quality rules.

    Parameters
    ----------
    time : UTC, (n,).
    lat, lon : degrees; (n,) for points, (n, 4) for corners around each pixel.
    value, error : in the cube's unit, (n,).
    kernel : boundary-layer averaging kernel, (n,), NaN where unknown.
    counts : of the file's records: ``seen`` and those left out by reason (not ``used``, which binning adds).
    attrs : for the cube: source, version, scale, what was assumed.
    part : what of the world this file is (an orbit, a day); a later version of the same part replaces it.
    rank : of versions of one part; the highest stays.
    """

    time: NDArray[np.datetime64]
    lat: NDArray[np.float64]
    lon: NDArray[np.float64]
    value: NDArray[np.float64]
    error: NDArray[np.float64]
    counts: Mapping[str, int]
    kernel: NDArray[np.float64] | None = None
    attrs: Mapping[str, Any] = field(default_factory=dict)
    part: str = ""
    rank: str = ""


class ColumnReader(Protocol):
    """A reader of soundings or swaths; `read` raises `Rejected` when nothing of the file is usable."""

    @property
    def rules(self) -> Rules:
        """Default rules; among them ``error_correlation`` and ``error_floor``."""

    @property
    def path(self) -> str:
        """The cube's place in the store."""

    @property
    def family(self) -> str:
        """``xco2`` or ``no2``."""

    def read(self, path: str, rules: Rules) -> Observations:
        """Read one local file."""


def cube_of(reader: ColumnReader) -> CubeFile:
    """The daily cube of a reader, one chunk a day."""
    if reader.family == "xco2":
        layers = {
            "xco2": Layer("ppm", attrs={"long_name": "column-averaged dry-air mole fraction of CO2"}),
            "xco2_uncertainty": Layer("ppm", attrs={"long_name": "1 sigma of the cell mean"}),
            "n_soundings": Layer("1", attrs={"long_name": "soundings in the cell"}),
            "averaging_kernel_pbl": Layer("1", attrs={"long_name": "averaging kernel of the boundary layer"}),
        }
    else:
        layers = {
            "no2_column": Layer("mol m-2", attrs={"long_name": "tropospheric vertical column of NO2"}),
            "no2_column_uncertainty": Layer("mol m-2", attrs={"long_name": "1 sigma of the cell mean"}),
            "valid_fraction": Layer("1", attrs={"long_name": "share of the cell covered by valid pixels"}),
        }
    layers["obs_time"] = Layer("h", attrs={"long_name": "mean time of observation, hours since midnight UTC"})
    return CubeFile(reader.path, layers, "day")


def selected(seen: int, checks: Mapping[str, NDArray[np.bool_]]) -> tuple[NDArray[np.bool_], dict[str, int]]:
    """Which records pass, and how many each check leaves out; a record counts for the first check it fails.

    Parameters
    ----------
    checks : by reason, True where a record fails.
    """
    left = np.ones(seen, bool)
    counts = {"seen": seen}
    for reason, fails in checks.items():
        if n := int((left & fails).sum()):
            counts[reason] = n
        left &= ~fails
    return left, counts


def by_day(observations: Observations) -> tuple[dict[str, NDArray[np.float64]], dict[str, int]]:
    """Sums of a file by UTC day, and its counts with ``used`` and ``outside_region``.

    Sun-synchronous overpasses of the region (about 13:30 local) lie between 3 and 9 UTC, so that the UTC date is the
    local date. OCO-3 passes at any daylight hour: early mornings of the east count to the UTC day before, as `obs_time`
    tells.
    """
    o = observations
    kernel = np.full(o.value.shape, np.nan) if o.kernel is None else o.kernel
    days = o.time.astype("datetime64[D]")
    seconds = (o.time - days) / np.timedelta64(1, "s")
    data = np.stack([o.value, o.error, seconds, kernel])
    place = bin_polygons if o.lat.ndim == 2 else bin_points
    sums, used = {}, 0
    for day in np.unique(days):
        of_day = days == day
        part, touched = place(o.lat[of_day], o.lon[of_day], data[:, of_day])
        used += int(touched.sum())
        if touched.any():
            sums[str(day)] = part
    counts = {**o.counts, "used": used}
    if outside := int(o.value.size) - used:
        counts["outside_region"] = counts.get("outside_region", 0) + outside
    return sums, counts


def piece_path(product: str, day: str, key: str) -> str:
    """Where the sums of one file and day are kept, so that a day can be put together again when files arrive later."""
    return f"work/ingest/{product}/{day}/{key}.npz"


def save_piece(store: Store, path: str, sums: NDArray[np.float64]) -> None:
    """Write the cells that have something; the same sums are the same bytes."""
    cells = np.flatnonzero(sums[0].ravel() > 0).astype(np.int32)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, cells=cells, sums=sums.reshape(len(SUMS), -1)[:, cells])
    store.write_bytes(buffer.getvalue(), path)


def load_piece(store: Store, path: str) -> NDArray[np.float64]:
    """The sums of a file and day, (8, n_lat, n_lon).

    Raises
    ------
    StoreError : it is gone or damaged.
    """
    try:
        with np.load(io.BytesIO(store.read_bytes(path)), allow_pickle=False) as piece:
            full = np.zeros((len(SUMS), COLUMN_GRID.n_lat * COLUMN_GRID.n_lon))
            full[:, piece["cells"]] = piece["sums"]
    except (FileNotFoundError, ValueError, KeyError, IndexError, OSError) as error:
        raise StoreError(
            f"{path} is not what ingest wrote ({type(error).__name__}: {error})",
            "the sums of one file and day",
            "remove work/ledger/ingest and work/ingest of this product, then run again",
        ) from error
    return full.reshape(len(SUMS), *COLUMN_GRID.shape)


def write_day(store: Store, reader: ColumnReader, index: int, pieces: Sequence[str], rules: Rules) -> dict[str, Any]:
    """Put a day together: add its files' sums in the order given, turn them into means, write the chunk.

    Because sums are added, files that share a cell weigh by their observations, and the order of arrival is no matter.
    """
    total = np.zeros((len(SUMS), *COLUMN_GRID.shape))
    for path in pieces:
        total += load_piece(store, path)
    cells = cell_means(total, float(rules["error_correlation"]), float(rules["error_floor"]))
    if reader.family == "xco2":
        values = {
            "xco2": cells.mean,
            "xco2_uncertainty": cells.error,
            "n_soundings": cells.count,
            "averaging_kernel_pbl": cells.kernel,
        }
    else:
        covered = np.minimum(cells.covered, 1.0)
        values = {"no2_column": cells.mean, "no2_column_uncertainty": cells.error, "valid_fraction": covered}
    values["obs_time"] = cells.seconds / 3600.0
    cube = cube_of(reader)
    cube.write(store, {name: v[None] for name, v in values.items()}, {"time": slice(index, index + 1)})
    return {"cells": int((cells.count > 0).sum()), "observations": float(total[4].sum())}


def newest(parts: Mapping[str, Sequence[tuple[str, Granule, str]]]) -> dict[str, str]:
    """Keys of files that give way to another version of the same part, with the address of the one that stays.

    Of one version, files of different names are pieces of the part and all stay; of one name, whenever it was made, the
    last stays.

    Parameters
    ----------
    parts : by part, (rank, file, key) of each file that has it.
    """
    superseded = {}
    for versions in parts.values():
        ranked = sorted(versions, key=lambda v: (natural(v[0]), v[1].name, v[1].address))
        best = natural(ranked[-1][0])
        kept = {_unstamped(granule.name): granule for rank, granule, _ in ranked if natural(rank) == best}
        for rank, granule, key in ranked:
            if natural(rank) != best:
                superseded[key] = ranked[-1][1].address
            elif kept[_unstamped(granule.name)] != granule:
                superseded[key] = kept[_unstamped(granule.name)].address
    return superseded


def _unstamped(name: str) -> str:
    """A name without the time of production at its end (Sentinel-5P ``_20220115T120000``, Lite ``_230524101112s``)."""
    return re.sub(r"_(\d{8}T\d{6}|\d{12}s?)(?=\.\w+$)", "", name)


def natural(version: str) -> tuple[tuple[int, str], ...]:
    """A version as what sorts as people do: ``B9`` before ``B11.2``."""
    return tuple((int(number or 0), text) for number, text in re.findall(r"(\d+)|(\D+)", version))


def require_any(left: NDArray[np.bool_], counts: Mapping[str, int], what: str) -> None:
    """Reject a file of which nothing is left.

    Raises
    ------
    Rejected : with the counts, so that the reason is in the ledger.
    """
    if not left.any():
        reasons = ", ".join(f"{n} {reason}" for reason, n in counts.items() if reason != "seen")
        raise Rejected(f"none of {counts['seen']} {what} is usable: {reasons or 'there is none'}", counts)
