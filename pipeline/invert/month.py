"""The cells of one month: optimum, members, diagnostics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy import sparse
from scipy.ndimage import uniform_filter1d

from pipeline.core.grid import Grid
from pipeline.core.options import InversionOptions, TransportOptions
from pipeline.core.schema import SECTORS
from pipeline.core.seeds import generator
from pipeline.invert.diagnose import cell_sums, consistency, departures, information, pooled, summary
from pipeline.invert.level import Evidence, Level, likelihood, prior_noise
from pipeline.invert.model import ColumnModel, Observations, weighted_normal
from pipeline.invert.noise import column_errors
from pipeline.invert.prior import CLASS_SECTOR
from pipeline.invert.reduce import Basis
from pipeline.invert.solve import Optimum, conjugate_gradient, minimise
from pipeline.invert.state import LEVEL, State
from pipeline.invert.tracks import Soundings, group_factors, passive
from pipeline.transport.footprint import aggregation

_PROBES = 8
_MEMBER_TOLERANCE, _EVIDENCE_TOLERANCE, _ROUGH_TOLERANCE = 0.05, 0.2, 0.2
"""Of residuals. A covariance w^T P w errs by the square: at 0.2 a province's ln NOx moves by 0.002 at most."""
_ROUGH = 6
"""Draws that the first guess of the variances is made from."""
_ALWAYS = 20_000
"""Observations up to this number are all used for the members' curvature; a share of few would be a poor sample."""
_CLOSURES = 12
_NOX_PER_CO2 = 2.5
"""kg NO2-equivalent of NOx per tonne of CO2 of a country: an order of magnitude; a factor of its own stands on
what is made of it (`pipeline.invert.tracks`)."""
_ALIKE = 51
_MOST_TAKEN = 0.95
"""Degrees of freedom of one entry at most: from few draws they are noisy, and a tenth more is ten times the grip."""


@dataclass(frozen=True)
class Draws:
    """Members in z: of the posterior, of the prior with the same random numbers, and probes.

    `posterior`, `prior` (size, member); `linear`, exact draws from N(0, P); `taken` (n_entry,), the degrees of freedom
    that each entry takes from the columns, as the draws have it; `response` (n_china, probe) of ln CO2 to
    `signs` (n_cell, probe).
    """

    posterior: NDArray[np.float64]
    linear: NDArray[np.float64]
    prior: NDArray[np.float64]
    response: NDArray[np.float64]
    signs: NDArray[np.float64]
    taken: NDArray[np.float64]


@dataclass(frozen=True)
class Month:
    """One month's problem.

    Attributes
    ----------
    blocks : `pipeline.transport.footprint.aggregation` of the grid.
    inside : share of each region x sector that lies on the grid, 0..1.
    region_group : training group of each region; soundings : XCO2 of the month.
    key : what seeds the month's own random numbers; its first part seeds those that last through the year.
    seconds : length of the month.
    reduced : what it is solved in instead of all of its state (`pipeline.invert.reduce`).
    """

    grid: Grid
    state: State
    observations: Observations
    blocks: Sequence[sparse.csr_matrix]
    inside: NDArray[np.float64]
    region_group: NDArray[np.int64]
    soundings: Soundings
    transport: TransportOptions
    options: InversionOptions
    key: tuple[object, ...]
    seconds: float
    reduced: Basis | None = None

    @property
    def basis(self) -> Basis:
        """What the month is solved in."""
        return self.reduced or Basis(self.state, self.observations, self.blocks)

    @property
    def silent(self) -> bool:
        """Whether no NO2 was seen, so that nothing can be placed: the month keeps its prior, whatever others found."""
        return not self.observations.cell.size


@dataclass(frozen=True)
class Fit:
    """The optimum of a month with what it was found with.

    `rows` of the matrix, with weights, that stand for all of them in the curvature.
    """

    model: ColumnModel
    optimum: Optimum
    error: NDArray[np.float64]
    free: NDArray[np.float64]
    rows: tuple[sparse.csr_matrix, NDArray[np.float64]]


