"""What is predicted before a run: lazily, from few days, growing with the work; and held to what came."""

import json
import shutil
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import zarr

from pipeline.build import main
from pipeline.core.options import InversionOptions
from pipeline.coverage import LOOKS, expected_dofs, look_ahead
from pipeline.preview import COSTS, Prediction, predict, preview, stage_seconds, unit_counts
from pipeline.settings import load
from pipeline.store.cubes import open_cube, write_cube
from pipeline.store.location import Store

from .conftest import DOMAIN, settings_for

YEAR = load({"year": 2022, "store": "x"}, environ={})


@pytest.fixture
def reads(monkeypatch) -> Counter:
    """Counts the chunk objects that are read, by cube."""
    counted: Counter = Counter()
    get = zarr.storage.LocalStore.get

    async def counting(self, key, *args, **more):
        if "/c/" in key:
            counted[f"{self.root.name}/{key.split('/')[0]}"] += 1
        return await get(self, key, *args, **more)

    monkeypatch.setattr(zarr.storage.LocalStore, "get", counting)
    return counted


def test_few_chunks_are_read(world, reads):
    """Of each variable of NO2 one chunk a day looked at; of weather, lights and people nothing but coordinates."""
    predict(settings_for(world), Store(world), workers=1)
    fields = {name: n for name, n in reads.items() if name.rsplit("/", 1)[1] not in ("lat", "lon", "time")}
    assert set(fields) == {f"no2_tropomi.zarr/{v}" for v in ("no2_column", "no2_column_uncertainty", "valid_fraction")}
    assert all(0 < n <= LOOKS for n in fields.values())


def test_the_look_ahead_counts_what_is_there(world, tmp_path):
    """Half of the columns gone, half of them are expected; none at all, no information."""
    shutil.copytree(f"{world}/inputs", tmp_path / "inputs")
    store, settings = Store(str(tmp_path)), settings_for(str(tmp_path))
    grid = settings.grid.expand(4)
    whole = look_ahead(store, settings, grid, 0.4, 0.025)
    no2 = open_cube(store, "inputs/no2_tropomi.zarr").load()
    assert whole.looked == LOOKS
    assert 0 < whole.columns < 31 * grid.n_lat * grid.n_lon
    gone = np.indices(no2["no2_column"].shape).sum(axis=0) % 2 == 0
    write_cube(store, "inputs/no2_tropomi.zarr", no2.assign(no2_column=no2["no2_column"].where(~gone)))
    half = look_ahead(store, settings, grid, 0.4, 0.025)
    assert half.columns == pytest.approx(whole.columns / 2, rel=0.1)
    assert 0.4 * whole.dofs < half.dofs < whole.dofs
    write_cube(store, "inputs/no2_tropomi.zarr", no2.assign(no2_column=no2["no2_column"] * np.nan))
    none = look_ahead(store, settings, grid, 0.4, 0.025)
    assert (none.columns, none.dofs) == (0, 0)


def test_without_a_cube_the_usual_is_taken_and_said(tmp_path):
    store = Store(str(tmp_path))
    expected = predict(settings_for(store.url), store, workers=2)
    assert (expected.looked, expected.dofs) == (0, None)
    assert expected.columns > 0
    lines, values = preview(settings_for(store.url), store)
    assert any("unknown before there is any NO2" in line for line in lines)
    assert values["prediction"]["dofs"] is None


def test_a_run_that_would_be_refused_is_refused_here(world, capsys):
    assert main(["--year", "2022", "--store", world, "--preview"]) == 3
    assert "era5 reaches" in capsys.readouterr().err


@pytest.mark.parametrize("part", ["number", "signal", "clean"])
def test_information_grows_with_what_is_seen(part):
    number, signal, noise = np.full(10, 5.0), np.full(10, 2e-5), np.full(10, 1e-5)
    more = {
        "number": (2 * number, signal, noise),
        "signal": (number, 2 * signal, noise),
        "clean": (number, signal, noise / 2),
    }
    options = InversionOptions()
    before, after = expected_dofs(number, signal, noise, options, 0.025), expected_dofs(*more[part], options, 0.025)
    assert 0 < before < after < 10
    assert expected_dofs(number, 0 * signal, noise, options, 0.025) == 0


