"""The benchmark still runs, on a small box."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "regrid.py"


@pytest.fixture
def benchmark(monkeypatch):
    spec = importlib.util.spec_from_file_location("regrid_benchmark", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "DEGREES", 1)
    monkeypatch.setattr(module, "STEPS", 2)
    return module


def test_our_side_of_the_benchmark(benchmark, tmp_path):
    benchmark.prepare(tmp_path)
    row = benchmark.ours(tmp_path)
    assert {"weights_and_graph", "apply", "total", "peak_mb"} == set(row)
    result = np.load(tmp_path / "result.npy")
    assert result.shape == (2, 100, 100)
    assert benchmark.difference(tmp_path, result) == 0
    assert abs(result[0].mean() - benchmark.field()[0].mean()) < 1e-4
