"""The notebooks: they run on a small store from top to bottom, and are kept without outputs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.store.location import Store
from pipeline.store.publish import point_to
from tests.product_fixture import write_product

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
SHOW = """
import ast
names = {}
def show(source):
    tree = ast.parse(source)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, "cell", "exec"), names)
    if last is not None:
        print(eval(compile(ast.Expression(last.value), "cell", "eval"), names))
"""
"""Runs a cell and shows its last value, as a notebook does."""


def code_cells(path: Path) -> list[dict]:
    return [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_outputs_are_stripped(path: Path) -> None:
    assert all(not cell["outputs"] and cell["execution_count"] is None for cell in code_cells(path))


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_it_runs(path: Path, tmp_path: Path) -> None:
    store = Store(str(tmp_path / "store"))
    point_to(store, write_product(store), [2022])
    script = tmp_path / "cells.py"
    script.write_text(SHOW + "\n".join(f"show({''.join(cell['source'])!r})" for cell in code_cells(path)))
    told = subprocess.run(
        [sys.executable, str(script)], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False,
        env={**os.environ, "CARBONCUBE_STORE": store.url, "MPLBACKEND": "agg", "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert told.returncode == 0, told.stderr
    assert "2022: " in told.stdout
    assert "MB read for the window" in told.stdout
    assert "no product of 2031" in told.stdout
