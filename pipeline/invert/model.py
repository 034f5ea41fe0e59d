"""The columns a state would give, and the product of derivatives that the solver needs.

    y_i = 1 / (f M_NO2)  sum over classes g, cells j of  H_g[i, j] c_g(tau_j) e_j   +  b_i

with H the source-receptor matrix of the month (`pipeline.transport.footprint`), c_g the survival of an age class for
the lifetime of the cell's group relative to the one H was built with, e the NOx of a cell, b the background.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from pipeline.core.options import InversionOptions, TransportOptions
from pipeline.core.units import M_NO2
from pipeline.invert.state import State
from pipeline.transport.chemistry import NOX_PER_NO2, age_weights, age_weights_slope


@dataclass(frozen=True)
class Observations:
    """The columns of a month.

    `matrix` (n_obs, blocks) in s m-2, `cell` of each observation, `column` and `sigma` in mol m-2, `day` of the month.
    """

    matrix: sparse.csr_matrix
    cell: NDArray[np.int64]
    column: NDArray[np.float64]
    sigma: NDArray[np.float64]
    day: NDArray[np.int64]


class ColumnModel:
    """NO2 columns as a function of z, with first derivatives. All maps take (size,) or (size, k).

    What is wanted is not the column of the likeliest emission but of the mean one. With q = N(z, P) the mean of a
    log-normal entry is mean exp(L z - v / 2 + L P L^T / 2); `left` is the share L P L^T / v of an entry's prior
    variance that observations leave, 1 where nothing is known yet, so that z = 0 is the prior's mean.

    Columns vary under q too, by the more the larger the emission: the mean of J under q has 1/2 sum var(h) / sigma^2 on
    top, whose slope by an entry's logarithm is d_i = (F L P L^T)_ii, the degrees of freedom that it takes from the
    columns, F = dh^T R^-1 dh. d = g e^2 / (1 + g e^2) with e its NOx and g its `grip` (kg s-1)^-2, so that J gets
    1/2 sum c ln(1 + g e^2), c = min(1, 1 / v): a Gaussian exaggerates the term where the prior is wide.
    """

    def __init__(
        self,
        state: State,
        observations: Observations,
        blocks: Sequence[sparse.csr_matrix],
        transport: TransportOptions,
        options: InversionOptions,
        precision: type[np.floating] = np.float32,
        left: NDArray | float = 1.0,
        grip: NDArray | float = 0.0,
    ) -> None:
        self.state, self.options, self.transport = state, options, transport
        self.left, self.grip = left, grip
        self.aggregate = blocks
        self._sum = sparse.csr_matrix(
            (np.ones(state.cell.size), (state.cell, np.arange(state.cell.size))), shape=(state.n_cell, state.cell.size)
        )
        basis = state.background_basis[observations.cell]
        n_obs = observations.cell.size
        scale = 1.0 / (NOX_PER_NO2 * M_NO2)
        # Scaled so that every column of the matrix is of order one: the products run in single precision.
        self.unit = 1e-6
        local = basis * (options.sigma_background_local / self.unit)
        nation = sparse.csr_matrix(np.full((n_obs, 1), options.sigma_background / self.unit))
        transported = observations.matrix * precision(scale / self.unit)
        self.matrix = sparse.hstack([transported, nation, local], format="csr").astype(precision)
        self.matrix.sort_indices()
        self.n_block = observations.matrix.shape[1]
        self.variance_nox = state.variance(state.log_nox)
        self.share = np.minimum(1.0, 1.0 / np.maximum(self.variance_nox, 1e-12))
        self.precision = precision
        # What the inner products of a solve run through, once in their precision.
        self.log_nox = state.log_nox.astype(precision)
        self.cells_of_block = [a.astype(precision) for a in blocks]
        self.cell_sum = self._sum.astype(precision)
        lifetime = state.blocks["lifetime"]
        self.group_sum = sparse.csr_matrix(
            (np.ones(state.n_cell, precision), (state.group, np.arange(state.n_cell))),
            shape=(lifetime.stop - lifetime.start, state.n_cell),
        )

    def sum_entries(self, values: NDArray) -> NDArray[np.float64]:
        """Sum the entries of each cell: (n_entry, ...) -> (n_cell, ...)."""
        return np.asarray(self._sum @ values)

    def nox(self, z: NDArray) -> NDArray[np.float64]:
        """Mean NOx of each entry around z, kg s-1, (n_entry, k): mean exp(L z - (1 - left) v / 2)."""
        log = self.state.log_nox @ self.state.mix(z.reshape(self.state.size, -1))
        return np.asarray(
            self.state.mean_nox[:, None] * np.exp(log - ((1 - self.left) * self.variance_nox)[:, None] / 2)
        )

    def spread_cost(self, z: NDArray) -> tuple[float, NDArray[np.float64]]:
        """What the spread of q adds to J at z, and its slope, (size,); see the class."""
        odds = self.grip * self.nox(z)[:, 0] ** 2
        slope = self.state.mix_adjoint(self.state.log_nox.T @ (self.share * odds / (1.0 + odds)))
        return float(self.share @ np.log1p(odds)) / 2, slope

    def lifetime(self, z: NDArray) -> NDArray[np.float64]:
        """Lifetime in each cell, hours, (n_cell, k)."""
        log = self.options.sigma_lifetime * z[self.state.blocks["lifetime"]]
        return self.transport.lifetime * np.exp(log[self.state.group])

    def blocks(self, z: NDArray) -> NDArray[np.float64]:
        """What the matrix multiplies, (n, k): surviving emission by class and block (kg s-1), then backgrounds."""
        z = z.reshape(self.state.size, -1)
        survival, _ = self._survival(z)
        cell = self.sum_entries(self.nox(z))
        emitted = np.concatenate([a @ (c * cell) for a, c in zip(self.aggregate, survival, strict=True)])
        return np.concatenate([emitted, z[self.state.blocks["background"]]])

    def columns(self, z: NDArray) -> NDArray[np.float64]:
        """Modelled NO2 columns, mol m-2, (n_obs,) or (n_obs, k)."""
        signal = (self.matrix @ self.blocks(z).astype(self.matrix.dtype)).astype(float)
        return self.options.background + self.unit * signal.reshape(-1, *z.shape[1:])

    def linearise(self, z: NDArray) -> Tangent:
        """The tangent of `blocks` at z; at (size, k) one for each column."""
        z = z.reshape(self.state.size, -1)
        survival, slope = self._survival(z)
        nox = self.nox(z)
        parts = (nox, self.sum_entries(nox), survival, slope)
        return Tangent(self, *(np.asarray(p, self.precision) for p in parts))

    def _survival(self, z: NDArray) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """c_g(tau) / c_g(tau_0) and its derivative by ln tau, (class, n_cell, k)."""
        tau = self.lifetime(z)
        built = age_weights(self.transport.classes, self.transport.lifetime)[:, None, None]
        return (
            age_weights(self.transport.classes, tau) / built,
            age_weights_slope(self.transport.classes, tau) / built,
        )


@dataclass(frozen=True)
class Tangent:
    """dv = V dz with v the vector that the matrix multiplies, and its transpose."""

    model: ColumnModel
    nox: NDArray[np.floating]
    cell_nox: NDArray[np.floating]
    survival: NDArray[np.floating]
    slope: NDArray[np.floating]

    def forward(self, dz: NDArray) -> NDArray[np.floating]:
        """V dz, (blocks + backgrounds, k), in the precision of the matrix."""
        state, model = self.model.state, self.model
        dz = np.asarray(dz, model.precision)
        dlog = model.log_nox @ state.mix(dz)
        dlog *= self.nox
        dcell = model.cell_sum @ dlog
        dtau = model.precision(model.options.sigma_lifetime) * dz[state.blocks["lifetime"]][state.group]
        dtau *= self.cell_nox
        parts = [
            a @ (c * dcell + s * dtau) for a, c, s in zip(model.cells_of_block, self.survival, self.slope, strict=True)
        ]
        return np.concatenate([*parts, dz[state.blocks["background"]]])

    def adjoint(self, dv: NDArray) -> NDArray[np.floating]:
        """V^T dv, (size, k)."""
        state, model = self.model.state, self.model
        dv = np.asarray(dv, model.precision)
        spread, change = self._entries(dv)
        dz = state.mix_adjoint(model.log_nox.T @ spread)
        dz[state.blocks["lifetime"]] += model.precision(model.options.sigma_lifetime) * (model.group_sum @ change)
        dz[state.blocks["background"]] += dv[model.n_block :]
        return dz

    def entries(self, dv: NDArray) -> NDArray[np.floating]:
        """Derivative of dv^T v by the logarithm of each entry's NOx, (n_entry, k)."""
        return self._entries(np.asarray(dv, self.model.precision))[0]

    def _entries(self, dv: NDArray[np.floating]) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
        model = self.model
        dcell = np.zeros((model.state.n_cell, dv.shape[1]), model.precision)
        change = np.zeros_like(dcell)
        start = 0
        for a, c, s in zip(model.cells_of_block, self.survival, self.slope, strict=True):
            back = a.T @ dv[start : start + a.shape[0]]
            dcell += c * back
            change += s * back
            start += a.shape[0]
        spread = model.cell_sum.T @ dcell
        spread *= self.nox
        change *= self.cell_nox
        return spread, change

    def of_entries(self, change: NDArray) -> NDArray[np.float64]:
        """What the matrix multiplies when CO2 sources change by factors exp(change), (n_entry, k), and nothing else."""
        state, model = self.model.state, self.model
        entry = np.zeros((state.cell.size, change.shape[1]))
        entry[: state.n_china] = self.nox[: state.n_china] * change[: state.n_china]
        cell = model.sum_entries(entry)
        parts = [a @ (c * cell) for a, c in zip(model.aggregate, self.survival, strict=True)]
        nothing = np.zeros((model.matrix.shape[1] - model.n_block, change.shape[1]))
        return np.concatenate([*parts, nothing])

    def curvature(self, matrix: sparse.csr_matrix, weight: NDArray) -> NDArray[np.float64]:
        """About the diagonal of I + V^T H^T W H V, (size, 1 or k): products between different blocks left out."""
        state, model = self.model.state, self.model
        squared = matrix.copy()
        squared.data = squared.data**2
        block = np.asarray(squared.T @ weight.astype(matrix.dtype), float)[:, None]
        cell = np.zeros((state.n_cell, self.survival.shape[2]))
        start = 0
        for a, c in zip(model.aggregate, self.survival, strict=True):
            cell += c**2 * (a.T @ block[start : start + a.shape[0]])
            start += a.shape[0]
        entry = self.nox**2 * cell[state.cell]
        squares = state.log_nox.copy()
        squares.data = squares.data**2
        diagonal = np.asarray(squares.T @ entry)
        for name, root in state.roots.items():
            diagonal[state.blocks[name]] = (root**2).T @ diagonal[state.blocks[name]]
        diagonal += 1.0
        diagonal[state.blocks["background"]] += block[start:]
        return diagonal


