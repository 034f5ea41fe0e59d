"""The solver against the textbook: derivatives, the dense formula, draws, MCMC, and what no data must give."""

from dataclasses import replace

import numpy as np
import pytest

from pipeline.invert.model import weighted_normal
from pipeline.invert.month import Fit, draw, look_month
from pipeline.invert.noise import separate_error
from pipeline.invert.solve import conjugate_gradient, minimise

from .conftest import make_case


def dense_tangent(model, z: np.ndarray) -> np.ndarray:
    return model.linearise(z).forward(np.eye(model.state.size))


def test_tangent_is_the_derivative(case):
    model, rng = case.model(np.float64), np.random.default_rng(0)
    z, dz, h = rng.normal(size=case.state.size) * 0.3, rng.normal(size=case.state.size), 1e-6
    numeric = (model.blocks(z + h * dz) - model.blocks(z - h * dz))[:, 0] / (2 * h)
    assert model.linearise(z).forward(dz[:, None])[:, 0] == pytest.approx(numeric, rel=1e-5, abs=1e-9)


def test_cost_of_the_spread_has_its_slope(case):
    """Also that it counts for nothing where nobody looked, and no more than a degree of freedom an entry."""
    rng = np.random.default_rng(12)
    assert case.model(np.float64).spread_cost(rng.normal(size=case.state.size))[0] == 0
    model = case.model(np.float64, grip=rng.uniform(0, 2, case.state.cell.size) / case.state.mean_nox**2)
    z, dz, h = rng.normal(size=case.state.size) * 0.3, rng.normal(size=case.state.size), 1e-5
    numeric = (model.spread_cost(z + h * dz)[0] - model.spread_cost(z - h * dz)[0]) / (2 * h)
    assert model.spread_cost(z)[1] @ dz == pytest.approx(numeric, rel=1e-6)
    firm = case.model(np.float64, grip=1e12 / case.state.mean_nox**2)
    assert firm.spread_cost(z)[1] == pytest.approx(case.state.mix_adjoint(case.state.log_nox.T @ firm.share), rel=1e-6)


def test_degrees_of_freedom_of_entries_sum_to_those_of_the_columns():
    """trace (F L P L^T) = trace (I - P), against the dense P."""
    base = make_case(members=1500, sample_share=1.0)
    column = base.model().columns(0.5 * np.random.default_rng(4).standard_normal(base.state.size))
    case = base.with_columns(column, 5e-6)
    model, error, free = case.model(np.float64), np.full(column.size, 5e-6), np.ones((case.state.size, 1))
    # Lifetime and backgrounds are no entries' doing.
    for name in ("lifetime", "background"):
        free[case.state.blocks[name]] = 0.0
    optimum = minimise(model, column, error, 20, free=free)
    draws = draw(case.month(), Fit(model, optimum, error, free, (model.matrix, (model.unit / error) ** 2)))
    v, h = dense_tangent(model, optimum.z) * free.T, model.matrix.toarray()
    seen = (model.unit / error)[:, None] * (h @ v)
    posterior = np.linalg.inv(np.eye(case.state.size) + seen.T @ seen)
    assert draws.taken.sum() == pytest.approx(case.state.size - np.trace(posterior), rel=0.05)


def test_tangent_and_adjoint_agree(case):
    model, rng = case.model(np.float64), np.random.default_rng(1)
    tangent = model.linearise(rng.normal(size=case.state.size) * 0.3)
    dz = rng.normal(size=(case.state.size, 2))
    dv = rng.normal(size=(model.matrix.shape[1], 2))
    assert np.sum(tangent.forward(dz) * dv) == pytest.approx(np.sum(dz * tangent.adjoint(dv)), rel=1e-10)


def test_normal_product_is_the_matrix_product(case):
    matrix = case.model(np.float64).matrix
    rng = np.random.default_rng(2)
    weight, v = rng.uniform(0.5, 2, matrix.shape[0]), rng.normal(size=(matrix.shape[1], 3))
    expected = matrix.T @ (weight[:, None] * (matrix @ v))
    assert weighted_normal(matrix, weight, v) == pytest.approx(expected, rel=1e-10, abs=1e-12)


