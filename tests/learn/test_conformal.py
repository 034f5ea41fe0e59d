import numpy as np
import pytest

from pipeline.learn.conformal import calibrate, conformal_quantile, stretch_needed

Z = 1.6448536


def rows_of(n_block, per_block, spread, claimed, seed=0):
    """Scores of log-normal truths of mean 1 whose spread is claimed; half of the variance is the block's."""
    rng = np.random.default_rng(seed)
    block = np.repeat(np.arange(n_block), per_block)
    noise = (rng.standard_normal(n_block)[block] + rng.standard_normal(block.size)) / np.sqrt(2)
    truth = np.exp(spread * noise - spread**2 / 2)
    return stretch_needed(np.ones(block.size), np.full(block.size, claimed), truth), block


def factor_of(scores, block):
    zero = np.zeros(block.size, int)
    return calibrate(scores, block, zero, zero)[0, 0]


def test_stretch_puts_the_label_on_the_edge():
    rng = np.random.default_rng(1)
    mean, sigma = rng.uniform(1, 9, 200), rng.uniform(0.2, 0.9, 200)
    label = mean * np.exp(rng.uniform(-3, 1.2, 200))
    f = stretch_needed(mean, sigma, label) * sigma
    edge = np.where(label > mean * np.exp(-(f**2) / 2), Z * f, -Z * f)
    np.testing.assert_allclose(np.log(mean) - f**2 / 2 + edge, np.log(label), atol=1e-6)


def test_a_label_no_spread_can_reach_is_infinite():
    assert stretch_needed(np.array([1.0]), np.array([0.5]), np.array([10.0]))[0] == np.inf
    assert stretch_needed(np.array([1.0]), np.array([0.5]), np.array([1.0]))[0] == pytest.approx(0.0)


@pytest.mark.parametrize(("spread", "claimed"), [(0.6, 0.6), (0.6, 0.3), (0.4, 0.7)])
def test_factor_is_true_over_claimed_spread(spread, claimed):
    assert factor_of(*rows_of(400, 20, spread, claimed)) == pytest.approx(spread / claimed, rel=0.1)


def test_intervals_cover_on_blocks_not_used():
    covered = []
    for seed in range(60):
        factor = factor_of(*rows_of(30, 10, 0.6, 0.3, seed))
        fresh, _ = rows_of(30, 10, 0.6, 0.3, 1000 + seed)
        covered.append(np.mean(fresh <= factor))
    assert 0.88 <= np.mean(covered) <= 0.95


def test_quantile_has_the_finite_sample_correction():
    scores = np.arange(1.0, 20.0)  # n = 19: the ceil(20 x 0.9) = 18th
    assert conformal_quantile(scores, np.arange(19)) == 18.0
    assert conformal_quantile(scores[:5], np.arange(5)) == np.inf
    assert conformal_quantile(scores[:0], np.arange(0)) == np.inf


def test_big_blocks_count_as_one():
    scores = np.concatenate([np.full(1000, 9.0), np.linspace(0, 1, 40)])
    blocks = np.concatenate([np.zeros(1000, int), np.arange(1, 41)])
    assert conformal_quantile(scores, blocks) < 1.0


def test_a_class_with_too_few_blocks_takes_its_regions_factor():
    scores, block = rows_of(100, 10, 0.6, 0.3)
    factors = calibrate(scores, block, np.zeros(1000, int), np.where(block < 3, 1, 0))
    assert factors[0, 1] == factors[0, -1]
    assert factors[0, 0] != factors[0, -1]
    assert factors[-1, -1] == factors[0, -1]
