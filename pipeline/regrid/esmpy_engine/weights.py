"""What every method gives back: triplets of target, source and weight."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.regrid.esmpy_engine.sphere import Floats, Ints


@dataclass(frozen=True)
class Triplets:
    """A sparse matrix: target index, source index (both from 0) and weight, all of shape (n,)."""

    row: Ints
    col: Ints
    weight: Floats

    @classmethod
    def empty(cls) -> Triplets:
        """No weights."""
        return cls(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))

    def where(self, keep: np.ndarray) -> Triplets:
        """The entries for which `keep` holds, shape (n,)."""
        return Triplets(self.row[keep], self.col[keep], self.weight[keep])

    def join(self, other: Triplets) -> Triplets:
        """Both sets of entries."""
        return Triplets(
            np.concatenate([self.row, other.row]),
            np.concatenate([self.col, other.col]),
            np.concatenate([self.weight, other.weight]),
        )

    def summed(self, n_col: int) -> Triplets:
        """One entry per pair, sorted by target, then source."""
        key, place = np.unique(self.row * n_col + self.col, return_inverse=True)
        return Triplets(key // n_col, key % n_col, np.bincount(place, self.weight, minlength=len(key)).astype(float))