def test_conjugate_gradient_gives_the_dense_posterior(case):
    """(I + V^T H^T W H V)^-1 against numpy.linalg on the whole matrix."""
    model = case.model(np.float64)
    tangent = model.linearise(np.zeros(case.state.size))
    weight = np.full(model.matrix.shape[0], (model.unit / 5e-6) ** 2)
    v = dense_tangent(model, np.zeros(case.state.size))
    h = model.matrix.toarray()
    precision = np.eye(case.state.size) + v.T @ h.T @ (weight[:, None] * (h @ v))
    rhs = np.random.default_rng(3).normal(size=(case.state.size, 4))
    ours, _ = conjugate_gradient(tangent, weight, rhs, 1e-12, most=2000)
    assert ours == pytest.approx(np.linalg.solve(precision, rhs), rel=1e-8, abs=1e-8)


def test_optimum_has_no_gradient(case):
    model = case.model(np.float64)
    error = np.full(case.observations.column.size, 5e-6)
    optimum = minimise(model, case.observations.column, error, 60)
    tangent = model.linearise(optimum.z)
    residual = (case.observations.column - model.columns(optimum.z)) / model.unit * (model.unit / error) ** 2
    gradient = tangent.adjoint((model.matrix.T @ residual)[:, None])[:, 0] - optimum.z
    first = (
        (case.observations.column - model.columns(np.zeros_like(optimum.z))) / model.unit * (model.unit / error) ** 2
    )
    start = tangent.adjoint((model.matrix.T @ first)[:, None])
    assert np.linalg.norm(gradient) < 0.01 * np.linalg.norm(start)


def test_members_have_the_covariance_of_the_posterior():
    """Their spread against the dense P, in units of the prior's."""
    base = make_case(members=1500, sample_share=1.0)
    rng = np.random.default_rng(4)
    column = base.model().columns(0.5 * rng.standard_normal(base.state.size))
    case = base.with_columns(column, 5e-6)
    model = case.model(np.float64)
    error = np.full(column.size, 5e-6)
    optimum = minimise(model, column, error, 20)
    free = np.ones((case.state.size, 1))
    fit = Fit(model, optimum, error, free, (model.matrix, (model.unit / error) ** 2))
    draws = draw(case.month(), fit, tolerance=1e-3)
    v, h = dense_tangent(model, optimum.z), model.matrix.toarray()
    weight = (model.unit / error) ** 2
    posterior = np.linalg.inv(np.eye(case.state.size) + v.T @ h.T @ (weight[:, None] * (h @ v)))
    ours = np.cov(draws.linear)
    assert np.diag(ours) == pytest.approx(np.diag(posterior), abs=0.16)
    assert np.mean(np.diag(ours)) == pytest.approx(np.mean(np.diag(posterior)), rel=0.02)
    off = ~np.eye(len(ours), dtype=bool)
    assert np.sqrt(np.mean((ours - posterior)[off] ** 2)) < 0.04


def test_no_observation_gives_the_prior_exactly():
    case = make_case(n_days=0)
    solved = look_month(case.month())[0]
    prior = np.zeros(case.state.n_cell)
    np.add.at(prior, case.state.cell[: case.state.n_china], case.state.mean_co2)
    assert solved["co2"].mean("member").sum("sector").values.ravel() == pytest.approx(prior, rel=1e-12)
    assert np.all(solved["averaging_kernel"] == 0)
    assert np.all(solved["variance_reduction"] == 0)
    assert solved.attrs["dofs"] == 0


def test_missing_observations_change_nothing_elsewhere(case):
    """Members are positive, the mean of the members is the Laplace mean, columns are better explained."""
    solved = look_month(case.month())[0]
    assert solved["co2"].values.min() >= 0
    assert solved.attrs["dofs"] > 5
    model = case.model()
    before = np.sqrt(np.mean(((case.observations.column - model.columns(np.zeros(case.state.size))) / 5e-6) ** 2))
    assert solved.attrs["residual_rms"] < 0.5 * before


