import numpy as np
import pytest
import xarray as xr

from pipeline.core.errors import InputError, UsageError
from pipeline.ingest.books import Request
from pipeline.ingest.lift import client_map
from pipeline.ingest.run import run
from pipeline.store.cubes import open_cube
from pipeline.store.location import Store
from tests.ingest.granules import tropomi, tropomi_name

LAT, LON = np.arange(90, -90.1, -2.5), np.arange(0, 360, 2.5)


@pytest.fixture
def far(tmp_path):
    """A Zarr store like ARCO-ERA5: global, hourly, from the middle of 2021, its axis ahead of its data."""
    times = np.datetime64("2021-12-31", "ns") + np.arange(24 * 4) * np.timedelta64(1, "h")
    shape = (times.size, LAT.size, LON.size)
    rng = np.random.default_rng(0)
    levels = rng.normal(0, 5, (times.size, 2, LAT.size, LON.size)).astype("f4")
    dims = ("time", "latitude", "longitude")
    ds = xr.Dataset(
        {
            "10m_u_component_of_wind": (dims, rng.normal(0, 5, shape).astype("f4"), {"units": "m s**-1"}),
            "2m_temperature": (dims, np.full(shape, 285.0, "f4"), {"units": "K"}),
            "u_component_of_wind": ((dims[0], "level", *dims[1:]), levels, {"units": "m s**-1"}),
        },
        {"time": times, "level": [950, 1000], "latitude": LAT, "longitude": LON},
        {"valid_time_start": "2021-12-31", "valid_time_stop": "2022-01-02"},
    )  # fmt: skip
    path = tmp_path / "full_37-1h.zarr-v3"
    chunks = {"10m_u_component_of_wind": {"chunks": (1, LAT.size, LON.size)}}
    ds.to_zarr(path, zarr_format=3, consolidated=True, encoding=chunks)
    return path, ds


def ingest(store, url, year, **more):
    paths = {"years": str(year)} if year else {}
    return run(
        Request("arco_era5", (str(url),), Store(str(store)), frozenset({year} if year else ()), paths=paths, **more)
    )


def test_a_year_is_cut_from_the_store(tmp_path, far):
    path, ds = far
    summary = ingest(tmp_path / "s", path, 2022)
    assert summary.statuses == {"skipped": 1}, "the store holds more than was asked for"
    cube = open_cube(Store(str(tmp_path / "s")), "inputs/era5.zarr", chunks=None)
    assert cube.sizes["time"] == 8760
    filled = cube["time"].values[cube["ingested"].values > 0]
    assert (str(filled[0])[:13], str(filled[-1])[:13]) == ("2022-01-01T00", "2022-01-02T23")
    box = ds.sel(time=filled, latitude=slice(62, 10), longitude=slice(66, 143)).sortby("latitude")
    np.testing.assert_array_equal(cube["u10"].sel(time=filled), box["10m_u_component_of_wind"])
    np.testing.assert_array_equal(cube["u950"].sel(time=filled), box["u_component_of_wind"].sel(level=950))


def test_a_cut_is_a_success_on_the_command_line_though_the_store_holds_more(tmp_path, far, capsys):
    from pipeline.ingest.__main__ import main

    arguments = ["arco_era5", "--from", str(far[0]), "--store", str(tmp_path / "s"), "--year"]
    assert main([*arguments, "2022"]) == 0
    assert "48 times used; it holds more" in capsys.readouterr().out
    assert main([*arguments, "1999"]) == 3


def test_another_year_comes_later_and_repeats_change_nothing(tmp_path, far):
    path, _ = far
    ingest(tmp_path / "s", path, 2022)
    ingest(tmp_path / "s", path, 2021)
    ingest(tmp_path / "s", path, 2022)
    cube = open_cube(Store(str(tmp_path / "s")), "inputs/era5.zarr", chunks=None)
    assert int((cube["ingested"] > 0).sum()) == 72


def test_years_must_be_named_and_there(tmp_path, far):
    path, _ = far
    with pytest.raises(UsageError, match="add --year"):
        ingest(tmp_path / "s", path, None)
    assert "none of 1999" in ingest(tmp_path / "s", path, 1999).problems[0]
    missing = ingest(tmp_path / "s", tmp_path / "none.zarr", 2022)
    assert missing.statuses == {"failed": 1}


def test_granules_in_parallel_give_the_same_cube(tmp_path, client):
    place = tmp_path / "in"
    place.mkdir()
    for orbit, day in ((1, "20220115"), (2, "20220115"), (3, "20220120")):
        stamp = f"{day[:4]}-{day[4:6]}-{day[6:]}"
        tropomi(place / tropomi_name(day, orbit), orbit * 1e-5, day=stamp, orbit=orbit)
    (place / "broken.nc").write_bytes(b"\x89HDF")
    stores = [Store(str(tmp_path / name)) for name in ("one", "many")]
    alone = run(Request("tropomi_no2", (str(place),), stores[0]))
    together = run(Request("tropomi_no2", (str(place),), stores[1]), client_map(client))
    assert alone.statuses == together.statuses == {"used": 3, "failed": 1}
    days = ["2022-01-15", "2022-01-20"]
    one, many = (open_cube(s, "inputs/no2_tropomi.zarr", chunks=None).sel(time=days).load() for s in stores)
    assert one.identical(many)


def test_errors_of_the_run_come_through_the_cluster(tmp_path, client):
    def refuse(item):
        raise InputError(f"no {item}")

    with pytest.raises(InputError, match="no 1"):
        list(client_map(client)(refuse, [1, 2]))
    assert list(client_map(client)(lambda x: x * x, range(50))) == [x * x for x in range(50)]
