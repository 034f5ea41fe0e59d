"""The level of a run: what an evidence says, what months share, and that silence leaves the prior."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import sparse

from pipeline.core.options import InversionOptions, PriorOptions
from pipeline.invert.level import Evidence, likelihood, model_error, prior_noise, solve_level, widen
from pipeline.invert.month import _closed, look_month, solve_month
from pipeline.invert.state import LEVEL, month_root, total_root

from .conftest import make_case

REGIONS, SECTORS = 3, 4
MONTHS = [f"2022-{m:02d}" for m in range(1, 5)]
ROOT = total_root(0.07**2 + 0.15**2 * np.eye(REGIONS * SECTORS))


def evidence(
    shift: float = 0.0, precision: float = 0.0, factor: float = 1.0, factor_precision: float = 0.0
) -> Evidence:
    nox = np.linspace(1.0, 3.0, REGIONS * SECTORS)
    log = np.log(nox.reshape(REGIONS, SECTORS).sum(axis=1)) + shift
    co2 = 10 * nox
    groups = np.array([0, 0, 1])
    looked = np.bincount(groups, co2.reshape(REGIONS, SECTORS).sum(axis=1))
    return Evidence(
        nox,
        log,
        precision * np.eye(REGIONS),
        np.ones(REGIONS * SECTORS),
        co2,
        groups,
        looked,
        np.full(2, factor),
        factor_precision * np.eye(2),
    )


def solved(*seen: Evidence, **options):
    chosen = InversionOptions(members=400, **options)
    return solve_level(seen, [ROOT] * len(seen), MONTHS[: len(seen)], chosen, PriorOptions(), 0)


def change_of_co2(level) -> float:
    """Mean shift of ln CO2 of all regions and sectors at the optimum."""
    prior = PriorOptions()
    month = prior.sigma_month * level.optimum["month"].reshape(REGIONS, SECTORS)
    nation = month_root(prior) @ level.optimum["month_nation"]
    return float((ROOT @ level.optimum["totals"]).mean() + (month + nation).mean())


def test_likelihood_undoes_the_product_of_gaussians():
    rng = np.random.default_rng(0)
    root = rng.normal(size=(4, 4))
    prior, known = root @ root.T + np.eye(4), np.diag([2.0, 5.0, 1.0, 3.0])
    seen, believed = rng.normal(size=4), rng.normal(size=4)
    covariance = np.linalg.inv(np.linalg.inv(prior) + known)
    mean = covariance @ (np.linalg.solve(prior, believed) + known @ seen)
    best, precision = likelihood(mean, covariance, believed, prior)
    assert best == pytest.approx(seen, rel=1e-5)
    assert precision == pytest.approx(known, rel=1e-5, abs=1e-5)


def test_likelihood_of_what_was_not_seen_has_no_precision():
    prior = np.diag([1.0, 2.0])
    best, precision = likelihood(np.array([0.3, 0.1]), prior.copy(), np.array([0.3, 0.1]), prior)
    assert np.abs(precision).max() == 0
    assert best == pytest.approx([0.3, 0.1])


def test_widening_adds_an_independent_error():
    precision, error = np.diag([4.0, 0.0]), np.diag([0.25, 1.0]) + 0.1
    wider = widen(precision, error)
    assert wider[0, 0] == pytest.approx(1 / (1 / 4.0 + 0.35))
    assert np.abs(wider[1]).max() < 1e-12


def test_a_province_that_lies_off_the_grid_is_known_less():
    options = InversionOptions()
    whole, part = (model_error(np.full(4, share), options)[0, 0] for share in (1.0, 0.3))
    assert part > whole > options.level_error_province**2


def test_silence_leaves_the_prior_exactly():
    levels = solved(*[evidence()] * 3)
    for name in LEVEL:
        assert np.abs(levels[0].optimum[name]).max() == 0
        options, prior = InversionOptions(), PriorOptions()
        expected = prior_noise(0, name, MONTHS[1], levels[1].draws[name].shape[0], 400, prior.total_persistence)
        if name == "gain":
            # What is wrong with the season is handed on with the gain.
            wave = np.array([np.cos(np.pi / 4), np.sin(np.pi / 4)])
            season = wave @ prior_noise(0, "season", MONTHS[1], 2, 400)
            expected = expected + options.sigma_season / options.sigma_gain * season
        assert levels[1].draws[name] == pytest.approx(expected, abs=1e-12)


def test_deviations_of_the_months_cancel_over_the_year():
    """Drawn alone or solved, each keeps the variance of one; a year's total is as wide as believed totals make it."""
    months = [f"2022-{m:02d}" for m in range(1, 13)]
    drawn = np.array([prior_noise(0, "month", month, 50, 400) for month in months])
    assert drawn.sum(axis=0) == pytest.approx(np.zeros((50, 400)), abs=1e-10)
    assert drawn.std(axis=-1, ddof=1).mean() == pytest.approx(1, abs=0.01)
    seen = [evidence(shift=0.3 * (m == 5), precision=1e4) for m in range(12)]
    levels = solve_level(seen, [ROOT] * 12, months, InversionOptions(members=50), PriorOptions(), 0)
    for block in ("month", "month_nation"):
        assert sum(level.optimum[block] for level in levels) == pytest.approx(0, abs=1e-8)
        assert sum(level.draws[block] for level in levels) == pytest.approx(0, abs=1e-8)
    assert levels[5].optimum["month_nation"].mean() > 0 > levels[4].optimum["month_nation"].mean()


