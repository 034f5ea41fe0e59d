import hashlib
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest

from pipeline.core.errors import InputError
from pipeline.core.schema import check, input_schema
from pipeline.ingest.books import Request
from pipeline.ingest.columns import natural
from pipeline.ingest.report import report
from pipeline.ingest.run import run
from pipeline.store.cubes import open_cube
from pipeline.store.location import Store
from tests.ingest.granules import lite, omi, swath, tropomi, tropomi_name

CUBE = "inputs/no2_tropomi.zarr"


def ingest(store, *urls, product="tropomi_no2", map_function=map, **more):
    request = Request(product, tuple(map(str, urls)), Store(str(store)), **more)
    return run(request, map_function)


def opened(store, path=CUBE):
    return open_cube(Store(str(store)), path, chunks=None)


def filled(store, path=CUBE):
    """The days that hold something, in memory."""
    ds = opened(store, path)
    return ds.isel(time=np.flatnonzero(ds["ingested"].values)).load()


def same(one, other):
    """Whether two cubes hold the same days and values."""
    return filled(one).drop_attrs().identical(filled(other).drop_attrs())


def chunks(store, path=CUBE):
    root = Path(store) / path
    return {
        str(p.relative_to(root)): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(root.rglob("c/*"))
        if p.is_file() and not str(p.relative_to(root)).startswith(("time", "ingested"))
    }


@pytest.fixture
def folder(tmp_path):
    """Three orbits on two days; two share cells."""
    place = tmp_path / "granules"
    place.mkdir()
    tropomi(place / tropomi_name(orbit=1), 4e-5, orbit=1)
    tropomi(place / tropomi_name(orbit=2), 6e-5, orbit=2, knots=swath(south=28.4))
    tropomi(place / tropomi_name("20220203", 3), 8e-5, day="2022-02-03", orbit=3)
    return place


def test_a_folder_becomes_a_cube_of_whole_years(tmp_path, folder):
    summary = ingest(tmp_path / "s", folder)
    assert summary.statuses == {"used": 3}
    ds = opened(tmp_path / "s")
    check(ds, input_schema("no2_tropomi"), "cube")
    assert ds.sizes["time"] == 365
    filled = ds["time"].values[ds["ingested"].values > 0].astype("datetime64[D]").astype(str)
    assert filled.tolist() == ["2022-01-15", "2022-02-03"]
    day = ds["no2_column"].sel(time="2022-02-03")
    assert float(day.min()) == float(day.max()) == pytest.approx(8e-5)
    assert ds["no2_column"].sel(time="2022-01-14").isnull().all()
    assert 0 < float(ds["valid_fraction"].max()) <= 1
    assert float(ds["obs_time"].sel(time="2022-02-03").mean()) == pytest.approx(5.5, abs=0.02)
    assert '"min_qa": 0.75' in ds.attrs["quality_rules"]


def test_orbits_of_a_day_weigh_by_their_area(tmp_path, folder):
    ingest(tmp_path / "s", folder)
    day = opened(tmp_path / "s").sel(time="2022-01-15").load()
    values = day["no2_column"].values
    known = values[np.isfinite(values)]
    assert known.min() == pytest.approx(4e-5)
    assert known.max() == pytest.approx(6e-5)
    shared = known[(known > 4.2e-5) & (known < 5.8e-5)]
    assert shared.size > 0


def test_order_of_arrival_is_no_matter_and_old_bytes_stay(tmp_path, folder):
    ingest(tmp_path / "once", folder)
    first, second, third = sorted(folder.iterdir())
    store = tmp_path / "bit"
    ingest(store, third)
    before = chunks(store)
    summary = ingest(store, first)
    assert summary.statuses == {"used": 1}
    after = chunks(store)
    assert {k: v for k, v in after.items() if k in before} == before
    ingest(store, second)
    assert chunks(store) == chunks(tmp_path / "once")


def test_nothing_new_reads_nothing_and_changes_nothing(tmp_path, folder):
    store = tmp_path / "s"
    ingest(store, folder)
    before = chunks(store)

    def refuse(function, items):
        assert not list(items), "no task is expected"
        return iter(())

    summary = ingest(store, folder, map_function=refuse)
    assert summary.known == 3
    assert summary.statuses == {}
    assert chunks(store) == before


