"""The main job on a small world: the contract of every cube, resume, refusal, local equals distributed."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import dask
import numpy as np
import pandas as pd
import pytest
import xarray as xr

from pipeline import flow, tasks
from pipeline.access import open_product
from pipeline.build import build, main
from pipeline.core.errors import InputError
from pipeline.core.grid import block_sum, domain_grid
from pipeline.core.labels import labels
from pipeline.core.schema import PRODUCTS
from pipeline.store.cubes import open_cube, write_cube
from pipeline.store.location import Store
from pipeline.store.publish import visible
from pipeline.store.verify import verify

from .conftest import DOMAIN, settings_for


def product(built, cube: str) -> xr.Dataset:
    return open_product(Store(built.url), cube, built.version).load()


def chunk_objects(url: str, version: str) -> dict[str, str]:
    """Checksum of every chunk of every cube of a version."""
    manifest = Store(url).read_json("products", version, "manifest.json")
    return {k: v["sha256"] for k, v in manifest.items() if "/c/" in k and ".zarr/" in k}


@pytest.mark.parametrize("cube", sorted(PRODUCTS))
def test_every_cube_keeps_the_contract(built, cube):
    ds = product(built, cube)
    for name, var in PRODUCTS[cube].variables.items():
        assert set(ds[name].dims) == set(var.dims)
        if var.units:
            assert ds[name].attrs["units"] == var.units
    assert ds.attrs["synthetic"] == "true"
    assert ds.attrs["schema_version"] == 1
    assert not {"storage", "store", "scheduler"} & set(json.loads(ds.attrs["settings"]))


def test_sectors_and_members_agree_with_the_total(built):
    total = product(built, "emissions_025")["co2_emission"]
    inside = np.isfinite(total)
    sectors = product(built, "sectors_025")["co2_emission"].sum("sector", skipna=False)
    members = product(built, "samples_025")["co2_emission"].astype(float).mean("member")
    assert sectors.values[inside] == pytest.approx(total.values[inside], rel=1e-12)
    assert members.values[inside] == pytest.approx(total.values[inside], rel=1e-6)


def test_fine_cells_sum_to_their_coarse_cell(built):
    coarse = product(built, "emissions_025")["co2_emission"].values
    fine = product(built, "emissions_001")["co2_emission"].values.astype(float)
    inside = np.isfinite(coarse)
    assert block_sum(np.nan_to_num(fine))[inside] == pytest.approx(coarse[inside], rel=1e-6)


def test_regions_are_the_sums_of_their_members(built):
    samples, regions = product(built, "region_samples"), product(built, "regions")
    assert regions["co2_emission"].values == pytest.approx(samples["co2_emission"].mean("member").values, rel=1e-12)
    nation = samples["co2_emission"].isel(
        region=labels(samples["region"]).index("CN"), sector=labels(samples["sector"]).index("total")
    )
    cells = product(built, "emissions_025")["co2_emission"].sum(("lat", "lon"))
    assert nation.mean("member").values == pytest.approx(cells.values, rel=1e-9)


def test_emission_is_positive_and_the_range_holds_the_mean(built):
    ds = product(built, "emissions_025")
    inside = np.isfinite(ds["co2_emission"].values)
    assert ds["co2_emission"].values[inside].min() >= 0
    low, high = (ds[f"co2_emission_{q}"].values[inside] for q in ("p05", "p95"))
    assert np.all(low <= high)
    assert np.mean((low <= ds["co2_emission"].values[inside]) & (ds["co2_emission"].values[inside] <= high)) > 0.95


def test_partial_run_moves_no_pointer(built):
    store = Store(built.url)
    assert store.read_json("products/latest.json") is None
    assert built.version in store.read_json("products/partial.json")["versions"]


def test_provenance_names_inputs_engine_and_times(built):
    provenance = Store(built.url).read_json("products", built.version, "provenance.json")
    assert {"era5.zarr", "no2_tropomi.zarr", "regions.geojson"} <= {i["name"] for i in provenance["inputs"]}
    assert provenance["regrid_engine"]
    assert provenance["diagnostics"][0]["n_obs"] > 100
    assert provenance["synthetic"] is True


def test_report_is_there(built):
    page = Store(built.url).read_bytes("products", built.version, "report", "index.html").decode()
    assert "SYNTHETIC" in page.upper()


def test_second_run_has_nothing_to_do(built, client):
    again = build(settings_for(built.url), Store(built.url), client, progress=False)
    assert again.nothing_to_do
    assert again.version == built.version


def test_changed_setting_keeps_what_it_can(built, client):
    """No fine cube asked for: a new version, but no stage before the product is done again."""
    other = build(settings_for(built.url, fine=False, report=False), Store(built.url), client, progress=False)
    assert other.version != built.version
    assert not Store(built.url).exists("products", other.version, "emissions_001.zarr")


def test_month_without_observation_is_the_prior(built, client, tmp_path):
    shutil.copytree(built.url, tmp_path / "store", ignore=shutil.ignore_patterns("products", "work"))
    store = Store(str(tmp_path / "store"))
    no2 = open_cube(store, "inputs/no2_tropomi.zarr").load()
    no2["no2_column"][:] = np.nan
    write_cube(store, "inputs/no2_tropomi.zarr", no2)
    result = build(settings_for(store.url, fine=False, report=False), store, client, progress=False)
    ds = open_product(store, "emissions_025", result.version).load()
    inside = np.isfinite(ds["co2_emission"].values)
    assert ds["co2_emission"].values[inside] == pytest.approx(ds["co2_prior"].values[inside], rel=1e-9)
    assert not np.any(ds["information"].values == 3)


def turned(ds: xr.Dataset) -> xr.Dataset:
    """The same cube with other dim order, latitude descending and longitude 0..360."""
    ds = ds.isel(lat=slice(None, None, -1)).assign_coords(lon=ds["lon"] % 360)
    return ds.transpose("lon", "lat", "time")


def test_orientation_of_inputs_does_not_matter(built, client, tmp_path):
    shutil.copytree(built.url, tmp_path / "store", ignore=shutil.ignore_patterns("products", "work"))
    store = Store(str(tmp_path / "store"))
    for name in ("no2_tropomi", "era5", "population"):
        write_cube(store, f"inputs/{name}.zarr", turned(open_cube(store, f"inputs/{name}.zarr").load()))
    result = build(settings_for(store.url, fine=False, report=False), store, client, progress=False)
    ours = open_product(store, "emissions_025", result.version)["co2_emission"].values
    theirs = product(built, "emissions_025")["co2_emission"].values
    inside = np.isfinite(theirs)
    assert ours[inside] == pytest.approx(theirs[inside], rel=1e-12)


def test_graph_is_lazy_until_a_task_runs(built):
    """Opening and regridding inputs computes nothing."""
    calls = []

    def counting(dsk, keys, **kwargs):
        calls.append(keys)
        return dask.get(dsk, keys, **kwargs)

    store, grid = Store(built.url), domain_grid(DOMAIN).expand(4)
    with dask.config.set(scheduler=counting):
        wind = tasks.month_wind(store, grid, 2022, 7, 14.0)
        assert not calls
        wind["u"].isel(time=0).compute()
    assert calls


@pytest.mark.parametrize(
    ("flags", "code", "words"),
    [
        (["--year", "1492"], 2, "2000..2100"),
        (["--year", "2022", "--months", "13"], 2, "1..12"),
        (["--year", "2022", "--domain", "60,10,70,20"], 2, "73..136 E"),
        (["--year", "2022", "--domain", "atlantis"], 2, "atlantis"),
        (["--year", "2030"], 3, "2030"),
    ],
)
def test_bad_requests_say_what_was_seen_and_expected(built, capsys, flags, code, words):
    assert main([*flags, "--store", built.url, "--workers", "1"]) == code
    assert words in capsys.readouterr().err


def broken(kind: str, store: Store) -> None:
    if kind == "unit":
        ds = open_cube(store, "inputs/no2_tropomi.zarr").load()
        ds["no2_column"].attrs["units"] = "molec cm-2"
        write_cube(store, "inputs/no2_tropomi.zarr", ds)
    elif kind == "variable":
        write_cube(store, "inputs/era5.zarr", open_cube(store, "inputs/era5.zarr").drop_vars("blh").load())
    elif kind == "truncated":
        Path(store.path("inputs/era5.zarr/zarr.json")).write_text('{"zarr_format": 3')
    else:
        store.remove("inputs/regions.geojson")


@pytest.mark.parametrize(
    ("kind", "words"),
    [("unit", "molec cm-2"), ("variable", "blh"), ("truncated", "era5.zarr"), ("regions", "regions.geojson")],
)
def test_bad_inputs_are_refused_at_the_door(built, client, tmp_path, kind, words):
    shutil.copytree(built.url, tmp_path / "store", ignore=shutil.ignore_patterns("products", "work", "truth"))
    store = Store(str(tmp_path / "store"))
    broken(kind, store)
    with pytest.raises(InputError, match=words):
        build(settings_for(store.url), store, client, progress=False)


def test_foreign_folder_is_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CARBONCUBE_STORE", raising=False)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "thesis.docx").write_text("mine")
    assert main(["--year", "2022"]) == 4
    assert "thesis.docx" in capsys.readouterr().err
    assert os.listdir(tmp_path / "data") == ["thesis.docx"]


def test_print_config_round_trips(capsys, tmp_path):
    assert main(["--year", "2022", "--print-config"]) == 0
    text = capsys.readouterr().out
    (tmp_path / "c.yaml").write_text(text)
    assert main(["--config", str(tmp_path / "c.yaml"), "--print-config"]) == 0
    assert capsys.readouterr().out == text


def test_preview_computes_nothing(built, capsys):
    flags = ["--year", "2022", "--months", "7", "--domain", DOMAIN, "--store", built.url, "--preview", "--json"]
    before = sorted(os.listdir(Path(built.url) / "products"))
    assert main(flags) == 0
    assert json.loads(capsys.readouterr().out)["task_count"] == 9
    assert sorted(os.listdir(Path(built.url) / "products")) == before


def command_line(url: str, workers: int) -> list[str]:
    flags = ["--year", "2022", "--months", "7", "--domain", DOMAIN, "--store", url, "--workers", str(workers)]
    return [sys.executable, "-m", "pipeline.build", *flags]


@pytest.mark.slow
def test_killed_driver_resumes_and_two_workers_give_the_same_chunks(built, tmp_path):
    """SIGKILL in the middle; the next run keeps what was done, and the chunks are those of one process."""
    url = str(tmp_path / "store")
    shutil.copytree(built.url, url, ignore=shutil.ignore_patterns("products", "work"))
    driver = subprocess.Popen(command_line(url, 2), start_new_session=True)
    deadline = time.time() + 240
    while time.time() < deadline and not list(Path(url).glob("work/ledger/observe/*.json")):
        assert driver.poll() is None
        time.sleep(0.2)
    os.killpg(driver.pid, signal.SIGKILL)
    driver.wait()
    done = subprocess.run([*command_line(url, 2), "--json"], capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert summary["stages"]["observe"] == {"seconds": summary["stages"]["observe"]["seconds"], "done": 0, "kept": 1}
    ours, theirs = chunk_objects(url, summary["version"]), chunk_objects(built.url, built.version)
    assert ours == theirs
    assert len(ours) > 10


def test_prior_totals_set_the_prior(built, client, tmp_path):
    shutil.copytree(built.url, tmp_path / "store", ignore=shutil.ignore_patterns("products", "work", "truth"))
    store = Store(str(tmp_path / "store"))
    path = Path(store.path("inputs/prior_totals.csv"))
    table = pd.read_csv(path)
    table.assign(co2_tonnes=2 * table["co2_tonnes"]).to_csv(path, index=False)
    doubled = build(settings_for(store.url, fine=False, report=False, learn=False), store, client, progress=False)
    plain = build(
        settings_for(built.url, fine=False, report=False, learn=False), Store(built.url), client, progress=False
    )
    priors = [
        float(open_product(Store(u), "emissions_025", r.version)["co2_prior"].sum())
        for u, r in ((store.url, doubled), (built.url, plain))
    ]
    assert priors[0] / priors[1] == pytest.approx(2, rel=0.1)


def test_a_province_keeps_its_total_when_the_domain_shows_a_part_of_it(built, tmp_path):
    """The prior of a cell is the same whether the domain is the whole world or a corner of it."""
    store = Store(built.url)
    whole, part = (domain_grid(d) for d in (DOMAIN, "115,38,116,39"))
    priors = []
    for name, grid in (("whole", whole), ("part", part)):
        tasks.prepare_year(store, settings_for(built.url), grid, 2022, f"work/test/{name}.zarr")
        priors.append(open_cube(store, f"work/test/{name}.zarr")["co2"].sel(lat=part.lat, lon=part.lon).values)
    assert priors[1] == pytest.approx(priors[0], rel=1e-9)


QUICK = {"fine": False, "report": False, "learn": False}


def copy_of(built, place) -> Store:
    """The store of the small world with its finished units, without products."""
    shutil.copytree(built.url, place, ignore=shutil.ignore_patterns("products", "runs"))
    return Store(str(place))


def test_a_driver_that_dies_publishing_leaves_nothing_visible_and_the_next_run_starts_a_version(
    built, client, tmp_path, monkeypatch
):
    store, settings = copy_of(built, tmp_path / "store"), settings_for(str(tmp_path / "store"), **QUICK)

    def dying(*_):
        raise SystemExit

    with monkeypatch.context() as patch:
        patch.setattr("pipeline.flow.manifest", dying)
        with pytest.raises(SystemExit):
            build(settings, store, client, progress=False)
    assert visible(store) == []
    (torn,) = store.names("products")
    version = build(settings, store, client, progress=False).version
    assert version != torn
    assert visible(store) == [version]
    assert verify(store, version)[1] == []


@pytest.mark.parametrize("other_finishes", [True, False])
def test_of_two_runs_that_share_a_version_one_publishes_it(built, client, tmp_path, monkeypatch, other_finishes):
    """Another run took over our version and began to publish it first: we take its product, or make our own."""
    store, settings = copy_of(built, tmp_path / "store"), settings_for(str(tmp_path / "store"), **QUICK)
    claim, others = flow.claim_publication, []

    def beaten(store, key, version):
        if others:
            return claim(store, key, version)
        others.append(version)
        assert claim(store, key, version)
        if other_finishes:
            record = store.names("work", "runs")
            assert f"{key}.json" in record
            store.write_json({"version": version, "published": True}, "work", "runs", f"{key}.json")
        return claim(store, key, version)

    monkeypatch.setattr("pipeline.flow.claim_publication", beaten)
    result = build(settings, store, client, progress=False)
    if other_finishes:
        assert (result.version, result.nothing_to_do) == (others[0], True)
    else:
        assert result.version != others[0]
        assert visible(store) == [result.version]
        assert verify(store, result.version)[1] == []
