"""Horizontal axes of files: regular or not, and how a file's cells lie in a cube's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.ingest.contract import Rejected

BOX = (66.0, 10.0, 143.0, 62.0)
"""W, S, E, N in degrees: what is kept of global files; the analysis grid with the margin that winds need."""


@dataclass(frozen=True)
class Axis:
    """Cell centres, ascending, degrees: `first + step * k`, or `values` where they are not regular."""

    first: float
    step: float
    size: int
    values: tuple[float, ...] = ()

    @classmethod
    def of(cls, centres: NDArray | Sequence[float]) -> Axis:
        """The axis with these ascending centres.

        Raises
        ------
        Rejected : fewer than two, not finite, or not ascending.
        """
        values = np.asarray(centres, dtype=float)
        if values.ndim != 1 or values.size < 2 or not np.all(np.isfinite(values)) or not np.all(np.diff(values) > 0):
            raise Rejected(f"an axis of {values.size} centres that is not a strictly monotonic list of degrees")
        step = (values[-1] - values[0]) / (values.size - 1)
        regular = np.abs(values[0] + step * np.arange(values.size) - values).max() < 0.02 * step
        return cls(float(values[0]), float(step), values.size, () if regular else tuple(values.tolist()))

    @property
    def centres(self) -> NDArray[np.float64]:
        """Cell centres."""
        regular = self.first + self.step * np.arange(self.size, dtype=np.float64)
        return np.array(self.values, dtype=np.float64) if self.values else regular

    @property
    def edges(self) -> NDArray[np.float64]:
        """Cell edges, halfway between centres."""
        c = self.centres
        inner = (c[1:] + c[:-1]) / 2
        return np.concatenate([[c[0] - (inner[0] - c[0])], inner, [c[-1] + (c[-1] - inner[-1])]])

    def offset_in(self, cube: Axis, what: str) -> tuple[int, float]:
        """Index in `cube` of our first cell, and how far ours lie beside the cube's, in cells.

        Raises
        ------
        Rejected : another spacing.
        """
        if self.values or cube.values:
            start = int(np.abs(cube.centres - self.centres[0]).argmin())
            part = cube.centres[start : start + self.size]
            if part.size != self.size or np.abs(part - self.centres).max() > 0.01 * self.step:
                raise Rejected(f"{what} of {self.size} irregular centres that are not the cube's")
            return start, 0.0
        span = max(self.size, 2)
        if abs(self.step - cube.step) * span > 0.5 * cube.step:
            raise Rejected(f"{what} in steps of {self.step:.7g} degree, the cube has {cube.step:.7g}")
        exact = (self.first - cube.first) / cube.step
        return round(exact), exact - round(exact)

    def window(self, low: float, high: float) -> slice:
        """The cells whose centres lie between two degrees."""
        inside = np.flatnonzero((self.centres >= low) & (self.centres <= high))
        return slice(int(inside[0]), int(inside[-1]) + 1) if inside.size else slice(0, 0)

    def cut(self, part: slice) -> Axis:
        """The axis of some of our cells."""
        return Axis.of(self.centres[part])

    def to_json(self) -> list[Any]:
        """As JSON values."""
        return [self.first, self.step, self.size, list(self.values)]

    @classmethod
    def from_json(cls, raw: Sequence[Any]) -> Axis:
        """Back from JSON values."""
        return cls(float(raw[0]), float(raw[1]), int(raw[2]), tuple(raw[3]))