def test_an_interrupted_run_resumes(tmp_path, folder):
    store = tmp_path / "s"
    calls = []

    def dies(function, items):
        for item in items:
            if len(calls) == 2:
                raise KeyboardInterrupt
            calls.append(item)
            yield function(item)

    with pytest.raises(KeyboardInterrupt):
        ingest(store, folder, map_function=dies)
    summary = ingest(store, folder)
    assert summary.known == 2
    assert summary.statuses == {"used": 1}
    ingest(tmp_path / "once", folder)
    assert chunks(store) == chunks(tmp_path / "once")


def test_a_run_that_died_between_days_resumes(tmp_path, folder):
    store = tmp_path / "s"
    calls = []

    def dies(function, items):
        for item in items:
            calls.append(function.__name__)
            if calls.count("_write_day") == 2:
                raise KeyboardInterrupt
            yield function(item)

    with pytest.raises(KeyboardInterrupt):
        ingest(store, folder, map_function=dies)
    ingest(store, folder)
    ingest(tmp_path / "once", folder)
    assert chunks(store) == chunks(tmp_path / "once")
    np.testing.assert_array_equal(opened(store)["ingested"], opened(tmp_path / "once")["ingested"])


def test_later_years_leave_earlier_chunks_alone_and_earlier_years_fit_in(tmp_path, folder):
    extra = tmp_path / "extra"
    extra.mkdir()
    tropomi(extra / tropomi_name("20230105", 4), 5e-5, day="2023-01-05", orbit=4)
    tropomi(extra / tropomi_name("20200105", 5), 3e-5, day="2020-01-05", orbit=5)
    store = tmp_path / "s"
    ingest(store, folder)
    before = chunks(store)
    ingest(store, extra / tropomi_name("20230105", 4))
    assert before.items() <= chunks(store).items()
    ingest(store, extra / tropomi_name("20200105", 5))
    ingest(tmp_path / "once", folder, extra)
    ds, once = (open_cube(Store(str(s)), CUBE, chunks=None) for s in (store, tmp_path / "once"))
    assert ds.sizes["time"] == 366 + 365 + 365
    for name in ("ingested", "time"):
        np.testing.assert_array_equal(ds[name].values, once[name].values)
    assert chunks(store) == chunks(tmp_path / "once")


def test_a_reprocessed_orbit_replaces_the_first_one(tmp_path, folder):
    store = tmp_path / "s"
    ingest(store, folder)
    better = tmp_path / tropomi_name(orbit=1, stream="RPRO")
    tropomi(better, 9e-5, orbit=1)
    ingest(store, better)
    alone = tmp_path / "alone"
    ingest(alone, better, folder / tropomi_name(orbit=2), folder / tropomi_name("20220203", 3))
    assert same(store, alone)
    left_out = report(Store(str(store)))["products"]["tropomi_no2"]["left_out"]
    assert len(left_out) == 1
    assert "superseded by" in left_out[0]["reason"]


def test_a_changed_file_replaces_its_old_content(tmp_path, folder):
    store = tmp_path / "s"
    ingest(store, folder)
    target = folder / tropomi_name("20220203", 3)
    tropomi(target, 2e-5, day="2022-02-10", orbit=3)
    ingest(store, folder)
    ds = opened(store)
    assert ds["no2_column"].sel(time="2022-02-03").isnull().all()
    assert int(ds["ingested"].sel(time="2022-02-03")) == 0
    assert float(ds["no2_column"].sel(time="2022-02-10").max()) == pytest.approx(2e-5)


def test_copies_of_a_file_count_once(tmp_path, folder):
    again = tmp_path / "again"
    shutil.copytree(folder, again)
    ingest(tmp_path / "s", folder, again)
    ingest(tmp_path / "once", folder)
    assert same(tmp_path / "s", tmp_path / "once")


def test_a_file_made_again_replaces_the_first_one(tmp_path, folder):
    name = tropomi_name("20220203", 3)
    again = tropomi(folder / name.replace("T120000.nc", "T180000.nc"), 2e-5, day="2022-02-03", orbit=3)
    store = tmp_path / "s"
    ingest(store, folder)
    assert float(opened(store)["no2_column"].sel(time="2022-02-03").max()) == pytest.approx(2e-5)
    left = report(Store(str(store)))["products"]["tropomi_no2"]["left_out"]
    assert [(item["file"].rsplit("/", 1)[-1], item["reason"]) for item in left] == [(name, f"superseded by {again}")]


