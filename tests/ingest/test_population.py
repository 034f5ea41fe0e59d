import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import shapely
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.core.errors import InputError
from pipeline.core.regions import Regions
from pipeline.core.schema import check, input_schema
from pipeline.ingest.books import Request
from pipeline.ingest.contract import Rejected
from pipeline.ingest.population import cell_area_km2, region_shares, rescale
from pipeline.ingest.regions import RegionReader, short_name
from pipeline.ingest.run import run
from pipeline.store.cubes import open_cube
from pipeline.store.location import Store

X, Y = np.arange(110.1, 112, 0.2), np.arange(30.1, 32, 0.2)


def ingest(store, product, *urls, **more):
    return run(Request(product, tuple(map(str, urls)), Store(str(store)), **more))


def vector(path, names=("Hubei Province", "Henan Province"), codes=("CN042", "CN041"), crs="EPSG:4326", **columns):
    boxes = [shapely.box(110, 30, 111, 32), shapely.box(111, 30, 112, 32)]
    frame = gpd.GeoDataFrame({"ADM1_EN": names, "ADM1_PCODE": codes, **columns}, geometry=boxes, crs="EPSG:4326")
    frame.to_crs(crs).to_file(path)
    return str(path)


def density(path, values, name="pop_density"):
    ds = xr.Dataset({name: (("x", "y"), values.T.astype("f4"))}, {"x": X, "y": Y[::-1]})
    ds.to_netcdf(path, engine="h5netcdf")
    return str(path)


@pytest.fixture
def ready(tmp_path):
    store = tmp_path / "s"
    ingest(store, "regions", vector(tmp_path / "adm1.shp"))
    (tmp_path / "people.csv").write_text("# source\nregion,2020,2021\nHubei,5000,5100\nHenan,9000,9100\n")
    ingest(store, "statistics", tmp_path / "people.csv")
    return store


def test_provinces_hold_their_official_totals_every_year(tmp_path, ready):
    values = np.random.default_rng(0).uniform(1, 900, (Y.size, X.size))
    values[0, 0] = np.nan
    summary = ingest(ready, "gpw", density(tmp_path / "gpw.nc", values))
    assert summary.statuses == {"used": 1}
    ds = open_cube(Store(str(ready)), "inputs/population.zarr", chunks=None)
    check(ds, input_schema("population"), "cube")
    assert ds["time"].values.astype("M8[Y]").astype(str).tolist() == ["2020", "2021"]
    people = ds["population"].sum(("lat", "lon")).values
    np.testing.assert_allclose(people, [1.4e8, 1.42e8], rtol=1e-6)
    west = ds["population"].sel(lon=slice(None, 111.0)).sum(("lat", "lon")).values
    np.testing.assert_allclose(west, [5.0e7, 5.1e7], rtol=1e-6)
    assert int(ds["population"].isel(time=0).isnull().sum()) == 1
    assert "before scaling" in ds.attrs["assumed"]


def test_the_pattern_inside_a_province_is_the_density_times_the_area(tmp_path, ready):
    values = np.random.default_rng(1).uniform(1, 900, (Y.size, X.size))
    ingest(ready, "gpw", density(tmp_path / "gpw.nc", values))
    field = open_cube(Store(str(ready)), "inputs/population.zarr", chunks=None)["population"].isel(time=0)
    share = field.sel(lon=slice(None, 111.0)).values
    expected = (values[::-1] * cell_area_km2(Y, X))[:, X < 111.0]
    np.testing.assert_allclose(share / share.sum(), expected / expected.sum(), rtol=1e-5)


def test_gpw_names_what_must_come_first(tmp_path):
    with pytest.raises(InputError, match=r"no inputs/regions.geojson.*ingest regions first"):
        ingest(tmp_path / "s", "gpw", density(tmp_path / "gpw.nc", np.ones((Y.size, X.size))))


def test_files_may_stand_in_for_the_store(tmp_path):
    (tmp_path / "people.csv").write_text("region,2020\nHubei,5000\nHenan,9000\n")
    paths = {"regions": vector(tmp_path / "adm1.shp"), "provincial_totals": str(tmp_path / "people.csv")}
    path = density(tmp_path / "gpw.nc", np.ones((Y.size, X.size)))
    assert ingest(tmp_path / "s", "gpw", path, paths=paths).statuses == {"used": 1}


@pytest.mark.parametrize(
    ("values", "name", "reason"),
    [
        (np.full((Y.size, X.size), 9e6), "pop_density", "densities up to"),
        (np.ones((Y.size, X.size)), "pop_count", "no 2-D variable of density"),
        (np.full((Y.size, X.size), -5.0), "pop_density", "nothing"),
    ],
)
def test_other_fields_are_no_densities(tmp_path, ready, values, name, reason):
    summary = ingest(ready, "gpw", density(tmp_path / "gpw.nc", values, name))
    assert summary.statuses == {"rejected": 1}
    assert reason in summary.problems[0]


