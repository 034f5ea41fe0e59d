import numpy as np
import pytest

from benchmarks.learning import hidden_blocks
from benchmarks.predict import FEATURES, candidates, trained


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
