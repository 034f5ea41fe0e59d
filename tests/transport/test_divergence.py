"""The divergence method: fields of known divergence, an analytic steady plume, days that must not count."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.grid import Grid
from pipeline.core.units import EARTH_RADIUS
from pipeline.transport.chemistry import no2_column, nox_mass
from pipeline.transport.divergence import divergence, monthly_emission
from pipeline.transport.winds import at_overpass, overpass_hour

GRID = Grid.from_bounds(110, 30, 116, 36, 4)
LAT, LON = np.meshgrid(np.deg2rad(GRID.lat), np.deg2rad(GRID.lon), indexing="ij")
INNER = (slice(1, -1), slice(1, -1))
HOUR = 3600.0


def test_solid_rotation_has_no_divergence():
    u, v = 10 * np.cos(LAT), np.zeros(GRID.shape)
    assert divergence(GRID, u, v)[INNER] == pytest.approx(0, abs=1e-18)


def test_a_smooth_field_has_the_divergence_of_the_sphere():
    # div F = (1 / (R cos lat)) (dFu / dlon + d(Fv cos lat) / dlat)
    u, v = np.sin(20 * LON) * np.cos(LAT), np.cos(15 * LAT)
    expected = (
        20 * np.cos(20 * LON) / EARTH_RADIUS - (15 * np.sin(15 * LAT) + np.cos(15 * LAT) * np.tan(LAT)) / EARTH_RADIUS
    )
    got = divergence(GRID, u, v)
    assert got[INNER] == pytest.approx(expected[INNER], abs=0.003 * np.abs(expected).max())
    assert np.isnan(got[0]).all()
    assert np.isnan(got[:, -1]).all()


@given(st.integers(0, 99))
def test_what_leaves_one_cell_enters_the_next(seed):
    rng = np.random.default_rng(seed)
    u, v = np.zeros((2, *GRID.shape))
    u[3:-3, 3:-3], v[3:-3, 3:-3] = rng.standard_normal((2, GRID.n_lat - 6, GRID.n_lon - 6))
    total = np.nansum(divergence(GRID, u, v) * GRID.area)
    assert total == pytest.approx(0, abs=1e-9 * EARTH_RADIUS)


def plume(rate: float, speed: float, tau: float, lat: float = 33.0) -> np.ndarray:
    """Mean NOx over each cell of a steady plume to the east, kg m-2.

    Line density (Q / u) exp(-x / (u tau)), spread over latitude by a Gaussian of 40 km.
    """
    metre = EARTH_RADIUS * np.cos(np.deg2rad(lat))
    fine = (np.arange(GRID.n_lon * 50) + 0.5) / 50
    x = (fine * GRID.step - 1.5) * np.pi / 180 * metre
    line = np.where(x > 0, rate / speed * np.exp(-np.maximum(x, 0) / (speed * tau)), 0).reshape(-1, 50).mean(axis=1)
    y = EARTH_RADIUS * (LAT[:, 0] - np.deg2rad(lat))
    across = np.exp(-((y / 4e4) ** 2) / 2) / (4e4 * np.sqrt(2 * np.pi))
    return across[:, None] * line


@pytest.mark.parametrize("lifetime", [2.0, 4.0, 8.0])
def test_a_steady_plume_gives_back_its_source_and_its_place(lifetime):
    rate, speed = 5.0, 6.0
    column = no2_column(plume(rate, speed, lifetime * HOUR))[None]
    u = np.full(column.shape, speed)
    got = monthly_emission(GRID, column, u, 0 * u, lifetime)
    source = np.zeros(GRID.shape, bool)
    source[6:18, 4:8] = True
    assert np.nansum(got.emission[source]) == pytest.approx(rate, rel=0.03)
    downwind = got.emission[6:18, 9:-1]
    assert abs(np.nansum(downwind)) < 0.03 * rate
    assert got.days.min() == 1


def test_a_wrong_lifetime_shows_downwind():
    column = no2_column(plume(5.0, 6.0, 4 * HOUR))[None]
    u = np.full(column.shape, 6.0)
    short, right = (monthly_emission(GRID, column, u, 0 * u, t).emission[6:18, 9:-1].sum() for t in (2.0, 4.0))
    assert short > right + 1.0


def test_fluxes_are_averaged_before_they_are_differentiated():
    rng = np.random.default_rng(2)
    column = rng.random((5, *GRID.shape)) * 1e-4
    u, v = rng.uniform(3, 8, (2, *column.shape))
    mass = nox_mass(column)
    expected = divergence(GRID, (mass * u).mean(0), (mass * v).mean(0)) + mass.mean(0) / (4 * HOUR)
    got = monthly_emission(GRID, column, u, v, 4.0)
    assert got.emission[INNER] == pytest.approx((expected * GRID.area)[INNER])


def test_gaps_and_weak_winds_do_not_count():
    column = np.stack([np.full(GRID.shape, 1e-4), np.full(GRID.shape, 9e-4), np.full(GRID.shape, np.nan)])
    u = np.array([5.0, 1.9, 5.0])[:, None, None] * np.ones(GRID.shape)
    got = monthly_emission(GRID, column, u, 0 * u, 4.0)
    one = monthly_emission(GRID, column[:1], u[:1], 0 * u[:1], 4.0)
    assert got.emission[INNER] == pytest.approx(one.emission[INNER])
    assert (got.days == 1).all()
    column[0, 10, 10] = np.nan
    hole = monthly_emission(GRID, column, u, 0 * u, 4.0)
    assert hole.days[10, 10] == 0
    assert np.isnan(hole.emission[9:12, 10]).all()
    assert np.isfinite(hole.emission[9, 9])


def test_a_background_is_taken_off():
    column = np.full((1, *GRID.shape), 7e-6)
    u = np.full(column.shape, 5.0)
    got = monthly_emission(GRID, column, u, 0 * u, background=7e-6)
    assert got.emission[INNER] == pytest.approx(0, abs=1e-12)


def test_wind_at_the_overpass_is_linear_between_its_times():
    hours = np.arange(0.0, 24.0)
    field = np.broadcast_to(hours[:, None, None], (24, *GRID.shape)) * 2.0
    assert at_overpass(field, hours, GRID.lon)[3] == pytest.approx(2 * overpass_hour(GRID.lon))
    assert at_overpass(field[:1] + 7, hours[:1], GRID.lon) == pytest.approx(np.full(GRID.shape, 7.0))
    assert at_overpass(field[8:], hours[8:], GRID.lon) == pytest.approx(np.full(GRID.shape, 16.0))
