"""GeoTIFF rasters read by window: one field a file, its date from the name or told by the reader."""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.errors import RasterioError
from rasterio.windows import Window

from pipeline.core.errors import InputError
from pipeline.ingest.axes import BOX, Axis
from pipeline.ingest.contract import Rejected
from pipeline.ingest.grids import Contents

CELLS_AT_ONCE = 2**23
"""Raw cells read at a time: about 100 MB with what is made of them."""
UNDECLARED = 1e30
"""Beyond this a number is a fill value whether the file says so or not."""


@contextlib.contextmanager
def opened_raster(path: str) -> Iterator[rasterio.DatasetReader]:
    """A GeoTIFF on a north-up grid of degrees with one band.

    Raises
    ------
    InputError : no raster that can be read.
    Rejected : projected, rotated, several bands.
    """
    try:
        # Only GeoTIFF: other drivers of GDAL can follow references to other files and hosts.
        dataset = rasterio.open(path, driver="GTiff")
    except RasterioError as error:
        raise InputError(f"no GeoTIFF that can be read ({error})", remedy="fetch the file again") from error
    with dataset:
        t = dataset.transform
        if dataset.crs is None or not dataset.crs.is_geographic:
            raise Rejected(f"the raster's coordinate system is {dataset.crs}, not longitude and latitude")
        if t.b or t.d or t.a <= 0 or t.e >= 0:
            raise Rejected(f"the raster is rotated or not north up (transform {tuple(t)[:6]})")
        if dataset.count != 1:
            raise Rejected(f"the raster has {dataset.count} bands, expected one")
        try:
            yield dataset
        except RasterioError as error:
            raise InputError(f"the raster cannot be read ({error})", remedy="fetch the file again") from error


def raster_axes(dataset: rasterio.DatasetReader) -> tuple[Axis, Axis]:
    """Latitude (ascending) and longitude of the cell centres of the whole raster."""
    t = dataset.transform
    south = t.f + t.e * dataset.height
    return Axis(south - t.e / 2, -t.e, dataset.height), Axis(t.c + t.a / 2, t.a, dataset.width)


