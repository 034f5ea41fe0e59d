"""The state: what may differ from the prior, as independent unit normals z behind correlated logarithms.

    ln x = ln x_a + L_x z - v_x / 2        CO2 of a source class in a cell, t per month
    ln e = ln e_a + L_e z - v_e / 2        its NOx, kg NO2-equivalent per s: L_e adds the ratio r

so that the mean of x is x_a, B = L_x L_x^T, and nothing is ever negative.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from pipeline.core.grid import Grid
from pipeline.core.options import InversionOptions, PriorOptions
from pipeline.core.schema import SECTORS
from pipeline.core.units import EARTH_RADIUS
from pipeline.invert.prior import CLASS_SECTOR, CLASSES

PERSISTENT = ("totals", "cells", "other_cells", "ratio_nation", "ratio_province", "gain")
"""Blocks whose errors last through a year: members draw them once, not month by month."""
LEVEL = ("totals", "month", "month_nation", "ratio_nation", "ratio_province", "gain")
"""Blocks that say how much a province emits in a sector and month, and how much NO2 is seen of it: not where."""
_SPREAD_OUT = {"transport", "residential"}
_BACKGROUND_STEP = 4.0


@dataclass(frozen=True)
class State:
    """The maps from z to logarithms, and where its parts lie.

    Attributes
    ----------
    cell : flat cell of each entry, shape (n_entry,); the first `n_china` entries are CO2 sources, the rest NOx only.
    source : class of each of the first `n_china` entries.
    mean_co2 : prior mean of the CO2 entries, t per month; `mean_nox` of all entries, kg s-1.
    membership : share of each CO2 entry in each region x sector, (n_china, region x sector), rows summing to 1.
    log_co2, log_nox : the sparse parts of L_x, L_e, shape (n_entry, size); L z = log @ mix(z).
    blocks : where each part of z lies; `roots` the dense square roots of those that are correlated.
    group : lifetime group of every cell.
    left : share of each entry's prior variance that the columns are expected to leave; 1 where nobody looked before.
    grip : how firmly the columns hold each entry (`pipeline.invert.model`), (kg s-1)^-2; 0 where nobody looked before.
    persistence : share of the variance of totals that different years have in common.
    background_basis : (n_background, n_cell) interpolation from the nodes to cells.
    """

    cell: NDArray[np.int64]
    source: NDArray[np.int64]
    n_china: int
    mean_co2: NDArray[np.float64]
    mean_nox: NDArray[np.float64]
    membership: sparse.csr_matrix
    log_co2: sparse.csr_matrix
    log_nox: sparse.csr_matrix
    blocks: dict[str, slice]
    roots: dict[str, NDArray[np.float64]]
    group: NDArray[np.int64]
    background_basis: sparse.csr_matrix
    n_cell: int
    left: NDArray[np.float64]
    grip: NDArray[np.float64]
    persistence: float = 1.0

    @property
    def size(self) -> int:
        """Length of z."""
        return int(self.log_nox.shape[1])

    def free(self, pinned: Sequence[str]) -> NDArray[np.float64]:
        """1 where z may move, 0 in the pinned blocks, (size, 1)."""
        mask = np.ones((self.size, 1))
        for name in pinned:
            mask[self.blocks[name]] = 0.0
        return mask

    def level_of_co2(self) -> sparse.csr_matrix:
        """The part of L_x that belongs to the level, same shape."""
        keep = np.zeros(self.size)
        for name in LEVEL:
            keep[self.blocks[name]] = 1.0
        return sparse.csr_matrix(self.log_co2 @ sparse.diags(keep))

    def mix(self, z: NDArray) -> NDArray:
        """C z: blocks that have a dense square root become correlated, the rest stays; (size, ...) -> same."""
        theta = z.copy()
        for name, root in self.roots.items():
            theta[self.blocks[name]] = root.astype(z.dtype) @ z[self.blocks[name]]
        return theta

    def mix_adjoint(self, theta: NDArray) -> NDArray:
        """C^T theta."""
        z = theta.copy()
        for name, root in self.roots.items():
            z[self.blocks[name]] = root.T.astype(theta.dtype) @ theta[self.blocks[name]]
        return z

    def variance(self, log: sparse.csr_matrix) -> NDArray[np.float64]:
        """Prior variance of each entry's logarithm: the diagonal of L L^T."""
        independent = np.ones(self.size, bool)
        total = np.zeros(log.shape[0])
        for name, root in self.roots.items():
            part = log[:, self.blocks[name]]
            total += np.asarray(part.multiply(part @ (root @ root.T)).sum(axis=1)).ravel()
            independent[self.blocks[name]] = False
        rest = log[:, independent]
        return total + np.asarray(rest.multiply(rest).sum(axis=1)).ravel()


