import pytest

from benchmarks.product import run
from pipeline.core.grid import Grid


@pytest.mark.slow
def test_benchmark_writes_a_product_and_times_it(tmp_path):
    got = run(Grid.from_bounds(100, 30, 104, 33, 4), 2, 1, str(tmp_path))
    assert got["fine_gb"] > 0
    assert got["fine_wall_s"] >= got["months_task_s"]