def test_time_grows_with_the_work_and_falls_with_the_workers():
    def seconds(settings=YEAR, columns=2e5, workers=2, cells=40_000):
        return sum(stage_seconds(settings, cells, columns, workers).values())

    members = YEAR.model_copy(update={"inversion": replace(YEAR.inversion, members=100)})
    longer = load({"year": "2021,2022", "store": "x"}, environ={})
    coarse = load({"year": 2022, "store": "x", "fine": False}, environ={})
    assert seconds(columns=3e5) > seconds() < seconds(members)
    assert seconds(coarse) < seconds() < seconds(longer)
    assert seconds(cells=80_000) > seconds() > seconds(workers=4) > seconds(workers=12)
    assert seconds(workers=1000) == seconds(workers=2000)


def test_every_stage_of_a_build_has_its_time():
    assert list(stage_seconds(YEAR, 40_000, 2e5, 2)) == ["start", *unit_counts(YEAR)]


def test_memory_grows_with_columns_members_and_busy_workers(world):
    store = Store(world)
    one, two = (predict(settings_for(world), store, workers=n) for n in (1, 2))
    # One month keeps one worker busy: the second costs what it is.
    assert two.workers_gib - one.workers_gib == pytest.approx(COSTS.worker)
    settings = settings_for(world)
    members = settings.model_copy(update={"inversion": replace(settings.inversion, members=500)})
    assert predict(members, store, workers=1).workers_gib > one.workers_gib


def prediction(**changes) -> Prediction:
    return replace(Prediction(100.0, 5000.0, {"observe": 10.0, "invert": 30.0}, 0.5, 2.0, 1, 12), **changes)


MONTHS = [{"dofs": 70.0, "n_obs": 4000}, {"dofs": 90.0, "n_obs": 8000}]
MEMORY = {"driver": 0.6, "workers": 1.0}


def test_predictions_are_held_to_what_was_seen():
    stages = {"observe": {"done": 2, "kept": 0}}
    rows = {r["quantity"]: r for r in prediction().judged(stages, MONTHS, MEMORY, 50.0)}
    assert rows["degrees of freedom a month"] == {
        "quantity": "degrees of freedom a month", "predicted": 100.0, "seen": 80.0, "ratio": 0.8,
    }  # fmt: skip
    assert [rows[n]["ratio"] for n in ("NO2 columns a month", "seconds of computing")] == [1.2, 1.25]
    assert [rows[n]["ratio"] for n in ("GiB of the driver", "GiB of the workers")] == [1.2, 0.5]


def test_a_resumed_run_tells_nothing_of_time_and_memory():
    stages = {"observe": {"done": 1, "kept": 1}}
    rows = {r["quantity"]: r for r in prediction(dofs=None).judged(stages, MONTHS, MEMORY, 50.0)}
    assert rows["seconds of computing"]["seen"] is rows["GiB of the workers"]["ratio"] is None
    assert rows["degrees of freedom a month"]["seen"] == 80.0
    assert rows["degrees of freedom a month"]["ratio"] is None


def test_a_run_says_how_well_it_was_predicted(built):
    record = Store(built.url).read_json("products", built.version, "provenance.json")
    rows = {r["quantity"]: r for r in record["predictions"]}
    assert 0.5 < rows["NO2 columns a month"]["ratio"] < 2
    assert 0.2 < rows["degrees of freedom a month"]["ratio"] < 5
    assert rows["seconds of computing"]["seen"] > 0
    page = Store(built.url).read_bytes("products", built.version, "report", "index.html").decode()
    assert "degrees of freedom a month" in page


def test_the_command_line_predicts_and_computes_nothing(built, capsys):
    flags = ["--year", "2022", "--months", "7", "--domain", DOMAIN, "--store", built.url, "--preview", "--workers", "1"]
    before = Store(built.url).names("products")
    assert main(flags) == 0
    assert "degrees of freedom about" in capsys.readouterr().out
    assert main([*flags, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["prediction"]["looked"] == LOOKS
    assert told["prediction"]["seconds"] == pytest.approx(sum(told["prediction"]["stages"].values()))
    assert Store(built.url).names("products") == before
