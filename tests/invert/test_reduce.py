"""The reduced state: what leaves are, what they keep of the prior, and that all of them are the whole month again."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.build import build
from pipeline.command import summary
from pipeline.core.grid import Grid
from pipeline.core.metrics import interval
from pipeline.core.options import PriorOptions
from pipeline.invert.diagnose import cell_sums
from pipeline.invert.level import solve_level
from pipeline.invert.month import look_month, solve_month
from pipeline.invert.prior import CLASSES
from pipeline.invert.reduce import SIDES, quadtree, reduced
from pipeline.invert.state import LEVEL
from pipeline.preview import predict, stage_seconds
from pipeline.settings import load
from pipeline.store.location import Store

from ..conftest import settings_for
from .conftest import Case, make_case

MONTH = "2022-01"
INDEPENDENT = [k for k, name in enumerate(CLASSES) if name not in ("transport", "residential")]


def basis_of(case: Case, leaves: int):
    return reduced(case.grid, case.state, case.observations, case.blocks, leaves)


def level_of(case: Case):
    """The level that a first look of every cell finds."""
    evidence = look_month(case.month())[1]
    state = case.state
    return solve_level([evidence], [state.roots["totals"]], [MONTH], case.options, PriorOptions(), 0)[0]


@given(
    west=st.integers(0, 40),
    south=st.integers(0, 40),
    shape=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    leaves=st.integers(1, 400),
    seed=st.integers(0, 99),
)
def test_leaves_are_aligned_squares_of_one_kind(west, south, shape, leaves, seed):
    rng = np.random.default_rng(seed)
    grid = Grid(4, west, south, shape[1], shape[0])
    size = shape[0] * shape[1]
    kind, weight = (np.arange(size) % shape[1] > shape[1] // 2).astype(int), rng.lognormal(0, 2, size)
    leaf = quadtree(grid, weight, kind, leaves)
    count = leaf.max() + 1
    assert set(leaf) == set(range(count))
    coarsest = quadtree(grid, weight, kind, 1).max() + 1
    assert count <= max(leaves, coarsest)
    row, col = (a + first for a, first in zip(np.divmod(np.arange(size), shape[1]), (south, west), strict=True))
    for k in range(count):
        of = leaf == k
        assert len(set(kind[of])) == 1
        # One square of the tree holds it, and no cell of that square and kind lies outside of it.
        (side,) = [s for s in (1, *SIDES) if _fills(of, row // s, col // s, kind)][:1]
        assert len(set(zip(row[of] // side, col[of] // side, strict=True))) == 1


def _fills(of: np.ndarray, *parts: np.ndarray) -> bool:
    same = np.all([p == p[of][0] for p in parts], axis=0)
    return bool(np.array_equal(same, of))


def test_more_leaves_are_finer_and_lie_where_more_is_emitted():
    grid = Grid(4, 400, 120, 32, 32)
    weight = np.random.default_rng(1).lognormal(0, 2, 32 * 32)
    few, many = (quadtree(grid, weight, np.zeros(1024, int), n) for n in (60, 300))
    assert len(set(zip(few, many, strict=True))) == many.max() + 1
    assert 45 < few.max() + 1 <= 60
    cells = np.bincount(few)[few]
    assert weight[cells == 1].mean() > 3 * weight[cells > 1].mean()
    assert np.array_equal(quadtree(grid, weight, np.zeros(1024, int), 1024), np.arange(1024))


@pytest.mark.parametrize("leaves", [1, 12, 30])
def test_what_is_projected_and_lifted(case, leaves):
    """R R^T = I: unit normals stay so; a draw of the prior comes back whole, and what was solved is in what is made."""
    basis = basis_of(case, leaves)
    rng = np.random.default_rng(2)
    z, xi = rng.standard_normal((basis.state.size, 3)), rng.standard_normal((case.state.size, 3))
    assert basis.state.size < case.state.size
    assert (basis.spread.T @ basis.spread).toarray() == pytest.approx(np.eye(basis.state.size), abs=1e-12)
    assert basis.lift(basis.project(xi), xi) == pytest.approx(xi, abs=1e-12)
    assert basis.project(basis.lift(z, xi)) == pytest.approx(z, abs=1e-12)
    assert basis.project(basis.lift(z)) == pytest.approx(z, abs=1e-12)
    for name in LEVEL:
        here, there = case.state.blocks[name], basis.state.blocks[name]
        assert basis.lift(z, xi)[here] == pytest.approx(z[there], abs=1e-12)


@pytest.mark.parametrize("leaves", [1, 12, 30])
def test_a_leaf_varies_as_all_of_b_says(case, leaves):
    """The variance of its ln NOx is w^T B w where cells are independent; where they are not, a part lies beside it."""
    state, basis = case.state, basis_of(case, leaves)
    wanted = np.array([state.variance(row)[0] for row in basis.share @ state.log_nox])
    got = basis.state.variance(basis.state.log_nox)
    alone = np.isin(basis.state.source, INDEPENDENT)
    n = basis.state.n_china
    assert got[:n][alone] == pytest.approx(wanted[:n][alone], rel=1e-12)
    assert np.all(got <= wanted * (1 + 1e-12))
    assert np.all(got[:n] > 0.8 * wanted[:n])


def test_nothing_is_lost_between_cells_and_leaves(case):
    """Sums by region and sector, and the columns of the prior's mean, in both."""
    state, basis = case.state, basis_of(case, 12)
    small = basis.state
    assert small.membership.T @ small.mean_co2 == pytest.approx(state.membership.T @ state.mean_co2, rel=1e-12)
    assert small.mean_nox.sum() == pytest.approx(state.mean_nox.sum(), rel=1e-12)
    assert basis.split(small.mean_nox) == pytest.approx(state.mean_nox, rel=1e-12)
    coarse = replace(case, state=small, observations=basis.observations, blocks=basis.blocks).model()
    whole = case.model().columns(np.zeros(state.size))
    assert coarse.columns(np.zeros(small.size)) == pytest.approx(whole, rel=1e-4)
    assert coarse.matrix.nnz < case.model().matrix.nnz
    # What is gone of the variance is gone of the smaller one: all of what the columns took, no more than there is.
    assert np.all(basis.left(np.ones(state.cell.size)) == 1)
    left = basis.left(np.full(state.cell.size, 0.9))
    gone = (1 - left) * small.variance(small.log_nox)
    assert gone == pytest.approx(basis.mean(0.1 * state.variance(state.log_nox)), rel=1e-9)


