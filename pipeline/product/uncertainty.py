"""Uncertainty from members: inflation, sigma, quantiles and totals of regions that all agree with one another."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.core.regions import Regions
from pipeline.core.schema import SECTORS

SECTOR_TOTAL = (*SECTORS, "total")
INTERVAL = (0.05, 0.95)


def inflate(members: NDArray[np.floating], factor: NDArray[np.floating] | float) -> NDArray[np.float64]:
    """Spread members about their mean in logarithms, staying positive and keeping the mean.

        ln x'_k = f (ln x_k - <ln x>) + c,     c such that the mean over k of x' is that of x

    Parameters
    ----------
    members : tonnes, (member, ...), not negative; cells without emission stay 0.
    factor : inflation, broadcast against one member; 1 leaves the members as they are.
    """
    x = np.asarray(members, np.float64)
    mean = x.mean(axis=0)
    logs = np.log(np.maximum(x, 1e-300))
    logs -= logs.mean(axis=0)
    logs *= factor
    spread = np.exp(logs - logs.max(axis=0))
    return np.where(mean > 0, spread * (mean / spread.mean(axis=0)), 0.0)


LEAST_SPREAD = {1e2: 1.3, 1e4: 0.95, 5e4: 0.90, 1.5e5: 0.66, 3e5: 0.48, 7e5: 0.38, 2e6: 0.30}
"""Least sigma of ln of a cell's emission by its size in t a month, linear in ln between: what 90 % coverage took in
simulated worlds whose seeds are not those of the tests (`docs/learning.md`). Small emitters, much alike to proxies,
differ most."""
PERHAPS_NONE = 10.0
"""t a month: so little may be nothing at all."""
ROUNDS = 4


def stated_inflation(members: NDArray[np.floating]) -> NDArray[np.float64]:
    """Factor that brings each cell's spread up to the least that is stated for its size; 1 where it is wider already.

    Parameters
    ----------
    members : totals, t a month, (member, ...).
    """
    mean = members.mean(axis=0, dtype=np.float64)
    own = np.log(np.maximum(members, 1e-300)).std(axis=0, ddof=1)
    size = np.log(np.maximum(mean, 1.0))
    least = np.interp(size, np.log(list(LEAST_SPREAD)), list(LEAST_SPREAD.values()))
    return np.where(mean > 0, np.maximum(1.0, least / np.maximum(own, 1e-3)), 1.0)


def perhaps_none(members: NDArray[np.floating]) -> NDArray[np.float64]:
    """Members, (member, sector, ...), with an absolute error on top of the relative one.

        x'_k = max(x_k + a u_k, 0),     u_k the member's standardised ln of the cell's total, a = `PERHAPS_NONE`

    An emission far above a stays as it is; of one below it about half of the members have none.
    """
    x = np.asarray(members, np.float64)
    total = x.sum(axis=1)
    logs = np.log(np.maximum(total, 1e-300))
    logs -= logs.mean(axis=0)
    logs /= np.maximum(logs.std(axis=0), 1e-6)
    moved = np.maximum(total + PERHAPS_NONE * logs, 0.0)
    return np.asarray(x * np.divide(moved, total, out=np.zeros_like(total), where=total > 0)[:, None])


def inflate_within(
    members: NDArray[np.floating], factor: NDArray[np.floating] | float, shares: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Spread members cell by cell while each member keeps its provincial totals by sector, and each cell its mean.

    What the inversion knows too little of is where inside a province, not how much; so cells are inflated (`inflate`)
    and the result raked to the members' totals and the cells' means in turn. The means are exact, the totals to about
    a per cent of their spread. The least emissions become uncertain in tonnes too (`perhaps_none`).

    Parameters
    ----------
    members : tonnes, (member, sector, lat, lon); factor : (lat, lon).
    shares : share of a cell's emission that counts to each province, (province, lat, lon).
    """
    x = np.asarray(members, np.float64)
    flat = shares.reshape(len(shares), -1)
    inside = flat.sum(axis=0) > 0
    start = x.reshape(-1, flat.shape[1])
    mean, wanted = x.mean(axis=0), start @ flat.T
    spread = perhaps_none(inflate(x, factor))
    for _ in range(ROUNDS):
        got = spread.reshape(start.shape) @ flat.T
        ratio = np.divide(wanted, got, out=np.ones_like(got), where=got > 0) @ flat
        spread *= np.where(inside, ratio, 1.0).reshape(spread.shape)
        middle = spread.mean(axis=0)
        spread *= np.divide(mean, middle, out=np.zeros_like(mean), where=middle > 0)
    return spread


