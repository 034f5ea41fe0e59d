"""The posterior: Gauss-Newton to the optimum, members from its curvature.

    J(z) = 1/2 z^T z + 1/2 sum_i ((y_i - h_i(z)) / sigma_i)^2,        P = (I + V^T H^T R^-1 H V)^-1 at the optimum.

A member is z* + P (V^T H^T R^-1/2 epsilon + xi) with epsilon, xi unit normal: an exact draw from N(z*, P).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from pipeline.invert.model import ColumnModel, Tangent, weighted_normal

_TOLERANCE = 1e-3
_FORCING = 0.1
_HALVINGS = 6


@dataclass(frozen=True)
class Optimum:
    """Where J is least: z, modelled columns, J and how it was found."""

    z: NDArray[np.float64]
    cost: float
    steps: int
    products: int
    converged: bool


def minimise(
    model: ColumnModel, column: NDArray, sigma: Callable[[NDArray], NDArray], iterations: int
) -> tuple[Optimum, NDArray[np.float64]]:
    """Minimise J; the error of an observation follows the modelled column for the first steps, then is held.

    Parameters
    ----------
    column : y, mol m-2.
    sigma : gives the errors (mol m-2) for modelled columns.

    Returns
    -------
    The optimum and the errors it was found with.
    """
    z = np.zeros(model.state.size)
    modelled = model.columns(z)
    error = sigma(modelled)
    cost = _cost(z, column, modelled, error)
    products, converged, step = 0, False, 0
    for step in range(1, iterations + 1):
        tangent = model.linearise(z)
        weight = (model.unit / error) ** 2
        residual = ((column - modelled) / model.unit * weight).astype(model.matrix.dtype)
        gradient = tangent.adjoint((model.matrix.T @ residual).astype(float)[:, None])[:, 0] - z
        direction, used = conjugate_gradient(tangent, weight, gradient[:, None], _FORCING)
        products += used
        z, modelled, new = _line_search(model, column, error, z, direction[:, 0], cost)
        small = cost - new < _TOLERANCE * new
        cost = new
        if step <= 2:
            error = sigma(modelled)
            cost = _cost(z, column, modelled, error)
        elif small:
            converged = True
            break
    return Optimum(z, cost, step, products, converged), error


def _cost(z: NDArray, column: NDArray, modelled: NDArray, error: NDArray) -> float:
    return float(0.5 * z @ z + 0.5 * np.sum(((column - modelled) / error) ** 2))


def _line_search(
    model: ColumnModel, column: NDArray, error: NDArray, z: NDArray, direction: NDArray, cost: float
) -> tuple[NDArray, NDArray, float]:
    length = min(1.0, 3.0 / max(np.abs(direction).max(), 1e-12))
    for _ in range(_HALVINGS):
        trial = z + length * direction
        modelled = model.columns(trial)
        new = _cost(trial, column, modelled, error)
        if new < cost:
            return trial, modelled, new
        length /= 2
    return z, model.columns(z), cost


def conjugate_gradient(
    tangent: Tangent,
    weight: NDArray,
    rhs: NDArray,
    tolerance: float,
    most: int = 80,
    matrix: sparse.csr_matrix | None = None,
) -> tuple[NDArray[np.float64], int]:
    """Solve (I + V^T H^T W H V) x = rhs for several right sides at once, preconditioned by the diagonal.

    Parameters
    ----------
    tangent : V.
    weight : diagonal of W for the rows of the matrix.
    rhs : (size, k).
    tolerance : relative size of the (scaled) residual at which a side is done.
    matrix : rows of H to use; all by default.

    Returns
    -------
    Solutions (size, k) and the number of products with the matrix.
    """
    h = tangent.model.matrix if matrix is None else matrix
    scale = 1.0 / tangent.curvature(h, weight)

    def apply(p: NDArray) -> NDArray:
        return p + tangent.adjoint(weighted_normal(h, weight, tangent.forward(p)).astype(float))

    x = np.zeros_like(rhs)
    r = rhs.copy()
    s = scale * r
    p = s.copy()
    norm = np.einsum("ij,ij->j", r, s)
    goal = tolerance**2 * np.maximum(norm, 1e-30)
    for count in range(1, most + 1):
        q = apply(p)
        alpha = norm / np.maximum(np.einsum("ij,ij->j", p, q), 1e-30)
        x += alpha * p
        r -= alpha * q
        s = scale * r
        new = np.einsum("ij,ij->j", r, s)
        if np.all(new <= goal):
            return x, count
        p = s + (new / np.maximum(norm, 1e-30)) * p
        norm = new
    return x, most