@dataclass
class RasterWindow:
    """The part of an opened raster that lies in the region, as rows from south to north.

    `block` raw cells a side are summed into one where a count is finer than needed.
    """

    dataset: rasterio.DatasetReader
    contents: Contents
    rows: slice
    cols: slice
    block: int = 1
    scale: float = 1.0
    missing: tuple[float, ...] = ()
    allowed: tuple[float, float] = (-math.inf, math.inf)

    def read(self, variable: str, time: int, rows: slice) -> NDArray[np.float32]:  # noqa: ARG002
        """Rows of the field in physical units, shape (rows, columns); missing is NaN.

        Raises
        ------
        InputError : values no such field can have.
        """
        width = (self.cols.stop - self.cols.start) * self.block
        strip = max(1, CELLS_AT_ONCE // max(width, 1))
        parts = [
            self._strip(variable, slice(top, min(top + strip, rows.stop)))
            for top in range(rows.start, rows.stop, strip)
        ]
        return np.concatenate(parts)

    def _strip(self, variable: str, rows: slice) -> NDArray[np.float32]:
        south = self.rows.start + rows.start * self.block
        north = self.rows.start + rows.stop * self.block
        # Whole blocks may reach beyond the raster; what is not there is missing.
        bottom, top = max(south, 0), min(north, self.dataset.height)
        left, right = max(self.cols.start, 0), min(self.cols.stop, self.dataset.width)
        window = Window(left, self.dataset.height - top, right - left, top - bottom)  # type: ignore[call-arg]
        raw = self.dataset.read(1, window=window)[::-1]
        # float32 holds 8- and 16-bit numbers exactly and halves the memory of a block.
        values = raw.astype(np.float32 if raw.dtype.itemsize <= 2 else np.float64)
        values *= self.scale
        values[self._gone(raw)] = np.nan
        low, high = self.allowed
        with np.errstate(invalid="ignore"):
            wrong = (values < low) | (values > high)
        if wrong.any():
            raise InputError(f"{variable} of {values[wrong][0]:g}", f"{low:g} to {high:g}", "check unit and fill value")
        beyond = ((bottom - south, north - top), (left - self.cols.start, self.cols.stop - right))
        if any(n for side in beyond for n in side):
            values = np.pad(values, beyond, constant_values=np.nan)
        return self._summed(values).astype(np.float32)

    def _gone(self, raw: NDArray) -> NDArray[np.bool_]:
        if raw.dtype.kind == "f":
            gone = ~(np.abs(raw) < UNDECLARED)
            for value in self.missing:
                gone |= raw == raw.dtype.type(value)
            return gone
        limits = np.iinfo(raw.dtype)
        # Signed integers keep their lowest numbers for what is missing.
        gone = raw <= limits.min + 1 if limits.min < 0 else np.zeros(raw.shape, bool)
        for value in self.missing:
            if limits.min <= value <= limits.max and value == int(value):
                gone |= raw == int(value)
        return gone

    def _summed(self, values: NDArray) -> NDArray:
        if self.block == 1:
            return values
        n, m = values.shape[0] // self.block, values.shape[1] // self.block
        blocks = values.reshape(n, self.block, m, self.block)
        total = np.nansum(blocks, axis=(1, 3))
        return np.where(np.isfinite(blocks).any(axis=(1, 3)), total, np.nan)


def region_window(
    dataset: rasterio.DatasetReader, finest: float = 0.0, box: tuple[float, float, float, float] = BOX
) -> tuple[slice, slice, int, Axis, Axis]:
    """The rows (from the south) and columns inside the region, how many cells to sum, and the axes that result.

    Raises
    ------
    Rejected : the raster lies elsewhere.
    """
    lat, lon = raster_axes(dataset)
    if not (lat.centres[0] > -91 and lat.centres[-1] < 91 and dataset.height > 1 and dataset.width > 1):
        raise Rejected(
            f"a raster of {dataset.height} x {dataset.width} cells over latitudes {tuple(dataset.bounds)[1::2]}"
        )
    rows, cols = lat.window(box[1], box[3]), lon.window(box[0], box[2])
    if rows.stop - rows.start < 2 or cols.stop - cols.start < 2:
        west, south, east, north = dataset.bounds
        raise Rejected(f"the raster covers {west:.2f}..{east:.2f} E, {south:.2f}..{north:.2f} N, not China")
    block = max(1, round(finest / lat.step)) if finest else 1
    if block > 1:
        rows, cols = _whole_blocks(rows, lat, block), _whole_blocks(cols, lon, block)
    shift = (block - 1) / 2
    return (
        rows,
        cols,
        block,
        Axis(lat.first + (rows.start + shift) * lat.step, lat.step * block, (rows.stop - rows.start) // block),
        Axis(lon.first + (cols.start + shift) * lon.step, lon.step * block, (cols.stop - cols.start) // block),
    )


def _whole_blocks(part: slice, axis: Axis, block: int) -> slice:
    # Blocks start at multiples of their size counted from 0 degrees, so that neighbouring files share a lattice. Those
    # at the rim are taken too, though the raster may end inside them: nobody is lost.
    edge = round((axis.first - axis.step / 2) / axis.step)
    return slice(part.start - (edge + part.start) % block, part.stop + -(edge + part.stop) % block)


def date_in(name: str, pattern: str, what: str) -> tuple[int, int]:
    """Year and month (1 where the pattern has none) from a file's name.

    Raises
    ------
    Rejected : no date there.
    """
    found = re.search(pattern, name, re.IGNORECASE)
    groups: dict[str, Any] = found.groupdict() if found else {}
    if not groups.get("year"):
        raise Rejected(f"the name {name!r} has no date as {what} files do; rename it, or name the year with --year")
    year = int(groups["year"])
    month = int(groups.get("month") or 1)
    year += 2000 if year < 100 else 0
    if not (1970 <= year <= 2100 and 1 <= month <= 12):
        raise Rejected(f"the name {name!r} says year {year}, month {month}")
    return year, month
