"""Spatial blocks and folds: neighbouring cells must never stand on both sides of a test."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.core.grid import Grid
from pipeline.core.seeds import generator


def block_index(grid: Grid, degrees: float) -> NDArray[np.int64]:
    """Number of the square block each cell belongs to, (lat, lon); blocks are anchored at 0 E, 0 N.

    A block has the same number whatever the domain, so a regional run and the national one hold out the same cells.
    """
    row = np.floor(grid.lat / degrees).astype(np.int64)
    col = np.floor(grid.lon / degrees).astype(np.int64)
    return row[:, None] * 100_000 + col[None, :]


def fold_of(labels: NDArray[np.int64], folds: int, *seed: object) -> NDArray[np.int64]:
    """Fold 0..folds-1 of each row by its label: labels are shuffled once and dealt in turn.

    Parameters
    ----------
    labels : block, month or row number, any shape.
    folds : how many; fewer where there are fewer labels.
    """
    unique, inverse = np.unique(labels, return_inverse=True)
    deal = np.empty(unique.size, np.int64)
    deal[generator("folds", *seed).permutation(unique.size)] = np.arange(unique.size) % max(1, folds)
    return deal[inverse].reshape(np.shape(labels))
