import numpy as np
import pytest

from pipeline.learn.conformal import Intervals, calibrate, conformal_quantile, interval_of, stretch_needed

Z = 1.6448536


def rows_of(n_block, per_block, spread, claimed, seed=0):
    rng = np.random.default_rng(seed)
    n = n_block * per_block
    block = np.repeat(np.arange(n_block), per_block)
    # Half of the variance is the block's: rows of a block hang together.
    label = spread * (rng.standard_normal(n_block)[block] + rng.standard_normal(n)) / np.sqrt(2)
    edge = np.full(n, Z * claimed)
    return Intervals(np.zeros(n), -edge, edge, label, block)


@pytest.mark.parametrize(("spread", "claimed"), [(1.0, 1.0), (1.0, 0.5), (0.6, 1.0)])
def test_factor_is_true_over_claimed_spread(spread, claimed):
    rows = rows_of(400, 20, spread, claimed)
    factor = calibrate(rows, np.zeros(8000, int), np.zeros(8000, int))[0, 0]
    assert factor == pytest.approx(spread / claimed, rel=0.08)


def test_intervals_cover_on_blocks_not_used():
    covered = []
    for seed in range(60):
        factor = calibrate(rows_of(30, 10, 1.0, 0.5, seed), np.zeros(300, int), np.zeros(300, int))[0, 0]
        fresh = rows_of(30, 10, 1.0, 0.5, 1000 + seed)
        covered.append(np.mean(stretch_needed(fresh) <= factor))
    assert 0.89 <= np.mean(covered) <= 0.96


def test_asymmetric_intervals_are_stretched_by_their_own_side():
    rows = Intervals(*(np.array(v, float) for v in ([0, 0], [-1, -1], [2, 2], [4, -3])), np.array([0, 1]))
    np.testing.assert_allclose(stretch_needed(rows), [2.0, 3.0])


def test_quantile_has_the_finite_sample_correction():
    scores = np.arange(1.0, 20.0)  # n = 19: ceil(20 * 0.9) / 19 = 18 / 19
    assert conformal_quantile(scores, np.arange(19)) == 18.0
    assert conformal_quantile(scores[:5], np.arange(5)) == np.inf


def test_big_blocks_count_as_one():
    scores = np.concatenate([np.full(1000, 9.0), np.linspace(0, 1, 40)])
    blocks = np.concatenate([np.zeros(1000, int), np.arange(1, 41)])
    assert conformal_quantile(scores, blocks) < 1.0


def test_a_class_with_too_few_blocks_takes_its_regions_factor():
    rows = rows_of(100, 10, 1.0, 0.5)
    magnitude = np.where(rows.block < 3, 1, 0)
    factors = calibrate(rows, np.zeros(1000, int), magnitude)
    regional = calibrate(rows, np.zeros(1000, int), np.zeros(1000, int))
    assert factors[0, 1] == regional[0, 0]


def test_interval_of_members_follows_the_n_plus_one_rule():
    members = np.arange(1.0, 51.0)
    low, high = interval_of(members)
    assert low == pytest.approx(0.05 * 51)
    assert high == pytest.approx(0.95 * 51)
