import dataclasses
import hashlib

import lightgbm as lgb
import numpy as np
import pytest
from toy_world import TAU, make_world

from pipeline.core.metrics import r2
from pipeline.learn.blocks import block_index, fold_of
from pipeline.learn.distribute import learn_fields
from pipeline.learn.fit import LearnSettings, fit_group, predict_log, residual_sigma, smearing, train

QUICK = LearnSettings(trees=80, leaves=8)


@pytest.fixture(scope="module")
def model(table):
    fold = fold_of(table.block, QUICK.folds, 0)
    return fit_group("all", table, fold, QUICK)


def test_blocks_do_not_depend_on_the_domain(toy):
    whole = block_index(toy.grid, 2.0)
    part = block_index(dataclasses.replace(toy.grid, west_index=toy.grid.west_index + 7, n_lon=20), 2.0)
    np.testing.assert_array_equal(part, whole[:, 7:27])


def test_a_block_is_in_one_fold(table):
    fold = fold_of(table.block, 5, 1)
    for block in np.unique(table.block):
        assert np.unique(fold[table.block == block]).size == 1
    assert set(np.unique(fold)) == set(range(5))


def test_unobserved_cells_teach_nothing(table, toy):
    blind = np.tile(toy.blind.ravel(), 4)
    assert (table.weight[blind] == 0).all()
    assert table.weight[~blind].sum() > 0


def test_target_is_freed_of_the_pull_to_the_prior(table, toy):
    seen = table.weight > 0
    g = np.tile(toy.g.ravel(), 4)[seen]
    slope = np.cov(g, table.target[seen])[0, 1] / g.var()
    assert slope == pytest.approx(1.0, abs=0.1)
    pulled = np.cov(g, table.shift[seen])[0, 1] / g.var()
    assert pulled < 0.9


def test_it_learns_what_features_explain(model, table, toy):
    f = predict_log(model.text, table.features)
    assert np.corrcoef(f, np.tile(toy.g.ravel(), 4))[0, 1] > 0.95


def test_skill_on_unseen_blocks_is_above_the_priors(model):
    assert model.scores["r2_log_blocks"] > 0.2
    assert model.scores["r2_blocks"] > model.scores["r2_prior"]


def test_random_folds_claim_more_than_blocks(model):
    assert model.scores["r2_log_random"] >= model.scores["r2_log_blocks"] - 0.02
    assert model.scores["optimism_log"] == pytest.approx(model.scores["r2_log_random"] - model.scores["r2_log_blocks"])


def test_sigma_of_the_residual_is_found_behind_noisy_labels(model, table, toy):
    f = predict_log(model.text, table.features)
    assert residual_sigma(table, f) == pytest.approx(TAU, rel=0.2)
    assert np.mean(model.sigma_ln) == pytest.approx(TAU, rel=0.35)


def test_smearing_gives_the_mean_back(table, toy):
    f = np.tile(toy.g.ravel(), 4)
    # ln truth = g + lasting noise, so the mean is exp(g + tau^2 / 2); the prior's own offset is in the posterior.
    level = smearing(table, f)
    truth = toy.truth.ravel()
    assert level * np.sum(table.prior * np.exp(f)) == pytest.approx(truth.sum(), rel=0.06)


def test_model_is_text_with_a_checksum(model, table):
    again = lgb.Booster(model_str=model.text)
    assert again.feature_name() == list(table.names)
    assert model.sha256 == hashlib.sha256("\0".join((model.text, *model.fold_texts)).encode()).hexdigest()
    assert sum(model.importance.values()) == pytest.approx(1.0)


def test_the_same_table_gives_the_same_text(table):
    assert train(table, QUICK) == train(table, QUICK)
    assert train(table, QUICK) != train(table, dataclasses.replace(QUICK, seed=1))


def test_nothing_observed_is_no_model(table):
    blind = table.rows(table.weight == 0)
    model = fit_group("blind", blind, fold_of(blind.block, 5, 0), QUICK)
    assert model.text == ""
    assert model.smearing == 1.0
    assert (predict_log(model.text, blind.features) == 0).all()


@pytest.mark.slow
def test_learned_beats_the_prior_where_nothing_was_seen_over_seeds():
    gains = []
    for seed in range(3):
        toy = make_world(seed=seed + 10, months=3)
        learned = learn_fields(toy.posterior, toy.features, toy.domain, QUICK).fields
        total = learned["co2_learned"].sum("sector").values
        prior = toy.posterior["prior"].sum("sector").values
        where = np.broadcast_to(toy.blind, total.shape)
        gains.append(r2(total[where], toy.truth[where]) - r2(prior[where], toy.truth[where]))
    assert min(gains) > 0.05