def test_a_lite_file_made_again_counts_once(tmp_path):
    place = tmp_path / "lite"
    place.mkdir()
    for stamp, value in (("230524101112s", 410.0), ("240101000000s", 414.0)):
        lite(place / f"oco2_LtCO2_220115_B11210Ar_{stamp}.nc4", np.full(4, 30.1), np.full(4, 110.1), value)
    ingest(tmp_path / "s", place, product="oco2")
    cell = opened(tmp_path / "s", "inputs/xco2_oco2.zarr").sel(time="2022-01-15", lat=30.125, lon=110.125)
    assert (float(cell["xco2"]), float(cell["n_soundings"])) == (414.0, 4.0)


def test_every_file_and_pixel_is_accounted_for(tmp_path, folder):
    (folder / "broken.nc").write_bytes(b"\x89HDF\r\n\x1a\n and then nothing")
    (folder / "empty.nc").write_bytes(b"")
    (folder / "notes.txt").write_text("not a granule")
    tropomi(folder / tropomi_name("20220301", 9), 5e-5, day="2022-03-01", qa=10)
    summary = ingest(tmp_path / "s", folder)
    assert summary.statuses == {"used": 3, "rejected": 1, "failed": 2}
    assert [name.rsplit("/", 1)[-1] for name in summary.ignored] == ["notes.txt"]
    found = report(Store(str(tmp_path / "s")))["products"]["tropomi_no2"]
    assert found["files"] == {"used": 3, "rejected": 1, "failed": 2}
    records = dict(found["records"])
    assert records.pop("seen") == sum(records.values()) == 4800
    assert {item["file"].rsplit("/", 1)[-1] for item in found["left_out"]} == {
        "broken.nc", "empty.nc", tropomi_name("20220301", 9),
    }  # fmt: skip


