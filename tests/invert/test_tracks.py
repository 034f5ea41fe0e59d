"""XCO2 along tracks: scenes, what is free, and that a known factor is found."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import sparse

from pipeline.core.grid import Grid
from pipeline.core.options import InversionOptions, TransportOptions
from pipeline.invert.tracks import Soundings, group_factors, passive, scenes

GRID = Grid.from_bounds(110, 30, 120, 40, 4)
TRACK = np.arange(GRID.n_lat) * GRID.n_lon


def soundings(
    columns=(5, 25), days=6, seed=0, factor=(1.0, 1.0), sigma=0.3, offset=0.0
) -> tuple[Soundings, np.ndarray]:
    """Tracks along columns of cells; two groups, each a bump along the track; `factor` is the truth."""
    rng = np.random.default_rng(seed)
    bumps = np.exp(-0.5 * ((GRID.lat[:, None] - np.array([33.0, 37.0])) / 0.7) ** 2)
    cell, day, rows = [], [], []
    for d in range(days):
        for column in columns:
            cell.append(TRACK + column)
            day.append(np.full(GRID.n_lat, d))
            rows.append(bumps * rng.uniform(0.5, 2.0, 2))
    cell, day, rows = np.concatenate(cell), np.concatenate(day), np.concatenate(rows)
    slope = rng.normal(0, 1, days)[day] + 0.05 * (GRID.lat[cell // GRID.n_lon] - 35.0)
    value = 410.0 + offset + slope + rows @ np.array(factor) + rng.normal(0, sigma, cell.size)
    return Soundings(sparse.csr_matrix(rows), cell, value, np.full(cell.size, sigma), day), rows


def test_two_tracks_of_a_day_are_two_scenes():
    seen, _ = soundings(columns=(5, 25), days=2)
    assert np.unique(scenes(GRID, seen)).size == 4
    close, _ = soundings(columns=(5, 8), days=2)
    assert np.unique(scenes(GRID, close)).size == 2


def test_a_known_factor_is_found_whatever_the_background():
    options = InversionOptions(xco2_wind_error=0.1, xco2_track_error=0.1, xco2_inflation=1.0)
    for offset in (0.0, 7.0):
        seen, _ = soundings(factor=(1.5, 0.7), days=20, offset=offset)
        factor, precision = group_factors(GRID, seen, np.eye(2), np.zeros(2), options)
        sigma = np.sqrt(np.diag(np.linalg.inv(precision)))
        assert np.all(sigma < 0.15)
        assert np.all(np.abs(factor - [1.5, 0.7]) < 3 * sigma)


def test_nothing_seen_has_no_precision():
    empty = Soundings(sparse.csr_matrix((0, 2)), *(np.zeros(0, t) for t in (int, float, float, int)))
    _, precision = group_factors(GRID, empty, np.eye(2), np.zeros(2), InversionOptions())
    assert np.abs(precision).max() == 0


def test_a_short_scene_says_nothing():
    seen, _ = soundings(days=3)
    few = np.flatnonzero(GRID.lat[seen.cell // GRID.n_lon] < 33.0)
    parts = {name: getattr(seen, name)[few] for name in ("matrix", "cell", "value", "sigma", "day")}
    cut = replace(seen, **parts)
    _, precision = group_factors(GRID, cut, np.eye(2), np.zeros(2), InversionOptions())
    assert np.abs(precision).max() < 1e-12


def test_larger_errors_mean_less_precision():
    seen, _ = soundings()
    small, large = (
        group_factors(GRID, seen, np.eye(2), np.zeros(2), InversionOptions(xco2_wind_error=w))[1] for w in (0.2, 1.0)
    )
    assert np.trace(large) < np.trace(small)


def test_co2_does_not_decay():
    scheme = passive(TransportOptions())
    assert np.isinf(scheme.lifetime)
    assert scheme.ages[-1] == pytest.approx(48)
