"""What a solve says of itself: whether its errors are those it believes in, and how much it learned.

With d_ob = y - h(x_b) (innovation), d_oa = y - h(x_a) (residual) and d_ab = h(x_a) - h(x_b), an analysis whose error
covariances R and B are the true ones has

    E[d_ob d_ob^T] = R + H B H^T,    E[d_oa d_ob^T] = R,    E[d_ab d_ob^T] = H B H^T

(Desroziers et al. 2005, Q. J. R. Meteorol. Soc. 131, 3385-3396). Only diagonals are looked at, summed over the
observations of a cell or of a group. Where R was widened because neighbours err together
(`InversionOptions.error_inflation`), the diagonal of what is seen stays below it by that factor.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.core.schema import CONSISTENCY
from pipeline.invert.model import ColumnModel
from pipeline.invert.solve import Optimum
from pipeline.invert.state import State

_DRAWS = 32
"""Draws of the prior that the variance of modelled columns is taken from."""


@dataclass(frozen=True)
class Departures:
    """Observations against the model before and after, (n_obs,).

    Attributes
    ----------
    innovation, residual : d_ob and d_oa, mol m-2.
    error : sigma of the observations as the solve believed, square root of the diagonal of R, mol m-2.
    spread : diagonal of H B H^T, mol2 m-4.
    """

    innovation: NDArray[np.float64]
    residual: NDArray[np.float64]
    error: NDArray[np.float64]
    spread: NDArray[np.float64]


def departures(
    model: ColumnModel, z: NDArray[np.float64], column: NDArray, error: NDArray, draws: NDArray[np.float64]
) -> Departures:
    """How far the columns are from the prior's mean and from the optimum.

    Parameters
    ----------
    model : as it was solved with; z : the optimum, (size,).
    column, error : y and its sigma, mol m-2, (n_obs,).
    draws : of the prior in z, unit normal, (size, member).

    Returns
    -------
    B is that of all of z, around the prior's mean: the level too was solved from these columns, with all other months.
    """
    if not error.size:
        return Departures(*(np.zeros(0) for _ in range(4)))
    background = copy.copy(model)
    background.left = 1.0
    nothing = np.zeros(model.state.size)
    moved = background.linearise(nothing).forward(draws[:, :_DRAWS])
    changed = model.matrix @ moved
    spread = model.unit**2 * np.einsum("ij,ij->i", changed, changed).astype(float) / moved.shape[1]
    return Departures(column - background.columns(nothing), column - model.columns(z), error, spread)


def pooled(seen: Departures, place: NDArray[np.int64], size: int) -> dict[str, NDArray[np.float64]]:
    """Statistics of the observations of each place, (size,); NaN where there are none.

    Parameters
    ----------
    place : of each observation, 0..size - 1.

    Returns
    -------
    ``innovation_mean``, ``innovation_rms`` : of innovations over the root of the mean of R + H B H^T; 0 and 1 are
        expected.
    ``residual_mean``, ``residual_rms`` : of residuals over sigma; 0 and, since they were fitted, at most 1.
    ``observation_error_ratio`` : sum of d_oa d_ob over that of R; ``background_error_ratio`` : sum of d_ab d_ob over
        that of H B H^T; 1 where the believed variance is the true one. Few observations scatter, below 0 too.
    """

    def total(values: NDArray | None = None) -> NDArray[np.float64]:
        return np.bincount(place, values, size).astype(float)

    def over(values: NDArray, by: NDArray) -> NDArray[np.float64]:
        return np.divide(values, by, out=np.full(size, np.nan), where=by > 0)

    count, first, last, variance = total(), seen.innovation, seen.residual, seen.error**2
    believed = total(variance + seen.spread)
    return {
        "innovation_mean": over(total(first), np.sqrt(count * believed)),
        "innovation_rms": np.sqrt(over(total(first**2), believed)),
        "residual_mean": over(total(last / seen.error), count),
        "residual_rms": np.sqrt(over(total(last**2 / variance), count)),
        "observation_error_ratio": over(total(last * first), total(variance)),
        "background_error_ratio": over(total((first - last) * first), total(seen.spread)),
    }


def consistency(seen: Departures, group: NDArray[np.int64], n_group: int) -> dict[str, list[float | None]]:
    """`pooled` for each group, then for all together, as JSON values; `None` where nothing was seen."""
    groups = pooled(seen, group, n_group)
    together = pooled(seen, np.zeros_like(group), 1)
    values = {name: [*groups[name], *together[name]] for name in CONSISTENCY}
    return {name: [round(float(v), 4) if np.isfinite(v) else None for v in row] for name, row in values.items()}


def information(
    mean: NDArray[np.float64],
    state: State,
    deviations: Mapping[str, NDArray[np.float64]],
    response: NDArray[np.float64],
    signs: NDArray[np.float64],
) -> dict[str, NDArray[np.float64]]:
    """`averaging_kernel` and `variance_reduction` of the emission of each cell, (n_cell,).

    The kernel's diagonal is estimated with random signs s: E[s (A s)]. Given a level it is that of the cells alone,
    the level held: neither what was learned of totals nor how uncertain they stay is in it. The reduction compares
    draws in which the level varies too.

    Parameters
    ----------
    mean : CO2 of each entry, t, (n_china,).
    deviations : of z, (size, member): `prior` and `posterior` draws that share their random numbers.
    response : of ln CO2 to signs, (n_china, probe); signs : (n_cell, probe).
    """
    total = cell_sums(state, mean[:, None])
    kernel = cell_sums(state, mean[:, None] * response) / np.maximum(total, 1e-30)
    before, after = (
        cell_sums(state, mean[:, None] * (state.log_co2 @ state.mix(deviations[k]))).var(axis=1)
        for k in ("prior", "posterior")
    )
    reduction = 1.0 - np.divide(after, before, out=np.ones_like(before), where=before > 0)
    return {"averaging_kernel": np.mean(signs * kernel, axis=1), "variance_reduction": reduction}


def summary(
    model: ColumnModel, optimum: Optimum, column: NDArray, error: NDArray, draws: Mapping[str, NDArray[np.float64]]
) -> dict[str, Any]:
    """The solve in a few numbers, as JSON values.

    ``chi2`` is 2 J / n at the optimum; ``dofs`` the trace of I - P, from draws of prior and posterior (`information`);
    ``spread_left`` posterior over prior sigma of what turns CO2 into columns (the gain with its season's error).
    """
    residual = (column - model.columns(optimum.z)) / error if error.size else np.zeros(0)
    return {
        "n_obs": int(error.size),
        "cost": optimum.cost,
        "chi2": float(2 * optimum.cost / max(error.size, 1)),
        "residual_rms": float(np.sqrt(np.mean(residual**2))) if error.size else 0.0,
        "dofs": float(np.mean(np.sum(draws["prior"] ** 2 - draws["posterior"] ** 2, axis=0))),
        "steps": optimum.steps,
        "products": optimum.products,
        "converged": int(optimum.converged),
        "lifetime": [float(t) for t in _group_lifetimes(model, optimum.z)],
        "spread_left": {name: _spread_left(draws, model.state.blocks[name]) for name in _CONVERTING},
    }


_CONVERTING = ("ratio_nation", "ratio_province", "gain", "lifetime")
"""Blocks of z between CO2 and columns."""


def cell_sums(state: State, values: NDArray) -> NDArray[np.float64]:
    """Sum the CO2 entries of each cell: (n_china, k) -> (n_cell, k)."""
    result = np.zeros((state.n_cell, values.shape[1]))
    np.add.at(result, state.cell[: state.n_china], values)
    return result


def _spread_left(draws: Mapping[str, NDArray[np.float64]], where: slice) -> float:
    after, before = (draws[k][where].var(axis=1).mean() for k in ("posterior", "prior"))
    return round(float(np.sqrt(after / before)), 3)


def _group_lifetimes(model: ColumnModel, z: NDArray) -> NDArray[np.float64]:
    return model.transport.lifetime * np.exp(model.options.sigma_lifetime * z[model.state.blocks["lifetime"]])
