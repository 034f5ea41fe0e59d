import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.learn.predict import close_totals, group_shares, region_totals


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000))
def test_totals_are_met_with_cells_that_cross_borders(seed):
    rng = np.random.default_rng(seed)
    field = rng.gamma(0.5, 100.0, (6, 8))
    shares = rng.random((3, 6, 8)) ** 4
    shares /= shares.sum(axis=0)
    wanted = region_totals(field * rng.uniform(0.5, 2.0, field.shape), shares)
    closed = close_totals(field, wanted, shares)
    np.testing.assert_allclose(region_totals(closed, shares), wanted, rtol=1e-6)
    assert (closed >= 0).all()


def test_what_is_outside_stays_as_it_is():
    field = np.ones((2, 2))
    shares = np.array([[[1.0, 0.5], [0.0, 0.0]]])
    closed = close_totals(field, np.array([3.0]), shares)
    assert (closed[1] == 1).all()
    assert region_totals(closed, shares) == pytest.approx(3.0)


def test_a_region_without_emission_is_left():
    closed = close_totals(np.zeros((2, 2)), np.array([5.0]), np.ones((1, 2, 2)))
    assert (closed == 0).all()


def test_groups_meet_without_a_seam():
    groups = np.repeat([0, 0, 0, 0, 0, 1, 1, 1, 1, 1], 4)[None].repeat(5, axis=0)
    groups[0] = -1
    shares = group_shares(groups, 2, 4.0)
    assert (shares[:, 0] == 0).all()
    np.testing.assert_allclose(shares[:, 1:].sum(axis=0), 1.0)
    assert np.abs(np.diff(shares[0, 2])).max() < 0.15
    assert shares[0, 2, 0] == 1.0
    sharp = group_shares(groups, 2, 0.0)
    assert set(np.unique(sharp)) == {0.0, 1.0}