@given(st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_rescaling_gives_each_region_its_total_and_keeps_what_has_none(seed):
    rng = np.random.default_rng(seed)
    persons = rng.uniform(0, 100, (4, 5))
    shares = rng.dirichlet([1, 1, 1, 1], (4, 5)).transpose(2, 0, 1)[:3]
    result, left = rescale(persons, shares, ("a", "b", "c"), {"a": 50.0, "b": 70.0})
    assert left == {"c"}
    own = shares / shares.sum(axis=0)
    assert result.sum() == pytest.approx(120 + (own[2] * persons).sum())
    assert (result >= 0).all()


def test_shares_add_up_to_one_inside_and_to_the_area_at_a_border():
    regions = Regions(
        ("a", "b"), ("a", "b"), ("g", "g"), (shapely.box(109, 29, 111, 33), shapely.box(111, 29, 113, 33))
    )
    shares = region_shares(regions, Y, X)
    np.testing.assert_allclose(shares.sum(axis=0), 1.0)
    assert shares[0, 0, np.abs(X - 111.1).argmin()] == 0
    assert cell_area_km2(Y, X).sum() == pytest.approx(
        np.deg2rad(2) * 6371.0072**2 * np.diff(np.sin(np.deg2rad([30, 32])))[0]
    )


def test_regions_have_our_codes_names_and_groups(tmp_path):
    document = RegionReader().read(vector(tmp_path / "a.shp"), RegionReader().rules)
    regions = Regions.from_geojson(document.content, "a")
    assert list(zip(regions.codes, regions.names, regions.groups, strict=True)) == [
        ("410000", "Henan", "central"),
        ("420000", "Hubei", "central"),
    ]


def test_regions_of_another_system_and_with_columns_by_name(tmp_path):
    path = vector(tmp_path / "a.gpkg", ("One", "Two"), ("X1", "X2"), crs="EPSG:32649", zone=["p", "q"])
    rules = {**RegionReader().rules, "group": "zone"}
    regions = Regions.from_geojson(RegionReader().read(path, rules).content, "a")
    assert regions.codes == ("X1", "X2")
    assert regions.groups == ("p", "q")
    assert regions.polygons[0].bounds == pytest.approx((110, 30, 111, 32), abs=0.01)


def test_what_is_no_set_of_regions_is_refused(tmp_path):
    with pytest.raises(Rejected, match="stands on two features"):
        RegionReader().read(vector(tmp_path / "a.shp", codes=("CN041", "CN041")), RegionReader().rules)
    points = gpd.GeoDataFrame({"code": ["a"], "name": ["a"]}, geometry=[shapely.Point(1, 2)], crs="EPSG:4326")
    points.to_file(tmp_path / "points.geojson")
    with pytest.raises(Rejected, match="not polygons"):
        RegionReader().read(str(tmp_path / "points.geojson"), RegionReader().rules)
    (tmp_path / "b.json").write_text("{}")
    with pytest.raises((InputError, Rejected)):
        RegionReader().read(str(tmp_path / "b.json"), RegionReader().rules)
    nameless = gpd.GeoDataFrame({"x": ["a"]}, geometry=[shapely.box(0, 0, 1, 1)], crs="EPSG:4326")
    nameless.to_file(tmp_path / "c.geojson")
    with pytest.raises(Rejected, match="--rule code=COLUMN"):
        RegionReader().read(str(tmp_path / "c.geojson"), RegionReader().rules)


def test_zipped_shapefiles_bring_their_companions(tmp_path):
    import zipfile

    vector(tmp_path / "adm1.shp")
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        for part in tmp_path.glob("adm1.*"):
            archive.write(part, f"deep/{part.name}")
    summary = ingest(tmp_path / "s", "regions", tmp_path / "all.zip")
    assert summary.statuses == {"used": 1}


def test_names_of_provinces():
    names = [
        "Ningxia Hui Autonomous Region",
        "InnerMongolia",
        "Gansu province",
        "Hong Kong Special Administrative Region",
    ]
    assert [short_name(n) for n in names] == ["Ningxia", "Inner Mongolia", "Gansu", "Hong Kong"]
    assert short_name("Bavaria") == "Bavaria"


def test_totals_of_the_store_are_read_back(tmp_path, ready):
    table = pd.read_csv(ready / "inputs/provincial_population.csv")
    assert table["persons"].sum() == (5000 + 5100 + 9000 + 9100) * 1e4
