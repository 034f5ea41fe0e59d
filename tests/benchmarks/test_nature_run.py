"""The nature run as a test: a held-out seed, another transport, and the posterior must beat the prior."""

import importlib.util
from pathlib import Path

import pytest

PATH = Path(__file__).parents[2] / "benchmarks" / "nature_run.py"


def nature_run():
    spec = importlib.util.spec_from_file_location("nature_run", PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_settings_are_read_from_the_command_line():
    changes = nature_run().parse_changes(["inversion.members=60", "learn=false", "prior.sigma_floor=1.2"])
    assert changes == {"inversion": {"members": 60}, "learn": False, "prior": {"sigma_floor": 1.2}}


@pytest.mark.slow
def test_posterior_is_closer_to_the_truth_than_the_prior(client):
    scores = nature_run().score_seed(201, "1", "111,31,119,39", {}, [], client)
    assert scores["r2_monthly"] > scores["prior_r2_monthly"] + 0.02
    assert scores["relative_mae_over_prior"] < 1
    assert abs(scores["national_bias"]) < 0.15
    assert 0.5 < scores["coverage_90_cells"] <= 1
