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
_MEMBER_TOLERANCE, _CORRECTION_TOLERANCE = 0.02, 0.1
_CORRECTION_STEPS = 12
"""Most inner steps of a correction: any truncated solution is a direction of descent."""
_HALVINGS = 3
_ALWAYS = 20_000
"""Observations up to this number are all used for the members' curvature; a share of few would be a poor sample."""
_LONGEST = 3.0
"""Longest step of a correction in prior sigmas: far from the optimum the tangent is no guide."""


@dataclass(frozen=True)
class Draws:
    """Members in z: of the posterior, of the prior with the same random numbers, and probes.

    `posterior`, `prior` (size, member); `linear`, exact draws from N(0, P); `response` (n_china, probe) of ln CO2 to
    `signs` (n_cell, probe).
    """

    posterior: NDArray[np.float64]
    linear: NDArray[np.float64]
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

    noise, relative = separate_error(observations.column, observations.sigma)

    def sigma(modelled: NDArray) -> NDArray:
        signal = np.maximum(modelled - options.background, 0.0)
        variance = noise**2 + (relative**2 + options.model_error**2) * signal**2
        return np.sqrt(options.error_inflation * variance)

    optimum, error = minimise(model, observations.column, sigma, options.iterations)
    draws = draw(model, observations, optimum, error, options, key)
    return _summarise(grid, model, observations, optimum, error, draws)


def separate_error(column: NDArray, sigma: NDArray) -> tuple[NDArray[np.float64], float]:
    """Split stated errors into noise (mol m-2, per observation) and a part relative to the column.

    Retrievals state errors that grow with the column they saw; taken as they are, low columns would count more and
    the result would be low. With a the 10 % quantile of the stated errors, the relative part is the median of
    sqrt(sigma^2 - a^2) / y over columns above 5 a; what it does not explain is noise, at least a.
    """
    if not column.size:
        return sigma, 0.0
    least = float(np.quantile(sigma, 0.1))
    high = column > 5 * least
    grown = np.sqrt(np.maximum(sigma[high] ** 2 - least**2, 0.0)) / column[high]
    relative = float(np.median(grown)) if grown.size else 0.0
    return np.sqrt(np.maximum(sigma**2 - (relative * column) ** 2, least**2)), relative


def draw(
    model: ColumnModel,
    observations: Observations,
    optimum: Optimum,
    error: NDArray,
    options: InversionOptions,
    key: tuple[object, ...],
) -> Draws:
    """Members and probes, all solved at once.

    A member is the optimum of the problem with perturbed prior and observations (randomise, then optimise: Bardsley et
    al. 2014): the linear draw first, then steps back to the perturbed problem's own optimum, since exponentials of a
    linear draw would put every constrained sum too high.
    """
    state, n = model.state, options.members
    xi = _prior_noise(state, n, key)
    signs = generator("probes", *key).choice([-1.0, 1.0], size=(state.n_cell, _PROBES))
    if not error.size:
        return Draws(xi, xi, xi, np.zeros((state.n_china, _PROBES)), signs)
    rng = generator("observations", *key)
    kept = min(1.0, max(options.sample_share, _ALWAYS / error.size))
    chosen = np.flatnonzero(rng.random(error.size) < kept)
    part, weight = model.matrix[chosen], (model.unit / error) ** 2
    share = weight[chosen] / kept
    tangent = model.linearise(optimum.z)
    noise = rng.standard_normal((error.size, n)).astype(model.matrix.dtype)
    pushed = np.asarray(model.matrix.T @ (np.sqrt(weight)[:, None] * noise).astype(model.matrix.dtype), float)
    rhs = np.concatenate(
        [
            xi + tangent.adjoint(pushed),
            tangent.adjoint(weighted_normal(part, share, _push(model, optimum.z, signs)).astype(float)),
        ],
        axis=1,
    )
    solved, _ = conjugate_gradient(tangent, share, rhs, _MEMBER_TOLERANCE, matrix=part)
    disturbed = Perturbed(model, observations.column, error, xi, noise, (part, share))
    z = disturbed.descend(optimum.z[:, None] + np.clip(solved[:, :n], -_LONGEST, _LONGEST), options.corrections)
    return Draws(z, solved[:, :n], xi, state.log_co2 @ state.mix(solved[:, n:]), signs)


