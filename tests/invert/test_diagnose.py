"""Whether errors are those that were believed: known R and B come back; nothing is said where nothing was seen."""

from dataclasses import replace

import numpy as np
import pytest

from pipeline.core.options import PriorOptions
from pipeline.core.schema import CONSISTENCY
from pipeline.invert.diagnose import Departures, consistency, departures, pooled
from pipeline.invert.level import solve_level
from pipeline.invert.month import look_month, solve_month

from .conftest import make_case


def toy(r_true: float, b_true: float, n: int = 400, times: int = 200) -> Departures:
    """Optimal analyses of a linear Gaussian toy that believes R = B = 1, over truths drawn with other variances."""
    rng = np.random.default_rng(3)
    place = np.arange(n)
    b = np.exp(-np.abs(place[:, None] - place) / 5.0)
    h = rng.normal(size=(n, n)) / np.sqrt(n) + np.eye(n)
    hbh = h @ b @ h.T
    gain = hbh @ np.linalg.inv(hbh + np.eye(n))
    truth = np.linalg.cholesky(b) @ rng.normal(size=(n, times)) * np.sqrt(b_true)
    d_ob = h @ truth + np.sqrt(r_true) * rng.normal(size=(n, times))
    d_oa = d_ob - gain @ d_ob
    return Departures(d_ob.ravel(), d_oa.ravel(), np.ones(n * times), np.repeat(np.diag(hbh), times))


def test_known_covariances_come_back():
    seen = toy(1.0, 1.0)
    found = {k: v[0] for k, v in pooled(seen, np.zeros(seen.error.size, int), 1).items()}
    assert found["observation_error_ratio"] == pytest.approx(1, rel=0.03)
    assert found["background_error_ratio"] == pytest.approx(1, rel=0.03)
    assert found["innovation_rms"] == pytest.approx(1, rel=0.02)
    assert found["innovation_mean"] == pytest.approx(0, abs=0.03)
    assert found["residual_mean"] == pytest.approx(0, abs=0.03)
    assert 0.3 < found["residual_rms"] < 1


def test_each_place_has_its_own(case):
    seen = toy(1.0, 1.0, times=400)
    found = pooled(seen, np.repeat(np.arange(400), 400), 401)
    for name in ("observation_error_ratio", "background_error_ratio"):
        assert np.std(found[name][:400]) < 0.2
        assert np.isnan(found[name][400])


@pytest.mark.parametrize(("r", "b"), [(2.0, 1.0), (0.5, 1.0), (1.0, 2.0), (1.0, 0.5)])
def test_what_is_believed_wrongly_is_seen(r, b):
    """The variance that is larger than believed comes out larger, that which is smaller comes out smaller."""
    seen = toy(r, b)
    found = {k: v[0] for k, v in pooled(seen, np.zeros(seen.error.size, int), 1).items()}
    wrong, right = ("observation", "background") if b == 1 else ("background", "observation")
    by = r * b
    assert (found[f"{wrong}_error_ratio"] - 1) * (by - 1) > 0.15
    assert abs(found[f"{wrong}_error_ratio"] - 1) > abs(found[f"{right}_error_ratio"] - 1)


def test_spread_and_innovations_are_those_of_the_dense_matrices():
    """With many draws: diag(H V V^T H^T) at the prior's mean; y less the columns of the prior's mean."""
    base = make_case()
    model = base.model(np.float64, left=0.3)
    rng = np.random.default_rng(0)
    column = base.model(np.float64).columns(0.3 * rng.standard_normal(base.state.size))
    error, z = np.full(column.size, 5e-6), 0.1 * rng.standard_normal(base.state.size)
    # Every unit vector once, scaled as 32 draws of unit variance are.
    spread = np.zeros(column.size)
    for k in range(0, base.state.size, 32):
        units = np.eye(base.state.size)[:, k : k + 32]
        spread += departures(model, z, column, error, units).spread * units.shape[1]
    before = base.model(np.float64, left=1.0)
    v = before.linearise(np.zeros(base.state.size)).forward(np.eye(base.state.size))
    dense = before.unit**2 * np.sum((model.matrix @ v) ** 2, axis=1)
    assert spread == pytest.approx(dense, rel=1e-8)
    seen = departures(model, z, column, error, np.eye(base.state.size))
    assert seen.innovation == pytest.approx(column - before.columns(np.zeros(base.state.size)), rel=1e-10)
    assert seen.residual == pytest.approx(column - model.columns(z), rel=1e-10)
    assert np.all(model.left == 0.3)