@numba.njit(cache=True, nogil=True, fastmath=True)
def _weighted_normal(indptr, indices, data, weight, v, out):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    n_rhs = v.shape[1]
    acc = np.empty(n_rhs, data.dtype)
    for r in range(indptr.size - 1):
        for k in range(n_rhs):
            acc[k] = 0
        for p in range(indptr[r], indptr[r + 1]):
            h, j = data[p], indices[p]
            for k in range(n_rhs):
                acc[k] += h * v[j, k]
        for k in range(n_rhs):
            acc[k] *= weight[r]
        for p in range(indptr[r], indptr[r + 1]):
            h, j = data[p], indices[p]
            for k in range(n_rhs):
                out[j, k] += h * acc[k]


_FEW = 8
"""Right sides from which one pass over the matrix is quicker than two sparse products."""


def weighted_normal(matrix: sparse.csr_matrix, weight: NDArray, v: NDArray) -> NDArray[np.floating]:
    """H^T diag(weight) H v, in the precision of H: v (n, k) -> (n, k)."""
    v, weight = np.ascontiguousarray(v, matrix.dtype), weight.astype(matrix.dtype)
    if v.shape[1] < _FEW:
        return np.asarray(matrix.T @ (weight[:, None] * (matrix @ v)))
    out = np.zeros_like(v)
    _weighted_normal(matrix.indptr, matrix.indices, matrix.data, weight, v, out)
    return out
