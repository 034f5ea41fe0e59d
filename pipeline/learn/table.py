"""The training table: what the posterior says of each cell and month, and how much of it is the observations'."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from pipeline.core.grid import Grid
from pipeline.core.schema import SECTORS
from pipeline.core.seeds import generator
from pipeline.learn.features import prior_features, season

SENSITIVITY_FLOOR = 0.2
"""Cells whose posterior is less than this the observations' teach nothing: freeing them of the pull towards the prior
would blow up what little is wrong with them."""
MONTH_FEATURES = ("season_sin", "season_cos")


@dataclass(frozen=True)
class Table:
    """Rows (cell and month) of one training group.

    Attributes
    ----------
    features : (row, feature) float32.
    target : ln(truth / prior) as the observations have it, without the pull towards the prior: shift / sensitivity.
    weight : sensitivity / sigma_ln^2, the inverse error variance of the target.
    shift : ln(posterior mean / prior); sensitivity : share of it the observations decide, 0..1; sigma_ln : posterior.
    seen : whether any observation touched the cell.
    member : ln(random member / prior), the label of the calibration.
    prior, posterior : tonnes in the month.
    block, month, cell : labels of the row; cell counts along the flattened grid.
    names : features in column order.
    """

    features: NDArray[np.float32]
    target: NDArray[np.float64]
    weight: NDArray[np.float64]
    shift: NDArray[np.float64]
    sensitivity: NDArray[np.float64]
    sigma_ln: NDArray[np.float64]
    seen: NDArray[np.bool_]
    member: NDArray[np.float64]
    prior: NDArray[np.float64]
    posterior: NDArray[np.float64]
    block: NDArray[np.int64]
    month: NDArray[np.int64]
    cell: NDArray[np.int64]
    names: tuple[str, ...]

    def rows(self, keep: NDArray[np.bool_]) -> Table:
        """The rows where `keep` is true."""
        arrays = {k: v[keep] for k, v in vars(self).items() if k != "names"}
        return Table(**arrays, names=self.names)

    def __len__(self) -> int:
        return len(self.target)


def summarise(month: xr.Dataset, *seed: object) -> xr.Dataset:
    """Reduce a month's posterior to what the learning needs of it.

    Parameters
    ----------
    month : `co2` (member, sector, lat, lon) and `prior` (sector, lat, lon) in tonnes, `averaging_kernel` and
        `variance_reduction`, `n_no2`, `n_xco2` (lat, lon), `prior_sigma` (lat, lon) of the prior's total, tonnes.
    seed : parts that name the month, for the choice of the member.

    Returns
    -------
    `co2` and `prior` (sector, lat, lon): member mean and prior; `member` (lat, lon): the total of a random member per
    cell; `sigma_ln` (lat, lon): standard deviation of ln(total) over members; `prior_sigma_ln`: that of the prior;
    `sensitivity`, and `seen` (lat, lon): whether any observation touched the cell.
    """
    members = month["co2"].transpose("member", "sector", "lat", "lon")
    total = members.sum("sector").values
    picked = generator("label", *seed).integers(0, total.shape[0], total.shape[1:])
    logs = np.log(np.maximum(total, 1e-12))
    prior = month["prior"].transpose("sector", "lat", "lon")
    with np.errstate(divide="ignore", invalid="ignore"):
        relative = np.nan_to_num(month["prior_sigma"].values / prior.values.sum(axis=0), nan=0.0, posinf=0.0)
    plane = ("lat", "lon")
    return xr.Dataset(
        {
            "co2": members.mean("member"),
            "prior": prior,
            "member": (plane, np.take_along_axis(total, picked[None], axis=0)[0]),
            "sigma_ln": (plane, logs.std(axis=0, ddof=1)),
            "prior_sigma_ln": (plane, np.sqrt(np.log1p(relative**2))),
            "sensitivity": (plane, sensitivity(month)),
            "seen": (plane, (month["n_no2"].values + month["n_xco2"].values > 0).astype(np.int8)),
        }
    )


def sensitivity(month: xr.Dataset) -> NDArray[np.float64]:
    """Share of the posterior that the observations decide, (lat, lon), 0..1.

    The diagonal of A misses what correlated neighbours tell of a cell, 1 - P/B has it: the larger of the two, cut to
    [0, 1], is the scalar A of the cell.
    """
    kernel = np.maximum(month["averaging_kernel"].values, month["variance_reduction"].values)
    return np.clip(np.nan_to_num(kernel, nan=0.0), 0.0, 1.0)


def feature_matrix(
    years: xr.Dataset, months: xr.Dataset, prior: NDArray[np.floating], time: np.datetime64, grid: Grid
) -> tuple[NDArray[np.float32], tuple[str, ...]]:
    """All features of one month, (feature, lat, lon) float32, and their names.

    Parameters
    ----------
    years : year features, dims (year, lat, lon).
    months : monthly features, dims (time, lat, lon); a month that is not there is missing values.
    prior : the month's prior, tonnes, (sector, lat, lon).
    """
    year = int(str(time.astype("datetime64[Y]")))
    static = years.sel(year=year)
    month = months.reindex(time=[time.astype("datetime64[ns]")]).isel(time=0)
    said = prior_features(prior, SECTORS, grid)
    # Sorted, since a store lists its variables in any order.
    chosen = [(str(n), part[n]) for part in (static, month, said) for n in sorted(part.data_vars, key=str)]
    names, fields = [n for n, _ in chosen], [np.asarray(a.values, np.float32) for _, a in chosen]
    fields += [np.full(grid.shape, float(v[0]), np.float32) for v in season(np.array([time]))]
    return np.stack(fields), (*names, *MONTH_FEATURES)


def month_rows(
    summary: xr.Dataset,
    features: tuple[NDArray[np.float32], tuple[str, ...]],
    blocks: NDArray[np.int64],
    month: int,
    keep: NDArray[np.bool_],
) -> Table:
    """The rows of one month.

    Parameters
    ----------
    summary : as `summarise` gives it.
    features : as `feature_matrix` gives it.
    blocks : block of each cell, (lat, lon).
    month : label of the month.
    keep : cells wanted, (lat, lon); those without prior or posterior are left out besides.
    """
    stack, names = features
    prior, posterior = (summary[name].sum("sector").values for name in ("prior", "co2"))
    keep = keep & (prior > 0) & (posterior > 0)
    prior, posterior = prior[keep], posterior[keep]
    gain, sigma = summary["sensitivity"].values[keep], summary["sigma_ln"].values[keep]
    shift = np.log(posterior / prior)
    taught = gain >= SENSITIVITY_FLOOR
    target = np.where(taught, shift / np.maximum(gain, SENSITIVITY_FLOOR), 0.0)
    weight = np.where(taught, gain / np.maximum(sigma, 0.05) ** 2, 0.0)
    return Table(
        features=np.ascontiguousarray(stack[:, keep].T),
        target=target,
        weight=weight,
        shift=shift,
        sensitivity=gain,
        sigma_ln=sigma,
        seen=summary["seen"].values[keep].astype(bool),
        member=np.log(np.maximum(summary["member"].values[keep], 1e-12) / prior),
        prior=prior,
        posterior=posterior,
        block=blocks[keep],
        month=np.full(prior.shape, month),
        cell=np.flatnonzero(keep),
        names=names,
    )


def concatenate(tables: list[Table]) -> Table:
    """One table of several with the same features."""
    fields = [k for k in vars(tables[0]) if k != "names"]
    return Table(**{k: np.concatenate([getattr(t, k) for t in tables]) for k in fields}, names=tables[0].names)