def test_posterior_variance_never_exceeds_the_prior():
    base = make_case(members=400, sample_share=1.0)
    rng = np.random.default_rng(5)
    column = base.model().columns(0.5 * rng.standard_normal(base.state.size))
    case = base.with_columns(column, 5e-6)
    solved = look_month(case.month())[0]
    # Common random numbers leave sampling noise of a few per cent.
    assert solved["variance_reduction"].values.min() > -0.15
    assert solved["variance_reduction"].values.mean() > 0.2


def test_lasting_parts_are_the_same_draw_in_every_month(case):
    first, second = (look_month(case.month((0, month)))[0] for month in ("2022-01", "2022-02"))
    totals = [s["co2"].sum(("sector", "lat", "lon")).values for s in (first, second)]
    assert np.corrcoef(*totals)[0, 1] > 0.5
    assert not np.allclose(*totals)


def test_same_seed_gives_the_same_bytes(case):
    a, b = (look_month(case.month((3, "2022-03")))[0] for _ in range(2))
    assert a["co2"].values.tobytes() == b["co2"].values.tobytes()


@pytest.mark.slow
def test_laplace_mean_and_sigma_against_mcmc():
    """A small box of log-normal sources: the product's mean and sigma against a long random walk."""
    base = make_case(n_days=3, shape=(2, 4), members=400, sample_share=1.0)
    rng = np.random.default_rng(6)
    column = base.model(left=0.0).columns(0.5 * rng.standard_normal(base.state.size))
    sigma = 0.3 * np.median(np.abs(column))
    case = base.with_columns(column + rng.normal(0, sigma, column.size), sigma)
    case = replace(case, options=replace(case.options, model_error=0.0))
    # Given an emission, nothing is left of its variance.
    model = case.model(np.float64, left=0.0)

    def cost(z: np.ndarray) -> float:
        return 0.5 * z @ z + 0.5 * np.sum(((case.observations.column - model.columns(z)) / sigma) ** 2)

    solved = look_month(case.month())[0]
    ours = solved["co2"].sum(("sector", "lat", "lon")).values
    # Preconditioned Crank-Nicolson: the prior is invariant, so only the misfit decides.
    state, z, chain = case.state, np.zeros(case.state.size), []
    misfit = cost(z) - 0.5 * z @ z
    variance = state.variance(state.log_co2)
    for step in range(40_000):
        trial = np.sqrt(1 - 0.15**2) * z + 0.15 * rng.standard_normal(z.size)
        trial[state.blocks["gain"]] = 0.0
        new = cost(trial) - 0.5 * trial @ trial
        if np.log(rng.random()) < misfit - new:
            z, misfit = trial, new
        if step > 4_000 and step % 20 == 0:
            chain.append(np.sum(state.mean_co2 * np.exp(state.log_co2 @ state.mix(z) - variance / 2)))
    assert ours.mean() == pytest.approx(np.mean(chain), rel=0.10)
    assert ours.std() == pytest.approx(np.std(chain), rel=0.40)


def test_errors_that_grow_with_the_column_are_told_from_noise():
    rng = np.random.default_rng(8)
    truth = rng.lognormal(-10, 1.5, 4000)
    column = truth + rng.normal(0, 1e-6, truth.size)
    noise, relative = separate_error(column, np.hypot(5e-6, 0.2 * column))
    assert relative == pytest.approx(0.2, rel=0.05)
    assert np.median(noise) == pytest.approx(5e-6, rel=0.1)
    high = column > np.quantile(column, 0.9)
    assert np.median(noise[high] / np.hypot(5e-6, 0.2 * column)[high]) < 0.5
    constant, none = separate_error(column, np.full(column.size, 5e-6))
    assert none == 0
    assert constant == pytest.approx(5e-6)