def test_as_many_leaves_as_cells_are_the_whole_month(case):
    level = level_of(case)
    month = case.month()
    same = replace(month, reduced=basis_of(case, case.state.n_cell))
    (a, of_a, known_a), (b, of_b, known_b) = (look_month(m) for m in (month, same))
    assert b["co2"].values == pytest.approx(a["co2"].values, rel=0.02)
    assert known_b["left"] == pytest.approx(known_a["left"], abs=0.01)
    assert known_b["grip"] == pytest.approx(known_a["grip"], rel=0.1, abs=0.02 * known_a["grip"].max())
    assert of_b.log_nox == pytest.approx(of_a.log_nox, abs=1e-3)
    assert of_b.precision == pytest.approx(of_a.precision, rel=0.02, abs=0.02 * of_a.precision.max())
    a, b = (solve_month(m, level) for m in (month, same))
    for name in ("co2", "averaging_kernel", "variance_reduction", "innovation_rms"):
        assert b[name].values == pytest.approx(a[name].values, rel=0.02, abs=0.01, nan_ok=True)
    assert (b.attrs["leaves"], "leaves" in a.attrs) == (case.state.n_cell, False)


def test_totals_are_those_of_the_level_and_cells_no_narrower(case):
    """Members have the totals by sector that they have without leaves; cells of leaves know less, not more."""
    level, month = level_of(case), case.month()
    coarse = replace(month, reduced=basis_of(case, 12))
    a, b = (solve_month(m, level) for m in (month, coarse))
    totals = [s["co2"].sum(("lat", "lon")).values for s in (a, b)]
    assert totals[1] == pytest.approx(totals[0], rel=1e-6)
    assert 0 < b.attrs["dofs"] < 0.8 * a.attrs["dofs"]
    spread = [np.log(s["co2"].sum("sector")).std("member").values for s in (a, b)]
    assert spread[1].mean() > spread[0].mean()
    assert np.mean(spread[1] < 0.8 * spread[0]) < 0.05
    assert b["averaging_kernel"].mean() < a["averaging_kernel"].mean()


