import numpy as np
import pytest

from pipeline.core.chunks import Tile
from pipeline.core.grid import block_repeat, block_sum
from pipeline.core.schema import SECTORS
from pipeline.product.weights import (
    fine_grid,
    grain,
    land_mask,
    placed_share,
    settled,
    smooth_density,
    spread_shares,
    surroundings,
    tile_weights,
)


@pytest.fixture(scope="module")
def emission(country):
    return np.random.default_rng(1).gamma(1.0, 1e6, (len(SECTORS), *country.grid.shape))


@pytest.fixture(scope="module")
def weights(country, emission):
    return tile_weights(
        country.tile, country.grid, country.proxies, country.points, 2022, emission, country.regions, country.china
    )


def test_shares_of_every_cell_of_ours_sum_to_one(country, weights):
    sums = block_sum(weights.share)
    inside = country.china > 0
    np.testing.assert_allclose(sums[:, inside], 1.0, rtol=1e-5)
    assert (sums[:, ~inside] == 0).all()


def test_nothing_on_open_water(weights):
    assert (weights.share[:, ~weights.land] == 0).all()
    assert (weights.share >= 0).all()


def test_a_plant_keeps_its_emission_in_its_fine_cell(country, weights, emission):
    row, col, _ = country.fine.locate([30.605], [111.105])
    listed = 1000 * 4000.0
    cell = emission[0][row[0] // 25, col[0] // 25]
    placed = min(1.0, listed / cell)
    assert weights.share[0, row[0], col[0]] >= placed - 1e-6
    assert weights.share[1, row[0], col[0]] < 0.5


def test_a_plant_that_has_not_started_gets_nothing(country, emission):
    early = tile_weights(
        country.tile, country.grid, country.proxies, country.points, 1999, emission, country.regions, country.china
    )
    row, col, _ = country.fine.locate([30.605], [111.105])
    assert early.share[0, row[0], col[0]] < 0.5


def test_dark_land_shares_smoothly(country, emission):
    level = np.repeat(np.linspace(1.0, 12.0, 12)[None], 8, axis=0)
    land = np.ones(country.fine.shape, bool)
    smooth = smooth_density(level, country.grid, country.tile, land)
    share = sum(spread_shares(np.zeros(land.shape), smooth, land, 0.05))
    field = share * block_repeat(level)
    inner = field[:, 25:-25]
    step = np.abs(np.diff(inner, axis=1))
    # Uniform weights would step by a whole coarse cell's difference (1/625) at each border.
    assert step.max() < 0.2 / 625


def test_dark_cells_are_spread_over_all_their_land(country, weights):
    cell = weights.share[1, 100:125, 75:100]
    assert (cell > 0).all()
    assert cell.max() < 8 / 625


def test_two_tiles_meet_without_a_seam(country, emission):
    whole = country.tile
    args = (country.points, 2022, emission, country.regions, country.china)
    together = tile_weights(whole, country.grid, country.proxies, *args).share
    for k in range(2):
        tile = Tile(0, k, (slice(0, 8), slice(6 * k, 6 * k + 6)))
        cut = {n: v[tile.fine] for n, v in country.proxies.items()}
        part, same = tile_weights(tile, country.grid, cut, *args).share, together[:, *tile.fine]
        # Only what surrounds a proxy reaches over a tile's edge, and that is a few per cent of a cell.
        away = slice(25, None) if k else slice(None, -25)
        np.testing.assert_allclose(part[..., away], same[..., away], rtol=2e-5, atol=1e-9)
        moved = block_sum(np.abs(part - same))
        assert moved.max() < 0.05


def test_dark_cells_near_a_town_get_more_than_far_ones():
    proxy = np.zeros((75, 75), np.float32)
    proxy[30:35, 26:31] = 50.0
    around = surroundings(proxy, np.ones_like(proxy))
    assert around[37, 33] > 5 * around[48, 48]
    assert around[48, 48] > 0
    assert (around[:25, 50:] == 1).all()


def test_a_sliver_without_a_cell_centre_still_has_land(country):
    land = land_mask(country.regions, fine_grid(country.grid, country.tile), country.china > 0)
    row, col, _ = country.grid.locate([31.28], [112.9005])
    block = land[row[0] * 25 : row[0] * 25 + 25, col[0] * 25 : col[0] * 25 + 25]
    assert 0 < block.sum() < 60


def test_a_plant_takes_its_cell_until_the_posterior_is_far_above_it():
    listed, emission = np.array([0.0, 50.0, 100.0, 300.0]), np.array([10.0, 200.0, 150.0, 100.0])
    np.testing.assert_allclose(placed_share(listed, emission, 2.0), [0, 0.5, 1, 1])


def test_missing_proxies_count_as_dark(country, emission):
    holes = {n: np.where(np.arange(v.size).reshape(v.shape) % 7 == 0, np.nan, v) for n, v in country.proxies.items()}
    share = tile_weights(
        country.tile, country.grid, holes, country.points, 2022, emission, country.regions, country.china
    ).share
    assert np.isfinite(share).all()


def test_people_counted_in_wide_pixels_are_put_where_it_is_lit():
    rng = np.random.default_rng(8)
    wide = block_repeat(rng.gamma(1.0, 100.0, (6, 6)).astype(np.float32), 20)
    lights = np.where(rng.random(wide.shape) < 0.1, 40.0, 0.0).astype(np.float32)
    assert grain(wide) == 20
    people = settled(wide, lights)
    assert people[lights > 0].mean() > 5 * people[lights == 0].mean()
    assert people.sum() == pytest.approx(wide.sum(), rel=0.05)
    # No step is left where two pixels met.
    dark = np.where(lights > 0, np.nan, people)
    steps = np.abs(np.diff(dark, axis=1))
    assert np.nanmedian(steps[:, 19::20]) < 2 * np.nanmedian(steps)


def test_people_counted_in_fine_pixels_stay():
    people = np.random.default_rng(9).gamma(1.0, 10.0, (50, 50)).astype(np.float32)
    np.testing.assert_array_equal(settled(people, np.ones_like(people)), people)
