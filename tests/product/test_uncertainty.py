import numpy as np
import pytest

from pipeline.product.uncertainty import (
    LEAST_SPREAD,
    area_samples,
    inflate,
    inflate_within,
    interval,
    perhaps_none,
    reference_sigma,
    rounded,
    sigma,
    stated_inflation,
)


@pytest.fixture
def members():
    rng = np.random.default_rng(2)
    x = 1e5 * np.exp(0.5 * rng.standard_normal((50, 4, 6, 5)))
    x[:, 0, 0, 0] = 0.0
    return x


def test_inflation_keeps_the_mean_and_scales_the_spread_of_the_logarithm(members):
    wide = inflate(members, 1.7)
    np.testing.assert_allclose(wide.mean(axis=0), members.mean(axis=0), rtol=1e-12)
    some = members[0] > 0
    np.testing.assert_allclose(np.log(wide[:, some]).std(axis=0), 1.7 * np.log(members[:, some]).std(axis=0), rtol=1e-9)
    assert (wide >= 0).all()
    assert (wide[:, 0, 0, 0] == 0).all()


def test_inflation_by_one_changes_nothing(members):
    np.testing.assert_allclose(inflate(members, 1.0), members, rtol=1e-12)


def test_inflation_takes_a_field_of_factors(members):
    factor = np.linspace(0.5, 3, 30).reshape(6, 5)
    wide = inflate(members, factor)
    ratio = np.log(wide[:, 1]).std(axis=0) / np.log(members[:, 1]).std(axis=0)
    np.testing.assert_allclose(ratio, factor, rtol=1e-9)


def test_rounded_members_keep_their_mean(members):
    total = members.sum(axis=1)
    mean = total.mean(axis=0)
    np.testing.assert_allclose(rounded(total, mean).mean(axis=0, dtype=np.float64), mean, rtol=3e-8)


def test_interval_of_perfect_members_covers():
    rng = np.random.default_rng(0)
    low, high = interval(rng.standard_normal((50, 20_000)))
    truth = rng.standard_normal(20_000)
    assert ((truth >= low) & (truth <= high)).mean() == pytest.approx(0.90, abs=0.01)


def test_provinces_sum_to_groups_and_the_nation_leaves_taiwan_out(country, month):
    members = np.where(country.china > 0, month["co2"].values, np.nan)
    totals = area_samples(members, country.areas.shares)
    code = dict(zip(country.areas.codes, totals.transpose(1, 0, 2), strict=True))
    np.testing.assert_allclose(code["110000"], code["CN"])
    np.testing.assert_allclose(code["710000"], code["south"])
    everything = np.nansum(members, axis=(1, 2, 3))
    np.testing.assert_allclose((code["110000"] + code["710000"])[:, -1], everything)
    np.testing.assert_allclose(totals[..., :-1].sum(axis=2), totals[..., -1], rtol=1e-13)


def test_reference_sigmas_bracket_independent_cells():
    rng = np.random.default_rng(4)
    cell_sigma, shares = rng.random((3, 4)), np.ones((1, 3, 4))
    independent, correlated = reference_sigma(cell_sigma, shares)
    draws = cell_sigma * rng.standard_normal((20_000, 3, 4))
    assert sigma(draws.sum(axis=(1, 2))) == pytest.approx(independent[0], rel=0.02)
    assert correlated[0] == pytest.approx(cell_sigma.sum())


def test_inflation_within_keeps_means_and_members_totals():
    rng = np.random.default_rng(7)
    common = 0.2 * rng.standard_normal((50, 4, 2, 1, 1))
    local = 0.4 * rng.standard_normal((50, 4, 2, 12, 8))
    members = 1e5 * np.exp(common + local).transpose(0, 1, 3, 2, 4).reshape(50, 4, 12, 16)
    half = np.repeat([1.0, 0.0], 8)[None].repeat(12, axis=0)
    shares = np.stack([half, 1 - half])
    shares[:, :, 7:9] = 0.5
    wide = inflate_within(members, 2.0, shares)
    np.testing.assert_allclose(wide.mean(axis=0), members.mean(axis=0), rtol=1e-12)
    before, after = (np.einsum("ksij,rij->ksr", x, shares) for x in (members, wide))
    np.testing.assert_allclose(after.std(axis=0), before.std(axis=0), rtol=0.05)
    gap = np.abs(after - before).max() / before.std()
    assert gap < 0.1
    free = np.einsum("ksij,rij->ksr", inflate(members, 2.0), shares)
    assert np.abs(free - before).max() / before.std() > 10 * gap
    assert np.log(wide).std(axis=0).mean() > 1.6 * np.log(members).std(axis=0).mean()


def lognormal(mean: float, spread: float, n: int = 50) -> np.ndarray:
    """Members of a cell with exactly this mean and sigma of ln."""
    logs = np.random.default_rng(8).standard_normal(n)
    x = np.exp(spread * (logs - logs.mean()) / logs.std(ddof=1))
    return mean * x / x.mean()


@pytest.mark.parametrize("size", [3e1, 1e3, 5e4, 1e6, 1e8])
def test_no_cell_is_known_better_than_is_stated_for_its_size(size):
    narrow = inflate(lognormal(size, 0.1), stated_inflation(lognormal(size, 0.1)))
    least = np.interp(np.log(size), np.log(list(LEAST_SPREAD)), list(LEAST_SPREAD.values()))
    assert np.log(narrow).std(ddof=1) == pytest.approx(least)
    assert stated_inflation(lognormal(size, 2.0)) == 1.0


def test_stated_spread_falls_with_size():
    assert sorted(LEAST_SPREAD) == list(LEAST_SPREAD)
    assert sorted(LEAST_SPREAD.values(), reverse=True) == list(LEAST_SPREAD.values())


def test_stated_inflation_of_nothing_is_one():
    assert np.array_equal(stated_inflation(np.zeros((50, 3))), np.ones(3))


def test_the_least_emission_may_be_none_and_a_large_one_stays():
    sectors = np.array([0.25, 0.75])[None, :, None]
    members = np.stack([lognormal(1.0, 1.3), lognormal(1e6, 0.3)], axis=1)[:, None] * sectors
    wider = perhaps_none(members)
    assert 0.3 < (wider[:, :, 0].sum(axis=1) == 0).mean() < 0.7
    np.testing.assert_allclose(wider[:, :, 1], members[:, :, 1], rtol=1e-4)
    np.testing.assert_allclose(wider[:, 0, 0], wider[:, 1, 0] / 3)
