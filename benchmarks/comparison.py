"""The inversion beside what one would take instead: the same worlds, inputs and measures.

    python -m benchmarks.comparison --seeds 301-302 --months 1,4,7,10 --domain 112,30,118,36
    python -m benchmarks.comparison --seeds 301 --switches      # what each piece of the world's physics costs

The alternatives, all from the observations, winds, prior and source-receptor matrices of our own run:

- proxies: the prior of points, lights and people; its own members give the interval.
- divergence: E = div(V w) + V / tau (`pipeline.transport.divergence`), NOx to CO2 by the prior's ratio in each cell.
- NO2 only: our solver with lifetime, ratios and gain held at what is believed, no XCO2, nothing learned.
- Gaussian: the textbook's analytical inversion, one scale factor a cell with independent 50 % errors, fixed lifetime.

Prints a table of means over the seeds, and on which measures ours is not ahead. Negative cells stay as they come out.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import dask
import numpy as np
import xarray as xr
from distributed import Client
from numpy.typing import NDArray
from scipy import sparse
from scipy.linalg import cho_factor, cho_solve

from benchmarks.nature_run import (
    YEAR,
    arguments,
    make_and_build,
    one_process,
    parse_changes,
    parse_seeds,
    score_product,
)
from pipeline import flow, tasks
from pipeline.core.errors import UsageError
from pipeline.core.grid import Grid
from pipeline.core.metrics import cell_scores, interval, relative_bias, total_scores
from pipeline.core.seeds import generator
from pipeline.invert.level import Level
from pipeline.invert.model import ColumnModel
from pipeline.invert.month import Month, solve_month
from pipeline.invert.noise import column_errors
from pipeline.invert.observe import day_wind
from pipeline.settings import Settings
from pipeline.store.cubes import open_cube
from pipeline.store.location import Store
from pipeline.transport.divergence import monthly_emission
from pipeline.transport.winds import at_overpass
from pipeline.validate.truth import region_sums, scored_regions, true_months
from pipeline.validate.version import NATION, Version
from pipeline.world.physics import Physics

OURS = "ours"
MEASURES = {
    "r2_monthly": "R2 monthly",
    "r2_annual": "R2 of sums",
    "relative_mae_over_prior": "MAE / prior's",
    "national_bias": "bias",
    "coverage_90_cells": "cells in 90 %",
    "coverage_90_provinces_monthly": "provinces in 90 %",
    "negative": "negative cells",
}
HELD = {
    "sigma_lifetime": 1e-4,
    "sigma_ratio_nation": 1e-4,
    "sigma_ratio_province": 1e-4,
    "sigma_gain": 1e-4,
    "sigma_season": 1e-4,
    "level_error_province": 1e-3,
    "level_error_nation": 1e-3,
    "xco2": False,
}
"""Settings under which NO2 alone decides the level, by one lifetime and one ratio for each sector."""
SPREAD = 0.5
"""Relative error of a scale factor, as integrated methane inversions take it for their grid cells."""
_DENSE = 10_000
_LEAST = 1e-9
"""kg s-1 of NOx; cells that the prior knows nothing of have no factor to scale."""


@dataclass(frozen=True)
class Estimate:
    """CO2 of the product's cells: `mean` (month, lat, lon), t, and `members` (member, month, lat, lon) where a method
    has an uncertainty.
    """

    mean: NDArray[np.float64]
    members: NDArray[np.float64] | None = None


@dataclass(frozen=True)
class Case:
    """A world with our product, and what the alternatives share: by month the paths of what was prepared and seen."""

    store: Store
    settings: Settings
    product: Version
    grid: Grid
    paths: Mapping[int, dict[str, str]]

    @classmethod
    def open(cls, store: Store, settings: Settings, version: str) -> Case:
        """Prepare and observe as a build does."""
        grid = flow.inspect_inputs(store, settings).grid
        prepared = "work/comparison/prepared.zarr"
        tasks.prepare_year(store, settings, grid, YEAR, prepared)
        paths = {m: {"prepared": prepared, "observed": f"work/comparison/observed-{m}.npz"} for m in settings.months}
        for month, path in paths.items():
            tasks.observe(store, settings, grid, YEAR, month, path["observed"])
        return cls(store, settings, Version(store, version), grid, paths)

    def months(self) -> Iterator[tuple[int, Month]]:
        """Each month's problem as the proxies and the columns state it."""
        for month, path in self.paths.items():
            problem = tasks.open_month(self.store, self.settings, self.grid, YEAR, month, path)
            yield month, problem.month

    def on_domain(self, field: NDArray[np.float64]) -> NDArray[np.float64]:
        """Cut the product's cells out of fields on the solved grid, flat or not."""
        return field.reshape(*field.shape[:-1], *self.grid.shape)[(..., *self.grid.window(self.settings.grid))]