def rounded(members: NDArray[np.float64], mean: NDArray[np.float64]) -> NDArray[np.float32]:
    """Members as float32 whose mean, summed in float64, is the given one to about 1e-8.

    The rounding errors of 50 members average out only to some 1e-8; what is left goes to the largest member, whose
    own rounding then bounds the error.
    """
    result = members.astype(np.float32)
    gap = (mean - result.mean(axis=0, dtype=np.float64)) * len(result)
    k = result.argmax(axis=0)[None]
    largest = np.take_along_axis(result, k, axis=0).astype(np.float64)
    np.put_along_axis(result, k, np.maximum(largest + gap, 0.0).astype(np.float32), axis=0)
    return result


def interval(members: NDArray[np.floating]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """5 % and 95 % quantiles over the first axis by the n + 1 rule, which does not take members for the population."""
    low, high = np.quantile(members, INTERVAL, axis=0, method="weibull")
    return low, high


def sigma(members: NDArray[np.floating]) -> NDArray[np.float64]:
    """Standard deviation over the first axis, n - 1 in the denominator."""
    return np.std(members, axis=0, ddof=1, dtype=np.float64)


@dataclass(frozen=True)
class Areas:
    """What totals are made for: every province, every training group, and `CN`.

    Attributes
    ----------
    codes, names : of each area.
    shares : share of a cell's emission that counts to each area, (area, lat, lon).
    provinces : how many of them, the first ones, are provinces.
    """

    codes: tuple[str, ...]
    names: tuple[str, ...]
    shares: NDArray[np.float64]
    provinces: int


def areas(regions: Regions, fractions: NDArray[np.float64]) -> Areas:
    """Areas and their shares of a cell's emission.

    A cell's emission is that of its part inside the regions, so shares are relative to that part and the provinces sum
    to the nation.

    Parameters
    ----------
    fractions : share of each cell's box in each region, (region, lat, lon).
    """
    inside = fractions.sum(axis=0)
    shares = np.divide(fractions, inside, out=np.zeros_like(fractions), where=inside > 0)
    groups = [shares[[g == name for g in regions.groups]].sum(axis=0) for name in regions.group_names]
    nation = shares[regions.in_cn()].sum(axis=0)
    return Areas(
        codes=(*regions.codes, *regions.group_names, "CN"),
        names=(*regions.names, *regions.group_names, "China (31 mainland provinces)"),
        shares=np.stack([*shares, *groups, nation]),
        provinces=len(regions.codes),
    )


def area_samples(members: NDArray[np.floating], shares: NDArray[np.float64]) -> NDArray[np.float64]:
    """Totals of areas, member by member.

    Parameters
    ----------
    members : tonnes, (member, sector, lat, lon); NaN counts as 0.
    shares : (area, lat, lon).

    Returns
    -------
    (member, area, sector) with `total` as the last sector: the sum of the sectors.
    """
    n_member, n_sector = members.shape[:2]
    flat = np.nan_to_num(members, copy=False).reshape(n_member * n_sector, -1)
    by_sector = (flat @ shares.reshape(len(shares), -1).T).reshape(n_member, n_sector, -1).transpose(0, 2, 1)
    return np.concatenate([by_sector, by_sector.sum(axis=2, keepdims=True)], axis=2)


def reference_sigma(
    cell_sigma: NDArray[np.float64], shares: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Sigma of each area's total had the cells been independent (rho = 0) and fully correlated (rho = 1), (area,).

    Reference values, not bounds: correlations can be negative.
    """
    spread = shares * np.nan_to_num(cell_sigma)
    return np.sqrt(np.einsum("aij,aij->a", spread, spread)), spread.sum(axis=(1, 2))
