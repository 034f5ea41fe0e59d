"""The level of a run: totals by province, sector and month, from what a first look saw in every month together.

A month's first look leaves, for the NOx of each province, a likelihood with its errors between provinces. All months
share what lasts: yearly totals, NOx:CO2 ratios by nation and province, the gain of the retrieval. In the coordinates of
`pipeline.invert.state` the small problem is

    J(z) = 1/2 z^T z + 1/2 sum_m (f_m(z) - y_m)^T L_m (f_m(z) - y_m),
    f_m,p(z) = gain + ln sum_s N_m,ps exp(l_m,ps(z) - v_ps / 2)

and, where XCO2 was seen, the CO2 of a training group over what the first look has of it,

    g_m,g(z) = sum_(p in g, s) C_m,ps exp(k_m,ps(z) - (1 - left) v_ps / 2) / E_m,g,

with N and C the prior mean NOx and CO2 of a province's sector in the month, l and k their logarithms' deviations, v
their variances (`left` of which remains: XCO2 is linear in CO2 and sees its mean), L_m the precision of the first look
freed of its prior and widened by what its columns do not know of themselves. NO2 sees E r gain: without another tracer
the level of E stays close to what is believed, and the members say how close.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import block_diag, cho_factor, cho_solve

from pipeline.core.options import InversionOptions, PriorOptions
from pipeline.core.schema import SECTORS
from pipeline.core.seeds import generator
from pipeline.invert.state import LEVEL, PERSISTENT

_STEPS = 6
_S = len(SECTORS)


@dataclass(frozen=True)
class Evidence:
    """What a month's first look says of the NOx of provinces.

    Attributes
    ----------
    nox : prior mean in the month by region x sector, kg s-1, (region x sector,).
    log_nox : ln of the NOx of each region where the likelihood is largest, (region,).
    precision : of `log_nox`, the prior taken out, (region, region); zero rows where nothing was seen.
    inside : share of each region x sector that lies on the solved grid, 0..1.
    co2 : prior mean in the month by region x sector, t, (region x sector,).
    group : training group of each region, (region,).
    looked : CO2 of each group as the first look has it, t, (group,).
    factor, factor_precision : of `looked`, as XCO2 has it, (group,) and (group, group).
    """

    nox: NDArray[np.float64]
    log_nox: NDArray[np.float64]
    precision: NDArray[np.float64]
    inside: NDArray[np.float64]
    co2: NDArray[np.float64]
    group: NDArray[np.int64]
    looked: NDArray[np.float64]
    factor: NDArray[np.float64]
    factor_precision: NDArray[np.float64]


@dataclass(frozen=True)
class Level:
    """The level blocks of z in one month: `optimum` by block (n,), `draws` by block (n, member)."""

    optimum: dict[str, NDArray[np.float64]]
    draws: dict[str, NDArray[np.float64]]


def likelihood(
    mean: NDArray[np.float64], covariance: NDArray[np.float64], prior_mean: NDArray[np.float64], prior: NDArray
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """What turns N(prior_mean, prior) into N(mean, covariance): its mean and precision, C^-1 - B^-1.

    Directions in which the two do not differ carry no precision; there the mean is the given one.
    """
    scale = np.sqrt(np.diag(prior))
    c, b = covariance / np.outer(scale, scale), prior / np.outer(scale, scale)
    # Ridge: what is known to a millionth of the prior's spread is known well enough.
    c_inv, b_inv = (np.linalg.inv((m + m.T) / 2 + 1e-9 * np.eye(len(m))) for m in (c, b))
    values, vectors = np.linalg.eigh((c_inv - b_inv + (c_inv - b_inv).T) / 2)
    kept = values > 1e-3
    values = np.where(kept, values, 0.0)
    pull = vectors.T @ (c_inv @ (mean / scale) - b_inv @ (prior_mean / scale))
    along = vectors.T @ (mean / scale)
    best = vectors @ np.where(kept, pull / np.where(kept, values, 1.0), along)
    return best * scale, (vectors * values) @ vectors.T / np.outer(scale, scale)


def widen(precision: NDArray[np.float64], error: NDArray[np.float64]) -> NDArray[np.float64]:
    """Precision of what is known with an independent error on top: (I + L E)^-1 L, also where L is singular."""
    wider = np.linalg.solve(np.eye(len(error)) + precision @ error, precision)
    return (wider + wider.T) / 2


def model_error(inside: NDArray[np.float64], options: InversionOptions) -> NDArray[np.float64]:
    """Covariance of ln NOx between provinces that a first look does not know of, (region, region).

    Each province's own error grows with the share of it that lies off the grid, whose deviation is another's.
    """
    share = inside.reshape(-1, _S).mean(axis=1)
    own = options.level_error_province**2 + 0.2**2 * (1.0 - share)
    return np.diag(own) + options.level_error_nation**2


def prior_noise(seed: object, name: str, month: object, size: int, n: int) -> NDArray[np.float64]:
    """Unit normals for a block of z, of zero mean over the members; lasting blocks are the same in every month."""
    rng = generator("prior", name, seed, *(() if name in PERSISTENT else (month,)))
    draws = rng.standard_normal((size, n))
    return (draws - draws.mean(axis=1, keepdims=True)) * np.sqrt(n / max(n - 1, 1))


class _Problem:
    """f and its derivative for all months; z is laid out as lasting blocks, then each month's."""

    def __init__(
        self,
        evidence: Sequence[Evidence],
        roots: Sequence[NDArray[np.float64]],
        options: InversionOptions,
        prior: PriorOptions,
    ) -> None:
        n = evidence[0].nox.size
        self.evidence, self.n, self.regions = evidence, n, n // _S
        sector = np.tile(np.eye(_S), (self.regions, 1))
        own = np.eye(n)
        self.size_of = {"totals": n, "ratio_nation": _S, "ratio_province": n, "gain": 1, "month": n, "month_nation": _S}
        self.lasting = [b for b in LEVEL if b in PERSISTENT]
        self.monthly = [b for b in LEVEL if b not in PERSISTENT]
        self.start = np.cumsum([0, *(self.size_of[b] for b in self.lasting)])
        self.per_month = sum(self.size_of[b] for b in self.monthly)
        self.size = int(self.start[-1]) + len(evidence) * self.per_month
        both = {"month": own * prior.sigma_month, "month_nation": sector * np.array(prior.sigma_month_nation)}
        nox_only = {
            "ratio_nation": sector * options.sigma_ratio_nation,
            "ratio_province": own * options.sigma_ratio_province,
            "gain": np.full((n, 1), options.sigma_gain),
        }
        self.nox = [_Sum(self._design({"totals": r, **both, **nox_only}, m)) for m, r in enumerate(roots)]
        self.co2 = [_Sum(self._design({"totals": r, **both}, m)) for m, r in enumerate(roots)]
        self.precision = [
            block_diag(widen(e.precision, model_error(e.inside, options)), e.factor_precision) for e in evidence
        ]
        self.belongs = [np.eye(e.looked.size)[e.group].T for e in evidence]

    def places(self, name: str, month: int) -> slice:
        """Where a block of a month lies in z."""
        if name in self.lasting:
            k = self.lasting.index(name)
            return slice(int(self.start[k]), int(self.start[k + 1]))
        before = sum(self.size_of[b] for b in self.monthly[: self.monthly.index(name)])
        first = int(self.start[-1]) + month * self.per_month + before
        return slice(first, first + self.size_of[name])

    def _design(self, parts: dict[str, NDArray], month: int) -> NDArray[np.float64]:
        rows = np.zeros((self.n, self.size))
        for name, part in parts.items():
            rows[:, self.places(name, month)] = part
        return rows

    def misfit(self, z: NDArray[np.float64], month: int) -> NDArray[np.float64]:
        """What is seen less f and g of a month at z, (region + group,)."""
        e = self.evidence[month]
        nox = self.nox[month].parts(e.nox, z).reshape(self.regions, _S).sum(axis=1)
        there = e.nox.reshape(self.regions, _S).sum(axis=1) > 0
        of_nox = np.where(there, e.log_nox - np.log(np.where(there, nox, 1.0)), 0.0)
        co2 = self.belongs[month] @ self.co2[month].parts(e.co2, z).reshape(self.regions, _S).sum(axis=1)
        of_co2 = np.where(e.looked > 0, e.factor - co2 / np.maximum(e.looked, 1e-30), 0.0)
        return np.concatenate([of_nox, of_co2])

    def derivative(self, z: NDArray[np.float64], month: int) -> NDArray[np.float64]:
        """Slopes of f and g at z, (region + group, size)."""
        e = self.evidence[month]
        nox = self.nox[month].parts(e.nox, z).reshape(self.regions, _S)
        share = nox / np.maximum(nox.sum(axis=1, keepdims=True), 1e-30)
        of_nox = np.einsum("ps,psk->pk", share, self.nox[month].design.reshape(self.regions, _S, -1))
        co2 = self.co2[month].parts(e.co2, z).reshape(self.regions, _S)
        by_region = np.einsum("ps,psk->pk", co2, self.co2[month].design.reshape(self.regions, _S, -1))
        return np.concatenate([of_nox, self.belongs[month] @ by_region / np.maximum(e.looked, 1e-30)[:, None]])

    def pull(self, z: NDArray[np.float64]) -> list[NDArray[np.float64]]:
        """L (y - f) by month, (region + group, 1)."""
        return [(p @ self.misfit(z, m))[:, None] for m, p in enumerate(self.precision)]