@dataclass(frozen=True)
class Perturbed:
    """The problems of all members: 1/2 |z - xi_k|^2 + 1/2 |(y - h(z)) / sigma + epsilon_k|^2.

    `rows` are those of the matrix, with weights, that curvature is taken from; costs and gradients take all.
    """

    model: ColumnModel
    column: NDArray[np.float64]
    error: NDArray[np.float64]
    xi: NDArray[np.float64]
    noise: NDArray[np.floating]
    rows: tuple[sparse.csr_matrix, NDArray[np.float64]]

    def misfit(self, z: NDArray) -> NDArray[np.floating]:
        """(y - h(z)) / sigma + epsilon, (n_obs, k)."""
        return (self.column[:, None] - self.model.columns(z)) / self.error[:, None] + self.noise

    def cost(self, z: NDArray, misfit: NDArray) -> NDArray[np.float64]:
        """The cost of each member, (k,)."""
        prior = np.einsum("ij,ij->j", z - self.xi, z - self.xi)
        return np.asarray((prior + np.einsum("ij,ij->j", misfit, misfit)) / 2)

    def descend(self, z: NDArray[np.float64], steps: int) -> NDArray[np.float64]:
        """Gauss-Newton steps for all members at once, each with its own tangent and its own length."""
        misfit = self.misfit(z)
        cost = self.cost(z, misfit)
        matrix, weight = self.rows
        for _ in range(steps):
            tangent = self.model.linearise(z)
            scaled = ((self.model.unit / self.error)[:, None] * misfit).astype(self.model.matrix.dtype)
            gradient = tangent.adjoint(np.asarray(self.model.matrix.T @ scaled, float)) + self.xi - z
            step, _ = conjugate_gradient(tangent, weight, gradient, _CORRECTION_TOLERANCE, _CORRECTION_STEPS, matrix)
            length = np.minimum(1.0, _LONGEST / np.maximum(np.abs(step).max(axis=0), 1e-12))
            for _ in range(_HALVINGS):
                trial = z + length * step
                misfit_there = self.misfit(trial)
                new = self.cost(trial, misfit_there)
                better = new < cost
                z = np.where(better, trial, z)
                misfit = np.where(better, misfit_there, misfit)
                cost = np.where(better, new, cost)
                step = np.where(better, 0.0, step)
                length = length / 3
                if better.all():
                    break
        return z


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
    entry[: state.n_china] = tangent.nox[: state.n_china] * signs[state.cell[: state.n_china]]
    cell = model.sum_entries(entry)
    parts = [a @ (c * cell) for a, c in zip(model.aggregate, tangent.survival, strict=True)]
    nothing = np.zeros((model.matrix.shape[1] - model.n_block, signs.shape[1]))
    return np.concatenate([*parts, nothing])


def _summarise(
    grid: Grid, model: ColumnModel, observations: Observations, optimum: Optimum, error: NDArray, draws: Draws
) -> xr.Dataset:
    state = model.state
    after, linear, before = (state.log_co2 @ state.mix(d) for d in (draws.posterior, draws.linear, draws.prior))
    factor, reference = np.exp(after), np.exp(before).mean(axis=1)
    # A ratio of means with the same random numbers on both sides: exactly the prior where nothing was learned.
    members = (state.mean_co2 / reference)[:, None] * factor
    mean = members.mean(axis=1)
    prior_members = (state.mean_co2 / reference)[:, None] * np.exp(before)
    total = _cells(state, mean[:, None])
    kernel = _cells(state, mean[:, None] * draws.response) / np.maximum(total, 1e-30)
    change_after, change_before = (_cells(state, mean[:, None] * d) for d in (linear, before))
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
            "dofs": float(np.mean(np.sum(draws.prior**2 - draws.linear**2, axis=0))),
            "steps": optimum.steps,
            "products": optimum.products,
            "converged": int(optimum.converged),
            "lifetime": [float(t) for t in _group_lifetimes(model, optimum.z)],
        },
    )


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
