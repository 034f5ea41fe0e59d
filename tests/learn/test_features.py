import dask
import numpy as np
import pytest
import xarray as xr

from pipeline.core.grid import Grid
from pipeline.learn.features import (
    FAR,
    distance_to_sources,
    monthly_weather,
    neighbourhood_mean,
    other_months_no2,
    other_months_shift,
    prior_features,
    season,
    year_features,
)

GRID = Grid.from_bounds(110, 30, 114, 34, 4)


def test_neighbourhood_mean_is_the_mean_of_what_is_known():
    rng = np.random.default_rng(0)
    field = rng.random(GRID.shape)
    field[3, 4] = np.nan
    mean = neighbourhood_mean(field, 3)
    assert mean[4, 4] == pytest.approx(np.nanmean(field[3:6, 3:6]))
    assert mean[0, 0] == pytest.approx(field[:2, :2].mean())
    assert np.isnan(neighbourhood_mean(np.full((5, 5), np.nan), 3)).all()


def test_distance_counts_kilometres():
    tonnes = np.zeros(GRID.shape)
    assert (distance_to_sources(tonnes, GRID) == FAR).all()
    tonnes[8, 8] = 1.0
    distance = distance_to_sources(tonnes, GRID)
    assert distance[8, 8] == 0
    assert distance[12, 8] == pytest.approx(111.2, rel=0.01)
    assert distance[8, 12] == pytest.approx(111.2 * np.cos(np.deg2rad(32)), rel=0.01)


def test_year_features_have_no_position_and_no_gaps():
    rng = np.random.default_rng(1)
    lights = rng.random(GRID.shape)
    lights[0, 0] = np.nan
    points = {"power": np.zeros(GRID.shape), "industry": rng.random(GRID.shape)}
    ds = year_features(lights, rng.random(GRID.shape), points, GRID)
    assert not {"lat", "lon"} & {str(n) for n in ds.data_vars}
    assert all(v.dtype == np.float32 and np.isfinite(v).all() for v in ds.data_vars.values())


def test_heating_degree_days():
    time = np.arange("2021-02-01", "2021-03-01", 6, dtype="datetime64[h]").astype("datetime64[ns]")
    t2m = xr.DataArray(
        np.full((time.size, 2, 2), 283.15, np.float32), dims=("time", "lat", "lon"), coords={"time": time}
    )
    month = monthly_weather(t2m.chunk({"time": 20}))
    assert month["heating_degree_days"].values == pytest.approx(8 * 28, rel=1e-5)
    assert month["t2m"].values == pytest.approx(10.0, abs=1e-4)


def test_weather_stays_lazy():
    time = np.arange("2021-02-01", "2021-03-01", dtype="datetime64[D]").astype("datetime64[ns]")

    def refuse(*args, **kwargs):
        raise AssertionError("computed while the graph was built")

    t2m = xr.DataArray(np.ones((28, 2, 2)), dims=("time", "lat", "lon"), coords={"time": time}).chunk({"time": 7})
    with dask.config.set(scheduler=refuse):
        assert monthly_weather(t2m)["t2m"].chunks is not None


def test_no2_of_a_month_is_not_among_its_own_features():
    time = np.arange("2021-01-01", "2021-04-01", dtype="datetime64[D]").astype("datetime64[ns]")
    rng = np.random.default_rng(2)
    values = rng.random((time.size, *GRID.shape)) * 1e-4
    values[rng.random(values.shape) < 0.5] = np.nan
    no2 = xr.DataArray(values, dims=("time", "lat", "lon"), coords={"time": time, "lat": GRID.lat, "lon": GRID.lon})
    others = other_months_no2(no2, GRID)
    assert others["no2_other_months"].sizes["time"] == 3
    changed = no2.copy()
    changed[:31] *= 5
    again = other_months_no2(changed, GRID)
    np.testing.assert_array_equal(again["no2_other_months"][0], others["no2_other_months"][0])
    assert not np.allclose(again["no2_other_months"][1], others["no2_other_months"][1])
    expected = np.nanmean(values[31:], axis=0) * 1e5
    np.testing.assert_allclose(others["no2_other_months"][0], expected, rtol=1e-5)


def test_season_has_no_seam_at_new_year():
    months = np.array([f"20{y}-{m:02d}-01" for y in (21, 22) for m in range(1, 13)], "datetime64[ns]")
    sin, cos = season(months)
    np.testing.assert_allclose(sin[:12], sin[12:])
    step = np.hypot(np.diff(sin), np.diff(cos))
    np.testing.assert_allclose(step, step[0], rtol=1e-5)


def test_prior_shares_sum_to_one():
    prior = np.random.default_rng(3).random((4, *GRID.shape))
    ds = prior_features(prior, ("a", "b", "c", "d"), GRID)
    np.testing.assert_allclose(sum(ds[f"prior_share_{n}"] for n in "abcd"), 1.0, rtol=1e-6)


def test_other_months_shift_is_the_posterior_of_all_the_others():
    """One Gaussian problem with the other months' columns together, solved outright."""
    rng = np.random.default_rng(5)
    time = np.array(["2021-11-01", "2021-12-01", "2022-01-01", "2022-02-01", "2022-03-01"], "datetime64[ns]")
    seen = rng.standard_normal((5, *GRID.shape))
    precision = rng.uniform(0.2, 5.0, seen.shape)
    precision[3, 2, 2] = 0.0
    sensitivity = precision / (1.0 + precision)
    shift = sensitivity * seen
    ds = other_months_shift(shift, sensitivity, time, GRID)
    for k, others in enumerate([[1], [0], [3, 4], [2, 4], [2, 3]]):
        together = (precision * seen)[others].sum(axis=0) / (1.0 + precision[others].sum(axis=0))
        np.testing.assert_allclose(ds["shift_other_months"][k], together, rtol=1e-4, atol=1e-6)
    moved = shift.copy()
    moved[2] += 1.0
    again = other_months_shift(moved, sensitivity, time, GRID)
    for k, same in enumerate([True, True, True, False, False]):  # other years and the month itself do not see it
        assert np.allclose(again["shift_other_months"][k], ds["shift_other_months"][k]) == same


def test_other_months_that_saw_little_say_little():
    time = np.array(["2022-01-01", "2022-02-01"], "datetime64[ns]")
    shift, sensitivity = np.ones((2, *GRID.shape)), np.zeros((2, *GRID.shape))
    shift[0, 3, 3] = np.nan
    sensitivity[0, 4, 4], sensitivity[0, 5, 5], sensitivity[0, 3, 3] = 0.8, 0.05, 0.8
    field = other_months_shift(shift * sensitivity, sensitivity, time, GRID)["shift_other_months"]
    assert (field[0] == 0).all()
    assert float(field[1, 4, 4]) == pytest.approx(0.8)
    assert float(field[1, 5, 5]) == pytest.approx(0.05)
    assert np.count_nonzero(field[1]) == 2
