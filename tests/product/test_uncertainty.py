import numpy as np
import pytest

from pipeline.product.uncertainty import (
    area_samples,
    inflate,
    inflate_within,
    interval,
    reference_sigma,
    rounded,
    sigma,
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
