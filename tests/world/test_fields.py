import numpy as np
import pytest

from pipeline.core.grid import Grid
from pipeline.world.fields import blobs, correlated, lines, lognormal, spread

LAT, LON = np.arange(25, 45, 0.25), np.arange(100, 125, 0.25)


def test_a_field_does_not_depend_on_the_window():
    whole = correlated(LAT, LON, 100.0, "a", 3)
    part = correlated(LAT[20:40], LON[30:60], 100.0, "a", 3)
    np.testing.assert_allclose(part, whole[20:40, 30:60], atol=1e-5)


def test_unit_variance_and_correlation():
    fields = np.stack([correlated(LAT, LON, 100.0, "b", n) for n in range(60)])
    assert fields.std() == pytest.approx(1.0, abs=0.05)
    step = 4  # 1 degree of latitude, 111 km
    seen = (fields[:, step:] * fields[:, :-step]).mean()
    assert seen == pytest.approx(np.exp(-0.5 * (111.2 / 100.0) ** 2), abs=0.06)


def test_seeds_differ():
    assert np.abs(correlated(LAT, LON, 100.0, 1) - correlated(LAT, LON, 100.0, 2)).max() > 0.5


def test_spread_takes_stacks():
    rng = np.random.default_rng(0)
    from pipeline.world.fields import nodes

    rows, cols = nodes(300.0)
    noise = rng.standard_normal((3, rows.size, cols.size), np.float32)
    together = spread(noise, LAT, LON, 300.0)
    assert together.shape == (3, LAT.size, LON.size)
    np.testing.assert_allclose(together[1], spread(noise[1], LAT, LON, 300.0), atol=1e-5)


def test_lognormal_has_mean_one():
    normal = np.random.default_rng(0).standard_normal(400_000).astype("float32")
    assert lognormal(normal, 0.5).mean() == pytest.approx(1.0, abs=5e-3)


@pytest.mark.parametrize("per_degree", [4, 20, 100])
def test_blobs_keep_their_mass_at_any_resolution(per_degree):
    grid = Grid.from_bounds(110, 30, 113, 33, per_degree)
    lat, lon = np.array([31.37, 31.8]), np.array([111.42, 112.0])
    out = blobs(grid, lat, lon, np.array([0.5, 8.0]), np.array([3.0, 5.0]))
    assert out.sum() == pytest.approx(8.0, rel=1e-4)
    assert out.min() >= 0


def test_blobs_cut_by_an_edge_agree_with_a_larger_grid():
    large, small = Grid.from_bounds(110, 30, 113, 33, 20), Grid.from_bounds(111, 31, 112, 32, 20)
    args = [np.array([v]) for v in (31.01, 111.01, 6.0, 1.0)]
    rows, cols = large.window(small)
    np.testing.assert_allclose(blobs(small, *args), blobs(large, *args)[rows, cols], rtol=1e-5)


def test_lines_keep_their_mass_inside():
    grid = Grid.from_bounds(110, 30, 113, 33, 20)
    out = lines(grid, np.array([[30.5, 110.5, 32.5, 112.5], [31.0, 109.0, 31.0, 111.0]]), np.array([2.0, 1.0]))
    assert out.sum() == pytest.approx(2.5, abs=0.02)
