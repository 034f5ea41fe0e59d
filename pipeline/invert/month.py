"""The cells of one month: optimum, members, diagnostics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy import sparse

from pipeline.core.grid import Grid
from pipeline.core.options import InversionOptions, TransportOptions
from pipeline.core.schema import SECTORS
from pipeline.core.seeds import generator
from pipeline.invert.model import ColumnModel, Observations, weighted_normal
from pipeline.invert.prior import CLASS_SECTOR
from pipeline.invert.solve import Optimum, conjugate_gradient, minimise
from pipeline.invert.state import PERSISTENT, State

_PROBES = 8
_MEMBER_TOLERANCE = 0.03


@dataclass(frozen=True)
class Draws:
    """Members in z: of the posterior around its optimum, of the prior with the same random numbers, and probes.

    `posterior`, `prior` (size, member); `response` (n_china, probe) of ln CO2 to signs (n_cell, probe).
    """

    posterior: NDArray[np.float64]
    prior: NDArray[np.float64]
    response: NDArray[np.float64]
    signs: NDArray[np.float64]


def solve_month(
    grid: Grid,
    state: State,
    observations: Observations,
    blocks: Sequence[sparse.csr_matrix],
    transport: TransportOptions,
    options: InversionOptions,
    key: tuple[object, ...],
) -> xr.Dataset:
    """Invert one month.

    Parameters
    ----------
    blocks : `pipeline.transport.footprint.aggregation` of the grid.
    key : what seeds the month's own random numbers; its first part seeds those that last through the year.

    Returns
    -------
    Dataset on `grid`: members `co2` (member, sector, lat, lon) in t, whose mean is the posterior mean;
    `averaging_kernel`, `variance_reduction`, `prior_sigma` (t), `n_no2`; attributes hold the diagnostics.
    """
    model = ColumnModel(state, observations, blocks, transport, options)

    def sigma(modelled: NDArray) -> NDArray:
        signal = np.maximum(modelled - options.background, 0.0)
        variance = observations.sigma**2 + (options.model_error * signal) ** 2
        return np.sqrt(options.error_inflation * variance)

    optimum, error = minimise(model, observations.column, sigma, options.iterations)
    draws = draw(model, optimum, error, options, key)
    return _summarise(grid, model, observations, optimum, error, draws)


def draw(
    model: ColumnModel, optimum: Optimum, error: NDArray, options: InversionOptions, key: tuple[object, ...]
) -> Draws:
    """Members and probes from the curvature at the optimum, all solved at once."""
    state, n = model.state, options.members
    xi = _prior_noise(state, n, key)
    rng = generator("observations", *key)
    n_obs = error.size
    chosen = np.flatnonzero(rng.random(n_obs) < options.sample_share)
    part = model.matrix[chosen]
    weight = (model.unit / error[chosen]) ** 2 / options.sample_share
    tangent = model.linearise(optimum.z)
    noise = rng.standard_normal((chosen.size, n)).astype(np.float32) * np.sqrt(weight)[:, None].astype(np.float32)
    signs = rng.choice([-1.0, 1.0], size=(state.n_cell, _PROBES))
    push = _push(model, optimum.z, signs)
    rhs = np.concatenate(
        [
            xi + tangent.adjoint(np.asarray(part.T @ noise, float)),
            tangent.adjoint(weighted_normal(part, weight, push).astype(float)),
        ],
        axis=1,
    )
    solved, _ = conjugate_gradient(tangent, weight, rhs, _MEMBER_TOLERANCE, matrix=part) if n_obs else (rhs, 0)
    return Draws(solved[:, :n], xi, state.log_co2 @ state.mix(solved[:, n:]), signs)


def _prior_noise(state: State, n: int, key: tuple[object, ...]) -> NDArray[np.float64]:
    """Unit normals for every part of z, of zero mean over the members; lasting parts are the same in every month."""
    xi = np.empty((state.size, n))
    for name, where in state.blocks.items():
        rng = generator("prior", name, *(key[:1] if name in PERSISTENT else key))
        draws = rng.standard_normal((where.stop - where.start, n))
        xi[where] = (draws - draws.mean(axis=1, keepdims=True)) * np.sqrt(n / max(n - 1, 1))
    return xi


def _push(model: ColumnModel, z: NDArray, signs: NDArray) -> NDArray[np.float64]:
    """What the matrix multiplies when each cell's CO2 sources change by a factor exp(sign)."""
    tangent, state = model.linearise(z), model.state
    entry = np.zeros((state.cell.size, signs.shape[1]))
    entry[: state.n_china] = tangent.nox[: state.n_china, None] * signs[state.cell[: state.n_china]]
    cell = model.sum_entries(entry)
    parts = [a @ (c[:, None] * cell) for a, c in zip(model.aggregate, tangent.survival, strict=True)]
    nothing = np.zeros((model.matrix.shape[1] - model.n_block, signs.shape[1]))
    return np.concatenate([*parts, nothing])


