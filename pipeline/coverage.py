"""What the satellites give of a run's months, told from a few days of them before anything runs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from pipeline.access import input_names, open_family, open_regions
from pipeline.core.grid import Grid
from pipeline.core.options import InversionOptions
from pipeline.invert.observe import MIN_VALID_FRACTION
from pipeline.settings import Settings
from pipeline.store.location import Store
from pipeline.tasks import near

_READ = ("no2_column", "no2_column_uncertainty", "valid_fraction")
LOOKS = 12
"""Days of each NO2 cube that are looked at, spread evenly over the months of the run."""


@dataclass(frozen=True)
class Coverage:
    """What the satellites give in a month, as far as a few days tell.

    Attributes
    ----------
    columns : usable columns.
    looked : days that were read; 0 where nothing could be and the usual is taken.
    dofs : pieces of information expected, `None` where nothing could be looked at.
    """

    columns: float
    looked: int
    dofs: float | None


def look_ahead(store: Store, settings: Settings, grid: Grid, usual_share: float, sharpness: float) -> Coverage:
    """Usable NO2 columns of a month and what they are worth, from a few days of each cube.

    Cells are filled by the centres of the cube's own, which is right but for borders; instruments that see on the same
    day count once.

    Parameters
    ----------
    grid : that will be solved.
    usual_share : of cells and days that have a column, where no cube is there to be looked at.
    sharpness : see `expected_dofs`.
    """
    wanted = _wanted(store, grid)
    usual = Coverage(usual_share * wanted.sum() * 365.25 / 12, 0, None)
    if not any(name.split("_")[0] == "no2" for name in input_names(store)):
        return usual
    family = open_family(store, "no2", settings.year)
    looks = [look for ds in family.values() if (look := _look(ds, settings, grid, wanted)) is not None]
    if not looks:
        return usual
    best = max(looks, key=lambda look: look.share.sum())
    missed = np.prod([1.0 - look.share for look in looks], axis=0)
    days = max(look.days for look in looks)
    columns = float((1.0 - missed).mean() * wanted.sum() * days)
    known = wanted.sum() / max(best.share.size, 1)
    dofs = known * expected_dofs(best.share * best.days, best.signal, best.noise, settings.inversion, sharpness)
    return Coverage(columns, sum(look.looked for look in looks), float(dofs))


def expected_dofs(
    number: NDArray[np.float64],
    signal: NDArray[np.float64],
    noise: NDArray[np.float64],
    options: InversionOptions,
    sharpness: float,
) -> float:
    """Degrees of freedom of cells that are seen `number` times, each as if alone,

        sum n q / (1 + n q),    q = sharpness * signal^2 / R,

    with R as the inversion has it (`pipeline.invert.noise`). `sharpness` stands for the prior's variance and for the
    part of a column that is its own cell's.

    Parameters
    ----------
    signal, noise : above the background, and of a single column, mol m-2.
    """
    variance = options.error_inflation * (noise**2 + options.error_floor**2 + (options.model_error * signal) ** 2)
    told = number * sharpness * signal**2 / variance
    return float(np.sum(told / (1.0 + told)))


@dataclass(frozen=True)
class _Look:
    """What a cube showed on a few days, by wanted cell: share of days with a column, signal, noise; days a month."""

    share: NDArray[np.float64]
    signal: NDArray[np.float64]
    noise: NDArray[np.float64]
    days: float
    looked: int


def _look(ds: xr.Dataset, settings: Settings, grid: Grid, wanted: NDArray[np.bool_]) -> _Look | None:
    """Look at `LOOKS` days of a cube, no more, and only at the part of them that the grid needs."""
    west, south, east, north = grid.bounds
    ds = ds.isel(time=np.flatnonzero(ds["time"].dt.month.isin(settings.months).values))
    ds = ds.sel(lat=slice(south, north), lon=slice(west, east))
    if not all(ds.sizes[d] for d in ("time", "lat", "lon")):
        return None
    steps = np.unique(((np.arange(LOOKS) + 0.5) / LOOKS * ds.sizes["time"]).astype(int))
    row, col, _ = grid.locate(*(a.ravel() for a in np.meshgrid(ds["lat"].values, ds["lon"].values, indexing="ij")))
    cell, size = row * grid.n_lon + col, grid.n_lat * grid.n_lon
    seen, total, squares = (np.zeros(size) for _ in range(3))
    for k in steps:
        # Read here: a worker that opens it for us alone would leave its connections open.
        day = ds[list(_READ)].isel(time=int(k)).transpose("lat", "lon").load(scheduler="synchronous")
        y, s, valid = (np.asarray(day[n].values, float).ravel() for n in _READ)
        ok = np.isfinite(y) & np.isfinite(s) & (valid >= MIN_VALID_FRACTION)
        count = np.bincount(cell, ok, size)
        usable = count > 0
        seen += usable
        for sums, values in ((total, y), (squares, s**2)):
            sums += np.divide(
                np.bincount(cell, np.where(ok, values, 0.0), size), count, out=np.zeros(size), where=usable
            )
    inside = wanted.ravel() & (np.bincount(cell, minlength=size) > 0)
    seen, total, squares = seen[inside], total[inside], squares[inside]
    often = np.maximum(seen, 1.0)
    noise2 = squares / often
    above = np.maximum(total / often - settings.inversion.background, 0.0)
    # A mean of few noisy days is no signal.
    signal = np.sqrt(np.maximum(above**2 - noise2 / often, 0.0))
    days = ds.sizes["time"] / len(settings.months) / len(np.unique(ds["time"].dt.year))
    return _Look(seen / steps.size, signal, np.sqrt(noise2), days, steps.size)


def _wanted(store: Store, grid: Grid) -> NDArray[np.bool_]:
    """Cells whose columns are used; all where the regions are not there yet."""
    if not store.exists("inputs/regions.geojson"):
        return np.ones(grid.shape, bool)
    return near(open_regions(store).fractions(grid).sum(axis=0) > 0)
