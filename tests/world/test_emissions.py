import numpy as np
import pandas as pd
import pytest

from pipeline.core.grid import Grid, block_sum
from pipeline.world.emissions import (
    add_plants,
    nox_ratios,
    plant_shares,
    plant_tonnes,
    region_sums,
    spread_maps,
    zone_scale,
)
from pipeline.world.geography import national_regions
from pipeline.world.ground import MadeUp, fractions, soil_season
from pipeline.world.patterns import draw
from pipeline.world.physics import NOX_RATIO, Physics
from pipeline.world.settlements import settle
from pipeline.world.tiles import halves

PLANTS = pd.DataFrame(
    {
        "lat": [30.1, 30.2, 31.5, 30.3],
        "lon": [110.1, 110.2, 111.5, 110.4],
        "name": list("abcd"),
        "sector": ["power", "power", "power", "industry"],
        "kind": ["coal", "coal", "coal", "cement"],
        "capacity": [1000.0, 3000.0, 500.0, 2.0],
        "capacity_unit": ["MW", "MW", "MW", "Mt/a"],
        "co2_tonnes_per_year": np.nan,
        "start_year": [2000, 2021, 2000, 2000],
        "retire_year": np.nan,
        "source": "test",
        "region": [0, 0, 1, 0],
        "deviation": 1.0,
    }
)


def test_shares_close_to_one_in_every_region():
    share = plant_shares(PLANTS, np.array([[1.0, 1.0], [0.4, 0.0]]), 2, 2022)
    np.testing.assert_allclose(share, [0.25, 0.75, 1.0, 0.4])


def test_a_plant_that_does_not_run_yet_has_no_share():
    assert plant_shares(PLANTS, np.ones((2, 2)), 2, 2020)[1] == 0


def test_maps_and_plants_together_make_the_total():
    index = np.array([[0, 0, 1], [0, 1, -1]], np.int16)
    maps = np.random.default_rng(0).random((3, 2, 3)).astype("float32") * (index >= 0)
    point_share = np.array([0.4, 0.0])
    scale = zone_scale(region_sums(index, maps, 2), point_share)
    totals = np.array([[5.0, 10.0, 2.0, 1.0], [4.0, 8.0, 3.0, 2.0]])
    spread = spread_maps(index, maps, scale * totals[:, 1:].T)
    np.testing.assert_allclose(region_sums(index, spread, 2).T, totals[:, 1:] * [[0.6, 1, 1], [1, 1, 1]], rtol=1e-6)
    share = plant_shares(PLANTS, np.stack([[1.0, 1.0], point_share]), 2, 2022)
    tonnes = plant_tonnes(PLANTS, share, totals)
    assert tonnes.sum() == pytest.approx(5 + 4 + 0.4 * 10)


def test_plants_are_put_in_their_cells():
    grid = Grid.from_bounds(110, 30, 112, 32, 4)
    annual = np.zeros((4, *grid.shape), np.float32)
    add_plants(annual, grid, PLANTS, np.array([1.0, 2.0, 4.0, 8.0]))
    assert annual[0].sum() == 7
    assert annual[1, 1, 1] == 8
    assert annual[0, 6, 6] == 4


def test_halves_keep_sums_and_places():
    fine = np.random.default_rng(1).random((2, 50, 75)).astype("float32")
    out = halves(fine)
    assert out.shape == (2, 4, 6)
    np.testing.assert_allclose(block_sum(out, 2), block_sum(fine, 25), rtol=1e-5)
    point = np.zeros((1, 25, 25), np.float32)
    point[0, 3, 20] = 1
    np.testing.assert_array_equal(halves(point)[0], [[0, 1], [0, 0]])


def test_ratios_vary_by_province_about_the_national_ones():
    regions = national_regions()
    flat = nox_ratios(regions, Physics(ratio_error=False), 0)
    np.testing.assert_allclose(flat, np.broadcast_to(NOX_RATIO, flat.shape))
    many = np.stack([np.log(nox_ratios(regions, Physics(), s) / NOX_RATIO) for s in range(20)])
    assert many.std() == pytest.approx(0.15, rel=0.06)
    assert abs(many.mean()) < 0.01
    shifted = np.log(nox_ratios(regions, Physics(ratio_nation=True, ratio_error=False), 0) / NOX_RATIO)
    np.testing.assert_allclose(shifted, np.broadcast_to(shifted[:1], shifted.shape))
    assert np.abs(shifted).max() > 0.02


def test_fractions_sum_to_one():
    daily = np.random.default_rng(0).random((3, 4, 365))
    daily[1, 2] = 0
    assert fractions(daily).sum(axis=2) == pytest.approx(np.ones((3, 4)))
    assert soil_season(2022).mean() == pytest.approx(1.0)
    assert soil_season(2022).argmax() in range(170, 210)


def test_maps_agree_between_resolutions():
    grid = Grid.from_bounds(114, 36, 117, 39, 20)
    towns, regions = settle(0), national_regions()
    coarse = draw(grid, regions.index(grid) >= 0, towns, 0)
    fine_grid = grid.refine(5)
    fine = draw(fine_grid, regions.index(fine_grid) >= 0, towns, 0)
    np.testing.assert_allclose(fine.spread.sum((1, 2)), coarse.spread.sum((1, 2)), rtol=0.05)
    assert fine.people.sum() == pytest.approx(coarse.people.sum(), rel=0.03)


def test_truth_is_not_its_proxies():
    grid = Grid.from_bounds(114, 36, 117, 39, 20)
    regions = national_regions()
    maps = draw(grid, regions.index(grid) >= 0, settle(0), 0)
    for k in range(3):
        for proxy in (maps.census, maps.radiance):
            both = (maps.spread[k] > 0) & (proxy > 0)
            r = np.corrcoef(np.log(maps.spread[k][both]), np.log(proxy[both]))[0, 1]
            assert 0.1 < r < 0.95, (k, r)


def test_point_share_is_a_share():
    ground = MadeUp(Physics(), 0)
    assert ground.point_share.shape == (2, 34)
    assert ((ground.point_share >= 0) & (ground.point_share <= 1)).all()
    assert ground.daily(2020).shape == (34, 4, 366)
