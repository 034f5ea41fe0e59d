"""The nature run as a test: a held-out seed, another transport, and the posterior must beat the prior."""

import pytest

from benchmarks import nature_run
from pipeline.validate.truth import PLANT_SIZES, size_name
from pipeline.world.physics import Physics


def test_settings_are_read_from_the_command_line():
    changes = nature_run.parse_changes(["inversion.members=60", "learn=false", "prior.sigma_floor=1.2"])
    assert changes == {"inversion": {"members": 60}, "learn": False, "prior": {"sigma_floor": 1.2}}
    assert nature_run.parse_seeds("201-203") == [201, 202, 203]
    assert nature_run.parse_seeds("7") == [7]


def row(value: float, plants: float, found: float, alarms: float) -> dict[str, float]:
    sizes = {f"{what}_{size_name(s)}": v for s in PLANT_SIZES for what, v in (("plants", plants), ("found", found))}
    return {**dict.fromkeys(nature_run.COLUMNS, value), **sizes, "blocks": 50.0, "false_alarms": alarms}


def test_the_summary_pools_seeds():
    mean, rms, *_, plants, alarms = nature_run.summary([row(0.3, 3, 1, 4), row(-0.4, 2, 2, 1)])
    assert mean.split() == ["mean", *["-0.050"] * len(nature_run.COLUMNS)]
    assert rms.split() == ["rms", *["0.354"] * len(nature_run.COLUMNS)]
    assert plants.endswith("of 15 Mt a year or more found: 3 of 5")
    assert alarms.endswith("flagged: 5.0% of 100")


def test_the_summary_tells_of_an_event():
    fell = {"fall_truth": -0.2, "fall_proxies": -0.1, "fall_product": -0.3}
    rows = [{**row(0.0, 1, 0, 0), **fell, "event_inside": inside} for inside in (1.0, 0.0)]
    (line,) = [text for text in nature_run.summary(rows) if "event" in text]
    assert line.endswith("truth -0.200, proxies -0.100, product -0.300; inside 90 %: 50%")


@pytest.mark.slow
def test_posterior_is_closer_to_the_truth_than_the_prior(client):
    scores = nature_run.score_seed(201, {"months": "1", "domain": "111,31,119,39"}, Physics(), client)
    assert scores["r2_monthly"] > scores["prior_r2_monthly"] + 0.02
    assert scores["relative_mae_over_prior"] < 1
    assert abs(scores["national_bias"]) < 0.15
    assert 0.5 < scores["coverage_90_cells"] <= 1
    assert scores["found_1mt"] <= scores["plants_1mt"]
