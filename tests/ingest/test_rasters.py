import tempfile
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.windows import Window

from pipeline.core.errors import InputError
from pipeline.core.schema import check, input_schema
from pipeline.ingest import counts, rasters
from pipeline.ingest.blackmarble import STEP, TILE
from pipeline.ingest.books import Request
from pipeline.ingest.rasters import date_in
from pipeline.ingest.run import run
from pipeline.store.cubes import open_cube
from pipeline.store.location import Store
from tests.ingest.granules import tiff

DEGREE = 1 / 120
LIGHTS, PEOPLE = "inputs/nightlights.zarr", "inputs/population.zarr"


def ingest(store, product, *urls, **more):
    return run(Request(product, tuple(map(str, urls)), Store(str(store)), **more))


def opened(store, path):
    return open_cube(Store(str(store)), path, chunks=None)


def numbers(rows=40, cols=50, top=200, seed=0):
    return np.random.default_rng(seed).integers(0, top, (rows, cols))


def test_digital_numbers_are_doubled_and_declared_zero_is_dark_land(tmp_path):
    dn = numbers().astype("u1")
    dn[:5] = 0
    ingest(tmp_path / "s", "viirs_like", tiff(tmp_path / "viirs_like_2021.tif", dn, 110, 35, 0.0045, nodata=0))
    ds = opened(tmp_path / "s", LIGHTS)
    check(ds, input_schema("nightlights"), "cube")
    np.testing.assert_array_equal(ds["radiance"].values[0], 2.0 * dn[::-1])
    assert not ds["radiance"].isnull().any()
    assert ds["lat"].values[0] < ds["lat"].values[-1]
    assert "DN x 2.0" in ds.attrs["assumed"]


def test_years_a_fraction_of_a_pixel_beside_share_a_cube_and_other_grids_do_not(tmp_path):
    place = tmp_path / "lights"
    place.mkdir()
    tiff(place / "lights_2021.tif", numbers().astype("u1"), 110, 35, 0.0045)
    tiff(place / "lights_2022.tif", numbers(seed=1).astype("u1"), 110.0003, 35.0011, 0.0045)
    tiff(place / "lights_2023.tif", numbers(seed=2).astype("u1"), 110, 35, 0.009)
    summary = ingest(tmp_path / "s", "viirs_like", place)
    assert summary.statuses == {"used": 2, "rejected": 1}
    ds = opened(tmp_path / "s", LIGHTS)
    np.testing.assert_array_equal(ds["radiance"].values[1], 2.0 * numbers(seed=1)[::-1])
    assert ds["ingested"].values.tolist() == [1, 1]


def test_missing_pixels_of_float_lights_are_nan_and_negatives_stay(tmp_path):
    value = np.random.default_rng(0).uniform(-0.5, 50, (40, 50)).astype("f4")
    value[0, 0], value[0, 1] = np.nan, -999.0
    name = "SVDNB_npp_20220301-20220331_75N060E_vcmcfg_v10_c202204.avg_rade9h.tif"
    ingest(tmp_path / "s", "viirs_vnl", tiff(tmp_path / name, value, 110, 35, 1 / 240))
    ds = opened(tmp_path / "s", LIGHTS)
    assert ds.sizes["time"] == 12
    month = ds["radiance"].sel(time="2022-03-01").values
    assert np.isnan(month).sum() == 2
    assert np.nanmin(month) < 0


@pytest.mark.parametrize(
    ("name", "data", "more", "reason"),
    [
        ("lights.tif", np.ones((4, 4), "u1"), {}, "no date"),
        ("lights_2021.tif", np.ones((4, 4), "f4"), {}, "expected the 8-bit numbers"),
        ("lights_2021.tif", np.ones((4, 4), "u1"), {"crs": "EPSG:32650"}, "not longitude and latitude"),
        ("lights_2021.tif", np.ones((4, 4), "u1"), {"west": 0.0}, "not China"),
    ],
)
def test_other_rasters_are_rejected_with_the_reason(tmp_path, name, data, more, reason):
    west = more.pop("west", 110)
    summary = ingest(tmp_path / "s", "viirs_like", tiff(tmp_path / name, data, west, 35, 0.5, **more))
    assert summary.statuses == {"rejected": 1}
    assert reason in summary.problems[0]


