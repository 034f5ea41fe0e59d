from dataclasses import replace

import numpy as np
import pytest
from distributed import Client
from toy_world import SIGMA_PRIOR, TAU

from pipeline.core.errors import InputError
from pipeline.core.metrics import r2
from pipeline.learn.blocks import block_index, fold_of
from pipeline.learn.distribute import SPREAD, domain_of, in_turn, learn_fields, on_cluster
from pipeline.learn.fit import LearnSettings
from pipeline.learn.predict import region_totals

QUICK = LearnSettings(trees=40, leaves=8)


@pytest.fixture(scope="module")
def learned(toy):
    return learn_fields(toy.posterior, toy.features, toy.domain, QUICK)


def test_learned_is_above_the_prior_where_nothing_was_seen(toy, learned):
    total = learned.fields["co2_learned"].sum("sector").values
    prior = toy.posterior["prior"].sum("sector").values
    where = np.broadcast_to(toy.blind, total.shape)
    assert r2(total[where], toy.truth[where]) > r2(prior[where], toy.truth[where]) + 0.05
    assert np.isfinite(learned.fields["sigma_ln"]).all()


@pytest.mark.parametrize(("close_to", "name"), [("posterior", "co2"), ("prior", "prior")])
def test_provincial_totals_by_sector_are_kept(toy, close_to, name):
    fields = learn_fields(toy.posterior, toy.features, toy.domain, QUICK, close_to=close_to).fields
    for s in range(4):
        got = region_totals(fields["co2_learned"].values[1, s], toy.domain.fractions)
        wanted = region_totals(toy.posterior[name].isel(time=1).values[s], toy.domain.fractions)
        np.testing.assert_allclose(got, wanted, rtol=1e-6)


def test_the_model_that_serves_a_block_has_not_seen_it(toy):
    """Change the posterior of one block: the model of its fold is the same to the byte, the others are not.

    The block counts to no province here: through a province's total every model knows of it.
    """
    changed = toy.posterior.copy(deep=True)
    block = (toy.grid.lat[:, None] < 32) & (toy.grid.lon[None, :] < 102)
    assert not toy.blind[block].any()
    changed["co2"] = changed["co2"] * np.where(block, 20.0, 1.0)
    domain = replace(toy.domain, fractions=np.where(block, 0.0, toy.domain.fractions))
    runs = [learn_fields(posterior, toy.features, domain, QUICK) for posterior in (toy.posterior, changed)]
    blocks = block_index(toy.grid, QUICK.block_degrees)
    fold = int(fold_of(blocks, QUICK.folds, QUICK.seed, "blocks")[0, 0])
    before, after = (next(m for m in x.models if m.group == "east") for x in runs)
    same = [a == b for a, b in zip(before.fold_texts, after.fold_texts, strict=True)]
    assert same == [k == fold for k in range(QUICK.folds)]


def test_cluster_gives_what_one_process_gives(toy, learned):
    with Client(n_workers=1, threads_per_worker=2, processes=False, dashboard_address=None) as client:
        far = learn_fields(toy.posterior, toy.features, toy.domain, QUICK, on_cluster(client))
    np.testing.assert_array_equal(far.fields["co2_learned"], learned.fields["co2_learned"])
    assert [m.sha256 for m in far.models] == [m.sha256 for m in learned.models]


def test_units_come_back_in_order():
    assert in_turn(lambda x: x * x, [3, 1, 2]) == [9, 1, 4]


def test_a_cell_belongs_to_the_group_with_most_of_it(toy):
    fractions = np.zeros((3, *toy.grid.shape))
    fractions[0, 0, 0], fractions[1, 0, 0], fractions[2, 0, 0] = 0.3, 0.25, 0.25
    domain = domain_of(toy.grid, fractions, ("a", "b", "b"))
    assert domain.groups[0, 0] == 1
    assert domain.groups[1, 1] == -1
    np.testing.assert_allclose(domain.fractions[:, 0, 0].sum(), 1.0)


def test_unknown_closure_is_refused(toy):
    with pytest.raises(InputError, match="close_to='truth'"):
        learn_fields(toy.posterior, toy.features, toy.domain, QUICK, close_to="truth")


def test_spread_is_what_the_learning_leaves_within_its_bounds(toy, learned):
    """Truth around the learned field has TAU, the prior claimed SIGMA_PRIOR."""
    spread = learned.fields["spread"].values
    assert (spread >= SPREAD[0]).all()
    assert (spread <= SPREAD[1]).all()
    assert TAU / SIGMA_PRIOR < np.median(spread) < 0.9


def test_a_level_that_a_province_shares_teaches_nothing(toy):
    """Closed away: with all cells of a sector and province a third higher what is learned of places stays."""
    raised = toy.posterior.assign(co2=toy.posterior["co2"] * 1.3)
    fields = learn_fields(raised, toy.features, toy.domain, QUICK, close_to="prior").fields
    lower = learn_fields(toy.posterior, toy.features, toy.domain, QUICK, close_to="prior").fields
    np.testing.assert_allclose(fields["co2_learned"], lower["co2_learned"], rtol=1e-5)