def solve_month(month: Month, level: Level) -> xr.Dataset:
    """Where emissions are in a month, given the level of the year.

    Returns
    -------
    Dataset on the grid: members `co2` (member, sector, lat, lon) in t, whose mean is the posterior mean;
    `averaging_kernel`, `variance_reduction`, `prior_sigma` (t), `n_no2`, `n_xco2`; whether the errors are those that
    were believed (`diagnose.pooled`), NaN where no NO2 was seen; attributes hold the diagnostics.
    """
    fit = _fit(month, month.state.left, month.state.grip, level)
    draws = draw(month, fit, level)
    return _with_consistency(month, fit, draws, _summarise(month, fit, draws, level))


def look_month(month: Month) -> tuple[xr.Dataset, Evidence, dict[str, NDArray[np.float64]]]:
    """The first look: a month by itself.

    Returns
    -------
    As `solve_month`; what the month says of the NOx of provinces; of each entry the share of its variance that is
    `left`, and its `grip` on the columns.
    """
    first = _fit(month, month.state.left, month.state.grip)
    rough = replace(month, options=replace(month.options, members=min(_ROUGH, month.options.members)))
    guess = draw(rough, first, tolerance=_ROUGH_TOLERANCE)
    left, grip = variance_left(month, first, guess), grip_of(month, first, guess)
    fit = _fit(month, left, grip, start=first.optimum.z) if first.error.size else first
    draws = draw(month, fit)
    solved = _summarise(month, fit, draws, None)
    known = {"left": variance_left(month, fit, draws), "grip": grip_of(month, fit, draws)}
    return solved, _evidence(month, fit, solved["co2"].mean("member").values), known


def _fit(
    month: Month,
    left: NDArray[np.float64],
    grip: NDArray[np.float64],
    level: Level | None = None,
    start: NDArray[np.float64] | None = None,
) -> Fit:
    basis, options = month.basis, month.options
    state, observations = basis.state, basis.observations
    left, grip = basis.left(left), basis.mean(grip)
    model = ColumnModel(state, observations, basis.blocks, month.transport, options, left=left, grip=grip)
    # Alone, a month cannot tell the gain from the emission.
    free = state.free(("gain",) if level is None else LEVEL)
    begin = np.zeros(state.size) if start is None else start
    for name, values in ({} if level is None or month.silent else level.optimum).items():
        begin[state.blocks[name]] = values
    error = column_errors(month.grid, observations, model.columns(np.zeros(state.size)), options)
    rows = sampled_rows(model, error, options, month.key)
    optimum = minimise(model, observations.column, error, options.iterations, begin, free, rows)
    return Fit(model, optimum, error, free, rows)


def variance_left(month: Month, fit: Fit, draws: Draws) -> NDArray[np.float64]:
    """Share of each entry's prior variance of ln NOx that is left, 0..1, (n_entry,).

    From few draws it is noisy, so half of it is taken from others of its class that weigh about as much in the columns.
    """
    state = month.state
    return _half_alike(month, fit, _share_left(*(state.log_nox @ state.mix(d) for d in (draws.prior, draws.linear))))


def grip_of(month: Month, fit: Fit, draws: Draws) -> NDArray[np.float64]:
    """How firmly the columns hold each entry (`ColumnModel`), (kg s-1)^-2, (n_entry,)."""
    taken = np.clip(_half_alike(month, fit, draws.taken), 0.0, _MOST_TAKEN)
    nox = month.basis.each(fit.model.nox(fit.optimum.z)[:, 0])
    return np.asarray(taken / (1.0 - taken) / np.maximum(nox, 1e-12) ** 2)


