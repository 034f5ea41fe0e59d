"""The posterior: Gauss-Newton to the optimum, members from its curvature.

    J(z) = 1/2 z^T z + 1/2 sum_i ((y_i - h_i(z)) / sigma_i)^2,        P = (I + V^T H^T R^-1 H V)^-1 at the optimum,

with h the columns of the mean emission around z (`pipeline.invert.model`).

A member is z* + P (V^T H^T R^-1/2 epsilon + xi) with epsilon, xi unit normal: an exact draw from N(z*, P).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.linalg import cho_factor, cho_solve

from pipeline.invert.model import ColumnModel, Tangent, weighted_normal

_TOLERANCE = 1e-3
_FORCING = 0.1
_HALVINGS = 6
_LONGEST = 2.0
_REMADE = (1, 4)
"""Steps at which the preconditioner is made anew."""
_MOST = 30
"""Inner products of a Gauss-Newton step: any truncated solution is a direction of descent."""


@dataclass(frozen=True)
class Optimum:
    """Where J is least: z, J, how it was found, and what eases solving with the curvature there."""

    z: NDArray[np.float64]
    cost: float
    steps: int
    products: int
    converged: bool
    near: Preconditioner


def minimise(
    model: ColumnModel,
    column: NDArray,
    error: NDArray,
    iterations: int,
    start: NDArray | None = None,
    free: NDArray | float = 1.0,
    rows: tuple[sparse.csr_matrix, NDArray] | None = None,
) -> Optimum:
    """Minimise J.

    Parameters
    ----------
    column, error : y and sigma, mol m-2.
    start : z to begin with; the prior by default.
    free : 1 where z may move, 0 where it stays, (size, 1); everywhere by default.
    rows : rows of H, with weights, that stand for all in the curvature; gradient and J always take all.
    """
    z = np.zeros(model.state.size) if start is None else start
    modelled = model.columns(z)
    cost = _cost(model, z, column, modelled, error)
    weight = (model.unit / error) ** 2
    matrix, curvature = (model.matrix, weight) if rows is None else rows
    products, converged, step = 0, False, 0
    near = None
    while step < iterations and not converged:
        step += 1
        tangent = model.linearise(z)
        residual = ((column - modelled) / model.unit * weight).astype(model.matrix.dtype)
        gradient = tangent.adjoint((model.matrix.T @ residual)[:, None]) - (z + model.spread_cost(z)[1])[:, None]
        if near is None or step in _REMADE:
            near = Preconditioner(tangent, matrix, curvature, free)
        direction, used = conjugate_gradient(tangent, curvature, free * gradient, _FORCING, _MOST, matrix, free, near)
        products += used
        z, modelled, new = _line_search(model, column, error, z, direction[:, 0], cost)
        converged = cost - new < _TOLERANCE * new
        cost = new
    near = near or Preconditioner(model.linearise(z), matrix, curvature, free)
    return Optimum(z, cost, step, products, converged, near)


def _cost(model: ColumnModel, z: NDArray, column: NDArray, modelled: NDArray, error: NDArray) -> float:
    return float(0.5 * z @ z + model.spread_cost(z)[0] + 0.5 * np.sum(((column - modelled) / error) ** 2))


def _line_search(
    model: ColumnModel, column: NDArray, error: NDArray, z: NDArray, direction: NDArray, cost: float
) -> tuple[NDArray, NDArray, float]:
    """Halve the step until J falls; no part of z moves farther than the tangent of an exponential is a guide."""
    step = np.clip(direction, -_LONGEST, _LONGEST)
    for _ in range(_HALVINGS):
        trial = z + step
        modelled = model.columns(trial)
        new = _cost(model, trial, column, modelled, error)
        if new < cost:
            return trial, modelled, new
        step = step / 2
    return z, model.columns(z), cost


def conjugate_gradient(
    tangent: Tangent,
    weight: NDArray,
    rhs: NDArray,
    tolerance: float,
    most: int = 300,
    matrix: sparse.csr_matrix | None = None,
    free: NDArray | float = 1.0,
    precondition: Preconditioner | None = None,
) -> tuple[NDArray[np.floating], int]:
    """Solve (I + V^T H^T W H V) x = rhs for several right sides at once, preconditioned (`Preconditioner`).

    Parameters
    ----------
    tangent : V.
    weight : diagonal of W for the rows of the matrix.
    rhs : (size, k).
    tolerance : relative size of the (scaled) residual at which a side is done.
    matrix : rows of H to use; all by default.
    free : 1 where x may differ from 0, (size, 1); `rhs` must be 0 elsewhere.
    precondition : made here where it is not given; one from another z serves nearly as well.

    Returns
    -------
    Solutions (size, k) in the precision of the matrix, and the number of products with it.
    """
    h = tangent.model.matrix if matrix is None else matrix
    precondition = precondition or Preconditioner(tangent, h, weight, free)
    free = np.asarray(free, h.dtype)

    def apply(p: NDArray) -> NDArray:
        q = tangent.adjoint(weighted_normal(h, weight, tangent.forward(p)))
        q *= free
        q += p
        return q

    r = rhs.astype(h.dtype)
    x = np.zeros_like(r)
    s = precondition(r)
    p = s.copy()
    norm = np.einsum("ij,ij->j", r, s)
    goal = tolerance**2 * np.maximum(norm, 1e-30)
    for count in range(1, most + 1):
        q = apply(p)
        alpha = norm / np.maximum(np.einsum("ij,ij->j", p, q), 1e-30)
        x += alpha * p
        r -= alpha * q
        s = precondition(r)
        new = np.einsum("ij,ij->j", r, s)
        if np.all(new <= goal):
            return x, count
        p = s + (new / np.maximum(norm, 1e-30)) * p
        norm = new
    return x, most


_SAMPLE, _AT_ONCE = 4000, 64
"""Rows that the preconditioner's dense block is made from: it need only be about right."""


class Preconditioner:
    """About the inverse of I + V^T H^T W H V: its diagonal for cells, a dense block for the few parts that all share.

    Totals, ratios, lifetimes and backgrounds are seen by every column and so hang together far more than cells do.
    """

    def __init__(
        self, tangent: Tangent, matrix: sparse.csr_matrix, weight: NDArray, free: NDArray | float = 1.0
    ) -> None:
        state = tangent.model.state
        self.scale = (1.0 / tangent.curvature(matrix, weight)).astype(matrix.dtype)
        shared = np.ones(state.size, bool)
        for name in ("cells", "other_cells"):
            shared[state.blocks[name]] = False
        self.shared = np.flatnonzero(shared & np.broadcast_to(np.asarray(free) > 0, (state.size, 1))[:, 0])
        chosen = np.arange(0, weight.size, max(1, weight.size // _SAMPLE))
        part = matrix[chosen]
        columns = np.empty((chosen.size, self.shared.size), matrix.dtype)
        for first in range(0, self.shared.size, _AT_ONCE):
            few = self.shared[first : first + _AT_ONCE]
            directions = np.zeros((state.size, few.size), matrix.dtype)
            directions[few, np.arange(few.size)] = 1.0
            columns[:, first : first + few.size] = part @ tangent.forward(directions)
        columns *= np.sqrt(weight[chosen] * (weight.size / max(chosen.size, 1)))[:, None].astype(matrix.dtype)
        self.factor = cho_factor(np.eye(self.shared.size) + (columns.T @ columns).astype(float))

    def __call__(self, residual: NDArray) -> NDArray[np.floating]:
        """Apply to (size, k)."""
        result = self.scale * residual
        result[self.shared] = cho_solve(self.factor, residual[self.shared])
        return result
