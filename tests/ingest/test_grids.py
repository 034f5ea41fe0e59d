import gc
import hashlib
from pathlib import Path

import h5py
import numpy as np
import pytest
import xarray as xr

from pipeline.core.errors import InputError
from pipeline.core.schema import check, input_schema
from pipeline.ingest.books import Request
from pipeline.ingest.era5 import Reanalysis, read_all, time_step
from pipeline.ingest.run import run
from pipeline.store.cubes import open_cube
from pipeline.store.location import Store
from tests.ingest.granules import era5

CUBE = "inputs/era5.zarr"
READER = Reanalysis(CUBE, "test")
LAT, LON = np.arange(32, 29.9, -0.25), np.arange(108, 111.1, 0.25)
ALL = {
    "u10": ("m s**-1", 2.0), "v10": ("m s**-1", -1.0), "u100": ("m s**-1", 5.0), "v100": ("m s**-1", -3.0),
    "blh": ("m", 800.0), "t2m": ("K", 288.0), "sp": ("Pa", 98_000.0),
}  # fmt: skip


def hours(start, n, step=1):
    return np.datetime64(start, "ns") + step * np.arange(n) * np.timedelta64(1, "h")


def field(n, seed=0, scale=3.0):
    return np.random.default_rng(seed).normal(0, scale, (n, LAT.size, LON.size)).astype("f4")


def small(path, times, layers, **more):
    return era5(path, times, layers, lat=more.pop("lat", LAT), lon=more.pop("lon", LON), **more)


def ingest(store, *urls, product="era5", **more):
    return run(Request(product, tuple(map(str, urls)), Store(str(store)), **more))


def opened(store, path=CUBE):
    return open_cube(Store(str(store)), path, chunks=None)


def read(path):
    with READER.open(str(path), {}) as grid:
        return grid.contents, {v: read_all(grid, v) for v in grid.contents.variables}


@pytest.mark.parametrize("new", [True, False])
def test_old_and_new_layouts_give_the_same_fields(tmp_path, new):
    u = field(5)
    contents, values = read(small(tmp_path / "a.nc", hours("2022-01-01", 5), {"u10": ("m s**-1", u)}, new=new))
    assert contents.times[0] == "2022-01-01T00:00:00"
    assert contents.lat.centres[0] == 30.0, "latitudes must ascend"
    np.testing.assert_array_equal(values["u10"], u[:, ::-1])


def test_packing_is_undone_and_its_fill_is_missing(tmp_path):
    t = 280 + field(4)
    t[1, 2, 3] = np.nan
    _, values = read(small(tmp_path / "a.nc", hours("2022-01-01", 4), {"t2m": ("K", t)}, new=False, packed=True))
    np.testing.assert_allclose(values["t2m"], t[:, ::-1], atol=5e-4)
    assert np.isnan(values["t2m"]).sum() == 1


@pytest.mark.parametrize("order", [[1, 5], [5, 1]])
def test_final_values_win_over_preliminary_ones(tmp_path, order):
    final, early = field(4), field(4, 1)
    final[2:] = np.nan
    both = np.stack([final, early] if order == [1, 5] else [early, final], axis=1)
    path = small(
        tmp_path / "a.nc", hours("2022-01-01", 4), {"u10": ("m s**-1", both)}, new=False, packed=True, expver=order
    )
    contents, values = read(path)
    assert contents.rank == 1
    np.testing.assert_allclose(values["u10"][:2], final[:2, ::-1], atol=1e-3)
    np.testing.assert_allclose(values["u10"][2:], early[2:, ::-1], atol=1e-3)


def test_global_files_are_cut_whatever_their_longitudes(tmp_path):
    lat, lon = np.arange(90, -90.1, -2.5), np.arange(0, 360, 2.5)
    v = np.add.outer(np.zeros(2), lat[:, None] + np.where(lon > 180, lon - 360, lon)[None] / 1000)
    _, east = read(era5(tmp_path / "a.nc", hours("2022-01-01", 2), {"u10": ("m/s", v)}, lat, lon))
    order = np.argsort(np.where(lon > 180, lon - 360, lon))
    west = np.sort(np.where(lon > 180, lon - 360, lon))
    contents, values = read(era5(tmp_path / "b.nc", hours("2022-01-01", 2), {"u10": ("m/s", v[..., order])}, lat, west))
    np.testing.assert_array_equal(east["u10"], values["u10"])
    expected = contents.lat.centres[:, None] + contents.lon.centres[None] / 1000
    np.testing.assert_allclose(values["u10"][0], expected, rtol=1e-6)
    assert contents.lat.centres.min() >= 10
    assert contents.lon.centres.max() <= 143


def test_pressure_levels_and_members(tmp_path):
    u = np.stack([field(3), field(3, 1)], axis=1)
    ds = xr.Dataset(
        {"u": (("valid_time", "pressure_level", "latitude", "longitude"), u, {"units": "m s**-1"})},
        {"valid_time": hours("2022-01-01", 3), "pressure_level": [1000.0, 950.0], "latitude": LAT, "longitude": LON},
    )
    ds.to_netcdf(tmp_path / "a.nc", engine="h5netcdf")
    contents, values = read(tmp_path / "a.nc")
    assert contents.variables == ("u950",)
    np.testing.assert_array_equal(values["u950"], u[:, 1, ::-1])


