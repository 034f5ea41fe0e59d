"""Measures of skill: against closed forms and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import r2_score

from pipeline.core import metrics
from pipeline.core.errors import InputError

RNG = np.random.default_rng(1)
TRUTH = RNG.lognormal(8, 2, 2000)
ESTIMATE = TRUTH * RNG.lognormal(0, 0.3, 2000)


def test_r2_is_one_minus_sse_over_sst() -> None:
    assert metrics.r2(ESTIMATE, TRUTH) == pytest.approx(r2_score(TRUTH, ESTIMATE), rel=1e-12)
    assert metrics.r2(TRUTH, TRUTH) == 1.0
    assert metrics.r2(np.full(4, 2.5), [1, 2, 3, 4]) == 0.0
    assert np.isnan(metrics.r2([1, 2], [3, 3]))


@given(st.floats(0.5, 2))
def test_r2_sees_a_bias_and_correlation_does_not(factor: float) -> None:
    assert metrics.correlation(TRUTH * factor, TRUTH) == pytest.approx(1.0)
    mean, spread = TRUTH.mean(), TRUTH.var()
    expected = 1 - (factor - 1) ** 2 * (spread + mean**2) / spread
    assert metrics.r2(TRUTH * factor, TRUTH) == pytest.approx(expected, abs=1e-9)


def test_log_r2_is_about_cells_above_the_floor() -> None:
    keep = TRUTH > 500
    expected = r2_score(np.log(TRUTH[keep]), np.log(np.maximum(ESTIMATE[keep], 500)))
    assert metrics.log_r2(ESTIMATE, TRUTH, floor=500) == pytest.approx(expected)
    assert metrics.log_r2(np.append(ESTIMATE, 9e9), np.append(TRUTH, 1.0), floor=500) == pytest.approx(expected)
    assert np.isnan(metrics.log_r2([1.0, 2], [1.0, 2], floor=10))


def test_the_top_percent_is_left_out() -> None:
    truth = np.arange(1.0, 201)
    estimate = truth.copy()
    estimate[-2:] = 0
    assert metrics.r2_without_top(estimate, truth) == 1.0
    assert metrics.r2(estimate, truth) < 0.9


def test_errors_are_relative_to_the_truths_sum() -> None:
    assert metrics.relative_mae([2, 0], [1, 3]) == 1.0
    assert metrics.relative_bias([2, 0], [1, 3]) == -0.5
    assert np.isnan(metrics.relative_bias([1.0], [0.0]))


def test_coverage_counts_the_borders_in() -> None:
    assert metrics.coverage([1, 2, 3, 4], [1, 0, 4, 0], [2, 2, 5, 3]) == 0.5


def test_z_scores_leave_out_cells_without_a_sigma() -> None:
    assert metrics.z_scores([3.0, 1.0], [1.0, 1.0], [2.0, 0.0]).tolist() == [1.0]


def test_the_interval_of_a_perfect_ensemble_covers_what_it_says() -> None:
    members, truth = RNG.standard_normal((50, 20000)), RNG.standard_normal(20000)
    assert metrics.coverage(truth, *metrics.interval(members)) == pytest.approx(0.902, abs=0.01)


def test_nan_and_shape_are_refused() -> None:
    with pytest.raises(InputError, match="1 of 2 values to compare are not finite"):
        metrics.r2([1.0, np.nan], [1.0, 2.0])
    with pytest.raises(InputError, match="one shape"):
        metrics.relative_mae([1.0], [1.0, 2.0])


def test_cell_scores_hold_posterior_and_prior_to_the_same_truth() -> None:
    truth = RNG.lognormal(9, 1, (3, 400))
    scores = metrics.cell_scores(truth * 1.1, truth * 2, truth * 0.9, truth * 1.2, truth)
    assert scores["bias"] == pytest.approx(0.1)
    assert scores["prior_relative_mae"] == pytest.approx(1.0)
    assert scores["relative_mae_over_prior"] == pytest.approx(0.1)
    assert scores["coverage_90_cells"] == 1.0
    assert scores["r2_annual"] > scores["prior_r2_annual"]
    assert (scores["cells"], scores["months"]) == (400, 3)


def test_total_scores_set_the_nation_apart() -> None:
    truth = np.array([[10.0, 20.0, 30.0], [10.0, 20.0, 30.0]])
    members = truth * (1 + 0.1 * RNG.standard_normal((400, 1, 1))) * np.array([1.0, 2.0, 1.0])
    scores = metrics.total_scores(members, truth, nation=2)
    assert scores["coverage_90_provinces_annual"] == 0.5
    assert scores["coverage_90_provinces_monthly"] == 0.5
    assert abs(scores["national_bias"]) < 0.02
    assert abs(scores["national_z"]) < 0.2


def test_monthly_bias_of_the_nation_does_not_cancel() -> None:
    truth = np.array([[10.0, 30.0], [10.0, 10.0]])
    members = np.array([[[10.0, 33.0], [10.0, 7.0]], [[10.0, 33.0], [10.0, 7.0]]])
    scores = metrics.total_scores(members, truth, nation=1)
    assert scores["national_bias"] == pytest.approx(0)
    assert scores["national_bias_monthly"] == pytest.approx(np.sqrt((0.1**2 + 0.3**2) / 2))


def test_a_block_is_flagged_when_nearly_all_members_exceed_the_prior() -> None:
    prior = np.ones((7, 9))
    members = np.ones((50, 7, 9)) + 0.2 * RNG.standard_normal((50, 7, 9))
    members[:, 3, 4] += 8.0
    flagged = metrics.flagged_blocks(members, prior)
    around = np.zeros((7, 9), bool)
    around[3, 4] = True
    assert (flagged & metrics.blocks_with(around)).sum() == 9
    assert (flagged & ~metrics.blocks_with(around)).mean() < 0.15
    assert not metrics.flagged_blocks(np.ones((50, 7, 9)), prior).any()


def test_blocks_are_cut_off_at_the_edge() -> None:
    corner = np.zeros((4, 5), bool)
    corner[0, 0] = True
    found = np.zeros((4, 5), bool)
    found[:2, :2] = True
    assert (metrics.blocks_with(corner) == found).all()
    assert (metrics.blocks_with(corner, 1) == corner).all()