def _half_alike(month: Month, fit: Fit, own: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean of each entry's own value and the usual one of its class at about its weight in the columns."""
    state = month.state
    kind = np.append(state.source, np.full(state.cell.size - state.n_china, -1))
    weight, usual = month.basis.split(fit.model.nox(fit.optimum.z)[:, 0]), own.copy()
    for k in np.unique(kind):
        of_kind = np.flatnonzero(kind == k)
        order = of_kind[np.argsort(weight[of_kind], kind="stable")]
        usual[order] = uniform_filter1d(own[order], min(_ALIKE, order.size), mode="nearest")
    return np.asarray((own + usual) / 2)


def _share_left(before: NDArray[np.float64], after: NDArray[np.float64]) -> NDArray[np.float64]:
    """Posterior over prior variance of rows, from draws that share their random numbers, 0..1.

    With after = P (before + noise) the covariance of the two is P: less noisy than a ratio of variances.
    """
    middle = before - before.mean(axis=1, keepdims=True)
    spread = np.einsum("ij,ij->i", middle, middle)
    both = np.einsum("ij,ij->i", middle, after)
    return np.asarray(np.clip(np.divide(both, spread, out=np.ones_like(spread), where=spread > 0), 0.0, 1.0))


def draw(month: Month, fit: Fit, level: Level | None = None, tolerance: float = _MEMBER_TOLERANCE) -> Draws:
    """Members and probes, all solved at once.

    A member is the optimum of the linear problem with perturbed prior and observations, given its own draw of the
    level: an exact draw from N(z*, P) with P at the optimum.
    """
    model, state, optimum, error, free = fit.model, month.state, fit.optimum, fit.error, fit.free
    basis, key, n = month.basis, month.key, month.options.members
    whole = _prior_noise(state, n, key)
    xi = basis.project(whole)
    shift = np.zeros_like(xi)
    for name, values in ({} if level is None else level.draws).items():
        where = basis.state.blocks[name]
        shift[where] = values - optimum.z[where, None]
    signs = generator("probes", *key).choice([-1.0, 1.0], size=(state.n_cell, _PROBES))
    if not error.size:
        return Draws(whole, whole, whole, np.zeros((state.n_china, _PROBES)), signs, np.zeros(state.cell.size))
    rows, tangent = fit.rows, model.linearise(optimum.z)
    noise = generator("noise", *key).standard_normal((error.size, n)).astype(model.matrix.dtype)
    weight = (model.unit / error)[:, None]
    pushed = np.asarray(model.matrix.T @ (weight * noise).astype(model.matrix.dtype), float)
    by_entry = tangent.entries(pushed)
    if level is not None:
        # What the level's draw already explains is not left for the cells to explain.
        pushed -= weighted_normal(*rows, tangent.forward(shift))
    probes = tangent.adjoint(weighted_normal(*rows, tangent.of_entries(basis.mean(signs[state.cell]))))
    rhs = free * np.concatenate([xi + tangent.adjoint(pushed), probes], axis=1)
    solved, _ = conjugate_gradient(
        tangent, rows[1], rhs, tolerance, matrix=rows[0], free=free, precondition=optimum.near
    )
    taken = np.einsum("ij,ij->i", by_entry, basis.state.log_nox @ basis.state.mix(solved[:, :n].astype(float))) / n
    linear = solved[:, :n] + (shift if level is not None else (1.0 - free) * xi)
    response = state.log_co2 @ state.mix(basis.lift(solved[:, n:]))
    posterior = basis.lift(optimum.z[:, None] + linear, whole)
    return Draws(posterior, basis.lift(linear, whole), whole, response, signs, basis.each(taken))


def sampled_rows(
    model: ColumnModel, error: NDArray, options: InversionOptions, key: tuple[object, ...]
) -> tuple[sparse.csr_matrix, NDArray[np.float64]]:
    """Rows of the matrix that stand for all in the curvature, and their weights."""
    if not error.size:
        return model.matrix, np.zeros(0)
    kept = min(1.0, max(options.sample_share, _ALWAYS / error.size))
    chosen = np.flatnonzero(generator("observations", *key).random(error.size) < kept)
    return model.matrix[chosen], (model.unit / error[chosen]) ** 2 / kept


def _evidence(month: Month, fit: Fit, co2: NDArray[np.float64]) -> Evidence:
    """What the month says of provinces and groups; `co2` (sector, lat, lon) is the first look's mean, t."""
    log, precision = _province_nox(fit)
    state = month.state
    looked, factor, factor_precision = _group_co2(month, co2.sum(axis=0).ravel())
    nox, mean = (np.asarray(state.membership.T @ x[: state.n_china]) for x in (state.mean_nox, state.mean_co2))
    return Evidence(nox, log, precision, month.inside, mean, month.region_group, looked, factor, factor_precision)


def _group_co2(
    month: Month, co2: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """CO2 of each training group (t), the factor XCO2 wants on it, and the factor's precision."""
    state, grid, options = month.state, month.grid, month.options
    groups = int(month.region_group.max()) + 1
    by_group = np.zeros((state.n_cell, groups))
    by_group[np.arange(state.n_cell), state.group] = co2
    looked = by_group.sum(axis=0)
    if not options.xco2:
        return looked, np.ones(groups), np.zeros((groups, groups))
    (blocks,) = aggregation(grid, passive(month.transport))
    other = np.zeros(state.n_cell)
    np.add.at(other, state.cell[state.n_china :], state.mean_nox[state.n_china :])
    # Abroad NOx is all that is known; its CO2 by the usual ratio, with a factor of its own.
    abroad = np.where(co2 > 0, 0.0, other) / _NOX_PER_CO2 * 1000.0
    to_rate = 1000.0 / month.seconds
    factor, precision = group_factors(grid, month.soundings, blocks @ by_group * to_rate, blocks @ abroad, options)
    seen = looked > 0
    return looked, np.where(seen, factor, 1.0), np.where(np.outer(seen, seen), precision, 0.0)


def _province_nox(fit: Fit) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The likelihood of each province's NOx, its prior taken out (`pipeline.invert.level`).

    With w the NOx of the entries over that of their province, ln NOx_p changes by w^T L dz: its prior and posterior
    covariances are w^T L L^T w and w^T L P L^T w.
    """
    model, state = fit.model, fit.model.state
    china, regions = slice(0, state.n_china), state.membership.shape[1] // len(SECTORS)
    nox = np.asarray(state.membership.T @ state.mean_nox[china])
    mean = nox.reshape(regions, -1).sum(axis=1)
    there = np.flatnonzero(mean > 0)
    log, precision = np.zeros(regions), np.zeros((regions, regions))
    log[there] = np.log(mean[there])
    if fit.error.size:
        of_region = sparse.csr_matrix(state.membership @ np.kron(np.eye(regions), np.ones((len(SECTORS), 1))))[:, there]
        at_optimum = model.nox(fit.optimum.z)[china, 0]
        sums = np.asarray(of_region.T @ at_optimum)
        weights = np.zeros((state.log_nox.shape[0], there.size))
        weights[china] = of_region.toarray() * at_optimum[:, None] / sums
        pushed = fit.free * state.mix_adjoint(state.log_nox.T @ weights)
        rows, tangent = fit.rows, model.linearise(fit.optimum.z)
        solved, _ = conjugate_gradient(
            tangent, rows[1], pushed, _EVIDENCE_TOLERANCE, matrix=rows[0], free=fit.free, precondition=fit.optimum.near
        )
        log[there], precision[np.ix_(there, there)] = likelihood(
            np.log(sums), pushed.T @ solved, log[there], pushed.T @ pushed
        )
    return log, precision


def _prior_noise(state: State, n: int, key: tuple[object, ...]) -> NDArray[np.float64]:
    """Unit normals for every part of z, of zero mean over the members; lasting parts are the same in every month."""
    xi = np.empty((state.size, n))
    for name, where in state.blocks.items():
        xi[where] = prior_noise(key[0], name, str(key[1]), where.stop - where.start, n, state.persistence)
    return xi


def _summarise(month: Month, fit: Fit, draws: Draws, level: Level | None) -> xr.Dataset:
    state, grid, observations = month.state, month.grid, month.observations
    prior_members, members = _members(month, draws, fit, level)
    mean = members.mean(axis=1)
    count = np.bincount(observations.cell, minlength=state.n_cell)
    both = {"prior": draws.prior, "posterior": draws.linear}
    layers = {
        **information(mean, state, both, draws.response, draws.signs),
        "prior_sigma": cell_sums(state, prior_members).std(axis=1, ddof=1),
        "n_no2": count.astype(float),
        "n_xco2": np.bincount(month.soundings.cell, minlength=state.n_cell).astype(float),
    }
    before = _by_sector(state, state.mean_co2[:, None])
    as_solved = {k: month.basis.project(d) for k, d in both.items()}
    attrs = summary(fit.model, fit.optimum, observations.column, fit.error, as_solved) | month.basis.told
    by_sector = np.moveaxis(_by_sector(state, members), -1, 0).reshape(-1, len(SECTORS), *grid.shape)
    return xr.Dataset(
        {
            "co2": (("member", "sector", "lat", "lon"), by_sector, {"units": "t"}),
            "prior": (("sector", "lat", "lon"), before[..., 0].reshape(-1, *grid.shape), {"units": "t"}),
            **{name: (("lat", "lon"), values.reshape(grid.shape)) for name, values in layers.items()},
        },
        coords=grid.coords(),
        attrs=attrs,
    )


def _with_consistency(month: Month, fit: Fit, draws: Draws, solved: xr.Dataset) -> xr.Dataset:
    """The solution with statistics of innovations and residuals by cell, and by training group in `consistency`."""
    state, cell, column = month.state, month.observations.cell, month.observations.column
    seen = departures(fit.model, fit.optimum.z, column, fit.error, month.basis.project(draws.prior))
    n_group = len(solved.attrs["lifetime"])
    layers = pooled(seen, cell, state.n_cell)
    fields = {name: (("lat", "lon"), values.reshape(month.grid.shape)) for name, values in layers.items()}
    return solved.assign(fields).assign_attrs(consistency=consistency(seen, state.group[cell], n_group))


def _members(
    month: Month, draws: Draws, fit: Fit, level: Level | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """CO2 of every entry for the members of the prior and of the posterior, t, both (n_china, member).

    Each entry's members are scaled to the mean of their log-normal, mean exp(L z - (1 - left) v / 2), since fifty draws
    tell it badly; where nothing was seen that is the prior's, exactly. Given a level, cells are shares of what their
    province emits in their sector: deviations are divided by that of the whole province, of which the part off the grid
    (1 - inside) is at its mean.
    """
    state = month.state
    variance = state.variance(state.log_co2)
    logs = [state.log_co2 @ state.mix(d) for d in (draws.prior, draws.linear)]
    kept = _share_left(*logs)
    centre = state.log_co2 @ state.mix(month.basis.lift(fit.optimum.z[:, None]))[:, 0]
    means = [state.mean_co2, state.mean_co2 * np.exp(centre - (1 - kept) * variance / 2)]
    both = [_spread(log, mean) for log, mean in zip(logs, means, strict=True)]
    if level is None or month.silent:
        return both[0], both[1]
    part = state.level_of_co2()
    given = [part @ state.mix(d) for d in (draws.prior, draws.posterior)]
    before, after = (np.asarray(state.membership.T @ (state.mean_co2[:, None] * np.exp(g))) for g in given)
    believed = np.asarray(state.membership.T @ state.mean_co2)
    scale = np.divide(believed, before.mean(axis=1), out=np.ones_like(believed), where=believed > 0)[:, None]
    return _closed(month, both[0], scale * before), _closed(month, both[1], scale * after)


def _spread(log: NDArray[np.float64], mean: NDArray[np.float64]) -> NDArray[np.float64]:
    """Members with these deviations of their logarithms and this mean, (n_china, member)."""
    x = np.exp(log)
    return np.asarray(x * (mean / x.mean(axis=1))[:, None])


def _closed(month: Month, x: NDArray[np.float64], wanted: NDArray[np.float64]) -> NDArray[np.float64]:
    """Members whose totals by region and sector are those of the level, (n_china, member).

    By iterated proportional scaling, since a cell on a border belongs to two regions.
    """
    membership, share = month.state.membership, month.inside[:, None]
    got = np.asarray(membership.T @ x)
    deviation = share * np.divide(got, wanted, out=np.ones_like(got), where=wanted > 0) + 1.0 - share
    target = got / np.maximum(deviation, 1e-12)
    for _ in range(_CLOSURES):
        x = x * (membership @ np.divide(target, got, out=np.ones_like(got), where=got > 0))
        got = np.asarray(membership.T @ x)
    return np.asarray(x)


def _by_sector(state: State, values: NDArray) -> NDArray[np.float64]:
    """Sum the CO2 entries of each sector and cell: (n_china, k) -> (sector, n_cell, k)."""
    result = np.zeros((len(SECTORS), state.n_cell, values.shape[1]))
    np.add.at(result, (np.array(CLASS_SECTOR)[state.source], state.cell[: state.n_china]), values)
    return result
