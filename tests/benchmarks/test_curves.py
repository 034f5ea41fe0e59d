"""Cost curves: what is measured and how it is shown; a point of a small world."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from scipy import sparse

from benchmarks import curves
from benchmarks.curves import Cost, Point, points, slope, table, thinned
from pipeline.core.grid import domain_grid
from pipeline.invert.model import Observations

from ..conftest import DOMAIN

COSTS = [
    Cost("cells", DOMAIN, n, 5 * n, 10 * n, 50, 2e-3 * n**0.5, 3e-3 * n**0.5, 1e-3 * n**0.25, 0.5)
    for n in (100, 400, 1600)
]


def test_domains_columns_and_members_are_varied_one_at_a_time():
    by_panel = {panel: [p for p in points() if p.panel == panel] for panel in curves.PANELS}
    assert [len(of) for of in by_panel.values()] == [6, 4, 5]
    sizes = [domain_grid(p.domain).shape for p in by_panel["cells"][:-1]]
    assert sizes == [(4 * d, 4 * d) for d in curves.DEGREES]
    assert {replace(p, share=1.0) for p in by_panel["columns"]} == {Point("columns", curves.domain(curves.SAME))}
    assert {replace(p, members=50) for p in by_panel["members"]} == {Point("members", curves.domain(curves.SAME))}


def test_thinning_keeps_rows_together():
    n = 4000
    rows = np.arange(n)
    seen = Observations(sparse.csr_matrix(np.c_[rows, rows]), rows, rows * 2.0, rows * 3.0, rows % 31)
    some = thinned(seen, 0.25)
    assert some.cell.size == pytest.approx(n / 4, rel=0.1)
    assert (some.matrix.toarray() == np.c_[some.cell, some.cell]).all()
    assert (some.sigma == 3 * some.cell).all()
    assert (some.day == some.cell % 31).all()
    assert (thinned(seen, 1.0).cell == rows).all()


def test_slopes_are_exponents():
    assert slope(COSTS, "cells", "seconds") == pytest.approx(0.5)
    assert slope(COSTS, "cells", "gib") == pytest.approx(0.25)
    lines = table(COSTS).splitlines()
    assert lines[-1] == "cells solved: seconds ~ x^0.50 (first look 0.50, solve 0.50), GiB ~ x^0.25"
    assert lines[2].startswith("| cells solved | 100 | 500 | 1 000 | 50 | 0.02 | 0.03 |")


def test_an_earlier_run_is_drawn_again(tmp_path, capsys):
    with pytest.raises(SystemExit):
        curves.main(["--work", str(tmp_path)])
    (tmp_path / "costs.json").write_text(json.dumps([asdict(c) for c in COSTS]))
    curves.main(["--work", str(tmp_path), "--figure", str(tmp_path / "new" / "costs.png")])
    assert "| cells solved | 1 600 |" in capsys.readouterr().out
    assert (tmp_path / "new" / "costs.png").stat().st_size > 5000


@pytest.mark.slow
def test_a_point_is_measured_and_its_world_is_left_alone(world, tmp_path):
    before = sorted(str(p) for p in Path(world).rglob("*"))
    os.symlink(f"{world}/inputs", tmp_path / "inputs")
    curves.prepare(str(tmp_path), DOMAIN)
    whole, few = (curves.measure(str(tmp_path), Point("columns", DOMAIN, share, 10)) for share in (1.0, 0.25))
    assert few.columns == pytest.approx(whole.columns / 4, rel=0.15)
    assert few.cells == whole.cells
    assert min(few.look, few.solve, few.gib) > 0
    assert sorted(str(p) for p in Path(world).rglob("*")) == before