def test_failed_files_are_tried_again(tmp_path, folder):
    target = folder / tropomi_name("20220203", 3)
    whole = target.read_bytes()
    target.write_bytes(whole[: len(whole) // 2])
    assert ingest(tmp_path / "s", folder).statuses == {"used": 2, "failed": 1}
    assert ingest(tmp_path / "s", folder).statuses == {"failed": 1}
    target.write_bytes(whole)
    assert ingest(tmp_path / "s", folder).statuses == {"used": 1}


def test_other_rules_do_not_mix_into_a_cube(tmp_path, folder):
    ingest(tmp_path / "s", folder)
    with pytest.raises(InputError, match="one set of rules"):
        ingest(tmp_path / "s", folder, rules={"min_qa": "0.5"})


def test_years_that_were_not_asked_for_wait(tmp_path, folder):
    tropomi(folder / tropomi_name("20210105", 8), 5e-5, day="2021-01-05", orbit=8)
    summary = ingest(tmp_path / "s", folder, years=frozenset({2022}))
    assert summary.statuses == {"used": 3, "skipped": 1}
    assert opened(tmp_path / "s").sizes["time"] == 365
    assert ingest(tmp_path / "s", folder).statuses == {"used": 1}


def test_xco2_keeps_one_scale_and_merges_files_of_a_day(tmp_path):
    place = tmp_path / "lite"
    place.mkdir()
    lat, lon = np.full(6, 30.1), np.full(6, 110.1)
    lite(place / "a.nc4", lat[:4], lon[:4], 410.0)
    lite(place / "b.nc4", lat[:2], lon[:2], 416.0)
    store = tmp_path / "s"
    ingest(store, place, product="oco2")
    ds = opened(store, "inputs/xco2_oco2.zarr").sel(time="2022-01-15")
    check(opened(store, "inputs/xco2_oco2.zarr"), input_schema("xco2_oco2"), "cube")
    cell = ds.sel(lat=30.125, lon=110.125)
    assert float(cell["xco2"]) == pytest.approx(412.0)
    assert float(cell["n_soundings"]) == 6
    expected = np.sqrt(0.5**2 * ((1 - 0.55) / 6 + 0.55) + 0.3**2)
    assert float(cell["xco2_uncertainty"]) == pytest.approx(expected, rel=1e-6)


def test_omi_grids_keep_place_unit_and_day(tmp_path):
    lat, lon = -89.875 + 0.25 * np.arange(720), -179.875 + 0.25 * np.arange(1440)
    value = (1e15 * (10 + lat[:, None] / 10 + lon[None, :] / 1000)).astype("f4")
    value[lat > 50] = -1.2676506e30
    path = omi(tmp_path / "OMI-Aura_L3-OMNO2d_2022m0115_v003-2022m0116.he5", value)
    summary = ingest(tmp_path / "s", path, product="omi_no2")
    assert summary.statuses == {"used": 1}
    ds = opened(tmp_path / "s", "inputs/no2_omi.zarr")
    check(ds, input_schema("no2_omi"), "cube")
    day = ds.sel(time="2022-01-15").load()
    own = day["no2_column"].where(day["lat"] < 50, drop=True)
    expected = 1e15 * (10 + own["lat"] / 10 + own["lon"] / 1000) / 6.02214076e19
    np.testing.assert_allclose(own, expected.transpose("lat", "lon"), rtol=1e-6)
    np.testing.assert_allclose(day["valid_fraction"].where(day["lat"] < 50, drop=True), 1.0, rtol=1e-9)
    assert day["no2_column"].where(day["lat"] > 50, drop=True).isnull().all()
    assert np.nanmax(day["obs_time"]) == 6.0


def test_versions_sort_as_people_read_them():
    versions = ["B11.2.10", "B9", "B11.2.9", "B10"]
    assert sorted(versions, key=natural) == ["B9", "B10", "B11.2.9", "B11.2.10"]


def test_an_xco2_cube_is_what_the_contract_says(tmp_path):
    """Against a loop over soundings: means, error, count, boundary-layer kernel and time of each cell."""
    rng = np.random.default_rng(7)
    n, depth = 60, 150.0
    lat, lon = rng.uniform(30.0, 30.5, n).astype("f4"), rng.uniform(110.0, 110.5, n).astype("f4")
    xco2, error = rng.uniform(405, 420, n).astype("f4"), rng.uniform(0.3, 0.9, n).astype("f4")
    path = lite(tmp_path / "a.nc4", lat, lon, xco2, error)
    surface = rng.uniform(700, 1020, n)
    levels = (surface[:, None] * np.linspace(0.005, 1, 20)).astype("f4")
    weight = rng.uniform(0.01, 0.06, (n, 20)).astype("f4")
    kernel = rng.uniform(0.6, 1.2, (n, 20)).astype("f4")
    kernel[0] = -999999.0
    with h5py.File(path, "a") as file:
        file["pressure_levels"][:], file["pressure_weight"][:], file["xco2_averaging_kernel"][:] = (
            levels,
            weight,
            kernel,
        )
    store = tmp_path / "s"
    ingest(store, path, product="oco2")
    ds = opened(store, "inputs/xco2_oco2.zarr")
    check(ds, input_schema("xco2_oco2"), "cube")
    units = {"xco2": "ppm", "xco2_uncertainty": "ppm", "n_soundings": "1", "averaging_kernel_pbl": "1", "obs_time": "h"}
    assert {name: ds[name].attrs["units"] for name in units} == units
    assert all(ds[name].dims == ("time", "lat", "lon") for name in units)
    assert (ds["time"].dt.hour == 0).all()
    day = ds.sel(time="2022-01-15").load()
    seen = 0
    for j, i in np.ndindex(2, 2):
        south, west = 30 + 0.25 * j, 110 + 0.25 * i
        own = np.flatnonzero((lat >= south) & (lat < south + 0.25) & (lon >= west) & (lon < west + 0.25))
        cell = day.sel(lat=south + 0.125, lon=west + 0.125)
        means = []
        for k in own[own > 0]:
            low = [m for m in range(20) if levels[k, m] >= levels[k, 19] - depth]
            assert 3 <= len(low) <= 5
            means.append(
                sum(float(weight[k, m]) * float(kernel[k, m]) for m in low) / sum(float(weight[k, m]) for m in low)
            )
        mean_square = np.mean(error[own].astype("f8") ** 2)
        expected = {
            "xco2": xco2[own].mean(dtype="f8"), "n_soundings": own.size, "averaging_kernel_pbl": np.mean(means),
            "xco2_uncertainty": np.sqrt(mean_square * ((1 - 0.55) / own.size + 0.55) + 0.3**2),
            "obs_time": 5 + 40 / 60 + own.mean() / 3600,
        }  # fmt: skip
        for name, value in expected.items():
            assert float(cell[name]) == pytest.approx(value, rel=1e-6), name
        seen += own.size
    assert seen == n == float(day["n_soundings"].sum())
    assert int(day["xco2"].notnull().sum()) == 4