class _Sum:
    """Mean emissions by region x sector as a function of z: mean exp(D z - (1 - left) v / 2)."""

    def __init__(self, design: NDArray[np.float64]) -> None:
        self.design = design
        self.variance = (design**2).sum(axis=1)
        self.left = np.zeros(len(design))

    def parts(self, mean: NDArray[np.float64], z: NDArray[np.float64]) -> NDArray[np.float64]:
        """The emissions, (region x sector,)."""
        return np.asarray(mean * np.exp(self.design @ z - (1 - self.left) * self.variance / 2))


def solve_level(
    evidence: Sequence[Evidence],
    roots: Sequence[NDArray[np.float64]],
    months: Sequence[str],
    options: InversionOptions,
    prior: PriorOptions,
    seed: object,
) -> list[Level]:
    """Solve the small problem of all months.

    Parameters
    ----------
    evidence : of each month; roots : square root of the covariance of ln totals in each month's year.
    months : names of the months, which seed what belongs to a month alone.

    Returns
    -------
    The level of each month. Without evidence the draws are those of the prior, exactly.
    """
    problem, n = _Problem(evidence, roots, options, prior), options.members
    xi = np.empty((problem.size, n))
    for m, month in enumerate(months):
        for name in LEVEL:
            xi[problem.places(name, m)] = prior_noise(seed, name, month, problem.size_of[name], n)
    noise = [_noise(p, n, seed, month) for p, month in zip(problem.precision, months, strict=True)]
    z = np.zeros(problem.size)
    for _ in range(_STEPS):
        solver = _Curvature(problem, z)
        z = z + solver.step(problem.pull(z), -z[:, None])[:, 0]
        # XCO2 is linear in CO2 and so sees its mean; the NOx of a province is seen through its logarithm.
        for part in problem.co2:
            part.left = solver.left(part.design, part.variance)
    draws = z[:, None] + _Curvature(problem, z).step(noise, xi)
    return [_level(problem, z, draws, m) for m in range(len(months))]


