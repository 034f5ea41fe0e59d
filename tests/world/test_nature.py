"""The nature run as a whole: what is emitted is what is seen, in the satellites' units."""

import numpy as np
import pytest

from pipeline.core.grid import Grid
from pipeline.core.units import M_NO2
from pipeline.world.clock import hour_factor
from pipeline.world.nature import Sources, average, coarse_of, lifetime, month_days, overpass_weight, run_month
from pipeline.world.physics import LIFETIME_RANGE, NOX_PER_NO2, Physics, ideal
from pipeline.world.satellites import no2_column
from pipeline.world.weather import Weather

BOUNDS = (108.0, 28.0, 120.0, 40.0)
GRID = Grid.from_bounds(*BOUNDS, 8)
DAYS = np.arange("2022-05-02", "2022-05-04", dtype="datetime64[D]")
WEATHER = Weather(0, tuple(np.arange(26.0, 43)), tuple(np.arange(106.0, 123)))


def sources(tonnes=1e6, sector=0, **extra):
    annual = np.zeros((4, *GRID.shape), np.float32)
    annual[sector, 48, 48] = tonnes
    nothing = np.zeros(GRID.shape, np.float32)
    parts = {
        "bounds": np.array(BOUNDS),
        "year": np.array(2022),
        "index": np.zeros(GRID.shape, np.int16),
        "annual": annual,
        "fraction": np.full((1, 4, 365), 1 / 365),
        "ratio": np.array([[1.0, 2.0, 10.0, 1.3]]),
        "soil": nothing,
        "soil_season": np.ones(365),
        "abroad": nothing,
        "abroad_co2": nothing,
    }
    return Sources(**{**parts, **extra})


def box_model(sector, hours=72, tau=4.0):
    """Mass of one kg an hour with the sector's diurnal cycle and lifetime, at each UTC hour of the last day."""
    mass, last = 0.0, []
    for hour in range(hours):
        if hour >= hours - 24:
            last.append(mass)
        decay = np.exp(-1 / tau)
        mass = mass * decay + hour_factor(hour % 24)[sector] * tau * (1 - decay)
    return np.array(last)


@pytest.mark.parametrize("sector", [0, 2])
def test_columns_hold_what_was_emitted_and_has_not_decayed(sector):
    columns = run_month(sources(sector=sector), WEATHER, DAYS, ideal())
    coarse = coarse_of(GRID)
    seen = (columns.nox[-1] * coarse.area).sum()
    # The plume lies about 114 E, where the overpass is at 5.9 h UTC.
    expected = np.interp(13.5 - 114.1 / 15, range(24), box_model(sector))
    per_hour = 1e6 * (1.0, 2.0, 10.0, 1.3)[sector] / 365 / 24
    assert seen == pytest.approx(per_hour * expected, rel=0.02)


def test_no2_column_is_mole_per_square_metre():
    columns = run_month(sources(), WEATHER, DAYS[:1], ideal())
    coarse = coarse_of(GRID)
    y = no2_column(columns.nox[0], coarse, DAYS[0], ideal())
    moles_no2 = (y * coarse.area).sum()
    kg = (columns.nox[0].astype(float) * coarse.area).sum()
    assert moles_no2 * NOX_PER_NO2 * M_NO2 == pytest.approx(kg, rel=1e-6)


def test_co2_is_passive_and_starts_three_days_before():
    # Wide enough that nothing leaves in three days.
    bounds = (94.0, 22.0, 134.0, 46.0)
    wide = Grid.from_bounds(*bounds, 8)
    annual = np.zeros((4, *wide.shape), np.float32)
    annual[0, 96, 160] = 1e6
    empty = np.zeros(wide.shape, np.float32)
    fields = dict.fromkeys(("soil", "abroad", "abroad_co2"), empty)
    everything = sources(bounds=np.array(bounds), index=np.zeros(wide.shape, np.int16), annual=annual, **fields)
    weather = Weather(0, tuple(np.arange(20.0, 49)), tuple(np.arange(92.0, 137)))
    columns = run_month(everything, weather, DAYS[:1], ideal())
    kg = (columns.co2[0].astype(float) * coarse_of(wide).area).sum()
    hours = 72 + 13.5 - 114.1 / 15
    assert kg == pytest.approx(1e9 / 365 / 24 * hours, rel=0.05)


def test_stacks_feel_another_wind():
    low, high = (
        run_month(sources(), WEATHER, DAYS[:1], ideal().switched(on=("stack_height",) if flag else ()))
        for flag in (False, True)
    )
    total = [(c.nox[0].astype(float)).sum() for c in (low, high)]
    assert total[0] == pytest.approx(total[1], rel=0.02)
    moved = np.abs(low.nox - high.nox).sum() / (2 * low.nox.sum())
    assert 0.02 < moved < 0.9


def test_soils_and_neighbours_are_switches():
    field = np.full(GRID.shape, 100.0, np.float32)
    extra = {"soil": field, "abroad": field}
    off = run_month(sources(0.0, **extra), WEATHER, DAYS[:1], ideal())
    assert np.abs(off.nox).max() == 0
    on = run_month(sources(0.0, **extra), WEATHER, DAYS[:1], ideal().switched(on=("soil",)))
    both = run_month(sources(0.0, **extra), WEATHER, DAYS[:1], ideal().switched(on=("soil", "foreign")))
    np.testing.assert_allclose(both.nox, 2 * on.nox, rtol=1e-3)


def test_lifetime_range_and_switch():
    values = np.stack(
        [lifetime(GRID, d, Physics(), 1) for d in np.arange("2022-01", "2022-12", dtype="M8[M]").astype("M8[D]")]
    )
    assert values.min() >= LIFETIME_RANGE[0]
    assert values.max() <= LIFETIME_RANGE[1]
    assert values[0].mean() > values[6].mean() + 0.8
    assert np.unique(lifetime(GRID, DAYS[0], ideal(), 1)).tolist() == [4.0]


def test_overpass_weights_sum_to_one():
    wide = Grid.from_bounds(69, 13, 140, 59, 8)
    assert sum(overpass_weight(wide).values()) == pytest.approx(np.ones((1, wide.n_lon)))


def test_average_keeps_mass():
    values = np.random.default_rng(0).random(GRID.shape)
    coarse = coarse_of(GRID)
    assert (average(values, GRID) * coarse.area).sum() == pytest.approx((values * GRID.area).sum(), rel=1e-6)


def test_sources_survive_the_store():
    before = sources()
    after = Sources.from_bytes(before.to_bytes())
    np.testing.assert_array_equal(after.annual, before.annual)
    assert after.grid == before.grid
    assert after.day(np.datetime64("2021-12-30")) == 0
    assert after.day(np.datetime64("2022-12-31")) == 364


def test_month_days():
    assert month_days(2020, 2).size == 29
    assert str(month_days(2022, 12)[-1]) == "2022-12-31"
