import dask
import dask.array as da
import numpy as np
import pytest
from distributed import Client, LocalCluster

from pipeline.learn.blocks import fold_of
from pipeline.learn.estimator import RatioRegressor
from pipeline.learn.fit import LearnSettings, cross_fit, lesson, predict_log, train
from pipeline.learn.scores import weighted_r2
from pipeline.learn.search import predict_lazily, train_across, tune

QUICK = LearnSettings(trees=30, leaves=6, folds=3)


@pytest.fixture(scope="module")
def text(table):
    return train(table, QUICK)


def test_estimator_is_the_fit(table, text):
    features, target, weight = lesson(table)
    fitted = RatioRegressor(trees=30, leaves=6).fit(features, np.stack([target, weight], axis=1))
    np.testing.assert_allclose(fitted.predict(table.features), predict_log(text, table.features))


def test_lazy_prediction_computes_nothing_and_gives_the_same(table, text):
    def refuse(*args, **kwargs):
        raise AssertionError("computed while the graph was built")

    with dask.config.set(scheduler=refuse):
        lazy = predict_lazily(text, da.from_array(table.features, chunks=(1000, 7)))
    np.testing.assert_array_equal(lazy.compute(scheduler="sync"), predict_log(text, table.features))


def test_search_scores_on_blocks_left_out(table):
    fold = fold_of(table.block, 3, 0)
    best = tune(table, fold, {"leaves": [2, 6], "trees": [30]})
    assert best["leaves"] == 6
    assert best["score"] == pytest.approx(max(best["scores"]))
    # The same score by hand: fit without each fold, score on it.
    _, out = cross_fit(table, fold, QUICK, 3)
    seen = table.weight > 0
    by_hand = []
    for k in range(3):
        rows = seen & (fold == k)
        by_hand.append(weighted_r2(out[rows], np.clip(table.target[rows], -4, 4), table.weight[rows], 0.0))
    assert best["score"] == pytest.approx(np.mean(by_hand), abs=0.05)


@pytest.mark.slow
def test_one_fit_across_workers_has_the_same_skill(table, text):
    features, target, weight = lesson(table)
    cluster = LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None)
    with cluster, Client(cluster) as client:
        chunks = len(target) // 2 + 1
        arrays = (da.from_array(a, chunks=(chunks, *a.shape[1:])).persist() for a in (features, target, weight))
        far = train_across(client, *arrays, QUICK)
    skill = [weighted_r2(predict_log(t, features), target, weight, 0.0) for t in (text, far)]
    assert skill[1] == pytest.approx(skill[0], abs=0.03)