def _noise(precision: NDArray[np.float64], n: int, seed: object, month: str) -> NDArray[np.float64]:
    """Draws of L epsilon with epsilon ~ N(0, L^-1)."""
    values, vectors = np.linalg.eigh(precision)
    normal = generator("level", seed, month).standard_normal((len(values), n))
    normal -= normal.mean(axis=1, keepdims=True)
    return np.asarray((vectors * np.sqrt(np.maximum(values, 0.0))) @ normal)


class _Curvature:
    """(I + sum_m F_m^T L_m F_m)^-1 at one z, by the smaller of the two sides (Woodbury)."""

    def __init__(self, problem: _Problem, z: NDArray[np.float64]) -> None:
        self.slopes = [problem.derivative(z, m) for m in range(len(problem.evidence))]
        roots = []
        for precision, slope in zip(problem.precision, self.slopes, strict=True):
            values, vectors = np.linalg.eigh(precision)
            roots.append((vectors * np.sqrt(np.maximum(values, 0.0))).T @ slope)
        self.factor = np.concatenate(roots)
        self.inner = cho_factor(np.eye(len(self.factor)) + self.factor @ self.factor.T)

    def left(self, design: NDArray[np.float64], variance: NDArray[np.float64]) -> NDArray[np.float64]:
        """Share of the prior variance of each region x sector that is left, (region x sector,)."""
        seen = self.factor @ design.T
        gone = np.einsum("ij,ij->j", seen, cho_solve(self.inner, seen))
        return np.asarray(1.0 - gone / variance)

    def step(self, pull: Sequence[NDArray], rest: NDArray[np.float64]) -> NDArray[np.float64]:
        """The Gauss-Newton step for gradients `F^T pull + rest`, (size, k)."""
        gradient = rest + sum(f.T @ p for f, p in zip(self.slopes, pull, strict=True))
        return np.asarray(gradient - self.factor.T @ cho_solve(self.inner, self.factor @ gradient))


def _level(problem: _Problem, z: NDArray[np.float64], draws: NDArray[np.float64], month: int) -> Level:
    where = {name: problem.places(name, month) for name in LEVEL}
    return Level({n: z[s] for n, s in where.items()}, {n: draws[s] for n, s in where.items()})