@pytest.mark.parametrize(
    ("layers", "more", "reason"),
    [
        ({"u10": ("km h-1", 1.0)}, {}, "units 'km h-1'"),
        ({"t2m": ("degC", 10.0)}, {}, "units 'degC'"),
        ({"ssrd": ("J m**-2", 1.0)}, {}, "none of u10"),
        ({"u10": ("m s-1", 1.0)}, {"lon": np.arange(0, 5, 0.25)}, "outside the region"),
    ],
)
def test_other_files_are_rejected_with_the_reason(tmp_path, layers, more, reason):
    summary = ingest(tmp_path / "s", small(tmp_path / "a.nc", hours("2022-01-01", 2), layers, **more))
    assert summary.statuses == {"rejected": 1}
    assert reason in summary.problems[0]


def test_monthly_means_are_no_hours(tmp_path):
    months = np.array(["2022-01-01", "2022-02-01", "2022-03-01"], "datetime64[ns]")
    summary = ingest(tmp_path / "s", small(tmp_path / "a.nc", months, {"u10": ("m s-1", 1.0)}))
    assert "means over months" in summary.problems[0]


def test_one_mean_of_a_month_is_no_hour(tmp_path):
    path = small(tmp_path / "a.nc", hours("2022-01-01", 1), {"u10": ("m s-1", 1.0)})
    for kind, status in (("avgua", "rejected"), ("instant", "used")):
        with h5py.File(path, "a") as file:
            file["u10"].attrs["GRIB_stepType"] = np.bytes_(kind)
        summary = ingest(tmp_path / kind, path)
        assert summary.statuses == {status: 1}
        assert status == "used" or "of the kind 'avgua'" in summary.problems[0]


def test_a_unit_that_is_not_what_it_says_fails(tmp_path):
    summary = ingest(tmp_path / "s", small(tmp_path / "a.nc", hours("2022-01-01", 24), {"t2m": ("K", 15.0)}))
    assert summary.statuses == {"failed": 1}
    assert "t2m of 15 K" in summary.problems[0]


def test_step_is_what_the_hours_allow():
    assert time_step(["2022-01-01T00:00:00", "2022-01-01T06:00:00"]) == 6
    assert time_step([f"2022-01-01T{h:02d}:00:00" for h in range(0, 24, 3)]) == 3
    assert time_step(["2022-01-01T23:00:00"]) == 1
    assert time_step(["2022-01-01T00:00:00", "2022-01-01T12:00:00"]) == 1
    assert time_step(["2022-01-01T00:00:00"]) == 1


def test_half_hours_are_rejected(tmp_path):
    path = small(tmp_path / "a.nc", hours("2022-01-01T00:30", 3), {"u10": ("m s-1", 1.0)})
    assert "expected full hours" in ingest(tmp_path / "s", path).problems[0]


def test_variables_and_days_of_several_files_become_one_cube(tmp_path):
    place = tmp_path / "era5"
    place.mkdir()
    u = field(48)
    small(
        place / "wind.nc",
        hours("2022-03-01", 48),
        {"u10": ("m s**-1", u), **{k: ALL[k] for k in ("v10", "u100", "v100")}},
    )
    small(place / "rest.nc", hours("2022-03-01", 48), {k: ALL[k] for k in ("blh", "t2m", "sp")}, new=False)
    summary = ingest(tmp_path / "s", place)
    assert summary.statuses == {"used": 2}
    ds = opened(tmp_path / "s")
    checked = check(ds, input_schema("era5"), "cube")
    assert checked.sizes["time"] == 8760
    np.testing.assert_array_equal(ds["u10"].sel(time=hours("2022-03-01", 48)), u[:, ::-1])
    marks = ds["ingested"].sel(time=hours("2022-03-01", 48))
    assert set(marks.values.tolist()) == {0b1111111}
    assert int((ds["ingested"] > 0).sum()) == 48


def _hashes(store):
    root = Path(store) / CUBE
    return {str(p): hashlib.sha256(p.read_bytes()).hexdigest() for p in root.rglob("c/*/*/*") if p.is_file()}


def test_half_days_meet_in_their_chunk_and_other_chunks_stay(tmp_path):
    store = tmp_path / "s"
    v = field(48)
    small(tmp_path / "a.nc", hours("2022-03-01", 36), {"u10": ("m s-1", v[:36])})
    small(tmp_path / "b.nc", hours("2022-03-02T12", 12), {"u10": ("m s-1", v[36:])})
    small(tmp_path / "c.nc", hours("2022-03-01", 48), {"t2m": ("K", 280.0)})
    ingest(store, tmp_path / "a.nc")
    before = _hashes(store)
    ingest(store, tmp_path / "b.nc")
    ingest(store, tmp_path / "c.nc")
    ds = opened(store).sel(time=hours("2022-03-01", 48))
    np.testing.assert_array_equal(ds["u10"], v[:, ::-1])
    assert set(ds["ingested"].values.tolist()) == {0b100001}
    after = _hashes(store)
    changed = {path for path, value in before.items() if after[path] != value}
    assert len(changed) == 1, "only the half day's chunk of u10 may change"