def test_one_mean_a_year_and_no_other_statistic(tmp_path):
    place = tmp_path / "vnl"
    place.mkdir()
    for kind, value in (
        ("average", 3.0),
        ("average_masked", 4.0),
        ("maximum", 90.0),
        ("median", 2.0),
        ("cf_cvg", 12.0),
    ):
        name = f"VNL_v22_npp-j01_2022_global_vcmslcfg_c202303062300.{kind}.dat.tif"
        tiff(place / name, np.full((40, 50), value, "f4"), 110, 35, 1 / 240)
    summary = ingest(tmp_path / "s", "viirs_vnl", place)
    assert summary.statuses == {"used": 1, "rejected": 4}
    assert sum("not of mean radiances" in problem for problem in summary.problems) == 3
    assert sum("is there already" in problem for problem in summary.problems) == 1
    assert float(opened(tmp_path / "s", LIGHTS)["radiance"].max()) == 3.0


def test_only_geotiff_is_opened(tmp_path):
    (tmp_path / "lights_2021.tif").write_text("<VRTDataset><SRSDataset/></VRTDataset>")
    assert ingest(tmp_path / "s", "viirs_like", tmp_path / "lights_2021.tif").statuses == {"failed": 1}


def test_dates_in_names():
    assert date_in("odiac2022_1km_2103.tif", r"_(?P<year>\d\d)(?P<month>\d\d)\.tif", "x") == (2021, 3)


@pytest.mark.parametrize("undeclared", [-99999.0, -3.4e38])
def test_people_are_conserved_when_fine_cells_are_summed(tmp_path, undeclared, monkeypatch):
    monkeypatch.setattr(counts, "FRAME", (108.0, 31.0, 114.0, 37.0))
    monkeypatch.setattr(rasters, "CELLS_AT_ONCE", 5000)
    step = DEGREE / 10
    value = np.random.default_rng(1).uniform(0, 3, (400, 600)).astype("f4")
    value[:20] = undeclared
    path = tiff(tmp_path / "chn_ppp_2020.tif", value, 110, 35, step)
    ingest(tmp_path / "s", "worldpop", path)
    ds = opened(tmp_path / "s", PEOPLE)
    check(ds, input_schema("population"), "cube")
    assert float(ds["population"].sum()) == pytest.approx(value[20:].astype("f8").sum(), rel=1e-6)
    assert float(ds["lat"][1] - ds["lat"][0]) == pytest.approx(DEGREE)


@given(st.integers(0, 9), st.integers(0, 9), st.integers(61, 87), st.integers(61, 87))
@settings(max_examples=8, deadline=None)
def test_nobody_is_lost_at_the_rim_of_a_raster_that_ends_inside_a_cell(east, north, rows, cols):
    step = DEGREE / 10
    value = np.random.default_rng(rows * cols).uniform(0, 3, (rows, cols)).astype("f4")
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(counts, "FRAME", (109.0, 34.0, 111.0, 36.0))
        patch.setattr(rasters, "CELLS_AT_ONCE", 900)
        path = tiff(Path(folder) / "chn_ppp_2020.tif", value, 110 + east * step, 35 + north * step, step)
        ingest(Path(folder) / "s", "worldpop", path)
        field = opened(Path(folder) / "s", PEOPLE)["population"].isel(time=0)
        assert float(field.sum()) == pytest.approx(value.astype("f8").sum(), rel=1e-6)
        south_west = field.where(field.notnull(), drop=True)
        edge = 35 + (north - rows) * step
        assert float(south_west["lat"][0]) == pytest.approx((np.floor(edge / DEGREE + 1e-6) + 0.5) * DEGREE)


def test_countries_of_a_year_add_up_and_are_not_counted_twice(tmp_path):
    place = tmp_path / "people"
    place.mkdir()
    china, taiwan = np.full((40, 60), 2.0, "f4"), np.full((40, 60), 3.0, "f4")
    tiff(place / "chn_ppp_2020.tif", china, 118, 26, DEGREE, nodata=-99999.0)
    tiff(place / "twn_ppp_2020.tif", taiwan, 120, 24, DEGREE, nodata=-99999.0)
    ingest(tmp_path / "s", "worldpop", place)
    ds = opened(tmp_path / "s", PEOPLE)
    assert float(ds["population"].sum()) == pytest.approx(2400 * 5)
    assert ds.sizes["lat"] == 52 * 120
    again = tmp_path / "copy"
    again.mkdir()
    tiff(again / "chn_ppp_2020.tif", china, 118, 26, DEGREE, nodata=-99999.0)
    assert "is there already" in ingest(tmp_path / "s", "worldpop", again).problems[0]


def test_integer_counts_keep_their_lowest_number_for_missing(tmp_path):
    value = np.full((30, 40), 7, "i4")
    value[0] = np.iinfo("i4").min + 1
    ingest(tmp_path / "s", "landscan", tiff(tmp_path / "landscan-global-2021.tif", value, 110, 35, DEGREE))
    ds = opened(tmp_path / "s", PEOPLE)
    assert float(ds["population"].sum()) == 7 * 29 * 40


