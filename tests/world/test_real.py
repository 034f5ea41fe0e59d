import io

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from pipeline.core.errors import InputError
from pipeline.core.grid import Grid
from pipeline.core.provinces import PROVINCES
from pipeline.core.schema import POINT_SOURCE_COLUMNS, SECTORS
from pipeline.store.cubes import open_cube, write_cube
from pipeline.store.location import Store
from pipeline.world.clock import days_of
from pipeline.world.geography import national_regions, table
from pipeline.world.make import make_on
from pipeline.world.physics import Physics, ideal
from pipeline.world.real import Real, resample, smooth_counts

STEP = 0.4


def field(values, south=30.0, west=110.0, step=0.1):
    rows, cols = values.shape
    coords = {"lat": south + (np.arange(rows) + 0.5) * step, "lon": west + (np.arange(cols) + 0.5) * step}
    return xr.DataArray(values, coords, ("lat", "lon"))


def frame(table_):
    buffer = io.BytesIO()
    table_.to_parquet(buffer)
    return buffer.getvalue()


def proxies(store):
    """Lights and people around cities at 0.4 degree, some plants, and a table of totals that says what it should."""
    cities = table("cities")
    lat, lon = np.arange(17, 55, STEP) + STEP / 2, np.arange(73, 136, STEP) + STEP / 2
    away = np.hypot(lat[:, None, None] - cities["lat"].to_numpy(), lon[None, :, None] - cities["lon"].to_numpy())
    people = (cities["population"].to_numpy() * 1e3 * np.exp(-away / 0.5) * 0.1).sum(-1).astype("float32")
    time = np.array(["2020-01-01"], "M8[ns]")
    for name, variable, values, unit in (
        ("population", "population", people, "persons"),
        ("nightlights", "radiance", people / 5e4, "nW cm-2 sr-1"),
    ):
        cube = xr.Dataset({variable: (("time", "lat", "lon"), values[None], {"units": unit})})
        write_cube(store, f"inputs/{name}.zarr", cube.assign_coords(time=time, lat=lat, lon=lon))
    known = table("point_sources").assign(co2_tonnes_per_year=np.nan, start_year=2000, retire_year=np.nan, source="x")
    store.write_bytes(frame(known[list(POINT_SOURCE_COLUMNS)]), "inputs/point_sources/test.parquet")
    store.write_bytes(national_regions().to_geojson().encode(), "inputs/regions.geojson")
    rows = [
        (2020, m, p.code, s, 1e6 * (1 + k) * (1 + 0.1 * m))
        for m in range(1, 13)
        for p in PROVINCES
        for k, s in enumerate(SECTORS)
    ]
    totals = pd.DataFrame(rows, columns=["year", "month", "region", "sector", "co2_tonnes"])
    store.write_bytes(frame(totals), "inputs/inventory_meic_table.parquet")
    return totals


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    store = Store(str(tmp_path_factory.mktemp("real")))
    proxies(store)
    return store


def test_resampling_keeps_means_and_sums():
    values = np.random.default_rng(0).random((37, 41)).astype("float32")
    native = field(values, step=0.073)
    grid = Grid.from_bounds(109, 29, 114, 34, 20)
    inside = values.sum()
    assert resample(native, grid, "sum").sum() == pytest.approx(inside, rel=1e-5)
    constant = resample(
        field(np.full((60, 60), 7.0, "float32"), step=0.03), Grid.from_bounds(110.5, 30.5, 111, 31, 20), "mean"
    )
    np.testing.assert_allclose(constant, 7.0, rtol=1e-5)


def test_resampling_does_not_depend_on_strips(monkeypatch):
    values = np.random.default_rng(1).random((50, 50)).astype("float32")
    grid = Grid.from_bounds(110, 30, 115, 35, 25)
    whole = resample(field(values), grid, "mean")
    monkeypatch.setattr("pipeline.world.real._STRIP", 7)
    np.testing.assert_allclose(resample(field(values), grid, "mean"), whole, rtol=1e-5)


def test_resampling_off_the_map_is_nothing():
    assert not resample(field(np.ones((5, 5), "float32")), Grid.from_bounds(80, 40, 82, 42, 4), "mean").any()