def proxies(case: Case) -> Estimate:
    """The prior with its own members: a month in which nothing was seen gives it back."""
    solved = []
    for _, month in case.months():
        nothing = {"observations": _none_of(month.observations), "soundings": _none_of(month.soundings)}
        solved.append(_members(case, solve_month(replace(month, **nothing), Level({}, {}))))
    return _estimate(solved)


def divergence(case: Case) -> Estimate:
    """The divergence field in CO2; where days or neighbours lack, the prior."""
    means = []
    for number, month in case.months():
        nox, co2 = _prior_by_cell(month)
        column, u, v = _days(case, month, number)
        field = monthly_emission(case.grid, column, u, v, month.transport.lifetime, month.options.background)
        scale = np.divide(field.emission.ravel(), nox, out=np.ones_like(nox), where=nox > _LEAST)
        means.append(case.on_domain(co2 * np.where(np.isfinite(scale), scale, 1.0)))
    return Estimate(np.stack(means))


def no2_only(case: Case) -> Estimate:
    """Our solver with everything held that NO2 alone cannot tell."""
    settings = case.settings.model_copy(update={"inversion": replace(case.settings.inversion, **HELD), "learn": False})
    store, grid = case.store, case.grid
    given = {f"{YEAR}-{m:02d}": dict(path) for m, path in case.paths.items()}
    for month, paths in zip(case.paths, given.values(), strict=True):
        out = f"work/comparison/look-{month}.zarr"
        looked = tasks.first_look(store, settings, grid, YEAR, month, paths, out)
        paths["evidence"] = next(p for p in looked["outputs"] if p.endswith(".npz"))
    level = "work/comparison/level.npz"
    tasks.solve_levels(store, settings, given, level)
    solved = []
    for month, paths in zip(case.paths, given.values(), strict=True):
        out = f"work/comparison/solved-{month}.zarr"
        tasks.invert(store, settings, grid, YEAR, month, {**paths, "level": level}, out)
        solved.append(open_cube(store, out, chunks=None)["co2"].sum("sector").values.astype(float))
    return _estimate(solved)


def gaussian(case: Case) -> Estimate:
    """The analytical inversion of each month, with draws from its posterior."""
    means, members = [], []
    for number, month in case.months():
        nox, co2 = _prior_by_cell(month)
        where = np.flatnonzero(nox > _LEAST)
        model = ColumnModel(month.state, month.observations, month.blocks, month.transport, month.options)
        modelled = model.columns(np.zeros(month.state.size))
        jacobian = _jacobian(month, model, where, nox)
        error = column_errors(month.grid, month.observations, modelled, month.options)
        found, covariance = analytical(jacobian, month.observations.column - modelled, error)
        draws = generator("gaussian", case.settings.seed, number).multivariate_normal(
            found, covariance, month.options.members, method="cholesky"
        )
        both = np.zeros((len(draws) + 1, nox.size))
        both[:, where] = co2[where] * (1 + SPREAD * np.vstack([found, draws])[:, : where.size])
        on_domain = case.on_domain(both)
        means.append(on_domain[0])
        members.append(on_domain[1:])
    return Estimate(np.stack(means), np.stack(members, axis=1))


