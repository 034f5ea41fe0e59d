"""A toy in which the learning has an exact answer: Gaussian logarithms, independent cells, known structure."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import xarray as xr

from pipeline.core.grid import Grid
from pipeline.core.schema import SECTORS
from pipeline.learn.distribute import Domain
from pipeline.learn.features import season, year_features
from pipeline.learn.table import summarise

TAU = 0.3
"""Standard deviation of ln truth around what features explain."""
SIGMA_PRIOR = 0.7


def make_world(seed=0, months=4, degrees=12.0, n_member=50, seen=0.6):
    """Truth = prior exp(g(lights) + noise); the posterior of each cell is the exact Gaussian one."""
    rng = np.random.default_rng(seed)
    grid = Grid.from_bounds(100, 30, 100 + degrees, 30 + degrees, 4)
    shape = grid.shape
    lights = rng.gamma(0.5, 10.0, shape)
    people = rng.gamma(0.5, 50_000.0, shape)
    points = {s: np.where(rng.random(shape) < 0.05, 1e6, 0.0) for s in ("power", "industry")}
    years = year_features(lights, people, points, grid).expand_dims(year=[2022])
    times = np.array([f"2022-{m + 1:02d}-01" for m in range(months)], "datetime64[ns]")
    prior = rng.gamma(0.5, 1e4, (len(SECTORS), *shape)) + 10.0
    g = 0.8 * np.tanh(np.log1p(lights) - 1.5)
    lasting = TAU * rng.standard_normal(shape)
    truth, summaries = [], []
    for k, t in enumerate(times):
        log_true = g + lasting
        # Prior mean a: ln truth ~ N(-sigma^2 / 2, sigma^2) in the eyes of the inversion.
        start = -(SIGMA_PRIOR**2) / 2
        blind = (_blocks(grid) % 3 == 0) | (rng.random(shape) > seen)
        error = np.where(blind, 1e3, 0.35)
        kernel = SIGMA_PRIOR**2 / (SIGMA_PRIOR**2 + error**2)
        post = start + kernel * (log_true + error * rng.standard_normal(shape) - start)
        spread = np.sqrt((1 - kernel) * SIGMA_PRIOR**2)
        draws = np.exp(post + spread * rng.standard_normal((n_member, *shape)))
        month = xr.Dataset(
            {
                "co2": (("member", "sector", "lat", "lon"), draws[:, None] * prior),
                "prior": (("sector", "lat", "lon"), prior),
                "prior_sigma": (("lat", "lon"), prior.sum(axis=0) * np.sqrt(np.expm1(SIGMA_PRIOR**2))),
                "averaging_kernel": (("lat", "lon"), kernel),
                "variance_reduction": (("lat", "lon"), kernel),
                "n_no2": (("lat", "lon"), np.where(blind, 0.0, 1.0)),
                "n_xco2": (("lat", "lon"), np.zeros(shape)),
            },
            coords=grid.coords(),
        )
        summaries.append(summarise(month, seed, k).expand_dims(time=[t]))
        truth.append(prior.sum(axis=0) * np.exp(log_true))
    half = np.where(grid.lon < 100 + degrees / 2, 0, 1)
    groups = np.repeat(half[None], grid.n_lat, axis=0).astype(np.int16)
    fractions = np.stack([(groups == k).astype(float) for k in (0, 1)])
    cos = season(times)[1]
    weather = xr.Dataset(
        {"t2m": (("time", "lat", "lon"), np.ones((months, *shape), np.float32) * (10 * cos)[:, None, None])},
        coords={"time": times, **grid.coords()},
    )
    return SimpleNamespace(
        grid=grid,
        posterior=xr.concat(summaries, "time"),
        features=(years, weather),
        domain=Domain(grid, groups, ("east", "west"), fractions),
        truth=np.stack(truth),
        g=g,
        blind=_blocks(grid) % 3 == 0,
    )


def _blocks(grid):
    row, col = np.floor(grid.lat / 2).astype(int), np.floor(grid.lon / 2).astype(int)
    return row[:, None] + 2 * col[None, :]
