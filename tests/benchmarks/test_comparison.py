"""The alternatives of the comparison: the textbook's formula in its other form, laws on a small world, the table."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
from scipy import sparse

from benchmarks import comparison
from benchmarks.comparison import METHODS, OURS, Case, Estimate, analytical, average, not_ahead, score, switched, table
from benchmarks.nature_run import score_product
from pipeline.core.errors import UsageError
from pipeline.store.location import Store
from pipeline.validate.truth import score_truth, true_months
from pipeline.world.physics import Physics

from ..conftest import settings_for


@pytest.fixture(scope="module")
def case(built, tmp_path_factory) -> Case:
    """The small world with its product, in a store of its own."""
    url = str(tmp_path_factory.mktemp("comparison") / "store")
    shutil.copytree(built.url, url)
    return Case.open(Store(url), settings_for(url), built.version)


@pytest.fixture(scope="module")
def estimates(case) -> dict[str, Estimate]:
    return {name: method(case) for name, method in METHODS.items()}


def test_the_analytical_solution_is_that_of_the_gain():
    rng = np.random.default_rng(1)
    jacobian = sparse.random_array((40, 12), density=0.4, rng=rng, format="csr")
    misfit, error = rng.standard_normal(40), rng.uniform(0.5, 2, 40)
    k, r = jacobian.toarray(), np.diag(error**2)
    gain = k.T @ np.linalg.inv(k @ k.T + r)
    found, covariance = analytical(jacobian, misfit, error)
    assert found == pytest.approx(gain @ misfit, abs=1e-12)
    assert covariance == pytest.approx(np.eye(12) - gain @ k, abs=1e-12)


def test_without_observations_the_analytical_solution_is_the_prior():
    found, covariance = analytical(sparse.csr_array((0, 3)), np.zeros(0), np.zeros(0))
    assert (found == 0).all()
    assert covariance == pytest.approx(np.eye(3))


def test_a_problem_too_large_for_dense_algebra_is_refused():
    with pytest.raises(UsageError, match="choose a smaller --domain"):
        analytical(sparse.csr_array((1, 10_001)), np.zeros(1), np.ones(1))


def test_proxies_are_the_prior_that_the_product_keeps(case, estimates):
    kept = case.product.cells["co2_proxy_prior"].to_numpy()
    land = case.product.land
    assert estimates["proxies"].mean[:, land] == pytest.approx(kept[:, land], rel=1e-6)
    got = score(case, estimates["proxies"])
    assert got["relative_mae_over_prior"] == pytest.approx(1)
    assert got["r2_monthly"] == pytest.approx(got["prior_r2_monthly"])


def test_every_alternative_says_something_else_of_the_same_cells(case, estimates):
    shape = true_months(case.product, 2022).shape
    land = case.product.land
    for name, estimate in estimates.items():
        assert estimate.mean.shape == shape, name
        assert np.isfinite(estimate.mean).all()
        assert (estimate.members is None) == (name == "divergence")
    fields = [e.mean[:, land] for e in estimates.values()]
    for k, one in enumerate(fields):
        assert all(np.abs(one - other).sum() > 0.01 * one.sum() for other in fields[:k])
    assert (estimates["NO2 only"].mean[:, land] >= 0).all()


def test_members_of_the_textbook_are_drawn_about_its_solution(case, estimates):
    got, land = estimates["Gaussian"], case.product.land
    members, mean = got.members[:, :, land], got.mean[:, land]
    sigma = members.std(axis=0, ddof=1)
    z = (members.mean(axis=0) - mean)[sigma > 0] / (sigma[sigma > 0] / np.sqrt(len(members)))
    assert np.sqrt(np.mean(z**2)) < 2
    prior = estimates["proxies"].mean[:, land]
    assert (sigma <= 1.5 * comparison.SPREAD * prior + 1e-6).all()


def test_the_solution_does_not_move_when_the_columns_say_what_was_believed(case, estimates, monkeypatch):
    def agreeing(self):
        for number, month in months(self):
            zero = np.zeros(month.state.size)
            seen = month.observations
            model = comparison.ColumnModel(month.state, seen, month.blocks, month.transport, month.options)
            yield number, replace(month, observations=replace(seen, column=model.columns(zero)))

    months = Case.months
    monkeypatch.setattr(Case, "months", agreeing)
    land = case.product.land
    prior = estimates["proxies"].mean[:, land]
    assert comparison.gaussian(case).mean[:, land] == pytest.approx(prior, rel=1e-4)


def test_a_perfect_estimate_has_perfect_scores(case):
    truth = true_months(case.product, 2022)
    got = score(case, Estimate(truth, np.stack([truth * 0.9, truth, truth * 1.1])))
    assert (got["r2_monthly"], got["relative_mae_over_prior"], got["negative"]) == (1.0, 0.0, 0.0)
    assert got["national_bias"] == pytest.approx(0)
    assert got["coverage_90_cells"] == 1.0
    silent = score(case, Estimate(-truth))
    assert silent["national_bias"] == pytest.approx(-2)
    assert silent["negative"] == pytest.approx((truth[:, case.product.land] > 0).mean())
    assert np.isnan(silent["coverage_90_cells"])


def test_the_table_shows_every_row_and_where_ours_is_not_ahead(case, estimates):
    scored = {OURS: score(case, estimates["proxies"]), "divergence": score(case, estimates["divergence"])}
    means = average([scored, scored])
    assert means["divergence"]["r2_annual"] == pytest.approx(scored["divergence"]["r2_annual"])
    lines = table(means).splitlines()
    assert [line.split(" | ")[0] for line in lines[2:]] == ["| ours", "| divergence"]
    assert lines[3].split(" | ")[5:7] == ["-", "-"]
    better = {**means, "other": {**means[OURS], "r2_annual": 1.0, "relative_mae_over_prior": 2.0}}
    told = [line for line in not_ahead(better) if "of other" in line]
    assert any("R2 of sums" in line for line in told)
    assert not any("MAE" in line for line in told)


def test_ours_is_scored_as_validation_does(case):
    got = score_product(case.product, 2022)
    assert got["negative"] == 0
    assert got.items() >= score_truth(case.store, case.product.name)[2022].items()


def test_each_piece_of_physics_is_turned_over_once():
    worlds = switched(Physics())
    assert worlds.pop("as given") == Physics()
    assert worlds["wind_error off"] == Physics(wind_error=False)
    assert worlds["gain on"] == Physics(gain=True)
    assert len(worlds) == len(Physics().as_dict())