@dataclass(frozen=True)
class Found:
    """What earlier stages found: `spread` of each cell's own deviation over the first prior's (n_cell,); the share
    `left` of each entry's variance that the columns of the month leave, and their `grip` on it (n_entry,).
    """

    spread: NDArray[np.float64]
    left: NDArray[np.float64]
    grip: NDArray[np.float64]


@dataclass(frozen=True)
class Land:
    """Whose land the cells are: `shares` (region, n_cell), `region_group` index of each region, `n_group`."""

    shares: NDArray[np.float64]
    region_group: NDArray[np.int64]
    n_group: int


def build_state(
    grid: Grid,
    co2: NDArray[np.float64],
    other_nox: NDArray[np.float64],
    log_covariance: NDArray[np.float64],
    land: Land,
    seconds: float,
    options: InversionOptions,
    prior: PriorOptions,
    found: Found | None = None,
) -> State:
    """The state of one month.

    Parameters
    ----------
    co2 : prior mean, t in the month, (source, n_cell).
    other_nox : prior mean NOx of what is not Chinese CO2 (foreign land, ships, soil), kg s-1, (n_cell,).
    log_covariance : of the yearly totals, region-major (region x sector) squared.
    seconds : length of the month.
    found : what came before: how much narrower cells are known, what their columns will leave.
    """
    source, cell = np.nonzero(co2 > 0)
    other = np.flatnonzero(other_nox > 0)
    ratio = np.array(options.nox_ratio)[np.array(CLASS_SECTOR)] * np.array(options.daytime)[np.array(CLASS_SECTOR)]
    columns = _cell_columns(grid, source, cell, prior)
    left, grip = np.ones(len(source) + len(other)), np.zeros(len(source) + len(other))
    if found is not None:
        columns = sparse.csr_matrix(sparse.diags(found.spread[cell]) @ columns)
        left[: len(source)] = 1.0 / (1.0 + found.spread[cell] ** 2 * (1.0 / found.left[: len(source)] - 1.0))
        left[len(source) :] = found.left[len(source) :]
        grip = np.concatenate([found.spread[cell] ** 2, np.ones(len(other))]) * found.grip
    mean = co2[source, cell]
    nox = np.concatenate([mean * ratio[source] / seconds, other_nox[other]])
    builder = _Columns(len(source) + len(other))
    entries = np.arange(len(source))
    region_sector = _membership(land, source, cell)
    builder.add("totals", region_sector, both=True)
    builder.add("month", region_sector * prior.sigma_month, both=True)
    sector = np.array(CLASS_SECTOR)[source]
    of_sector = sparse.csr_matrix((np.ones(len(source)), (entries, sector)), shape=(len(source), len(SECTORS)))
    builder.add("month_nation", sparse.csr_matrix(of_sector @ month_root(prior)), both=True)
    builder.add("cells", columns, both=True)
    group = _cell_group(land)
    builder.add("other", _other_columns(group[other], land.n_group, options), both=False, first=len(source))
    cells = _kernel(grid, other, options.sigma_foreign_cell, prior.correlation)
    builder.add("other_cells", cells, both=False, first=len(source))
    builder.add("ratio_nation", of_sector * options.sigma_ratio_nation, both=False)
    builder.add("ratio_province", region_sector * options.sigma_ratio_province, both=False)
    everything = np.full((len(source) + len(other), 1), options.sigma_gain)
    builder.add("gain", sparse.csr_matrix(everything), both=False)
    builder.add("lifetime", sparse.csr_matrix((0, land.n_group)), both=False)
    basis = _background_basis(grid)
    builder.add("background", sparse.csr_matrix((0, basis.shape[1] + 1)), both=False)
    return State(
        cell=np.concatenate([cell, other]),
        source=source,
        n_china=len(source),
        mean_co2=mean,
        mean_nox=nox,
        log_co2=builder.matrix(co2_only=True)[: len(source)],
        log_nox=builder.matrix(co2_only=False),
        blocks=builder.blocks,
        membership=region_sector,
        roots={"totals": total_root(log_covariance)},
        group=group_of_cells(group, grid.shape),
        background_basis=basis,
        n_cell=grid.n_lat * grid.n_lon,
        left=left,
        grip=grip,
        persistence=prior.total_persistence,
    )


