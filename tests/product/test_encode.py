import json

import numpy as np
import pytest
import xarray as xr

from pipeline.core.errors import StoreError
from pipeline.core.grid import block_repeat, block_sum
from pipeline.core.labels import labels
from pipeline.core.schema import INFORMATION, PRODUCTS, SECTORS, check
from pipeline.product.attributes import ProductInfo
from pipeline.product.encode import month_cubes, write_month, write_tile, year_total
from pipeline.product.layout import CUBES, create, layouts
from pipeline.product.weights import tile_weights
from pipeline.store.cubes import open_cube
from pipeline.store.location import Store

INFO = ProductInfo("20220101T000000Z-abcdef12", "0.1.0", json.dumps({"seed": 1}), "numpy", True)
MONTHS = np.array(["2022-01-01", "2022-02-01"], "datetime64[ns]")


@pytest.fixture(scope="module")
def product(country, month, tmp_path_factory):
    store = Store(str(tmp_path_factory.mktemp("store")))
    create(store, "p", layouts(country.grid, MONTHS, 50, country.areas, country.china), INFO)
    for k in range(2):
        write_month(store, "p", k, month_cubes(month * (1.0 + k), country.areas, country.china, 1.3, learned=True))
    weights = tile_weights(
        country.tile,
        country.grid,
        country.proxies,
        country.points,
        2022,
        year_total(store, "p", [0, 1]),
        country.regions,
        country.china,
    )
    write_tile(store, "p", country.tile, weights, [0, 1])
    return {cube: open_cube(store, f"p/{cube}.zarr", chunks=None).load() for cube in CUBES} | {"store": store}


@pytest.mark.parametrize("cube", CUBES)
def test_every_cube_fulfils_the_contract(product, cube):
    ds = product[cube]
    plain = {n: v for n, v in PRODUCTS[cube].variables.items() if n in ds}
    assert set(plain) == set(PRODUCTS[cube].variables)
    for name, var in plain.items():
        assert ds[name].dims == var.dims
        if name != "information":
            assert ds[name].attrs["units"] == var.units
            assert ds[name].attrs["long_name"]
    if "lat" in ds.dims:
        check(ds.drop_vars("information", errors="ignore"), _without_flags(cube), cube)
    assert ds.attrs["Conventions"].startswith("CF-1.11")
    assert ds.attrs["synthetic"] == "true"
    assert json.loads(ds.attrs["settings"]) == {"seed": 1}
    assert {"title", "summary", "license", "time_coverage_start", "geospatial_lat_min", "product_version"} <= set(
        ds.attrs
    )


def _without_flags(cube):
    schema = PRODUCTS[cube]
    return type(schema)(schema.name, {n: v for n, v in schema.variables.items() if n != "information"}, schema.time)


def test_labels_and_times_come_back_as_they_were(product, country):
    assert labels(product["sectors_025"]["sector"]) == list(SECTORS)
    assert labels(product["regions"]["sector"]) == [*SECTORS, "total"]
    assert labels(product["regions"]["region"]) == ["110000", "710000", "north", "south", "CN"]
    assert product["regions"]["region"].attrs["names"][0] == "West"
    ds = product["emissions_025"]
    np.testing.assert_array_equal(ds["time"].values, MONTHS)
    np.testing.assert_array_equal(ds["time_bnds"].values[:, 1], np.array(["2022-02-01", "2022-03-01"], "M8[ns]"))
    assert ds["co2_emission"].attrs["grid_mapping"] == "crs"
    assert ds["crs"].attrs["grid_mapping_name"] == "latitude_longitude"
    assert ds["information"].attrs["flag_values"] == list(INFORMATION.values())


def test_sectors_sum_to_the_total(product):
    total = product["sectors_025"]["co2_emission"].sum("sector", skipna=False).values
    np.testing.assert_allclose(total, product["emissions_025"]["co2_emission"].values, rtol=1e-12)


def test_members_mean_is_the_emission(product):
    mean = product["samples_025"]["co2_emission"].values.mean(axis=0, dtype=np.float64)
    np.testing.assert_allclose(mean, product["emissions_025"]["co2_emission"].values, rtol=1e-6)


def test_fine_cells_sum_to_their_coarse_cell(product, country):
    fine = product["emissions_001"]["co2_emission"].values
    inside = country.china > 0
    sums = block_sum(np.nan_to_num(fine))
    np.testing.assert_allclose(sums[:, inside], product["emissions_025"]["co2_emission"].values[:, inside], rtol=1e-6)


def test_outside_is_nan_at_both_resolutions(product, country):
    outside = country.china == 0
    assert np.isnan(product["emissions_025"]["co2_emission"].values[:, outside]).all()
    assert np.isfinite(product["emissions_025"]["co2_emission"].values[:, ~outside]).all()
    assert (product["emissions_025"]["information"].values[:, outside] == 0).all()
    fine = product["emissions_001"]
    assert np.isnan(fine["co2_emission"].values[:, block_repeat(outside)]).all()
    assert ((fine["information"].values == 0) == np.isnan(fine["co2_emission"].values)).all()


def test_information_says_where_it_comes_from(product, month, country):
    flag = product["emissions_025"]["information"].values[0]
    seen = (month["n_no2"].values > 0) & (month["variance_reduction"].values >= 0.1) & (country.china > 0)
    assert set(np.unique(flag[seen])) == {INFORMATION["observed"]}
    assert set(np.unique(flag[(country.china > 0) & ~seen])) == {INFORMATION["learned"]}


def test_regions_come_from_the_members(product):
    samples, regions = product["region_samples"]["co2_emission"], product["regions"]
    np.testing.assert_allclose(samples.mean("member").values, regions["co2_emission"].values, rtol=1e-12)
    nation = regions["co2_emission"].isel(region=4, sector=4).values
    cells = product["emissions_025"]["co2_emission"].sum(("lat", "lon")).values
    east = regions["co2_emission"].isel(region=1, sector=4).values
    np.testing.assert_allclose(nation + east, cells, rtol=1e-10)
    assert (regions["co2_emission_sigma_independent"] <= regions["co2_emission_sigma_correlated"]).all()


def test_a_repeat_writes_the_same_bytes(product, country, month):
    store = product["store"]
    before = store.read_bytes("p/samples_025.zarr/co2_emission/c/0/0/0/0")
    create(store, "p", layouts(country.grid, MONTHS, 50, country.areas, country.china), INFO)
    write_month(store, "p", 0, month_cubes(month, country.areas, country.china, 1.3, learned=True))
    assert store.read_bytes("p/samples_025.zarr/co2_emission/c/0/0/0/0") == before


def test_a_month_of_another_grid_is_refused(product, country, month):
    cubes = month_cubes(month, country.areas, country.china)
    cubes = {c: {n: v[..., :-1] for n, v in a.items()} for c, a in cubes.items()}
    with pytest.raises(StoreError, match="expected"):
        write_month(product["store"], "p", 0, cubes)


def test_a_plain_reader_opens_it(product):
    path = product["store"].path("p/emissions_025.zarr")
    with xr.open_zarr(path) as ds:
        assert ds["co2_emission"].sel(time="2022-02").notnull().any()
