import numpy as np
import pytest

from pipeline.core.grid import Grid
from pipeline.world.physics import GAIN, Physics, ideal
from pipeline.world.satellites import (
    SCALE_ERROR,
    Sky,
    clear_fraction,
    enhancement,
    look_no2,
    look_xco2,
    no2_column,
    tracks,
    xco2_background,
)

GRID = Grid.from_bounds(100, 25, 120, 45, 4)
YEAR = np.arange("2022-01-01", "2023-01-01", dtype="datetime64[D]")
DAY = np.datetime64("2022-06-01", "D")


def sky(clear=1.0):
    one = np.ones(GRID.shape, np.float32)
    return Sky(clear * one, 101325 * one, 20 * one)


def test_one_ppm_is_about_15_7_grams():
    assert enhancement(np.array(15.7e-3), np.array(101325.0), np.array(0.0)) == pytest.approx(1.0, rel=2e-3)


def test_a_perfect_satellite_sees_the_column():
    column = np.full(GRID.shape, 1e-5, np.float32)
    seen = look_no2(column, sky(), GRID, DAY, ideal(), 0)
    np.testing.assert_allclose(seen["no2_column"], 1e-5 / (1.32 * 0.0460055), rtol=1e-6)
    np.testing.assert_array_equal(seen["valid_fraction"], 1.0)


def test_gain_and_background_are_switches():
    column = np.full(GRID.shape, 1e-5, np.float32)
    plain = no2_column(column, GRID, DAY, ideal())
    np.testing.assert_allclose(no2_column(column, GRID, DAY, ideal().switched(on=("gain",))), GAIN * plain)
    extra = no2_column(column, GRID, DAY, ideal().switched(on=("no2_background",))) - plain
    assert 2e-6 < extra.min() < extra.max() < 8e-6


def test_noise_leaves_negative_columns():
    seen = look_no2(np.zeros(GRID.shape, np.float32), sky(0.5), GRID, DAY, ideal().switched(on=("noise",)), 0)
    assert (seen["no2_column"] < 0).mean() == pytest.approx(0.5, abs=0.05)
    assert seen["no2_column"].std() == pytest.approx(seen["no2_column_uncertainty"].mean(), rel=0.1)


def test_part_of_the_error_grows_with_the_column():
    physics = ideal().switched(on=("noise", "retrieval_scale"))
    column = np.full(GRID.shape, 2e-5, np.float32)
    days = [look_no2(column, sky(), GRID, d, physics, 0)["no2_column"] for d in YEAR[:20]]
    true = no2_column(column, GRID, DAY, physics)
    relative = (np.stack(days) - true) / true
    assert relative.std() == pytest.approx(SCALE_ERROR, rel=0.1)
    assert abs(relative.mean()) < 0.02
    neighbour = (relative[:, :, 1:] * relative[:, :, :-1]).mean() / (relative**2).mean()
    assert neighbour == pytest.approx(0.5 * np.exp(-0.5 * (22.7 / 60) ** 2), abs=0.08)


def test_clear_share_is_realistic():
    share = np.stack([clear_fraction(GRID, d, Physics(), 0) for d in YEAR[::12]])
    assert share.min() >= 0
    assert share.max() <= 1
    observed = (share > 0).mean()
    assert 0.3 < observed < 0.6
    rows, cols = GRID.locate(np.array([29.5]), np.array([106.0]))[:2]
    basin = (share[:, rows[0] - 4 : rows[0] + 4, cols[0] - 4 : cols[0] + 4] > 0).mean()
    assert basin < 0.75 * observed


def test_clouds_come_in_fields():
    share = clear_fraction(GRID, DAY, Physics(), 0)
    seen = (share > 0).astype(float)
    assert np.corrcoef(seen[:, 4:].ravel(), seen[:, :-4].ravel())[0, 1] > 0.4
    np.testing.assert_array_equal(clear_fraction(GRID, DAY, ideal(), 0), 1)


def test_tracks_are_narrow_and_repeat_after_16_days():
    first = tracks(GRID, DAY)
    np.testing.assert_array_equal(first, tracks(GRID, DAY + 16))
    cycle = np.stack([tracks(GRID, DAY + k) for k in range(16)])
    assert 0.005 < cycle.mean() < 0.04
    assert (tracks(GRID, DAY) != tracks(GRID, DAY + 1)).any()
    # 16 days leave tracks about 1.5 degrees apart.
    crossed = cycle.any(axis=0)[GRID.n_lat // 2]
    assert 20 / 1.545 - 2 < np.diff(np.flatnonzero(crossed)).__gt__(1).sum() + 1 < 20 / 1.545 + 2


def test_tracks_drift_west_going_north():
    day = next(d for d in YEAR[:16] if tracks(GRID, d).any(axis=1).all())
    column = [np.flatnonzero(row)[0] for row in tracks(GRID, day)]
    assert column[-1] < column[0]


def test_xco2_is_seen_on_tracks_only_and_with_its_error():
    column = np.full(GRID.shape, 15.7e-3, np.float32)
    days = YEAR[:48]
    looks = [look_xco2(column, sky(), GRID, d, ideal().switched(on=("noise",)), 0) for d in days]
    values = np.concatenate([x["xco2"][np.isfinite(x["xco2"])] for x in looks])
    stated = np.concatenate([x["xco2_uncertainty"][np.isfinite(x["xco2_uncertainty"])] for x in looks])
    assert values.mean() == pytest.approx(411.0, abs=0.1)
    assert values.std() == pytest.approx(stated.mean(), rel=0.15)
    assert 0.45 < stated.mean() < 0.85
    assert (np.isfinite(looks[0]["xco2"]) <= tracks(GRID, days[0])).all()
    np.testing.assert_array_equal(looks[0]["n_soundings"] > 0, np.isfinite(looks[0]["xco2"]))


def test_background_and_biosphere_are_switches():
    assert np.unique(xco2_background(GRID, DAY, ideal(), 0)).tolist() == [410.0]
    with_bio = xco2_background(GRID, DAY, ideal().switched(on=("biosphere",)), 0) - 410
    assert 0.02 < np.abs(with_bio).max() < 1.2
    day0, day1 = (xco2_background(GRID, d, Physics(biosphere=False), 0).mean() for d in (DAY, DAY + 365))
    assert day1 - day0 == pytest.approx(2.4, abs=0.6)


def test_same_day_same_look():
    column = np.full(GRID.shape, 1e-5, np.float32)
    first, again = (look_no2(column, sky(0.6), GRID, DAY, Physics(), 4) for _ in range(2))
    other = look_no2(column, sky(0.6), GRID, DAY, Physics(), 5)
    np.testing.assert_array_equal(first["no2_column"], again["no2_column"])
    assert (first["no2_column"] != other["no2_column"]).any()