def total_root(log_covariance: NDArray[np.float64]) -> NDArray[np.float64]:
    """Square root of the covariance of ln totals, (region x sector) squared."""
    return np.asarray(np.linalg.cholesky(log_covariance + 1e-12 * np.eye(len(log_covariance))), np.float64)


def month_root(prior: PriorOptions) -> NDArray[np.float64]:
    """Square root of the covariance of the nation's month by sector, (sector, sector): activity moves three of them."""
    together = np.array([name != "residential" for name in SECTORS], float)
    correlation = prior.month_together * np.outer(together, together)
    np.fill_diagonal(correlation, 1.0)
    return np.asarray(np.diag(prior.sigma_month_nation) @ np.linalg.cholesky(correlation))


class _Columns:
    """Collects blocks of columns of L_x and L_e."""

    def __init__(self, n_entry: int) -> None:
        self.n_entry = n_entry
        self.blocks: dict[str, slice] = {}
        self._parts: list[tuple[sparse.csr_matrix, bool]] = []
        self._size = 0

    def add(self, name: str, part: sparse.spmatrix, *, both: bool, first: int = 0) -> None:
        """Add a block; its rows start at entry `first`; `both` means that CO2 follows it too, not only NOx."""
        above = sparse.csr_matrix((first, part.shape[1]))
        below = sparse.csr_matrix((self.n_entry - first - part.shape[0], part.shape[1]))
        self._parts.append((sparse.vstack([above, part, below], format="csr"), both))
        self.blocks[name] = slice(self._size, self._size + part.shape[1])
        self._size += part.shape[1]

    def matrix(self, *, co2_only: bool) -> sparse.csr_matrix:
        """All blocks side by side; those that CO2 does not follow are zero in L_x."""
        parts = [p if both or not co2_only else sparse.csr_matrix(p.shape) for p, both in self._parts]
        return sparse.hstack(parts, format="csr")


def _other_columns(group: NDArray[np.int64], n_group: int, options: InversionOptions) -> sparse.csr_matrix:
    """What is no Chinese CO2: one column for foreign cells (group -1), one for the soils of each group."""
    column = np.where(group < 0, n_group, group)
    sigma = np.where(group < 0, options.sigma_foreign, options.sigma_soil)
    return sparse.csr_matrix((sigma, (np.arange(group.size), column)), shape=(group.size, n_group + 1))


def _membership(land: Land, source: NDArray[np.int64], cell: NDArray[np.int64]) -> sparse.csr_matrix:
    """Share of each entry in each region x sector, (n_entry, region x sector)."""
    shares = land.shares[:, cell]
    shares = shares / np.maximum(shares.sum(axis=0), 1e-12)
    region, entry = np.nonzero(shares)
    column = region * len(SECTORS) + np.array(CLASS_SECTOR)[source[entry]]
    shape = (len(source), len(land.shares) * len(SECTORS))
    return sparse.csr_matrix((shares[region, entry], (entry, column)), shape=shape)


