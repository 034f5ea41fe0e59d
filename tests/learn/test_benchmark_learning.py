from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks.learning import calibration, conformal_quantile, hidden_blocks
from benchmarks.predict import FEATURES, candidates, trained
from pipeline.core.grid import Grid


def test_hidden_blocks_are_whole_and_the_seeds_own():
    lat, lon = np.arange(20.125, 40, 0.25), np.arange(100.125, 120, 0.25)
    hidden = hidden_blocks(lat, lon, 3)
    blocks = hidden[: hidden.shape[0] // 8 * 8, : hidden.shape[1] // 8 * 8].reshape(-1, 8, hidden.shape[1] // 8, 8)
    assert (blocks.all(axis=(1, 3)) | ~blocks.any(axis=(1, 3))).all()
    assert 0.05 < hidden.mean() < 0.4
    np.testing.assert_array_equal(hidden, hidden_blocks(lat, lon, 3))
    assert (hidden != hidden_blocks(lat, lon, 4)).any()
    part = hidden_blocks(lat[8:40], lon[16:], 3)
    np.testing.assert_array_equal(part, hidden[8:40, 16:])


def test_every_way_to_predict_gives_the_same(tmp_path):
    rows = np.random.default_rng(1).random((2000, FEATURES), dtype=np.float32)
    ways = candidates(trained(20, 5), tmp_path)
    first, *others = (way(rows) for name, way in ways.items() if not name.startswith("lleaves"))
    for other in others:
        np.testing.assert_allclose(other, first, rtol=1e-12)


@pytest.mark.parametrize("module", ["learning", "predict", "product"])
def test_benchmarks_explain_themselves(module, capsys):
    import runpy
    import sys

    argv, sys.argv = sys.argv, [module, "--help"]
    try:
        with pytest.raises(SystemExit):
            runpy.run_module(f"benchmarks.{module}", run_name="__main__")
    finally:
        sys.argv = argv
    assert "usage" in capsys.readouterr().out


def test_conformal_factor_is_true_over_claimed_spread():
    rng = np.random.default_rng(4)
    grid = Grid.from_bounds(100, 20, 120, 40, 4)
    log, said = 0.6 * rng.standard_normal((1, *grid.shape)), 0.3
    claimed = said * rng.standard_normal((50, 1, *grid.shape))
    case = SimpleNamespace(
        seed=1,
        grid=grid,
        whole=np.ones(grid.shape, bool),
        hidden=np.zeros(grid.shape, bool),
        truth=1e5 * np.exp(log)[:, None],
        samples=1e5 * np.exp(claimed),
    )
    rows = {row["cells"]: row for row in calibration([case])}
    assert rows["all"]["covered"] < 0.7
    assert rows["all"]["factor"] == pytest.approx(2.0, abs=0.2)


def test_quantile_has_the_finite_sample_correction():
    scores = np.arange(1.0, 20.0)  # n = 19: the ceil(20 x 0.9) = 18th
    assert conformal_quantile(scores, np.arange(19)) == 18.0
    assert conformal_quantile(scores[:5], np.arange(5)) == np.inf
    assert conformal_quantile(scores[:0], np.arange(0)) == np.inf


def test_big_blocks_count_as_one():
    scores = np.concatenate([np.full(1000, 9.0), np.linspace(0, 1, 40)])
    blocks = np.concatenate([np.zeros(1000, int), np.arange(1, 41)])
    assert conformal_quantile(scores, blocks) < 1.0