def test_no2_alone_moves_the_level_of_co2_little():
    """NO2 sees E r gain: of 30 % more NO2 in every month the ratios and the gain take most."""
    levels = solved(*[evidence(shift=0.3, precision=1e4)] * 4)
    ratio = levels[0].optimum["gain"][0] * InversionOptions().sigma_gain
    assert 0 < change_of_co2(levels[0]) < 0.15
    assert ratio > 0.08


def test_one_month_unlike_the_others_moves_more_than_a_lasting_shift():
    """What lasts can be ratio or gain; what happens in one month is emission."""
    lasting = solved(*[evidence(shift=-0.3, precision=1e4)] * 4)[1]
    once = solved(*(evidence(shift=-0.3 * (m == 1), precision=1e4) for m in range(4)))
    assert change_of_co2(once[1]) < change_of_co2(lasting) < 0
    assert change_of_co2(once[1]) < -0.06
    assert abs(change_of_co2(once[2])) < 0.05


def of_year(shifts, years=("2022",), **prior):
    """Levels of months whose NOx is seen this far above what is believed, precisely."""
    names = [f"{year}-{m:02d}" for year in years for m in range(1, 13)]
    seen = [evidence(shift=float(s), precision=1e4) for s in shifts]
    return solve_level(seen, [ROOT] * len(seen), names, InversionOptions(members=100), PriorOptions(**prior), 0)


def test_an_error_that_follows_the_season_is_no_emission():
    wave = np.cos(2 * np.pi * (np.arange(12) + 0.5) / 12)
    changes = [change_of_co2(level) for level in of_year(0.15 * wave)]
    assert np.ptp(changes) < 0.3 * np.ptp(0.15 * wave)


def test_a_month_like_no_other_is_believed_more_than_a_normal_prior_would():
    """Student's t: ordinary months as before, one far out nearly as it is seen."""
    ordinary, fallen = 0.02 * np.cos(np.arange(12) * 2.5), np.zeros(12)
    fallen[1] = -0.6
    heavy, light = (change_of_co2(of_year(fallen, month_freedom=f)[1]) for f in (4.0, 1e9))
    assert heavy < 1.15 * light < 0
    same = [[change_of_co2(level) for level in of_year(ordinary, month_freedom=f)] for f in (4.0, 1e9)]
    assert same[0] == pytest.approx(same[1], abs=0.004)


