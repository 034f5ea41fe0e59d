"""Tables of many seeds: who is left to do, what is kept, what is shown; the level without XCO2; recall by size."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest

from benchmarks import comparison, markdown, nature_run, recall, tables
from pipeline import flow
from pipeline.core.errors import UsageError
from pipeline.store.location import Store
from pipeline.validate.truth import PLANT_SIZES, size_name
from pipeline.validate.version import NATION, Version
from pipeline.world.physics import Physics

from ..conftest import settings_for


def row(**changes: float) -> dict[str, float]:
    level = [f"{x}national_{n}" for x in ("", "no_xco2_") for n in ("bias", "bias_monthly", "z", "sigma")]
    skill = ["r2_monthly", "prior_r2_monthly", "r2_annual", "prior_r2_annual", "relative_mae_over_prior", "prior_bias"]
    covered = [f"coverage_90_{n}" for n in ("cells", "provinces_monthly", "provinces_annual")]
    names = [*level, *skill, *covered, "negative", "fall_truth", "fall_proxies", "fall_product", "event_inside"]
    plants = {f"plants_{size_name(s)}": 12.0 - k for k, s in enumerate(PLANT_SIZES)}
    marks = {
        f"{what}_{size_name(s)}": 6.0 - k for what in ("found", "above", "far_above") for k, s in enumerate(PLANT_SIZES)
    }
    return {**dict.fromkeys(names, 0.5), **plants, **marks, "blocks": 50.0, "false_alarms": 2.0, **changes}


def cells_of(text: str, name: str) -> list[str]:
    """Of the row of this name."""
    (line,) = [line for line in text.splitlines() if line.startswith(f"| {name} |")]
    return [cell.strip() for cell in line.strip("|").split("|")][1:]


def test_the_sets_are_those_of_the_docs():
    jobs = {name: tables.jobs_of(name) for name in tables.SETS}
    assert [len(of) for of in jobs.values()] == [3, 20, 10, 2, 2, len(Physics().as_dict()) + 1]
    assert jobs["comparison_gain"][0].physics == Physics(gain=True, ratio_nation=True)
    assert Physics(noise=False) in [job.physics for job in jobs["switches"]]
    assert [job.seed for job in tables.jobs_of("national", [7], {"months": "1"})] == [7]
    assert tables.jobs_of("national", [7], {"months": "1"})[0].settings == {"domain": "china", "months": "1"}


def test_scores_are_kept_by_code_settings_and_world(tmp_path):
    (job,) = tables.jobs_of("regional", [5])
    others = [*tables.jobs_of("regional", [6]), *tables.jobs_of("regional", [5], {"months": "1"})]
    others += tables.jobs_of("switches", [5])
    files = {j.file(tmp_path, "a") for j in [job, *others]} | {job.file(tmp_path, "b")}
    assert len(files) == 2 + len(others)
    assert job.file(tmp_path, "a") in files


class Threads:
    """A pool in this process, so that what it calls can be replaced."""

    def __init__(self, processes: int, **_: object) -> None:
        from concurrent.futures import ThreadPoolExecutor

        self.pool = ThreadPoolExecutor(processes)

    def __enter__(self):
        return self.pool

    def __exit__(self, *_):
        self.pool.shutdown()


@pytest.fixture
def scored(monkeypatch) -> list[int]:
    """Seeds that were scored, in a pool of threads; seed 3 fails."""
    done: list[int] = []

    def score(job: tables.Job) -> dict[str, float]:
        if job.seed == 3:
            raise ValueError("no world")
        done.append(job.seed)
        return row(r2_monthly=job.seed / 10)

    for name in tables.WORKER_ENVIRON:
        monkeypatch.setenv(name, os.environ.get(name, ""))
    monkeypatch.setattr(tables, "ProcessPoolExecutor", Threads)
    monkeypatch.setattr(tables, "score", score)
    return done


def test_a_broken_run_is_continued(scored, tmp_path, capsys):
    command = [str(tmp_path), "--only", "regional", "--processes", "2"]
    assert tables.main([*command, "--seeds", "1-3"]) == 1
    out = capsys.readouterr().out
    assert "failed: regional 3 as given: ValueError: no world" in out
    assert "### regional, 2 of 3 seeds" in out
    assert "| 2 seeds | proxies |" in out
    assert sorted(scored) == [1, 2]
    assert tables.main([*command, "--seeds", "1-4"]) == 1
    assert sorted(scored) == [1, 2, 4]
    assert not list(tmp_path.rglob("*.part"))
    kept = [json.loads(f.read_text()) for f in tmp_path.rglob("*.json")]
    assert sorted(k["job"]["seed"] for k in kept) == [1, 2, 4]
    assert {k["code"] for k in kept} == {tables.code()}
    assert tables.main([*command, "--seeds", "1-4", "--show", "--recall", str(tmp_path / "a" / "r.png")]) == 0
    assert sorted(scored) == [1, 2, 4]
    shown = capsys.readouterr().out
    assert "| R2, cells and months | 0.500 | 0.233 |" in shown
    assert (tmp_path / "a" / "r.png").stat().st_size > 5000


def test_scores_of_code_that_changed_on_the_way_are_not_kept(scored, tmp_path):
    (job,) = tables.jobs_of("regional", [5])
    with pytest.raises(UsageError, match="the code was changed"):
        tables.keep(job, tmp_path / "a.json", "of another code")
    assert not list(tmp_path.iterdir())
    assert not scored


def test_an_unknown_table_is_refused(capsys):
    with pytest.raises(SystemExit) as error:
        tables.main(["folder", "--only", "nation"])
    assert error.value.code == 2
    assert "invalid choice: 'nation'" in capsys.readouterr().err


def test_the_national_table_has_a_column_a_seed():
    text = markdown.national({1: row(national_bias=0.012), 2: row(r2_monthly=0.9, prior_r2_monthly=0.8)})
    assert text.splitlines()[0].count("seed") == 2
    assert cells_of(text, "bias of China's year") == ["+1.2 % (+50.0 %)", "+50.0 % (+50.0 %)", ""]
    assert cells_of(text, "R2, cells and months") == ["0.500 (0.500)", "0.900 (0.800)", ">= 0.80"]
    assert cells_of(text, "unlisted plants of 5 Mt a year or more found")[:2] == ["3 of 9", "3 of 9"]


def test_the_regional_table_has_means_and_root_mean_squares():
    text = markdown.regional({k: row(national_bias=b, national_z=2 * b) for k, b in enumerate((0.3, -0.4))})
    assert cells_of(text, "mean bias of the total")[1] == "-5.0 %"
    assert cells_of(text, "RMS bias of the total")[1] == "35.4 %"
    assert cells_of(text, "RMS z of the total")[1] == "0.71"
    assert cells_of(text, "unlisted plants of 5 Mt a year or more found")[1] == "6 of 18"
    assert cells_of(text, "blocks without one that are flagged")[1] == "4.0 %"


def test_the_lockdown_table_counts_the_seeds_inside():
    text = markdown.lockdown({k: row(fall_product=-0.2, event_inside=float(k)) for k in (0, 1)})
    assert cells_of(text, "as ln") == ["+0.50", "+0.50", "-0.20", ""]
    assert cells_of(text, "over the mean of the others")[2] == "-18.1 %"
    assert cells_of(text, "seeds with the truth inside 90 %")[2] == "1 of 2"


def test_the_other_tables_are_those_of_the_comparison():
    measures = dict.fromkeys(comparison.MEASURES, 0.5)
    seeds = {1: [{"ours": measures, "proxies": measures}]}
    assert tables.shown("comparison_gain", seeds).splitlines()[2].startswith("| ours | 0.500")
    worlds = {301: [{"as given": measures}, {"noise off": measures}]}
    assert [line.split(" | ")[0] for line in tables.shown("switches", worlds).splitlines()] == [
        "| world", "|---|---|---|---|---|---|---|---|---|", "| as given", "| noise off",
    ]  # fmt: skip
    assert tables.shown("switches", {}) == "no seed of it is there"


def test_classes_pool_seeds_and_hold_every_plant_once():
    got = recall.classes({1: row(), 2: row()})
    assert [c.name for c in got] == ["1-2", "2-3", "3-5", "5-8", "8-15", "15 or more"]
    assert [c.plants for c in got] == [2, 2, 2, 2, 2, 14]
    assert sum(c.found for c in got) == 12
    assert cells_of(markdown.sizes({1: row()}), "15 or more") == ["7", "1", "1", "1"]


def test_xco2_left_out_changes_the_level_and_nothing_else(built):
    product, settings = Version(Store(built.url), built.version), settings_for(built.url)
    without = nature_run.members_without_xco2(product, settings, 2022)
    used = product.members(NATION, 2022)
    assert without.shape == used.shape
    assert without != pytest.approx(used, rel=1e-6)
    assert without.mean() == pytest.approx(used.mean(), rel=0.2)
    blind = settings.model_copy(update={"inversion": settings.inversion.__class__(xco2=False)})
    assert nature_run.members_without_xco2(product, blind, 2022) == pytest.approx(used, rel=1e-6)
    scores = nature_run.score_level(product, settings, 2022)
    assert scores["national_bias"] / scores["national_z"] == pytest.approx(scores["national_sigma"])
    assert scores["no_xco2_national_bias"] != scores["national_bias"]


def test_results_are_those_of_the_version(built):
    looked = flow.results_of(Store(built.url), built.version, "first look")
    assert list(looked) == ["2022-07"]
    assert np.all([Store(built.url).exists(path) for path in looked["2022-07"]["outputs"]])
