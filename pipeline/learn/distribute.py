"""The learning on Dask: a task a training group to fit, a task a month to apply. The one module that knows Dask."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import xarray as xr
from distributed import CancelledError, Client, as_completed
from numpy.typing import NDArray

from pipeline.core.errors import InputError
from pipeline.core.grid import Grid
from pipeline.learn.blocks import block_index, fold_of
from pipeline.learn.features import other_months_shift
from pipeline.learn.fit import LearnSettings, Model, fit_group
from pipeline.learn.predict import close_totals, group_shares, learned_log, region_totals
from pipeline.learn.table import Table, concatenate, feature_matrix, month_rows

TRIES = 4
"""Times a task is handed out whose worker died with the data it was to work on."""
SPREAD = (0.5, 1.0)
"""Bounds of how much narrower the learning may make what is believed of a cell."""
Unit = TypeVar("Unit")
Result = TypeVar("Result")
MapUnits = Callable[[Callable[[Any], Any], Sequence[Any]], list[Any]]
"""Applies a function to units of work and gives the results in order: `in_turn`, or `on_cluster` of a client."""


def in_turn(function: Callable[[Unit], Result], units: Sequence[Unit]) -> list[Result]:
    """Apply a function to units of work one after the other, in this process."""
    return [function(unit) for unit in units]


def on_cluster(client: Client) -> MapUnits:
    """Apply a function to units of work as tasks of a cluster, one task a unit, results in order.

    What a dying worker took with it is sent and done again, up to `TRIES` times in all.
    """

    def apply(function: Callable[[Any], Any], units: Sequence[Any]) -> list[Any]:
        results: dict[int, Any] = {}
        for last in range(TRIES, 0, -1):
            missing = [k for k in range(len(units)) if k not in results]
            if not missing:
                break
            # Scattering gives up on a cluster without workers after a moment; a task waits for one to come.
            client.submit(len, (), pure=False).result()
            try:
                # Scattered first: a table of tens of MB inside a task graph stops the scheduler.
                data = client.scatter([units[k] for k in missing])
            except (OSError, TimeoutError):
                if last == 1 or client.status != "running":
                    raise
                continue
            futures = {client.submit(function, d, pure=False): k for k, d in zip(missing, data, strict=True)}
            results |= {futures[f]: f.result() for f in as_completed(list(futures)) if not f.cancelled()}
        if len(results) < len(units):
            raise CancelledError(f"{len(units) - len(results)} of {len(units)} tasks were lost {TRIES} times")
        return [results[k] for k in range(len(units))]

    return apply


@dataclass(frozen=True)
class Domain:
    """Where is learned.

    Attributes
    ----------
    grid : the cells.
    groups : number of each cell's training group, -1 outside, (lat, lon).
    group_names : in order of the numbers.
    fractions : share of a cell's emission that counts to each province, (region, lat, lon).
    """

    grid: Grid
    groups: NDArray[np.integer]
    group_names: tuple[str, ...]
    fractions: NDArray[np.float64]


def domain_of(grid: Grid, fractions: NDArray[np.float64], groups: Sequence[str]) -> Domain:
    """The domain from the regions' area shares: a cell belongs to the group that has most of it.

    Parameters
    ----------
    fractions : share of each cell's box in each region, (region, lat, lon).
    groups : training group of each region.
    """
    names = tuple(sorted(set(groups)))
    by_group = np.stack([fractions[[g == n for g in groups]].sum(axis=0) for n in names])
    inside = fractions.sum(axis=0)
    number = np.where(inside > 0, by_group.argmax(axis=0), -1)
    shares = np.divide(fractions, inside, out=np.zeros_like(fractions), where=inside > 0)
    return Domain(grid, number.astype(np.int16), names, shares)


@dataclass(frozen=True)
class Learned:
    """What was learned.

    `fields` holds `co2_learned` (time, sector, lat, lon) in tonnes and, (time, lat, lon), `sigma_ln` of
    ln(truth / learned) and `spread`, what is believed of a cell around the learned field over what was believed of it
    before; `models` one model a training group.
    """

    fields: xr.Dataset
    models: tuple[Model, ...]


def learn_fields(
    posterior: xr.Dataset,
    features: tuple[xr.Dataset, xr.Dataset],
    domain: Domain,
    settings: LearnSettings,
    map_units: MapUnits = in_turn,
    close_to: str = "posterior",
) -> Learned:
    """Learn, per training group, how the truth departs from the prior, and apply it to every cell and month.

    Parameters
    ----------
    posterior : summaries of all months (`table.summarise`) along `time` (month starts).
    features : year features (year, lat, lon) and monthly features (time, lat, lon).
    domain : grid, groups and provinces.
    settings : of the fit.
    map_units : how tasks are run.
    close_to : whose provincial totals by sector and month the learned field keeps: ``"posterior"`` for a field that is
        used as it is, ``"prior"`` for one that becomes the prior of a second solve with the same observations, which
        must not set the totals twice.

    Raises
    ------
    InputError : `close_to` unknown or no month given.
    """
    if close_to not in ("prior", "posterior") or not posterior.sizes.get("time"):
        raise InputError(
            f"close_to={close_to!r} with {posterior.sizes.get('time', 0)} months",
            "prior or posterior, and a month",
        )
    grid = domain.grid
    blocks = block_index(grid, settings.block_degrees)
    folds = fold_of(np.where(domain.groups >= 0, blocks, -1), settings.folds, settings.seed, "blocks")
    placed = _placed(posterior, domain.fractions)
    yearly, monthly = features[0], xr.merge([features[1], _memory(placed, grid)], join="outer")
    stacks = [
        feature_matrix(yearly, monthly, posterior["prior"].isel(time=k).values, t, grid)
        for k, t in enumerate(posterior["time"].values)
    ]
    tables = [_group_table(placed, stacks, blocks, domain.groups == g) for g in range(len(domain.group_names))]
    flat = folds.ravel()
    jobs = [(n, t, flat[t.cell], settings) for n, t in zip(domain.group_names, tables, strict=True) if len(t)]
    models = map_units(_fit, jobs)
    by_number = {domain.group_names.index(m.group): m for m in models}
    shares = group_shares(domain.groups, len(domain.group_names), settings.blend_degrees / grid.step)
    shares = _with_models(shares, by_number)
    units = [(by_number, stack, shares, folds) for stack, _ in stacks]
    logs = map_units(_apply, units)
    fields = _fields(posterior, logs, domain, close_to)
    before = posterior["prior_sigma_ln"].transpose("time", "lat", "lon").values
    spread = np.clip(np.nan_to_num(fields["sigma_ln"].values, nan=np.inf) / np.maximum(before, 1e-6), *SPREAD)
    fields = fields.assign(spread=(("time", "lat", "lon"), spread, {"units": "1"}))
    return Learned(fields, tuple(models))


def _placed(posterior: xr.Dataset, fractions: NDArray[np.float64]) -> xr.Dataset:
    """The posterior with the prior's provincial totals by sector: where things are, not how much.

    A level that all cells of a province share is none of their sensitivity's doing: divided by a small one it would
    teach that small emitters are many times what they are.
    """
    cube = ("time", "sector", "lat", "lon")
    prior, mean = (np.nan_to_num(posterior[n].transpose(*cube).values.astype(float)) for n in ("prior", "co2"))
    _close(mean, _totals(prior, fractions), fractions)
    return posterior.assign(co2=(cube, mean))


def _close(field: NDArray[np.float64], wanted: NDArray[np.float64], fractions: NDArray[np.float64]) -> None:
    """Scale (time, sector, lat, lon) in place to totals (time, sector, region)."""
    for k, s in np.ndindex(wanted.shape[:2]):
        field[k, s] = close_totals(field[k, s], wanted[k, s], fractions)


def _memory(posterior: xr.Dataset, grid: Grid) -> xr.Dataset:
    prior, mean = (posterior[n].sum("sector").transpose("time", "lat", "lon").values for n in ("prior", "co2"))
    with np.errstate(divide="ignore", invalid="ignore"):
        shift = np.where((prior > 0) & (mean > 0), np.log(mean / prior), np.nan)
    known = posterior["sensitivity"].transpose("time", "lat", "lon").values
    return other_months_shift(shift, known, posterior["time"].values, grid)


def _group_table(
    posterior: xr.Dataset,
    stacks: Sequence[tuple[NDArray[np.float32], tuple[str, ...]]],
    blocks: NDArray[np.int64],
    keep: NDArray[np.bool_],
) -> Table:
    return concatenate([month_rows(posterior.isel(time=k), s, blocks, k, keep) for k, s in enumerate(stacks)])


def _fit(job: tuple[str, Table, NDArray[np.int64], LearnSettings]) -> Model:
    return fit_group(*job)


def _apply(unit: tuple[Any, ...]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    return learned_log(*unit)


def _with_models(shares: NDArray[np.float64], models: dict[int, Model]) -> NDArray[np.float64]:
    for number in range(len(shares)):
        if number not in models:
            shares[number] = 0.0
    total = shares.sum(axis=0)
    return np.divide(shares, total, out=np.zeros_like(shares), where=total > 0)


def _fields(
    posterior: xr.Dataset, logs: Sequence[tuple[NDArray, NDArray]], domain: Domain, close_to: str
) -> xr.Dataset:
    cube, plane = ("time", "sector", "lat", "lon"), ("time", "lat", "lon")
    prior, mean = (np.nan_to_num(posterior[n].transpose(*cube).values.astype(float)) for n in ("prior", "co2"))
    learned = prior * np.exp(np.stack([log for log, _ in logs]))[:, None]
    _close(learned, _totals(prior if close_to == "prior" else mean, domain.fractions), domain.fractions)
    return xr.Dataset(
        {
            "co2_learned": (cube, learned, {"units": "t", "long_name": "learned CO2 emission of the month"}),
            "sigma_ln": (plane, np.stack([s for _, s in logs]), {"units": "1"}),
        },
        coords={"time": posterior["time"].values, **domain.grid.coords()},
    )


def _totals(field: NDArray[np.float64], fractions: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.array([[region_totals(cells, fractions) for cells in month] for month in field])
