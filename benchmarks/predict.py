"""Rows a second through the learned trees: plain LightGBM, ParallelPostFit over Dask chunks, lleaves if installed.

    python -m benchmarks.predict --rows 300000

lleaves compiles a model to machine code; it needs llvmlite below 0.45 and so an environment of its own.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import dask
import dask.array as da
import lightgbm as lgb
import numpy as np
from dask_ml.wrappers import ParallelPostFit
from numpy.typing import NDArray

FEATURES = 24
MODELS = {"ours (120 trees, 10 leaves)": (120, 10), "large (300 trees, 63 leaves)": (300, 63)}


def trained(trees: int, leaves: int) -> lgb.LGBMRegressor:
    """A model of a size, fitted to noise around a smooth function."""
    rng = np.random.default_rng(0)
    x = rng.random((50_000, FEATURES), dtype=np.float32)
    y = np.sin(8 * x[:, 0]) + x[:, 1] * x[:, 2] + 0.3 * rng.standard_normal(len(x))
    model = lgb.LGBMRegressor(n_estimators=trees, num_leaves=leaves, n_jobs=1, verbosity=-1)
    return model.fit(x, y)


def candidates(model: lgb.LGBMRegressor, folder: Path) -> dict[str, Callable[[NDArray], NDArray]]:
    """Ways to predict, by name."""
    path = str(folder / "model.txt")
    model.booster_.save_model(path)
    booster = lgb.Booster(model_file=path)
    parallel = ParallelPostFit(model, predict_meta=np.zeros(0))

    def lazily(rows: NDArray, threads: int) -> NDArray:
        chunks = da.from_array(rows, chunks=(25_000, FEATURES), name=False)
        with dask.config.set(scheduler="threads", num_workers=threads):
            return parallel.predict(chunks).compute()

    ways: dict[str, Callable[[NDArray], NDArray]] = {
        "Booster.predict, 1 thread": lambda rows: booster.predict(rows, num_threads=1),
        "Booster.predict, 2 threads": lambda rows: booster.predict(rows, num_threads=2),
        "ParallelPostFit(LGBMRegressor), 1 thread": lambda rows: lazily(rows, 1),
        "ParallelPostFit(LGBMRegressor), 2 threads": lambda rows: lazily(rows, 2),
    }
    try:
        import lleaves
    except ImportError:
        return ways
    compiled = lleaves.Model(model_file=path)
    start = time.perf_counter()
    compiled.compile()
    print(f"lleaves compiled in {time.perf_counter() - start:.1f} s")
    return ways | {f"lleaves, {n} thread": lambda rows, n=n: compiled.predict(rows, n_jobs=n) for n in (1, 2)}


def throughput(way: Callable[[NDArray], NDArray], rows: NDArray, repeats: int = 3) -> float:
    """Rows a second, best of a few."""
    best = np.inf
    for _ in range(repeats):
        start = time.perf_counter()
        way(rows)
        best = min(best, time.perf_counter() - start)
    return len(rows) / best


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=300_000)
    rows = np.random.default_rng(1).random((parser.parse_args().rows, FEATURES), dtype=np.float32)
    for name, (trees, leaves) in MODELS.items():
        with tempfile.TemporaryDirectory() as folder:
            ways = candidates(trained(trees, leaves), Path(folder))
            expected = next(iter(ways.values()))(rows[:1000])
            for label, way in ways.items():
                gap = float(np.abs(way(rows[:1000]) - expected).max())
                print(
                    f"{name:32s} {label:44s} {throughput(way, rows) / 1e6:6.3f} M rows/s  largest difference {gap:.0e}"
                )


if __name__ == "__main__":
    main()
