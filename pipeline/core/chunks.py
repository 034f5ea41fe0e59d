"""How product cubes are cut into shards and chunks (docs/architecture.md says why)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil

from pipeline.core.grid import FINE_PER_COARSE, Grid

FINE_SHARD = (1900, 2100)
"""Fine cells of one shard of a month (lat, lon): whole coarse cells, a quarter by a third of the country."""
FINE_CHUNK = (950, 1050)


@dataclass(frozen=True)
class Tile:
    """One shard of the fine grid: `row`, `col` in the shard lattice, and the coarse cells it covers."""

    row: int
    col: int
    coarse: tuple[slice, slice]

    @property
    def fine(self) -> tuple[slice, slice]:
        """The fine cells it covers."""
        lat, lon = self.coarse
        f = FINE_PER_COARSE
        return slice(lat.start * f, lat.stop * f), slice(lon.start * f, lon.stop * f)

    @property
    def name(self) -> str:
        """Name of the unit of work."""
        return f"r{self.row}c{self.col}"


def tiles(coarse: Grid) -> Iterator[Tile]:
    """The shards of the fine grid over `coarse`, south-west first."""
    n_lat, n_lon = FINE_SHARD[0] // FINE_PER_COARSE, FINE_SHARD[1] // FINE_PER_COARSE
    for row in range(ceil(coarse.n_lat / n_lat)):
        for col in range(ceil(coarse.n_lon / n_lon)):
            yield Tile(
                row,
                col,
                (
                    slice(row * n_lat, min((row + 1) * n_lat, coarse.n_lat)),
                    slice(col * n_lon, min((col + 1) * n_lon, coarse.n_lon)),
                ),
            )