def _cell_columns(
    grid: Grid, source: NDArray[np.int64], cell: NDArray[np.int64], prior: PriorOptions
) -> sparse.csr_matrix:
    """Columns of each cell's own deviation: independent for plants, correlated over a length for spread-out sources."""
    parts = []
    for k, name in enumerate(CLASSES):
        of_class = cell[source == k]
        sigma = (*prior.sigma_cell, prior.sigma_floor, prior.sigma_floor)[k]
        if name in _SPREAD_OUT:
            parts.append(_kernel(grid, of_class, sigma, prior.correlation))
        else:
            parts.append(sparse.diags(np.full(of_class.size, sigma), format="csr"))
    return sparse.block_diag(parts, format="csr")


def _kernel(grid: Grid, cells: NDArray[np.int64], sigma: float, length: float) -> sparse.csr_matrix:
    """Square root of sigma^2 exp(-d^2 / (2 length^2)) on some cells: exp(-(d / length)^2), rows scaled to sigma."""
    position = np.full(grid.n_lat * grid.n_lon, -1)
    position[cells] = np.arange(cells.size)
    row, col = np.divmod(cells, grid.n_lon)
    dy = EARTH_RADIUS / 1000 * np.deg2rad(grid.step)
    dx = dy * np.cos(np.deg2rad(grid.lat))[row]
    reach_y = int(np.ceil(1.8 * length / dy))
    reach_x = int(np.ceil(1.8 * length / dx.min())) if cells.size else 0
    rows, columns, values = [], [], []
    for a in range(-reach_y, reach_y + 1):
        for b in range(-reach_x, reach_x + 1):
            d2 = ((a * dy) ** 2 + (b * dx) ** 2) / length**2
            j, i = row + a, col + b
            near = (d2 <= 1.8**2) & (j >= 0) & (j < grid.n_lat) & (i >= 0) & (i < grid.n_lon)
            to = np.full(cells.size, -1)
            to[near] = position[j[near] * grid.n_lon + i[near]]
            keep = np.flatnonzero(to >= 0)
            rows.append(keep)
            columns.append(to[keep])
            values.append(np.exp(-d2[keep]))
    shape = (cells.size, cells.size)
    matrix = sparse.csr_matrix(
        (np.concatenate(values), (np.concatenate(rows), np.concatenate(columns))) if rows else shape, shape=shape
    )
    norm = np.sqrt(np.asarray(matrix.multiply(matrix).sum(axis=1)).ravel())
    return sparse.diags(sigma / np.maximum(norm, 1e-12)) @ matrix


def _cell_group(land: Land) -> NDArray[np.int64]:
    """Training group of each cell; cells of no region take that of the nearest."""
    by_group = np.zeros((land.n_group, land.shares.shape[1]))
    np.add.at(by_group, land.region_group, land.shares)
    return np.where(by_group.sum(axis=0) > 0, by_group.argmax(axis=0), -1)


def _background_basis(grid: Grid) -> sparse.csr_matrix:
    """Bilinear weights of nodes every 4 degrees at each cell, (n_cell, n_node)."""
    return sparse.csr_matrix(sparse.kron(_hats(grid.lat), _hats(grid.lon)))


def _hats(values: NDArray[np.float64]) -> sparse.csr_matrix:
    n_node = max(2, int(np.ceil((values[-1] - values[0]) / _BACKGROUND_STEP)) + 1)
    position = (values - values[0]) / (values[-1] - values[0]) * (n_node - 1)
    low = np.minimum(position.astype(int), n_node - 2)
    weight = position - low
    index = np.arange(values.size)
    return sparse.csr_matrix(
        (np.concatenate([1 - weight, weight]), (np.concatenate([index, index]), np.concatenate([low, low + 1]))),
        shape=(values.size, n_node),
    )


def group_of_cells(group: NDArray[np.int64], shape: Sequence[int]) -> NDArray[np.int64]:
    """Fill cells of no group with the nearest cell's group, so that air over the sea has a lifetime too."""
    from scipy.ndimage import distance_transform_edt

    field = group.reshape(tuple(shape))
    if (field < 0).all():
        return np.zeros_like(group)
    nearest = distance_transform_edt(field < 0, return_distances=False, return_indices=True)
    return np.asarray(field[tuple(nearest)]).ravel()