def test_smooth_counts_keep_people_and_ignore_the_sea():
    values = np.full((20, 20), 100.0, "float32")
    grid = Grid.from_bounds(110.5, 30.5, 111.5, 31.5, 100)
    assert smooth_counts(field(values), grid).sum() == pytest.approx(100 * 100, rel=1e-4)
    values[:, 10:] = np.nan
    half = smooth_counts(field(values), grid)
    assert half[:, 20].sum() == pytest.approx(half[:, 47].sum(), rel=1e-3)


def test_days_close_to_the_months(store):
    daily = Real(store, Physics(), 0).daily(2020)
    month = days_of(2020).astype("datetime64[M]").astype(int) % 12
    sums = np.stack([daily[:, :, month == m].sum(axis=2) for m in range(12)], axis=2)
    expected = 1e6 * np.arange(1, 5)[None, :, None] * (1 + 0.1 * np.arange(1, 13))[None, None]
    np.testing.assert_allclose(sums, np.broadcast_to(expected, sums.shape), rtol=1e-12)
    assert daily[0, 2].std() > 0


def test_maps_follow_but_are_not_the_proxies(store):
    grid = Grid.from_bounds(112, 34, 116, 38, 20)
    regions = national_regions()
    maps = Real(store, Physics(), 0).maps(grid, regions.index(grid) >= 0)
    assert maps.spread.shape == (3, *grid.shape)
    assert (maps.spread >= 0).all()
    bright = maps.radiance > 0
    for spread in maps.spread:
        ratio = spread[bright] / maps.radiance[bright]
        assert np.log(ratio[ratio > 0]).std() > 0.2


def test_some_plants_are_in_no_table(store):
    with_hidden, without = (Real(store, Physics(unlisted=flag), 0).plants for flag in (True, False))
    share = 1 - with_hidden["listed"].mean()
    assert 0.11 < share < 0.13
    assert without["listed"].all()
    assert len(without) == with_hidden["listed"].sum()


def test_a_missing_table_names_the_command(tmp_path):
    store = Store(str(tmp_path))
    proxies(store)
    store.remove("inputs/inventory_meic_table.parquet")
    with pytest.raises(
        InputError, match=r"no inputs/inventory_meic_table\.parquet.*pipeline\.ingest statistics --from"
    ):
        make_on(store, [2020])


def test_a_missing_year_names_those_there(store):
    with pytest.raises(InputError, match="lacks 2031; expected one of 2020"):
        Real(store, Physics(), 0).daily(2031)


def test_missing_proxies_are_named(tmp_path):
    store = Store(str(tmp_path))
    with pytest.raises(InputError, match=r"no inputs/regions\.geojson"):
        Real(store, Physics(), 0).regions  # noqa: B018
    with pytest.raises(InputError, match="no point sources"):
        Real(store, Physics(), 0).plants  # noqa: B018


def test_real_satellites_are_not_written_over(tmp_path):
    store = Store(str(tmp_path))
    proxies(store)
    store.write_bytes(b"x", "inputs/era5.zarr/zarr.json")
    with pytest.raises(InputError, match=r"has inputs/era5\.zarr and no truth"):
        make_on(store, [2020])


@pytest.mark.slow
def test_a_world_on_proxies_closes_to_the_table(tmp_path):
    store = Store(str(tmp_path))
    totals = proxies(store)
    make_on(store, [2020], 0, ideal(), months=[1])
    truth = open_cube(store, "truth/emissions_025.zarr")
    assert truth.attrs["ancestry"] == "meic"
    seen = truth["co2_emission"].sum(("lat", "lon"), dtype="float64").values[0]
    wanted = totals[totals["month"] == 1].groupby("sector")["co2_tonnes"].sum().loc[list(SECTORS)].to_numpy()
    # A province without any known power plant has nowhere to put its power.
    assert seen[0] == pytest.approx(wanted[0], rel=0.2)
    np.testing.assert_allclose(seen[1:], wanted[1:], rtol=1e-4)
    assert store.read_json("inputs/prior_totals.json")["ancestry"] == []
    assert not store.exists("work/world")
