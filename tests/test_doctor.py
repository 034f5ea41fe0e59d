import json
import shutil

import numpy as np
import pytest

from pipeline.doctor import examine, main, probe
from pipeline.ingest.books import Request
from pipeline.ingest.run import run
from pipeline.store.location import Store
from tests.ingest.granules import era5, tiff, tropomi, tropomi_name

WINDS = {"u10": 1.0, "v10": 1.0, "u100": 2.0, "v100": 2.0}


def ingest(store, product, *urls):
    return run(Request(product, tuple(map(str, urls)), store))


@pytest.fixture
def store(tmp_path):
    """Observations of two days, lights, winds without the rest, and a cube beside the contract."""
    made = Store(str(tmp_path / "s"))
    made.claim(default=False, version="0")
    ingest(made, "tropomi_no2", tropomi(tmp_path / tropomi_name(), 5e-5))
    ingest(made, "viirs_like", tiff(tmp_path / "lights_2021.tif", np.ones((40, 40), "u1"), 110, 35, 0.5))
    times = np.datetime64("2022-01-15", "ns") + np.arange(24) * np.timedelta64(1, "h")
    lat, lon = np.arange(32, 29.9, -0.25), np.arange(108, 111.1, 0.25)
    ingest(made, "era5", era5(tmp_path / "a.nc", times, {k: ("m s-1", v) for k, v in WINDS.items()}, lat, lon))
    return made


def said(findings, level):
    return " | ".join(f.what for f in findings if f.level == level)


def test_it_says_what_is_there_what_is_missing_and_what_is_broken(store):
    findings = examine(store, [2022, 2019])
    assert "inputs/no2_tropomi.zarr: 2022: 1 of 365 times" in said(findings, "ok")
    assert "era5.zarr lacks blh, t2m, sp" in said(findings, "broken")
    missing = said(findings, "missing")
    assert "2022: no winds (era5)" in missing
    assert "2022: no people (population)" in missing
    assert "2019: no observations (no2 or xco2); there are 2022" in missing
    assert "regions.geojson" in missing
    assert "no point sources" in missing
    assert "2022: lights only of 2021" in said(findings, "note")


def test_layers_are_counted_by_themselves(store, tmp_path):
    times = np.datetime64("2022-01-15", "ns") + np.arange(12) * np.timedelta64(1, "h")
    lat, lon = np.arange(32, 29.9, -0.25), np.arange(108, 111.1, 0.25)
    rest = {"blh": ("m", 500.0), "t2m": ("K", 280.0), "sp": ("Pa", 1e5)}
    ingest(store, "era5", era5(tmp_path / "b.nc", times, rest, lat, lon))
    findings = examine(store, [2022])
    assert "24 of 8760 times" in said(findings, "ok")
    assert "blh 12" in said(findings, "ok")


def test_the_command_line_has_its_exit_codes(store, tmp_path, capsys):
    assert main(["--store", store.url, "--year", "2022"]) == 3
    assert "missing" in capsys.readouterr().out
    assert main(["--store", store.url, "--json"]) == 3
    assert {f["level"] for f in json.loads(capsys.readouterr().out)} >= {"ok", "missing", "broken"}
    assert main(["--store", store.url, "--year", "next"]) == 2
    assert main(["--store", str(tmp_path / "none")]) == 3


def test_a_world_is_whole(world, capsys):
    assert main(["--store", world, "--year", "2022", "--probe"]) == 0
    out = capsys.readouterr().out
    assert "missing" not in out
    assert "the folder can be written" in out


def test_damage_is_seen(world, tmp_path):
    copy = tmp_path / "w"
    shutil.copytree(world, copy)
    (copy / "inputs/regions.geojson").write_text("{}")
    shutil.rmtree(next((copy / "inputs").glob("population.zarr")) / "population")
    broken = said(examine(Store(str(copy)), [2022]), "broken")
    assert "FeatureCollection" in broken
    assert "population" in broken


def test_probe_leaves_nothing_behind(store):
    before = store.names("work")
    assert probe(store).level == "ok"
    assert store.names("work") == before