def drawn_from_the_prior(seed: int, n_days: int, members: int):
    """Columns over a truth drawn from the prior, with exactly the errors that are believed."""
    base = make_case(n_days=n_days, members=members, sample_share=1.0, model_error=0.0)
    rng = np.random.default_rng(seed)
    z = rng.standard_normal(base.state.size)
    z[base.state.blocks["gain"]] = 0.0
    # Given an emission, nothing is left of its variance.
    column = base.model(np.float64, left=0.0).columns(z)
    return base.with_columns(column + rng.normal(0, 2e-5, column.size), 2e-5)


@pytest.fixture(scope="module")
def drawn():
    return drawn_from_the_prior(2, 30, 200)


def levels(case, months=("2022-01",)):
    evidence = look_month(case.month())[1]
    root = np.linalg.cholesky(0.05**2 + 0.15**2 * np.eye(8))
    return solve_level([evidence], [root], list(months), case.options, PriorOptions(), 0)


def test_months_tell_the_errors_of_columns_and_prior():
    """Twelve truths: one tells R; B of a small box, whose cells hang together, only on average."""
    found = []
    for seed in range(12):
        case = drawn_from_the_prior(seed, 10, 64)
        solved = solve_month(case.month((seed, "2022-01")), levels(case)[0])
        found.append([solved.attrs["consistency"][name][-1] for name in CONSISTENCY])
    together = dict(zip(CONSISTENCY, np.mean(found, axis=0), strict=True))
    assert together["observation_error_ratio"] == pytest.approx(1, abs=0.07)
    assert together["background_error_ratio"] == pytest.approx(1, abs=0.4)
    assert together["innovation_rms"] == pytest.approx(1, abs=0.25)
    assert together["innovation_mean"] == pytest.approx(0, abs=0.4)
    assert together["residual_mean"] == pytest.approx(0, abs=0.05)
    assert 0.85 < together["residual_rms"] < 1


def test_layers_are_missing_where_nothing_was_seen(drawn):
    """Also where a month saw nothing at all: then everywhere, and its numbers are null."""
    kept = drawn.observations.cell != 13
    part = replace(
        drawn.observations,
        matrix=drawn.observations.matrix[kept],
        **{n: getattr(drawn.observations, n)[kept] for n in ("cell", "column", "sigma", "day")},
    )
    (level,) = levels(drawn)
    solved = solve_month(replace(drawn.month(), observations=part), level)
    for name in CONSISTENCY:
        missing = np.isnan(solved[name].values.ravel())
        assert missing[13]
        assert not np.delete(missing, 13).any()
    empty = make_case(n_days=0)
    blind = solve_month(empty.month(), levels(empty)[0])
    assert all(np.isnan(blind[name]).all() for name in CONSISTENCY)
    assert all(v is None for row in blind.attrs["consistency"].values() for v in row)


def test_consistency_of_groups_is_that_of_their_observations(case):
    rng = np.random.default_rng(4)
    seen = Departures(*rng.normal(size=(2, 60)), rng.uniform(1, 2, 60), rng.uniform(1, 2, 60))
    group = np.repeat([0, 2], 30)
    table = consistency(seen, group, 3)
    alone = pooled(Departures(*(v[:30] for v in vars(seen).values())), np.zeros(30, int), 1)
    assert [table[n][0] for n in CONSISTENCY] == pytest.approx([alone[n][0] for n in CONSISTENCY], abs=1e-4)
    assert [table[n][1] for n in CONSISTENCY] == [None] * len(CONSISTENCY)
    assert len(table["innovation_mean"]) == 4


def test_the_kernel_is_given_the_level_and_the_reduction_is_not(drawn):
    """A level that stays uncertain takes from the variance reduction; the averaging kernel knows nothing of it."""
    (level,) = levels(drawn)
    wider = {
        name: level.optimum[name][:, None] + 4 * (d - level.optimum[name][:, None]) for name, d in level.draws.items()
    }
    sure, unsure = (solve_month(drawn.month(), given) for given in (level, replace(level, draws=wider)))
    change = {n: float((unsure[n] - sure[n]).mean()) for n in ("averaging_kernel", "variance_reduction")}
    # Only the shares of the classes within a cell move.
    assert abs(change["averaging_kernel"]) < 0.02
    assert change["variance_reduction"] < -0.05


def test_what_is_left_of_conversions_is_all_in_silence_and_less_where_columns_tell():
    silent, seen = (look_month(make_case(n_days=n).month())[0].attrs["spread_left"] for n in (0, 8))
    assert silent == dict.fromkeys(silent, 1.0)
    assert set(silent) == {"ratio_nation", "ratio_province", "gain", "lifetime"}
    assert seen["lifetime"] < 0.8 * silent["lifetime"]
