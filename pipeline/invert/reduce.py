"""A reduced state for quick runs: the leaves of a quadtree instead of every cell.

A leaf is a square of 1, 2, 4, 8 or 16 cells a side, cut along borders of regions and lifetime groups; where much NOx is
emitted it is one cell. Entries of one source class in one leaf are moved together. With W the weights of entries in
their leaf (shares of its NOx, rows summing to 1) and R the direction in which the whole leaf moves,

    L' = W L R^T,     R_k ~ (W L)_k on the leaf's own part of z,     R R^T = I

so that z' = R z is unit normal too and, where cells are independent, the ln NOx of a leaf has the variance that all of
B gives it, w^T L L^T w. What a leaf cannot say is left as it was believed: given z' a member of z is

    z = R^T z' + (I - R^T R) xi,     xi its draw of the prior

so cells of a leaf keep their prior spread about what the leaf learned. On the side of the columns the NOx of a leaf is
spread over its cells as in the prior, H' = H times pattern; how far that is wrong is not in R.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from pipeline.core.grid import Grid
from pipeline.core.schema import SECTORS
from pipeline.invert.model import Observations
from pipeline.invert.prior import CLASSES
from pipeline.invert.state import State

SIDES = (2, 4, 8, 16)
_BISECTIONS = 24
_OWN = ("cells", "other_cells")
"""Blocks with one part for each entry."""


@dataclass(frozen=True)
class Basis:
    """What a month is solved in: its whole state, or a reduced one.

    Attributes
    ----------
    state, observations, blocks : as solved; `observations` of all columns, with the matrix that belongs to `blocks`.
    spread : R^T, (size, reduced size); `share` W, (reduced entries, entries); `None` where nothing is reduced.
    variance : prior variance of ln NOx of every entry of the whole state, and of the reduced one.
    """

    state: State
    observations: Observations
    blocks: Sequence[sparse.csr_matrix]
    spread: sparse.csr_matrix | None = None
    share: sparse.csr_matrix | None = None
    variance: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None

    @property
    def told(self) -> dict[str, int]:
        """What diagnostics must say of it: nothing where nothing is reduced."""
        return {} if self.spread is None else {"leaves": self.state.n_cell}

    def project(self, z: NDArray) -> NDArray:
        """R z: (size, k) -> (reduced size, k)."""
        return z if self.spread is None else np.asarray(self.spread.T @ z)

    def lift(self, z: NDArray, xi: NDArray | float = 0.0) -> NDArray:
        """R^T z + (I - R^T R) xi: (reduced size, k) -> (size, k)."""
        if self.spread is None:
            return z
        return np.asarray(self.spread @ (z - self.project(xi) if isinstance(xi, np.ndarray) else z) + xi)

    def mean(self, values: NDArray) -> NDArray:
        """Mean over the entries of each leaf by their NOx: (entries, k) -> (reduced entries, k)."""
        return values if self.share is None else np.asarray(self.share @ values)

    def split(self, nox: NDArray) -> NDArray:
        """NOx of a leaf on its entries as in the prior: (reduced entries, k) -> (entries, k)."""
        return nox if self.share is None else np.asarray(self.share.T @ nox)

    def each(self, values: NDArray) -> NDArray:
        """A leaf's value for each of its entries: (reduced entries,) -> (entries,)."""
        return values if self.share is None else np.asarray(values[self.share.tocsc().indices])

    def left(self, left: NDArray[np.float64]) -> NDArray[np.float64]:
        """Share of each reduced entry's variance that is left, from that of the entries: what is gone is the same."""
        if self.variance is None:
            return left
        before, reduced = self.variance
        return np.asarray(np.clip(1.0 - self.mean((1.0 - left) * before) / reduced, 0.0, 1.0))


def reduced(
    grid: Grid, state: State, observations: Observations, blocks: Sequence[sparse.csr_matrix], leaves: int
) -> Basis:
    """The month on about `leaves` leaves; with as many as there are cells, the same month again.

    Parameters
    ----------
    blocks : `pipeline.transport.footprint.aggregation` of the grid.
    """
    leaf = quadtree(grid, *_cells(state), leaves)
    share = _shares(state, leaf)
    nox = np.bincount(state.cell, state.mean_nox, state.n_cell).astype(float)
    matrix, onto = _pattern(observations.matrix, blocks, leaf, nox)
    small, spread = _state(state, leaf, share)
    variance = state.variance(state.log_nox), small.variance(small.log_nox)
    return Basis(small, replace(observations, matrix=matrix), onto, spread, share, variance)