def test_densities_absurd_counts_and_mixed_products_are_refused(tmp_path):
    names = (("gpw_count", "gpw_v4_population_density_2020_30_sec.tif"), ("worldpop", "chn_pd_2020_1km.tif"))
    for product, name in names:
        density = tiff(tmp_path / name, np.ones((4, 4), "f4"), 110, 35, DEGREE)
        assert "a density" in ingest(tmp_path / "s", product, density).problems[0]
    huge = tiff(tmp_path / "landscan-global-2021.tif", np.full((4, 4), 9e7, "f4"), 110, 35, DEGREE)
    assert ingest(tmp_path / "s", "landscan", huge).statuses == {"failed": 1}
    good = tiff(tmp_path / "landscan-global-2022.tif", np.ones((4, 4), "f4"), 110, 35, DEGREE)
    ingest(tmp_path / "s2", "landscan", good)
    other = tiff(tmp_path / "chn_ppp_2021.tif", np.ones((4, 4), "f4"), 110, 35, DEGREE)
    with pytest.raises(InputError, match="one product"):
        ingest(tmp_path / "s2", "worldpop", other)


def _tile(path, value, num=None, scale=True):
    with h5py.File(path, "w") as file:
        group = file.create_group("HDFEOS/GRIDS/VIIRS_Grid_DNB_2d/Data Fields")
        field = group.create_dataset("AllAngle_Composite_Snow_Free", data=value, compression="gzip")
        if scale:
            field.attrs["scale_factor"], field.attrs["_FillValue"] = np.float32(0.1), np.uint16(65535)
        if num is not None:
            group.create_dataset("AllAngle_Composite_Snow_Free_Num", data=num, compression="gzip")
    return str(path)


@pytest.mark.parametrize("scale", [True, False])
def test_black_marble_tiles_take_their_place(tmp_path, scale):
    value = np.zeros((TILE, TILE), "u2")
    value[0, 0], value[-1, -1], value[5, 5] = 123, 45, 65535
    path = _tile(tmp_path / "VNP46A3.A2022060.h29v05.001.2022100.h5", value, np.ones((TILE, TILE), "u2"), scale)
    ingest(tmp_path / "s", "black_marble", path)
    ds = opened(tmp_path / "s", LIGHTS)
    assert ds.sizes == {"time": 12, "lat": 12000, "lon": 16800}
    month = ds["radiance"].sel(time="2022-03-01")
    corner = month.sel(lat=40 - STEP / 2, lon=110 + STEP / 2, method="nearest")
    assert float(corner) == pytest.approx(12.3)
    assert float(month.sel(lat=30 + STEP / 2, lon=120 - STEP / 2, method="nearest")) == pytest.approx(4.5)
    assert np.isnan(month.sel(lat=40 - 5.5 * STEP, lon=110 + 5.5 * STEP, method="nearest"))
    assert np.isnan(month.sel(lat=45, lon=115, method="nearest"))


def test_black_marble_needs_observations_and_its_region(tmp_path):
    num = np.full((TILE, TILE), 3, "u2")
    num[:10] = 0
    path = _tile(tmp_path / "VNP46A4.A2022001.h28v05.001.x.h5", np.full((TILE, TILE), 10, "u2"), num)
    ingest(tmp_path / "s", "black_marble", path)
    ds = opened(tmp_path / "s", LIGHTS)
    assert ds["time"].values.astype("M8[D]").astype(str).tolist() == ["2022-01-01"]
    row = ds["radiance"].isel(time=0).sel(lon=105, method="nearest")
    assert np.isnan(row.sel(lat=39.99, method="nearest"))
    assert float(row.sel(lat=35, method="nearest")) == pytest.approx(1.0)
    elsewhere = _tile(tmp_path / "VNP46A4.A2022001.h08v05.001.x.h5", np.zeros((TILE, TILE), "u2"))
    assert "not of the region" in ingest(tmp_path / "s", "black_marble", elsewhere).problems[0]


def test_a_cut_of_a_global_raster_reads_the_region_only(tmp_path, monkeypatch):
    sizes = []

    def window(col, row, width, height):
        sizes.append(width * height)
        return Window(col, row, width, height)

    monkeypatch.setattr(rasters, "Window", window)
    value = np.ones((360, 720), "f4")
    ingest(tmp_path / "s", "landscan", tiff(tmp_path / "landscan-global-2022.tif", value, -180, 90, 0.5))
    assert float(opened(tmp_path / "s", PEOPLE)["population"].sum()) == 154 * 104
    assert sum(sizes) == 154 * 104