def test_final_data_replace_preliminary_data_that_came_first(tmp_path):
    store = tmp_path / "s"
    times = hours("2022-03-01", 24)
    small(
        tmp_path / "early.nc",
        times,
        {"u10": ("m s-1", np.full((24, 1, LAT.size, LON.size), 9.0))},
        new=False,
        expver=[5],
    )
    small(tmp_path / "final.nc", times, {"u10": ("m s-1", 4.0)})
    ingest(store, tmp_path / "early.nc")
    assert float(opened(store)["u10"].sel(time=times).mean()) == 9.0
    ingest(store, tmp_path / "final.nc")
    assert float(opened(store)["u10"].sel(time=times).mean()) == 4.0


def test_a_damaged_file_does_not_take_the_others_down(tmp_path):
    place = tmp_path / "era5"
    place.mkdir()
    good = small(place / "a.nc", hours("2022-03-01", 24), {"u10": ("m s-1", 2.0)})
    bad = small(place / "b.nc", hours("2022-03-01", 24), {"v10": ("m s-1", field(24, scale=20.0))})
    raw = bytearray(Path(bad).read_bytes())
    for k in range(len(raw) - 6000, len(raw) - 5000):
        raw[k] ^= 0xFF
    Path(bad).write_bytes(raw)
    summary = ingest(tmp_path / "s", place)
    assert summary.statuses == {"failed": 1, "used": 1}
    ds = opened(tmp_path / "s").sel(time=hours("2022-03-01", 24))
    assert float(ds["u10"].mean()) == 2.0
    assert set(ds["ingested"].values.tolist()) == {1}
    assert Path(good).exists()


def test_years_asked_for_are_filled_and_the_rest_stays_open(tmp_path):
    path = small(tmp_path / "a.nc", hours("2021-12-31", 48), {"u10": ("m s-1", 2.0)})
    summary = ingest(tmp_path / "s", path, years=frozenset({2022}))
    assert summary.statuses == {"skipped": 1}
    assert opened(tmp_path / "s").sizes["time"] == 8760
    assert ingest(tmp_path / "s", path).statuses == {"used": 1}
    ds = opened(tmp_path / "s")
    assert int((ds["ingested"] > 0).sum()) == 48


def test_another_grid_or_step_does_not_enter_a_cube(tmp_path):
    store = tmp_path / "s"
    ingest(store, small(tmp_path / "a.nc", hours("2022-03-01", 24), {"u10": ("m s-1", 2.0)}))
    part = small(tmp_path / "b.nc", hours("2022-03-02", 24), {"u10": ("m s-1", 2.0)}, lat=LAT[3:])
    assert "does not cover the cube" in ingest(store, part).problems[0]
    other = small(tmp_path / "c.nc", hours("2022-03-02", 24), {"u10": ("m s-1", 2.0)}, lat=np.arange(32, 29.9, -0.5))
    assert "steps of" in ingest(store, other).problems[0]
    beside = small(tmp_path / "e.nc", hours("2022-03-02", 24), {"u10": ("m s-1", 2.0)}, lat=LAT + 0.1)
    assert "0.1 degree beside" in ingest(store, beside).problems[0]
    ingest(tmp_path / "six", small(tmp_path / "d.nc", hours("2022-03-01", 4, 6), {"u10": ("m s-1", 2.0)}))
    with pytest.raises(InputError, match="every 1 h"):
        ingest(tmp_path / "six", tmp_path / "a.nc")


def test_one_lazily_read_day_is_held_at_a_time(tmp_path):
    path = small(tmp_path / "a.nc", hours("2022-01-01", 24 * 30), {"u10": ("m s-1", 2.0)})
    with READER.open(path, {}) as grid:
        for k in (0, 100, 700):
            grid.read("u10", k, slice(0, 4))
            gc.collect()
            assert grid._held["u10"][1].shape == (24, LAT.size, LON.size)


def test_boundary_layer_heights_are_a_daily_cube(tmp_path):
    place = tmp_path / "pbl"
    place.mkdir()
    values = np.full((1, LAT.size, LON.size), 700.0, "f4")
    values[0, 0] = -999.0
    for day in ("2020-01-01", "2020-03-01"):
        name = "Merged Planetary Boundary Layer Height"
        ds = xr.Dataset(
            {name: (("time", "lat", "lon"), values, {"units": "m", "_FillValue": np.float32(-999)})},
            {"time": np.array([f"{day}T06"], "datetime64[ns]"), "lat": LAT, "lon": LON},
        )
        ds.to_netcdf(place / f"{day}06.nc", engine="h5netcdf")
    assert ingest(tmp_path / "s", place, product="pbl").statuses == {"used": 2}
    ds = opened(tmp_path / "s", "inputs/pbl.zarr")
    assert ds.sizes["time"] == 366
    day = ds["blh"].sel(time="2020-03-01")
    assert float(day.mean()) == 700.0
    assert int(day.isnull().sum()) == LON.size
