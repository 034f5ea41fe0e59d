import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.core.grid import block_repeat, block_sum
from pipeline.product.downscale import downscale


def fine_case(seed, scale=1e5, zeros=0.7):
    rng = np.random.default_rng(seed)
    emission = rng.gamma(0.3, scale, (4, 3, 4))
    emission[rng.random(emission.shape) < 0.2] = 0.0
    share = rng.gamma(0.2, 1.0, (4, 75, 100)).astype(np.float32)
    share[rng.random(share.shape) < zeros] = 0.0
    share /= block_repeat(np.maximum(block_sum(share), 1e-9)).astype(np.float32)
    variance = np.full(share.shape, 0.5, np.float32)
    return emission, 0.5 * emission.sum(axis=0), share, variance, np.ones((75, 100), bool)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([1e-3, 1.0, 1e5, 1e9]))
def test_children_sum_to_their_cell(seed, scale):
    case = fine_case(seed, scale)
    month = downscale(*case)
    np.testing.assert_allclose(block_sum(month.mean), case[0].sum(axis=0), rtol=1e-6)
    assert (month.mean >= 0).all()


def test_it_is_the_textbook_formula():
    emission, sigma, share, variance, land = fine_case(1)
    month = downscale(emission, sigma, share, variance, land)
    part = block_repeat(emission / block_sum(share)) * share
    mean = part.sum(axis=0)
    np.testing.assert_allclose(month.mean, mean, rtol=2e-6, atol=1e-6 * mean.max())
    rel_c = np.divide(sigma, emission.sum(axis=0), out=np.zeros_like(sigma), where=emission.sum(axis=0) > 0)
    rel_w = np.divide((part**2 * variance).sum(axis=0), mean**2, out=np.zeros_like(mean), where=mean > 0)
    rel = np.sqrt((1 + block_repeat(rel_c) ** 2) * (1 + rel_w) - 1)
    np.testing.assert_allclose(month.sigma, mean * rel, rtol=1e-5, atol=1e-3)
    width = np.sqrt(np.log1p(rel**2))
    np.testing.assert_allclose(month.p95, mean * np.exp(1.6448536 * width - width**2 / 4), rtol=1e-5, atol=1e-3)
    np.testing.assert_allclose(month.p05, mean * np.exp(-1.6448536 * width - width**2 / 4), rtol=1e-5, atol=1e-3)


def test_relative_sigma_grows_below_the_coarse_cell():
    emission, sigma, share, variance, land = fine_case(2)
    month = downscale(emission, sigma, share, variance, land)
    some = month.mean > 0
    coarse = block_repeat(np.divide(sigma, emission.sum(axis=0), where=sigma > 0, out=np.zeros_like(sigma)))
    assert (month.sigma[some] / month.mean[some] > coarse[some]).all()


def test_outside_is_nan_and_zero_is_zero():
    emission, sigma, share, variance, land = fine_case(3)
    emission[:, 0, 0] = np.nan
    emission[:, 1, 1] = 0.0
    sigma[0, 0], sigma[1, 1] = np.nan, 0.0
    land[50:, :25] = False
    share[:, 50:, :25] = 0.0
    emission[:, 2, 0] = np.nan
    month = downscale(emission, sigma, share, variance, land)
    for field in (month.mean, month.sigma, month.p05, month.p95):
        assert np.isnan(field[:25, :25]).all()
        assert np.isnan(field[50:, :25]).all()
        assert (field[25:50, 25:50] == 0).all()
        assert np.isfinite(field[:50, 25:]).all()


def test_every_member_closes_too():
    emission, sigma, share, variance, land = fine_case(4)
    for factor in (0.1, 1.0, 7.3):
        month = downscale(emission * factor, sigma, share, variance, land)
        assert block_sum(month.mean) == pytest.approx(emission.sum(axis=0) * factor, rel=1e-6)