def quadtree(grid: Grid, weight: NDArray[np.float64], kind: NDArray[np.int64], leaves: int) -> NDArray[np.int64]:
    """Leaf of each cell, 0.., (n_cell,): squares aligned to the grid of the globe, none of them of two kinds.

    A square is split while it weighs more than a limit, which is sought so that there are at most `leaves` if kinds
    allow.
    """
    row, col = np.divmod(np.arange(grid.n_lat * grid.n_lon), grid.n_lon)
    row, col = row + grid.south_index, col + grid.west_index
    heavy = [np.bincount(square, weight)[square] for square in (_numbered(row // s, col // s) for s in SIDES)]

    def split(limit: float) -> NDArray[np.int64]:
        side = np.ones(weight.size, np.int64)
        for s, inside in zip(SIDES, heavy, strict=True):
            side[inside <= limit] = s
        return _numbered(side, row // side, col // side, kind)

    low, high = -1.0, float(heavy[-1].max())
    if leaves >= weight.size:
        return split(low)
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        low, high = (low, middle) if split(middle).max() < leaves else (middle, high)
    return split(high)


def _numbered(*parts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Number of each combination of some integers, 0.., same shape."""
    zeroed = [p - p.min() for p in parts]
    code = np.ravel_multi_index(zeroed, [int(p.max()) + 1 for p in zeroed])
    return np.unique(code, return_inverse=True)[1]


def _cells(state: State) -> tuple[NDArray, NDArray]:
    """NOx of each cell that is China's, kg s-1, and what must not be mixed: region and lifetime group."""
    china, of = state.cell[: state.n_china], state.membership.tocoo()
    region = np.full(state.n_cell, -1)
    order = np.argsort(of.data, kind="stable")
    region[china[of.row[order]]] = of.col[order] // len(SECTORS)
    return np.bincount(china, state.mean_nox[: state.n_china], state.n_cell), _numbered(region, state.group)


def _shares(state: State, leaf: NDArray[np.int64]) -> sparse.csr_matrix:
    """W: entries of one class and leaf become one, China's first, (reduced entries, entries)."""
    source = np.concatenate([state.source, np.full(state.cell.size - state.n_china, len(CLASSES))])
    _, entry = np.unique(source * (leaf.max() + 1) + leaf[state.cell], return_inverse=True)
    weight = state.mean_nox / np.bincount(entry, state.mean_nox)[entry]
    return sparse.csr_matrix((weight, (entry, np.arange(entry.size))))


def _state(state: State, leaf: NDArray[np.int64], share: sparse.csr_matrix) -> tuple[State, sparse.csr_matrix]:
    """The reduced state and R^T."""
    together = sparse.csr_matrix((np.ones(share.nnz), share.indices, share.indptr), shape=share.shape)
    first = share.indices[share.indptr[:-1]]
    n_china = int(np.searchsorted(first >= state.n_china, True))
    pulled = share @ state.log_nox
    blocks, spread = _spread(state, pulled, together, n_china)
    _, group = np.unique(leaf, return_index=True)
    co2 = share[:n_china, : state.n_china]
    small = replace(
        state,
        cell=leaf[state.cell[first]],
        source=state.source[first[:n_china]],
        n_china=n_china,
        mean_co2=together[:n_china, : state.n_china] @ state.mean_co2,
        mean_nox=together @ state.mean_nox,
        membership=co2 @ state.membership,
        log_co2=co2 @ state.log_co2 @ spread,
        log_nox=pulled @ spread,
        blocks=blocks,
        group=state.group[group],
        n_cell=group.size,
        left=np.ones(first.size),
        grip=np.zeros(first.size),
    )
    return small, spread


def _spread(
    state: State, pulled: sparse.csr_matrix, together: sparse.csr_matrix, n_china: int
) -> tuple[dict[str, slice], sparse.csr_matrix]:
    """Blocks of the reduced z, and R^T: what all share stays, each leaf moves as W L says of its own part."""
    sizes = {n: b.stop - b.start for n, b in state.blocks.items()}
    sizes |= dict(zip(_OWN, (n_china, together.shape[0] - n_china), strict=True))
    ends = np.cumsum([0, *sizes.values()])
    blocks = {name: slice(int(a), int(b)) for name, a, b in zip(sizes, ends[:-1], ends[1:], strict=True)}
    parts = {n: sparse.eye(sizes[n], format="csr") for n in sizes}
    entries = dict(zip(_OWN, (slice(0, state.n_china), slice(state.n_china, None)), strict=True))
    rows = dict(zip(_OWN, (slice(0, n_china), slice(n_china, None)), strict=True))
    for name in _OWN:
        own = sparse.csr_matrix(pulled[rows[name], state.blocks[name]].multiply(together[rows[name], entries[name]]))
        norm = np.sqrt(np.asarray(own.multiply(own).sum(axis=1)).ravel())
        parts[name] = (sparse.diags(1.0 / np.maximum(norm, 1e-30)) @ own).T
    return blocks, sparse.block_diag([parts[n] for n in sizes], format="csr")


def _pattern(
    matrix: sparse.csr_matrix, blocks: Sequence[sparse.csr_matrix], leaf: NDArray[np.int64], nox: NDArray[np.float64]
) -> tuple[sparse.csr_matrix, list[sparse.csr_matrix]]:
    """H with the blocks that lie in one leaf summed as the leaf's NOx is spread, and leaves onto what is left.

    Returns
    -------
    (n_obs, blocks'), and for each age class (its blocks', leaf). A block that holds several leaves stays.
    """
    cells, total = np.bincount(leaf), np.bincount(leaf, nox)
    share = np.where(total[leaf] > 0, nox / np.maximum(total[leaf], 1e-300), 1.0 / cells[leaf])
    onto, sums = [], []
    for aggregate in blocks:
        block = aggregate.tocsc().indices
        n = aggregate.shape[0]
        low, high = np.full(n, cells.size), np.full(n, -1)
        np.minimum.at(low, block, leaf)
        np.maximum.at(high, block, leaf)
        inside = low == high
        _, place = np.unique(np.where(inside, low, cells.size + np.arange(n)), return_inverse=True)
        shape = (int(place.max()) + 1, cells.size)
        onto.append(sparse.csr_matrix((share, (place[block], leaf)), shape=shape))
        here = np.bincount(block, share, n)
        there = np.bincount(place, here)[place]
        weight = np.where(inside & (there > 0), here / np.maximum(there, 1e-300), 1.0)
        sums.append(sparse.csr_matrix((weight, (np.arange(n), place)), shape=(n, shape[0])))
    return sparse.csr_matrix(matrix @ sparse.block_diag(sums, format="csr").astype(matrix.dtype)), onto