@pytest.mark.slow
@pytest.mark.parametrize("leaves", [0, 12])
def test_intervals_of_cells_cover_truths_drawn_from_the_prior(leaves):
    """With leaves the columns are misread, and what they cannot say stays open: nine in ten are inside."""
    inside = []
    for seed in range(10):
        base = make_case(members=100, sample_share=1.0)
        state, rng = base.state, np.random.default_rng(seed)
        z = rng.standard_normal(state.size)
        z[state.blocks["gain"]] = 0.0
        # Given an emission, nothing is left of its variance.
        column = base.model(np.float64, left=0.0).columns(z)
        case = base.with_columns(column + rng.normal(0, 5e-6, column.size), 5e-6)
        month = case.month((seed, MONTH))
        solved = look_month(replace(month, reduced=basis_of(case, leaves)) if leaves else month)[0]
        drawn = state.mean_co2 * np.exp(state.log_co2 @ state.mix(z) - state.variance(state.log_co2) / 2)
        truth = cell_sums(state, drawn[:, None]).reshape(base.grid.shape)
        low, high = interval(solved["co2"].sum("sector").values)
        inside.append(np.mean((truth >= low) & (truth <= high)))
    assert 0.84 < np.mean(inside) < 0.97


def test_no_observation_gives_the_prior_and_its_members():
    case = make_case(n_days=0)
    month = case.month()
    whole, coarse = (look_month(m)[0] for m in (month, replace(month, reduced=basis_of(case, 6))))
    assert np.array_equal(coarse["co2"].values, whole["co2"].values)
    assert coarse.attrs["dofs"] == 0


def test_a_run_costs_and_learns_less_with_fewer_leaves(world):
    def of(leaves: int):
        return load({"year": 2022, "store": "x", "inversion": {"leaves": leaves}}, environ={})

    stages = [stage_seconds(of(n), 40_000, 2e5, 2) for n in (0, 10**6, 8000, 2000)]
    assert stages[1] == stages[0]
    for name in ("first look", "invert"):
        assert stages[0][name] > stages[2][name] > stages[3][name] > 0
    assert {n: s for n, s in stages[3].items() if n not in ("first look", "invert")}.items() <= stages[0].items()
    few, all_ = (predict(settings_for(world, inversion={"leaves": n}), Store(world), workers=1).dofs for n in (20, 0))
    assert 0.2 * all_ < few < 0.8 * all_


def test_a_negative_number_is_refused():
    with pytest.raises(Exception, match="leaves = -1"):
        load({"year": 2022, "store": "x", "inversion": {"leaves": -1}}, environ={})


def test_a_product_says_that_it_was_made_so(world, tmp_path, client):
    """End to end: said in provenance, report, cubes and the summary; a run of every cell takes over what it saw."""
    shutil.copytree(f"{world}/inputs", tmp_path / "inputs")
    store = Store(str(tmp_path))
    settings = settings_for(store.url, inversion={"leaves": 60, "members": 10}, fine=False)
    made = build(settings, store, client, progress=False)
    leaves = {d["leaves"] for d in made.diagnostics}
    assert len(leaves) == 1
    assert 2 < min(leaves) <= 60
    provenance = store.read_json("products", made.version, "provenance.json")
    assert provenance["settings"]["inversion"]["leaves"] == 60
    assert {d["leaves"] for d in provenance["diagnostics"]} == leaves
    page = store.read_bytes("products", made.version, "report", "index.html").decode()
    assert f"reduced state of {min(leaves)} leaves" in page.split("</header>")[0]
    told = {"nothing_to_do": False, "stages": {}, "predictions": [], "memory": {"driver": 0.0, "workers": 0.0}}
    lines = summary(settings, store, made.version, told, None, 1.0).lines
    assert any("reduced state" in line and "Gt CO2" in line for line in lines)
    cubes = json.loads(store.read_bytes("products", made.version, "emissions_025.zarr", "zarr.json"))
    assert json.loads(cubes["attributes"]["settings"])["inversion"]["leaves"] == 60
    whole = build(settings_for(store.url, inversion={"members": 10}, fine=False), store, client, progress=False)
    taken_over = {name for name, stage in whole.stages.items() if stage["kept"] and not stage["done"]}
    assert taken_over == {"prepare", "observe"}
    assert not any("leaves" in d for d in whole.diagnostics)
    page = store.read_bytes("products", whole.version, "report", "index.html").decode()
    assert "reduced state" not in page.split("</header>")[0]