def test_years_differ_as_far_as_their_errors_may():
    shifts = np.repeat([-0.1, 0.1], 12)
    apart, tied = (
        [change_of_co2(level) for level in of_year(shifts, ("2021", "2022"), total_persistence=p)] for p in (0.8, 1.0)
    )
    rise, tied_rise = (np.mean(x[12:]) - np.mean(x[:12]) for x in (apart, tied))
    assert rise > tied_rise > 0
    assert rise > 0.08


def test_draws_of_two_years_hang_together_as_stated():
    levels = solve_level(
        [evidence()] * 2, [ROOT] * 2, ["2021-03", "2022-03"], InversionOptions(members=2000), PriorOptions(), 0
    )
    first, second = (level.draws["totals"] for level in levels)
    together = np.mean(first * second) / np.mean(first**2)
    assert together == pytest.approx(PriorOptions().total_persistence, abs=0.02)


def test_xco2_sets_the_level_where_it_is_precise():
    levels = solved(*[evidence(factor=1.2, factor_precision=400.0)] * 4)
    assert change_of_co2(levels[0]) == pytest.approx(np.log(1.2), abs=0.08)


def test_draws_have_the_spread_of_the_posterior():
    """More evidence, narrower draws; the lasting blocks are the same in every month."""
    wide, narrow = (solved(*[evidence(precision=p)] * 2) for p in (1.0, 1e4))
    gain = [level[0].draws["gain"].std() for level in (wide, narrow)]
    assert gain[1] < gain[0] <= 1.05
    assert np.array_equal(narrow[0].draws["totals"], narrow[1].draws["totals"])
    assert not np.array_equal(narrow[0].draws["month"], narrow[1].draws["month"])


def test_totals_of_provinces_are_those_of_the_level():
    """Cells share out what the level says their province emits, member by member."""
    base = make_case(n_days=3)
    rng = np.random.default_rng(3)
    column = base.model().columns(0.3 * rng.standard_normal(base.state.size))
    case = base.with_columns(column, 1e-5)
    month = case.month()
    _, seen, _ = look_month(month)
    (level,) = solve_level([seen], [case.state.roots["totals"]], ["2022-01"], case.options, PriorOptions(), 0)
    co2 = solve_month(month, level)["co2"].values
    half = co2.shape[-1] // 2
    power = np.stack([co2[:, 0, :, :half].sum((1, 2)), co2[:, 0, :, half:].sum((1, 2))])
    prior = PriorOptions()
    logs = (
        case.state.roots["totals"] @ level.draws["totals"]
        + prior.sigma_month * level.draws["month"]
        + np.tile(month_root(prior), (2, 1)) @ level.draws["month_nation"]
    )
    for region in (0, 1):
        wanted = np.exp(logs[4 * region])
        assert power[region] / power[region].mean() == pytest.approx(wanted / wanted.mean(), rel=1e-9)


def test_a_month_without_no2_keeps_its_prior_whatever_the_others_found():
    case = make_case(n_days=0)
    month = case.month()
    (level,) = solve_level(
        [look_month(month)[1]], [case.state.roots["totals"]], ["2022-01"], case.options, PriorOptions(), 0
    )
    for values in (level.optimum["totals"], level.draws["totals"]):
        values += 1.0
    before = look_month(month)[0]["co2"]
    assert np.array_equal(solve_month(month, level)["co2"], before)


def test_cells_on_a_border_keep_the_totals_of_both_regions():
    month = make_case(n_days=2).month()
    shares = month.state.membership.toarray()
    rng = np.random.default_rng(5)
    shared = rng.random(len(shares)) < 0.3
    shares[shared] = (shares[shared] + np.roll(shares[shared], 4, axis=1)) / 2
    month = replace(month, state=replace(month.state, membership=sparse.csr_matrix(shares)))
    x = rng.lognormal(0, 1, (len(shares), 3))
    wanted = (shares.T @ x) * np.exp(0.2 * rng.standard_normal((shares.shape[1], 3)))
    assert shares.T @ _closed(month, x, wanted) == pytest.approx(wanted, rel=2e-3)
