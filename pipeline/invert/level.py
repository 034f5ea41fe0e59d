"""The level of a run: totals by province, sector and month, from what a first look saw in every month together.

A month's first look leaves, for the NOx of each province, a likelihood with its errors between provinces. All months
share what lasts: yearly totals, NOx:CO2 ratios by nation and province, the gain of the retrieval. In the coordinates of
`pipeline.invert.state` the small problem is

    J(z) = 1/2 z^T z + 1/2 sum_m (f_m(z) - y_m)^T L_m (f_m(z) - y_m),
    f_m,p(z) = gain + season_m + place_p + ln sum_s N_m,ps exp(l_m,ps(z) - v_ps / 2)

and, where XCO2 was seen, the CO2 of a training group over what the first look has of it,

    g_m,g(z) = sum_(p in g, s) C_m,ps exp(k_m,ps(z) - (1 - left) v_ps / 2) / E_m,g,

with N and C the prior mean NOx and CO2 of a province's sector in the month, l and k their logarithms' deviations, v
their variances (`left` of which remains: XCO2 is linear in CO2 and sees its mean), L_m the precision of the first look
freed of its prior and widened by what its columns do not know of themselves. NO2 sees E r gain: without another tracer
the level of E stays close to what is believed, and the members say how close.

What transport and chemistry get wrong goes with the season for the whole country (`season_m`, one wave a year), so that
a month unlike its neighbours is told from it, and lasts in a province (`place_p`). The month of the nation is
Student's t, as a scale mixture: its z is k_m times unit normals, with

    k_m^2 = (nu + E |k_m z_m|^2) / (nu + S)

iterated: 1 in an ordinary month and where nothing is seen, larger in one that no ordinary month explains. What the
months of a year deviate from their season cancels over its twelve months, seen or not: believed totals are those of a
year, whatever its months were like, and twelve deviations on top would widen what is stated of it. Totals of different
years have errors in common (`total_persistence`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import block_diag, cho_factor, cho_solve

from pipeline.core.options import InversionOptions, PriorOptions
from pipeline.core.schema import SECTORS
from pipeline.core.seeds import generator
from pipeline.invert.state import PERSISTENT, month_root

_STEPS, _LEFT_ANEW = 12, 4
_S = len(SECTORS)
_SEASON = "season"
"""Block of one wave a year, cosine and sine, of the error of the whole country's NOx."""
_PLACE = "place"
"""Block of lasting errors of each province's NOx."""
_LASTING = ("totals", "ratio_nation", "ratio_province", "gain", _SEASON, _PLACE)
_MONTHLY = ("month", "month_nation")
_WITHIN_YEAR = np.sqrt(12 / 11) * (np.eye(12) - 1 / 12)
"""Unit normals of twelve months to deviations of unit variance that cancel over the year: its total is the totals'."""
_NOX_ONLY = ("ratio_nation", "ratio_province", "gain", _SEASON, _PLACE)


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

    def log_co2(self, root: NDArray[np.float64], prior: PriorOptions) -> NDArray[np.float64]:
        """Members' deviations of the ln CO2 of each region x sector in the month, (region x sector, member).

        `root` is that of the totals of the month's year (`pipeline.invert.state.total_root`).
        """
        nation = np.tile(month_root(prior), (len(root) // _S, 1))
        at = self.draws
        return np.asarray(root @ at["totals"] + prior.sigma_month * at["month"] + nation @ at["month_nation"])


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
    return np.asarray(np.diag(own) + options.level_error_nation**2)


def prior_noise(
    seed: object, name: str, month: str, size: int, n: int, persistence: float = 1.0
) -> NDArray[np.float64]:
    """Unit normals for a block of z, of zero mean over the members; lasting blocks are the same in every month.

    Totals have `persistence` of their variance in common between years, the rest is the year's own. The deviations of a
    year's twelve months cancel (`_WITHIN_YEAR`).
    """
    if name == "totals":
        common, own = _noise_of("totals", seed, size, n), _noise_of("year", seed, size, n, month[:4])
        return np.sqrt(persistence) * common + np.sqrt(1.0 - persistence) * own
    if name in _MONTHLY:
        return np.asarray(sum(share * _noise_of(name, seed, size, n, when) for when, share in _shares_of(month)))
    return _noise_of(name, seed, size, n, *(() if name in (*PERSISTENT, *_LASTING) else (month,)))


def _months_of(month: str) -> list[str]:
    """Names of the twelve months of a month's year."""
    return [f"{month[:4]}-{k:02d}" for k in range(1, 13)]


def _shares_of(month: str) -> Iterator[tuple[str, float]]:
    """Each month of a month's year, and what its unit normal counts in the deviation of this one."""
    return zip(_months_of(month), _WITHIN_YEAR[int(month[5:7]) - 1], strict=True)


def _noise_of(name: str, seed: object, size: int, n: int, *when: str) -> NDArray[np.float64]:
    draws = generator("prior", name, seed, *when).standard_normal((size, n))
    return (draws - draws.mean(axis=1, keepdims=True)) * np.sqrt(n / max(n - 1, 1))


class _Problem:
    """f and its derivative for all months.

    z is laid out as lasting blocks, then the totals' own part of each year, then each month's blocks. A month sees
    only its own places of z: what stands for a month is written in these, lasting blocks first.
    """

    def __init__(
        self,
        evidence: Sequence[Evidence],
        roots: Sequence[NDArray[np.float64]],
        months: Sequence[str],
        options: InversionOptions,
        prior: PriorOptions,
    ) -> None:
        n = evidence[0].nox.size
        self.evidence, self.regions = evidence, n // _S
        self.gain, self.season = options.sigma_gain, options.sigma_season
        self.persistence, self.freedom = prior.total_persistence, prior.month_freedom
        sizes = {"totals": n, "ratio_nation": _S, "ratio_province": n, "gain": 1, _SEASON: 2, _PLACE: self.regions}
        sizes |= {"year": n, "month": n, "month_nation": _S}
        years = sorted({month[:4] for month in months})
        names = [(b, "") for b in _LASTING] + [("year", y) for y in years]
        twelve = [m for y in years for m in _months_of(y)]
        names += [(b, m) for m in twelve for b in _MONTHLY]
        starts = np.cumsum([0, *(sizes[b] for b, _ in names)])
        self.size = int(starts[-1])
        self.places = {k: slice(int(a), int(b)) for k, a, b in zip(names, starts[:-1], starts[1:], strict=True)}
        self.months, self.scale = list(months), dict.fromkeys(twelve, 1.0)
        self.wave = [_wave(month) for month in months]
        self.local = [np.r_[tuple(self.places[k] for k in self._seen(month))] for month in months]
        self._common = {
            "ratio_nation": np.tile(np.eye(_S), (self.regions, 1)) * options.sigma_ratio_nation,
            "ratio_province": np.eye(n) * options.sigma_ratio_province,
            "gain": np.full((n, 1), options.sigma_gain),
            _PLACE: np.repeat(np.eye(self.regions), _S, axis=0) * options.level_error_place,
        }
        self._month = np.eye(n) * prior.sigma_month
        self._nation = np.tile(month_root(prior), (self.regions, 1))
        self._roots = roots
        self.precision = [
            block_diag(widen(e.precision, model_error(e.inside, options)), options.xco2 * e.factor_precision)
            for e in evidence
        ]
        self.belongs = [np.eye(e.looked.size)[e.group].T for e in evidence]
        left = np.zeros(n)
        self.nox = [_Sum(self._design(m, nox=True), left) for m in range(len(months))]
        self.co2 = [_Sum(self._design(m, nox=False), left) for m in range(len(months))]

    def _seen(self, month: str) -> list[tuple[str, str]]:
        monthly = [(b, m) for m in _months_of(month) for b in _MONTHLY]
        return [*((b, "") for b in _LASTING), ("year", month[:4]), *monthly]

    def _design(self, month: int, *, nox: bool) -> NDArray[np.float64]:
        """Derivative of ln NOx or ln CO2 of each region x sector by the month's places of z."""
        root = self._roots[month]
        common, own = np.sqrt(self.persistence), np.sqrt(1.0 - self.persistence)
        season = np.tile(self.season * self.wave[month], (len(root), 1))
        parts = {
            **self._common,
            "totals": common * root,
            _SEASON: season,
            "year": own * root,
        }
        if not nox:
            parts |= {b: 0.0 * parts[b] for b in _NOX_ONLY}
        name = self.months[month]
        for when, share in _shares_of(name):
            parts |= {
                "month" + when: share * self._month,
                "month_nation" + when: share * self.scale[when] * self._nation,
            }
        return np.concatenate([parts[b + (when if b in _MONTHLY else "")] for b, when in self._seen(name)], axis=1)

    def rescale(self, z: NDArray[np.float64], curvature: _Curvature) -> None:
        """The scales of the nation's months at z, from their mean squares (the module's equation)."""
        for month, scale in self.scale.items():
            where = self.places["month_nation", month]
            square = float(z[where] @ z[where] + curvature.variance(where).sum())
            self.scale[month] = float(np.sqrt((self.freedom + scale**2 * square) / (self.freedom + _S)))
        for m in range(len(self.months)):
            self.nox[m] = _Sum(self._design(m, nox=True), self.nox[m].left)
            self.co2[m] = _Sum(self._design(m, nox=False), self.co2[m].left)

    def blocks(self, z: NDArray[np.float64], month: int) -> dict[str, NDArray[np.float64]]:
        """The level blocks of a month as `pipeline.invert.state` has it, (size, ...): the season goes with the gain."""
        name = self.months[month]
        at = {block: z[self.places[block, ""]] for block in _LASTING}
        own = z[self.places["year", name[:4]]]
        season = np.tensordot(self.wave[month], at[_SEASON], (0, 0))[None]
        shares = list(_shares_of(name))
        return {
            "totals": np.sqrt(self.persistence) * at["totals"] + np.sqrt(1.0 - self.persistence) * own,
            "month": sum(c * z[self.places["month", when]] for when, c in shares),
            "month_nation": sum(c * self.scale[when] * z[self.places["month_nation", when]] for when, c in shares),
            "ratio_nation": at["ratio_nation"],
            "ratio_province": at["ratio_province"],
            "gain": at["gain"] + self.season / self.gain * season,
        }

    def misfit(self, z: NDArray[np.float64], month: int) -> NDArray[np.float64]:
        """What is seen less f and g of a month at z, (region + group,)."""
        e = self.evidence[month]
        z = z[self.local[month]]
        nox = self.nox[month].parts(e.nox, z).reshape(self.regions, _S).sum(axis=1)
        there = e.nox.reshape(self.regions, _S).sum(axis=1) > 0
        of_nox = np.where(there, e.log_nox - np.log(np.where(there, nox, 1.0)), 0.0)
        co2 = self.belongs[month] @ self.co2[month].parts(e.co2, z).reshape(self.regions, _S).sum(axis=1)
        of_co2 = np.where(e.looked > 0, e.factor - co2 / np.maximum(e.looked, 1e-30), 0.0)
        return np.concatenate([of_nox, of_co2])

    def derivative(self, z: NDArray[np.float64], month: int) -> NDArray[np.float64]:
        """Slopes of f and g at z by the month's places of z, (region + group, local size)."""
        e = self.evidence[month]
        z = z[self.local[month]]
        nox = self.nox[month].parts(e.nox, z).reshape(self.regions, _S)
        share = nox / np.maximum(nox.sum(axis=1, keepdims=True), 1e-30)
        of_nox = np.einsum("ps,psk->pk", share, self.nox[month].design.reshape(self.regions, _S, -1))
        co2 = self.co2[month].parts(e.co2, z).reshape(self.regions, _S)
        by_region = np.einsum("ps,psk->pk", co2, self.co2[month].design.reshape(self.regions, _S, -1))
        return np.concatenate([of_nox, self.belongs[month] @ by_region / np.maximum(e.looked, 1e-30)[:, None]])

    def pull(self, z: NDArray[np.float64]) -> list[NDArray[np.float64]]:
        """L (y - f) by month, (region + group, 1)."""
        return [(p @ self.misfit(z, m))[:, None] for m, p in enumerate(self.precision)]


def _wave(month: str) -> NDArray[np.float64]:
    """Cosine and sine of the middle of a month in the year."""
    angle = 2 * np.pi * (int(month[5:7]) - 0.5) / 12
    return np.array([np.cos(angle), np.sin(angle)])


class _Sum:
    """Mean emissions by region x sector as a function of z: mean exp(D z - (1 - left) v / 2)."""

    def __init__(self, design: NDArray[np.float64], left: NDArray[np.float64]) -> None:
        self.design, self.left = design, left
        self.variance = (design**2).sum(axis=1)

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
    options : with `xco2` off, XCO2 that a first look has used is left out.

    Returns
    -------
    The level of each month. Without evidence the draws are those of the prior, exactly.
    """
    problem, n = _Problem(evidence, roots, months, options, prior), options.members
    xi = np.empty((problem.size, n))
    for (name, when), where in problem.places.items():
        xi[where] = _noise_of(name, seed, where.stop - where.start, n, *((when,) if when else ()))
    noise = [_noise(p, n, seed, month) for p, month in zip(problem.precision, months, strict=True)]
    z = np.zeros(problem.size)
    for step in range(_STEPS):
        curvature = _Curvature(problem, z)
        z = z + curvature.step(problem.pull(z), -z[:, None])[:, 0]
        if step % _LEFT_ANEW == 0:
            # XCO2 is linear in CO2 and so sees its mean; the NOx of a province is seen through its logarithm.
            for m, part in enumerate(problem.co2):
                part.left = curvature.left(m, part.design, part.variance)
        problem.rescale(z, curvature)
    draws = z[:, None] + _Curvature(problem, z).step(noise, xi)
    return [Level(problem.blocks(z, m), problem.blocks(draws, m)) for m in range(len(months))]


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
        self.local = problem.local
        ends = np.cumsum([0, *(len(p) for p in problem.precision)])
        rows = [slice(int(a), int(b)) for a, b in pairwise(ends)]
        self.factor = np.zeros((int(ends[-1]), problem.size))
        for place, precision, slope, local in zip(rows, problem.precision, self.slopes, self.local, strict=True):
            values, vectors = np.linalg.eigh(precision)
            self.factor[place, local] = (vectors * np.sqrt(np.maximum(values, 0.0))).T @ slope
        inner = np.eye(len(self.factor))
        # Months meet only in what lasts: products of the whole factor with itself would grow with their cube.
        for (_, when), columns in problem.places.items():
            seeing = [r for r, month in zip(rows, problem.months, strict=True) if month.startswith(when[:4])]
            among = slice(seeing[0].start, seeing[-1].stop)
            inner[among, among] += self.factor[among, columns] @ self.factor[among, columns].T
        self.inner = cho_factor(inner)

    def left(self, month: int, design: NDArray[np.float64], variance: NDArray[np.float64]) -> NDArray[np.float64]:
        """Share of the prior variance of each region x sector of a month that is left, (region x sector,)."""
        seen = self.factor[:, self.local[month]] @ design.T
        gone = np.einsum("ij,ij->j", seen, cho_solve(self.inner, seen))
        return np.asarray(1.0 - gone / variance)

    def variance(self, where: slice) -> NDArray[np.float64]:
        """Posterior variances of a part of z."""
        seen = self.factor[:, where]
        return np.asarray(1.0 - np.einsum("ij,ij->j", seen, cho_solve(self.inner, seen)))

    def step(self, pull: Sequence[NDArray], rest: NDArray[np.float64]) -> NDArray[np.float64]:
        """The Gauss-Newton step for gradients `F^T pull + rest`, (size, k)."""
        gradient = rest.copy()
        for slope, local, p in zip(self.slopes, self.local, pull, strict=True):
            gradient[local] += slope.T @ p
        return np.asarray(gradient - self.factor.T @ cho_solve(self.inner, self.factor @ gradient))
