"""Every real file of the development data is read, or refused with its true reason."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import xarray as xr

from pipeline.core.points import annual_tonnes, check_points
from pipeline.core.provinces import OUTSIDE_CN
from pipeline.core.regions import Regions
from pipeline.core.schema import SECTORS, check, input_schema
from pipeline.ingest.books import Request
from pipeline.ingest.era5 import Reanalysis, read_all
from pipeline.ingest.run import run
from pipeline.store.cubes import open_cube
from pipeline.store.location import Store

pytestmark = pytest.mark.real
DATA = Path(os.environ.get("CARBONCUBE_REAL_DATA", Path(__file__).parents[3] / "shared" / "data"))
SATELLITE, METEOROLOGY, PLANTS = DATA / "satellite", DATA / "meteorology", DATA / "point_sources"


@pytest.fixture(autouse=True)
def _data():
    if not DATA.is_dir():
        pytest.skip(f"no real data at {DATA}; set CARBONCUBE_REAL_DATA")


def ingest(store, product, *urls, **more):
    return run(Request(product, tuple(map(str, urls)), Store(str(store)), **more))


def opened(store, path):
    return open_cube(Store(str(store)), path, chunks=None)


@pytest.fixture(scope="module")
def ready(tmp_path_factory):
    """A store with regions and population."""
    if not DATA.is_dir():
        pytest.skip(f"no real data at {DATA}; set CARBONCUBE_REAL_DATA")
    store = tmp_path_factory.mktemp("real") / "s"
    ingest(store, "regions", DATA / "boundaries/chn_admbnda_adm1_ocha_2020.shp")
    ingest(store, "statistics", DATA / "population/provincial_population.csv")
    return store


def test_provinces(ready):
    regions = Regions.from_geojson(Store(str(ready)).read_bytes("inputs/regions.geojson"), "regions")
    assert len(regions.codes) == 34
    assert set(OUTSIDE_CN) <= set(regions.codes)
    assert dict(zip(regions.codes, regions.names, strict=True))["640000"] == "Ningxia"
    assert "all" not in regions.groups


def test_population_is_the_official_one(ready):
    ingest(ready, "gpw", DATA / "population/gpw4_density_2020.nc")
    ds = opened(ready, "inputs/population.zarr")
    check(ds, input_schema("population"), "cube")
    table = pd.read_csv(ready / "inputs/provincial_population.csv")
    official = table.groupby("year")["persons"].sum()
    people = ds["population"].sum(("lat", "lon"), dtype="f8").to_series()
    for year in (2019, 2020, 2023):
        # Hong Kong and Macao have people but no line in the mainland's yearbook.
        assert people[f"{year}-01-01"] - official[year] == pytest.approx(5e6, abs=5e6)
    assert "1342.6 million" in ds.attrs["assumed"], "point-sampled densities do not integrate to the population"


def test_nightlights_are_twice_their_digital_number(tmp_path):
    import rasterio

    assert ingest(tmp_path / "s", "viirs_like", DATA / "nightlights").statuses == {"used": 4}
    ds = opened(tmp_path / "s", "inputs/nightlights.zarr")
    check(ds, input_schema("nightlights"), "cube")
    with rasterio.open(DATA / "nightlights/viirs_like_2021.tif") as raster:
        row, col = raster.index(116.4, 39.9)
        raw = raster.read(1, window=((row - 50, row + 50), (col - 50, col + 50)))
        lon, lat = raster.xy(row, col)
    near = ds["radiance"].isel(time=2).sel(lat=lat, lon=lon, method="nearest")
    j, i = (int(np.abs(ds[n].values - float(near[n])).argmin()) for n in ("lat", "lon"))
    cut = ds["radiance"].isel(time=2, lat=slice(j - 49, j + 51), lon=slice(i - 50, i + 50)).values
    np.testing.assert_array_equal(cut, 2.0 * raw[::-1])
    assert ds["ingested"].values.tolist() == [1, 1, 1, 1]


@pytest.mark.parametrize(
    ("product", "rows", "kinds"),
    [
        ("gem_coal", 4241, {"coal"}),
        ("gem_gas", 427, {"gas"}),
        ("gem_cement", 1022, {"cement", "cement_grinding"}),
        ("gem_steel", 441, {"steel"}),
    ],
)
def test_plants(tmp_path, product, rows, kinds):
    assert ingest(tmp_path / "s", product, PLANTS).statuses == {"used": 1}
    table = check_points(pd.read_parquet(tmp_path / f"s/inputs/point_sources/{product}.parquet"), product)
    assert len(table) == rows
    assert set(table["kind"]) == kinds
    if product == "gem_coal":
        assert annual_tonnes(table, 2022).sum() == pytest.approx(5.09e9, rel=0.01)
        assert table.loc[table["retire_year"].isna(), "capacity"].sum() == pytest.approx(
            1.134262e6
        )  # 1109 GW and those of HK, TW


def test_wri_plants(tmp_path):
    summary = ingest(tmp_path / "s", "wri", PLANTS / "wri_gppd_china.csv")
    assert summary.statuses == {"used": 1}
    table = check_points(pd.read_parquet(tmp_path / "s/inputs/point_sources/wri.parquet"), "wri")
    assert set(table["kind"]) == {"coal", "gas", "oil"}
    assert len(table) > 1000


def test_meic_table(tmp_path):
    ingest(tmp_path / "s", "statistics", DATA / "inventories/meic_co2_monthly_province_sector_2019_2022.csv")
    path = tmp_path / "s/inputs/inventory_meic_table.parquet"
    assert pq.read_schema(path).metadata[b"ancestry"] == b"meic"
    table = pd.read_parquet(path)
    mainland = table[~table["region"].isin(OUTSIDE_CN)]
    totals = mainland.groupby("year")["co2_tonnes"].sum() / 1e9
    np.testing.assert_allclose(totals, [10.11, 10.19, 10.66, 10.63], atol=0.006)
    assert set(table["sector"]) == set(SECTORS)
    assert table["region"].nunique() == 34
    assert len(table) == 4 * 12 * 34 * 4


REASONS = [
    ("tropomi_no2", "tropomi_l2_no2_night_v0.11.nc.h5", "rejected", "does not pass over the region"),
    ("tropomi_no2", "S5P_OFFL_L2__NO2____20200303*", "rejected", "pixel variables were stripped"),
    ("tropomi_no2", "S5P_OFFL_L2__CH4*", "rejected", "methane_mixing_ratio"),
    ("tropomi_no2", "tropomi_l2_co_two_scanlines.nc", "rejected", "carbonmonoxide_total_column"),
    ("tropomi_no2_l3", "S5P_NRTI_L3*", "rejected", "2.4..7.7 E, 50.3..54.0 N, not China"),
    ("omi_no2", "omi_l3_no2_monthly_romania.nc", "rejected", "7 fields over 18.6..30.9 E"),
    ("omi_no2", "beijingNO2.csv", "rejected", "area means"),
    ("omi_no2", "chengduNO2.csv", "rejected", "area means"),
    ("omi_no2", "guangzhouNO2.csv", "rejected", "area means"),
    ("omi_no2", "shanghaiNO2.csv", "rejected", "area means"),
    ("omi_no2", "shuozhouNO2.csv", "rejected", "area means"),
    ("gosat_acos", "acos_L2s*", "rejected", "not bias-corrected"),
    ("oco2", "oco2_v11.2_one_sounding_repacked.nc", "rejected", "xco2_quality_flag are missing"),
    ("oco2", "oco2_LtCO2_180102_B9003r.header.txt", "failed", "begins with b'netc'"),
]


@pytest.mark.parametrize(("product", "name", "status", "reason"), REASONS)
def test_satellite_files_are_refused_with_their_true_reason(tmp_path, product, name, status, reason):
    summary = ingest(tmp_path / "s", product, SATELLITE / name)
    assert summary.statuses == {status: 1}
    assert reason in summary.problems[0]


def test_no_satellite_file_is_forgotten():
    from fnmatch import fnmatch

    named = [name for _, name, _, _ in REASONS]
    assert [f.name for f in SATELLITE.iterdir() if not any(fnmatch(f.name, n) for n in named)] == []


def test_gosat_results_are_joined_by_id(tmp_path):
    import h5py

    from pipeline.ingest.gosat import AcosReader

    path = next(SATELLITE.glob("acos_L2s*"))
    reader = AcosReader()
    observations = reader.read(str(path), {**reader.rules, "allow_uncorrected": True, "max_uncertainty_ppm": 99.0})
    with h5py.File(path) as file:
        ids = file["RetrievalResults/sounding_id_reference"][:]
        xco2 = file["RetrievalResults/xco2"][:] * 1e6
        lat = file["SoundingGeometry/sounding_latitude"][:]
        flags = file["RetrievalResults/outcome_flag"][:]
        error = file["RetrievalResults/xco2_uncert"][:]
    kept = (flags <= 2) & (error > 0) & (xco2 > 340) & (xco2 < 500)
    np.testing.assert_allclose(observations.value, xco2[kept])
    np.testing.assert_array_equal(observations.lat.astype("f4"), lat[kept])
    assert str(observations.time[0].astype("datetime64[s]")).replace("-", "")[:8] == str(ids[kept][0])[:8]
    assert np.isfinite(observations.kernel).all(), "inactive levels are fill and must not count"


def test_era5_of_the_new_cds_holds_china_and_matches_the_file(tmp_path):
    path = METEOROLOGY / "era5_t2m_20230422_new_cds.nc"
    assert ingest(tmp_path / "s", "era5", path).statuses == {"used": 1}
    ds = opened(tmp_path / "s", "inputs/era5.zarr")
    assert (ds.sizes["lat"], ds.sizes["lon"]) == (209, 309)
    ours = ds["t2m"].sel(time=ds["time"].values[ds["ingested"].values > 0][0])
    with xr.open_dataset(path) as raw:
        theirs = raw["t2m"].isel(valid_time=0).sel(latitude=slice(62, 10), longitude=slice(66, 143))
        np.testing.assert_array_equal(ours.values, theirs.values[::-1])


def test_packed_era5_of_the_old_cds(monkeypatch):
    path = METEOROLOGY / "era5_berlin_2017_old_cds_packed.nc"
    monkeypatch.setattr("pipeline.ingest.lazygrid.BOX", (10.0, 50.0, 15.0, 55.0))
    with Reanalysis("x", "x").open(str(path), {}) as grid:
        assert set(grid.contents.variables) == {"u10", "v10", "u100", "v100", "t2m", "sp"}
        values = read_all(grid, "t2m")
        assert len(grid.contents.times) == 8760
    with xr.open_dataset(path, engine="scipy") as raw:
        np.testing.assert_allclose(values, raw["t2m"].values[:, ::-1], rtol=1e-6)
    assert 250 < values.min() < values.max() < 315


def test_weather_files_of_elsewhere_and_of_months(tmp_path):
    berlin = ingest(tmp_path / "s", "era5", METEOROLOGY / "era5_berlin_2017_old_cds_packed.nc")
    assert "outside the region" in berlin.problems[0]
    months = ingest(tmp_path / "s", "era5", METEOROLOGY / "era5_monthly_expver.nc")
    assert "means over months" in months.problems[0]


def test_ncep_grib_with_several_heights(tmp_path):
    import eccodes

    path = METEOROLOGY / "ncep_r1_20230614.grib2"
    assert ingest(tmp_path / "s", "ncep", path).statuses == {"used": 1}
    ds = opened(tmp_path / "s", "inputs/ncep.zarr")
    times = ds["time"].values[ds["ingested"].values > 0]
    assert [str(t)[:13] for t in times] == ["2023-06-14T06", "2023-06-14T12", "2023-06-14T18"]
    assert set(ds.data_vars) == {"u10", "v10", "t2m", "sp", "ingested"}
    with open(path, "rb") as file:
        file.seek(664219)
        message = eccodes.codes_grib_new_from_file(file)
        values = eccodes.codes_get_values(message).reshape(94, 192)
        eccodes.codes_release(message)
    lon = ds["lon"].values
    found = ds["u10"].sel(time=times[0]).values
    columns = np.round(lon / 1.875).astype(int)
    match = [np.abs(values[:, columns] - row).max(axis=1).argmin() for row in found]
    np.testing.assert_allclose(values[np.array(match)][:, columns], found, rtol=1e-5)
    assert match == sorted(match, reverse=True), "rows run from the north in the file and from the south in the cube"


def test_boundary_layer_heights(tmp_path):
    assert ingest(tmp_path / "s", "pbl", METEOROLOGY / "pbl_china_2020").statuses == {"used": 8}
    ds = opened(tmp_path / "s", "inputs/pbl.zarr")
    assert int((ds["ingested"] > 0).sum()) == 8
    day = ds["blh"].sel(time="2020-07-01")
    assert 97 < float(ds["blh"].sel(time="2020-01-01").min()) < float(day.max()) < 5000
    assert 0.5 < float(day.isnull().mean()) < 0.7


def test_inventories(tmp_path):
    assert ingest(tmp_path / "s", "edgar", DATA / "inventories/edgar_v6.0_CO2_2015_coarse.nc").statuses == {"used": 1}
    check(opened(tmp_path / "s", "inputs/inventory_edgar.zarr"), input_schema("inventory_edgar"), "cube")
    assert ingest(tmp_path / "s", "tropess", DATA / "inventories/tropess_nox_anthropogenic_2021.nc").statuses == {
        "used": 1
    }
    nox = opened(tmp_path / "s", "inputs/nox_tropess.zarr")["nox_flux"]
    with xr.open_dataset(DATA / "inventories/tropess_nox_anthropogenic_2021.nc") as raw:
        n = raw["nox"].sel(lat=slice(10, 62), lon=slice(66, 143))
        assert float(nox.max()) == pytest.approx(float(n.max()) * 46.0055 / 14.0067, rel=1e-5)


def test_a_whole_folder_is_no_trouble(tmp_path):
    summary = ingest(tmp_path / "s", "tropomi_no2", DATA)
    assert "used" not in summary.statuses
    assert sum(summary.statuses.values()) == len([p for p in DATA.rglob("*") if p.suffix in (".nc", ".nc4", ".h5")])


def test_readme_brings_these_files_in_as_it_is_written(tmp_path):
    """The first block of "Bring your own data", line by line, in a shell of its own."""
    root = Path(__file__).parents[2]
    section = (root / "README.md").read_text().split("## Bring your own data", 1)[1].split("\n## ", 1)[0]
    lines = re.findall(r"```sh\n(.*?)```", section, re.DOTALL)[0].strip().splitlines()
    assert lines.pop(0).startswith("D=")
    assert len(lines) >= 7
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**os.environ, "D": str(DATA), "PATH": path, "PYTHONPATH": str(root)}
    codes = []
    for line in lines:
        done = subprocess.run(["bash", "-c", line], cwd=tmp_path, env=environment, capture_output=True, text=True)
        codes.append(done.returncode)
        assert done.returncode in (0, 3), f"{line}\n{done.stderr}"
    assert codes == [0] * (len(lines) - 1) + [3], "the doctor is the last, and misses satellites and winds"
    assert re.search(r"missing +2022: no winds", done.stdout)
    assert re.search(r"ok +2022: people", done.stdout)