def analytical(
    jacobian: sparse.csr_matrix, misfit: NDArray[np.float64], error: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The linear Gaussian posterior in units of the prior's errors (Rodgers 2000, eq. 4.5 and 4.10 with B = I).

        x - xa = (K^T R^-1 K + I)^-1 K^T R^-1 (y - K xa),      S = (K^T R^-1 K + I)^-1

    Parameters
    ----------
    jacobian : K (n_obs, n); misfit : y - K xa; error : the roots of the diagonal R, both (n_obs,).
    """
    n = jacobian.shape[1]
    if n > _DENSE:
        raise UsageError(f"a dense problem of {n} cells", f"at most {_DENSE}", "choose a smaller --domain")
    weighted = sparse.diags(1.0 / error) @ jacobian.astype(float)
    factor = cho_factor((weighted.T @ weighted).toarray() + np.eye(n))
    covariance = cho_solve(factor, np.eye(n))
    return cho_solve(factor, weighted.T @ (misfit / error)), (covariance + covariance.T) / 2


METHODS = {"proxies": proxies, "divergence": divergence, "NO2 only": no2_only, "Gaussian": gaussian}


def score(case: Case, estimate: Estimate) -> dict[str, float]:
    """The measures of an estimate over the cells and regions of our product; NaN where it has no interval."""
    product, land = case.product, case.product.land
    truth = true_months(product, YEAR)
    prior = product.cells["co2_proxy_prior"].isel(time=product.months(YEAR)).to_numpy()[:, land]
    members = np.stack([estimate.mean] * 2) if estimate.members is None else estimate.members
    low, high = interval(members)
    scores = cell_scores(estimate.mean[:, land], prior, low[:, land], high[:, land], truth[:, land])
    sums, true = (region_sums(product, np.where(land, field, 0.0)) for field in (members, truth))
    scores |= total_scores(sums, true, scored_regions(product).index(NATION))
    # Draws are few: the bias is that of the estimate, not of their mean.
    scores["national_bias"] = relative_bias(estimate.mean[:, land].sum(), truth[:, land].sum())
    scores["negative"] = float((estimate.mean[:, land] < 0).mean())
    if estimate.members is None:
        scores |= {name: float("nan") for name in scores if name.startswith("coverage")}
    return scores


def compare(case: Case) -> dict[str, dict[str, float]]:
    """The measures of ours and of every alternative."""
    return {
        OURS: score_product(case.product, YEAR),
        **{name: score(case, method(case)) for name, method in METHODS.items()},
    }


def compare_seed(
    seed: int, settings: Mapping[str, Any], physics: Physics, client: Client
) -> dict[str, dict[str, float]]:
    """Make a world, build it, score ours and every alternative."""
    with tempfile.TemporaryDirectory() as folder:
        made = make_and_build(folder, seed, settings, physics, client)
        with dask.config.set(scheduler="synchronous"):
            return compare(Case.open(*made))


def ours_of_seed(seed: int, settings: Mapping[str, Any], physics: Physics, client: Client) -> dict[str, float]:
    """Make a world, build it, score ours alone."""
    with tempfile.TemporaryDirectory() as folder:
        store, _, version = make_and_build(folder, seed, settings, physics, client)
        return score_product(Version(store, version), YEAR)


def average(seeds: Sequence[Mapping[str, Mapping[str, float]]]) -> dict[str, dict[str, float]]:
    """Means over seeds, and the root mean square of the bias."""
    result = {}
    for name in seeds[0]:
        means = {m: float(np.mean([s[name][m] for s in seeds])) for m in MEASURES}
        result[name] = means | {"rms": float(np.sqrt(np.mean([s[name]["national_bias"] ** 2 for s in seeds])))}
    return result


def not_ahead(means: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Where an alternative does as well as ours or better, one line each; coverage is better nearer to 0.9."""
    lines = []
    for name, other in means.items():
        for measure, title in ({"rms": "RMS bias"} | MEASURES).items():
            ours, theirs = (_badness(measure, row[measure]) for row in (means[OURS], other))
            if name != OURS and measure not in ("national_bias", "negative") and theirs <= ours:
                lines.append(f"not ahead of {name}: {title} {means[OURS][measure]:.3f} against {other[measure]:.3f}")
    return lines


def table(means: Mapping[str, Mapping[str, float]], first: str = "method") -> str:
    """The rows in Markdown; `first` heads their names."""
    titles = {**MEASURES, "rms": "RMS bias"}
    head = [f"| {first} | " + " | ".join(titles.values()) + " |", "|---" * (len(titles) + 1) + "|"]
    rows = [f"| {name} | " + " | ".join(_shown(m, row[m]) for m in titles) + " |" for name, row in means.items()]
    return "\n".join(head + rows)


def switched(physics: Physics) -> dict[str, Physics]:
    """The world as given, then with each piece of its physics turned over in turn."""
    turned = {
        f"{name} {'off' if on else 'on'}": physics.switched(**{"off" if on else "on": (name,)})
        for name, on in asdict(physics).items()
    }
    return {"as given": physics, **turned}


def cost_of_switches(seeds: Sequence[int], settings: Mapping[str, Any], physics: Physics, client: Client) -> None:
    """Print our measures in every world of `switched`, a line as each is done."""
    print(table({}, "world"), flush=True)
    for name, world in switched(physics).items():
        scored = [{name: ours_of_seed(seed, settings, world, client)} for seed in seeds]
        print(table(average(scored)).splitlines()[-1], flush=True)


def _badness(measure: str, value: float) -> float:
    if not np.isfinite(value):
        return np.inf
    if measure.startswith("coverage"):
        return abs(value - 0.9)
    return -value if measure.startswith("r2") else abs(value)


def _shown(measure: str, value: float) -> str:
    if not np.isfinite(value):
        return "-"
    return (
        f"{value:+.1%}"
        if measure == "national_bias"
        else f"{value:.1%}"
        if measure in ("negative", "rms")
        else f"{value:.3f}"
    )


def _none_of(seen: Any) -> Any:
    """Observations without any observation."""
    return replace(seen, **{f.name: getattr(seen, f.name)[:0] for f in fields(seen)})


def _members(case: Case, solved: xr.Dataset) -> NDArray[np.float64]:
    values = solved["co2"].sum("sector").values.astype(float)
    return values[(..., *case.grid.window(case.settings.grid))]


def _estimate(months: Sequence[NDArray[np.float64]]) -> Estimate:
    members = np.stack(months, axis=1)
    return Estimate(members.mean(axis=0), members)


def _prior_by_cell(month: Month) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Prior mean of all NOx, kg s-1, and of China's CO2, t, of each cell of the solved grid."""
    state = month.state
    nox = np.bincount(state.cell, state.mean_nox, state.n_cell)
    return nox, np.bincount(state.cell[: state.n_china], state.mean_co2, state.n_cell)


def _days(case: Case, month: Month, number: int) -> tuple[NDArray, NDArray, NDArray]:
    """Columns and winds at the overpass of every day of a month that has both, (day, lat, lon)."""
    seen, shape = month.observations, case.grid.shape
    winds = tasks.month_wind(case.store, case.grid, YEAR, number, month.transport.ages[-1])
    column, us, vs = [], [], []
    # Days are numbered among those that have a cube; which date that was is told by the cubes themselves.
    for k, day in _dates(case, number):
        wind = day_wind(winds, day, month.transport.ages[-1])
        of_day = seen.day == k
        if wind is None or not of_day.any():
            continue
        field = np.full(shape, np.nan)
        field.ravel()[seen.cell[of_day]] = seen.column[of_day]
        column.append(field)
        us.append(at_overpass(wind.u, wind.hours, case.grid.lon))
        vs.append(at_overpass(wind.v, wind.hours, case.grid.lon))
    if not column:
        return np.zeros((0, *shape)), np.zeros((0, *shape)), np.zeros((0, *shape))
    return np.stack(column), np.stack(us), np.stack(vs)


def _dates(case: Case, number: int) -> list[tuple[int, np.datetime64]]:
    """Number and date of the days of a month that any NO2 cube has."""
    first, end = tasks.month_start(YEAR, number), tasks.month_end(YEAR, number)
    cubes = flow.open_family(case.store, "no2").values()
    days = {t for ds in cubes for t in ds["time"].values.astype("M8[D]") if first <= t < end}
    return list(enumerate(sorted(days)))


def _jacobian(
    month: Month, model: ColumnModel, where: NDArray[np.int64], nox: NDArray[np.float64]
) -> sparse.csr_matrix:
    """Columns by each cell's factor, then by the backgrounds, in mol m-2 per prior sigma, (n_obs, n)."""
    summed = sparse.vstack(month.blocks, format="csr")[:, where]
    cells = model.matrix[:, : model.n_block] @ summed @ sparse.diags(SPREAD * nox[where])
    return sparse.csr_matrix(sparse.hstack([cells, model.matrix[:, model.n_block :]]) * model.unit)


def main() -> None:
    p = arguments(__doc__)
    p.set_defaults(seeds="301-302", months="1,4,7,10", domain="112,30,118,36")
    p.add_argument("--switches", action="store_true", help="ours alone, each piece of physics turned over in turn")
    a = p.parse_args()
    settings = {"months": a.months, "domain": a.domain, **parse_changes(a.changes)}
    physics, seeds = Physics().switched(off=tuple(a.off), on=tuple(a.on)), parse_seeds(a.seeds)
    with one_process() as client:
        if a.switches:
            cost_of_switches(seeds, settings, physics, client)
            return
        scored = []
        for seed in seeds:
            scored.append(compare_seed(seed, settings, physics, client))
            print(f"seed {seed}\n{table(average(scored[-1:]))}\n", flush=True)
    means = average(scored)
    print(f"mean of {len(seeds)} seeds\n{table(means)}\n" + "\n".join(not_ahead(means)))


if __name__ == "__main__":
    main()
