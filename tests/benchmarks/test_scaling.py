"""The simulation of many workers: what it must obey, and the number of units it rests on."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import scaling, sizing
from benchmarks.scaling import Costs, Stage, planned, simulate, stops, table
from pipeline.preview import unit_counts
from pipeline.settings import load
from pipeline.store.ledger import Ledger
from pipeline.store.location import Store

from ..conftest import settings_for

times = st.lists(st.floats(0.01, 100), min_size=1, max_size=40).map(tuple)
FIVE_YEARS = load({"year": "2019-2023"}, environ={})


@given(st.lists(times, min_size=1, max_size=4), st.integers(1, 50))
def test_no_run_beats_its_work_or_its_longest_units(stages, workers):
    plan = [Stage(str(k), s) for k, s in enumerate(stages)]
    got = simulate(plan, workers)
    assert got.work == pytest.approx(sum(map(sum, stages)))
    assert got.seconds >= max(got.work / workers, sum(map(max, stages))) * (1 - 1e-9)
    assert got.seconds <= sum(sum(s) / workers + max(s) for s in stages) * (1 + 1e-9)
    assert 0 < got.efficiency <= 1 + 1e-9
    assert simulate(plan, 1).seconds == pytest.approx(got.work)
    assert simulate(plan, workers + 1).seconds <= got.seconds * (1 + 1e-9)


def test_a_case_by_hand():
    plan = [Stage("a", (3.0, 1.0, 1.0, 1.0)), Stage("b", (2.0,))]
    got = simulate(plan, 2, serial=1.0)
    assert got.stages == {"a": 3.0, "b": 2.0}
    assert got.seconds == 6.0
    assert got.efficiency == pytest.approx(8 / 12)
    assert got.limits["b"] == "a single unit"
    assert simulate(plan, 8).limits["a"] == "no more units than workers"
    slow = simulate([Stage("c", (1.0,) * 100)], 200, overhead=0.5)
    assert slow.seconds == pytest.approx(51.0)
    assert slow.limits["c"] == "the driver handing out units"


def test_where_it_stops_is_said_with_the_reason():
    outcomes = [simulate([Stage("month", (10.0,) * 12)], w) for w in (1, 4, 16, 64)]
    assert stops(outcomes[:2]).startswith("still scales at 4")
    reasons = "month: no more units than workers, 100 %; the driver alone, 0 %"
    assert stops(outcomes) == f"stops scaling at 16 workers: of what is left, {reasons}"


def test_five_years_at_1_km_stay_within_the_budget_of_units():
    counts = unit_counts(FIVE_YEARS)
    assert 100 <= sum(counts.values()) <= 3000
    assert counts["invert"] == 60


def test_units_are_counted_as_the_build_makes_them(built):
    """What a build did, stage by stage and in order, is what was counted for it."""
    done = {name: stage["done"] + stage["kept"] for name, stage in built.stages.items()}
    assert list(done.items()) == list(unit_counts(settings_for(built.url)).items())


def test_measured_times_fill_a_larger_build(built, tmp_path, capsys):
    flags = {"year": "2022", "months": "7", "domain": built.domain}
    seconds, peak = scaling.unit_seconds(Store(built.url), list(built.stages))
    assert all(len(seconds[name]) >= 1 for name in built.stages)
    assert peak > 0.1
    costs = Costs(flags, seconds, 1.0, 0.01, peak, 1.9)
    plan = {
        stage.name: stage.seconds
        for stage in planned(costs, load({**flags, "year": "2021-2022", "months": "1-12"}, environ={}))
    }
    assert len(plan["invert"]) == 24
    assert len(plan["prepare"]) == 2
    assert max(plan["prepare"]) == pytest.approx(12 * max(seconds["prepare"]))
    assert set(plan["invert"]) <= set(seconds["invert"])
    (tmp_path / "costs.json").write_text(json.dumps(costs.__dict__))
    scaling.main(["simulate", "--costs", str(tmp_path / "costs.json"), "--year", "2019-2023", "--domain", built.domain])
    out = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in out[1:7]] == [str(w) for w in scaling.WORKERS]
    assert out[-1].startswith(("stops scaling at", "still scales at"))
    assert table(costs, FIVE_YEARS, (1,))[1].split()[2] == "1.0"
    one, two = (planned(costs, load({**flags, "months": m}, environ={})) for m in ("1-6", "1-12"))
    assert [b.seconds[0] / a.seconds[0] for a, b in zip(one, two, strict=True) if a.name in ("level", "features")] == [
        4,
        2,
    ]
    with pytest.raises(ValueError, match="no times of level"):
        planned(replace(costs, seconds={k: v for k, v in seconds.items() if k != "level"}), FIVE_YEARS)


def test_what_a_version_left_is_counted(built):
    store = Store(built.url)
    product, work = scaling.left_bytes(store, built.version)
    assert product == sum(info["size"] for info in store.files("products", built.version).values())
    everything = {name: info["size"] for name, info in store.files("work").items()}
    assert 0 < work <= sum(size for name, size in everything.items() if not name.startswith("ledger/"))
    months = [name for name in everything if name.startswith("invert/")]
    assert work > sum(everything[name] for name in months) / 2


@pytest.fixture
def costs() -> Costs:
    seconds = {name: [2.0, 4.0] if count > 10 else [3.0] for name, count in unit_counts(FIVE_YEARS).items()}
    flags = {"year": "2022", "months": "1,7"}
    return Costs(flags, seconds, 10.0, 0.01, 2.2, 1.9, 300_000_000, 400_000_000, "cpu_seconds", "2 cores, local disk")


def test_the_sizing_is_written_between_its_marks(costs, tmp_path, monkeypatch):
    readme, measured = tmp_path / "README.md", tmp_path / "sizing.json"
    readme.write_text(f"before\n{sizing.MARKS[0]}\nold\n{sizing.MARKS[1]}\nafter\n")
    measured.write_text(json.dumps(costs.__dict__))
    monkeypatch.setattr(sizing, "README", readme)
    sizing.main([str(measured)])
    text = readme.read_text()
    assert text.startswith(f"before\n{sizing.MARKS[0]}\n{sum(unit_counts(FIVE_YEARS).values())} units of work")
    assert text.endswith(f"\n{sizing.MARKS[1]}\nafter\n")
    assert sizing.between(text) == sizing.block(costs)
    one, sixteen = scaling.simulated(costs, FIVE_YEARS, (1, 16))
    assert f"| 1 | {one.seconds / 3600:.2g} | 1 |" in text
    assert f"{32 * sixteen.seconds / 3600:.1f} worker-hours, 16 workers" in text
    assert "about 9 and 12 GB for five years" in text
    assert "about 1." in text
    assert "processor seconds" in text
    assert "synthetic" in text
    readme.write_text("no marks")
    with pytest.raises(ValueError, match="not enough values"):
        sizing.main([str(measured)])


def test_the_sizing_of_the_manual_is_what_was_measured_or_says_that_it_was_not():
    said = sizing.between(sizing.README.read_text())
    if scaling.MEASURED.exists():
        assert said == sizing.block(sizing.read())
    else:
        assert said.startswith("**Of an earlier inversion, not measured again since:**")


def test_only_the_last_run_of_a_unit_counts(tmp_path):
    store = Store(str(tmp_path))
    for key, seconds in (("old", 9.0), ("new", 1.0)):
        result = {"outputs": {}, "seconds": seconds, "cpu_seconds": seconds / 2, "worker_peak_gib": 1.0}
        Ledger(store, "product").record("m", key, result)
        Ledger(store, "invert").record("m", "same", result)
        if key == "old":
            earlier = scaling.ledger_results(store)
    seconds, _ = scaling.unit_seconds(store, ["product", "invert"], "cpu_seconds", earlier)
    assert seconds == {"product": [0.5], "invert": [0.5]}


def test_handing_out_a_unit_is_measured(tmp_path):
    assert 0 < scaling.handing_out(Store(str(tmp_path)), 5) < 60