def _summarise(
    grid: Grid, model: ColumnModel, observations: Observations, optimum: Optimum, error: NDArray, draws: Draws
) -> xr.Dataset:
    state = model.state
    variance = state.variance(state.log_co2)
    at_optimum = state.log_co2 @ state.mix(optimum.z)
    after, before = (state.log_co2 @ state.mix(d) for d in (draws.posterior, draws.prior))
    # Both come from the same random numbers, so their difference is exact where nothing was learned.
    remaining = np.clip(variance + after.var(axis=1, ddof=1) - before.var(axis=1, ddof=1), 0.0, variance)
    mean = state.mean_co2 * np.exp(at_optimum - variance / 2 + remaining / 2)
    members = mean[:, None] * _recentred(np.exp(after))
    prior_members = state.mean_co2[:, None] * _recentred(np.exp(before))
    total = _cells(state, mean[:, None])
    kernel = _cells(state, mean[:, None] * draws.response) / np.maximum(total, 1e-30)
    change_after, change_before = (_cells(state, mean[:, None] * d) for d in (after, before))
    spread_before = change_before.var(axis=1)
    reduction = 1.0 - np.divide(
        change_after.var(axis=1), spread_before, out=np.ones_like(spread_before), where=spread_before > 0
    )
    shape = (len(SECTORS), *grid.shape)
    count = np.bincount(observations.cell, minlength=state.n_cell)
    layers = {
        "averaging_kernel": np.mean(draws.signs * kernel, axis=1),
        "variance_reduction": reduction,
        "prior_sigma": _cells(state, prior_members).std(axis=1, ddof=1),
        "n_no2": count.astype(float),
    }
    residual = (observations.column - model.columns(optimum.z)) / error if error.size else np.zeros(0)
    return xr.Dataset(
        {
            "co2": (
                ("member", "sector", "lat", "lon"),
                np.moveaxis(_by_sector(state, members), -1, 0).reshape(-1, *shape),
                {"units": "t"},
            ),
            **{name: (("lat", "lon"), values.reshape(grid.shape)) for name, values in layers.items()},
        },
        coords=grid.coords(),
        attrs={
            "n_obs": int(error.size),
            "cost": optimum.cost,
            "chi2": float(2 * optimum.cost / max(error.size, 1)),
            "residual_rms": float(np.sqrt(np.mean(residual**2))) if error.size else 0.0,
            "dofs": float(np.mean(np.sum(draws.prior**2 - draws.posterior**2, axis=0))),
            "steps": optimum.steps,
            "products": optimum.products,
            "converged": int(optimum.converged),
            "lifetime": [float(t) for t in _group_lifetimes(model, optimum.z)],
        },
    )


def _recentred(factors: NDArray[np.float64]) -> NDArray[np.float64]:
    return factors / factors.mean(axis=1, keepdims=True)


def _cells(state: State, values: NDArray) -> NDArray[np.float64]:
    """Sum the CO2 entries of each cell: (n_china, k) -> (n_cell, k)."""
    result = np.zeros((state.n_cell, values.shape[1]))
    np.add.at(result, state.cell[: state.n_china], values)
    return result


def _by_sector(state: State, values: NDArray) -> NDArray[np.float64]:
    """Sum the CO2 entries of each sector and cell: (n_china, k) -> (sector, n_cell, k)."""
    result = np.zeros((len(SECTORS), state.n_cell, values.shape[1]))
    np.add.at(result, (np.array(CLASS_SECTOR)[state.source], state.cell[: state.n_china]), values)
    return result


def _group_lifetimes(model: ColumnModel, z: NDArray) -> NDArray[np.float64]:
    return model.transport.lifetime * np.exp(model.options.sigma_lifetime * z[model.state.blocks["lifetime"]])
