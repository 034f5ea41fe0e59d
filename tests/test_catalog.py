"""The catalog: names to lazily opened, checked cubes; never the wrong year; nothing but our drivers."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import intake
import numpy as np
import pandas as pd
import pytest
import xarray as xr

from pipeline import catalog
from pipeline.core.errors import InputError, StoreError, UsageError
from pipeline.core.grid import Grid
from pipeline.core.schema import INPUTS, PRODUCTS
from pipeline.store.cubes import write_cube
from pipeline.store.location import Store
from pipeline.store.publish import point_to

GRID = Grid.from_bounds(110, 30, 112, 31, 4)


def cube(family: str, time: pd.DatetimeIndex) -> xr.Dataset:
    """A cube that satisfies an input schema; every value is its year."""
    schema = INPUTS[family]
    sizes = {"time": time.size, "sector": 4, "lat": GRID.n_lat, "lon": GRID.n_lon}
    data = {}
    for name in schema.required:
        var = schema.variables[name]
        years = xr.DataArray(time.year.to_numpy(float), dims="time")
        data[name] = (years * xr.DataArray(np.ones([sizes[d] for d in var.dims]), dims=var.dims)).transpose(*var.dims)
        data[name].attrs["units"] = var.units
    return xr.Dataset(data, coords={**GRID.coords(), "time": time.to_numpy()}, attrs={"synthetic": "true"})


def points() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "lat": [30.5], "lon": [111.0], "name": ["A"], "sector": ["power"], "kind": ["coal"], "capacity": [600.0],
            "capacity_unit": ["MW"], "co2_tonnes_per_year": [np.nan], "start_year": [2001], "retire_year": [np.nan],
            "source": ["made"],
        }
    )  # fmt: skip


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    made = Store(str(tmp_path_factory.mktemp("store")))
    days = pd.date_range("2021-12-30", "2023-01-02")
    write_cube(made, "inputs/no2_tropomi.zarr", cube("no2", days), {"time": 50})
    write_cube(made, "inputs/no2_omi.zarr", cube("no2", pd.date_range("2019-01-01", periods=3)))
    write_cube(made, "inputs/xco2.zarr", cube("xco2", days))
    write_cube(made, "inputs/population.zarr", cube("population", pd.to_datetime(["2020-01-01", "2022-01-01"])))
    for year in (2021, 2022):
        made.write_json({}, "products", f"v{year}", "provenance.json")
    months = pd.date_range("2021-01-01", periods=24, freq="MS")
    for version in ("v2021", "v2022"):
        write_cube(made, f"products/{version}/emissions_001.zarr", product("emissions_001", months))
    point_to(made, "v2021", [2021])
    point_to(made, "v2022", [2022])
    return made


def product(name: str, time: pd.DatetimeIndex) -> xr.Dataset:
    """A product cube on the small grid; every value is its year."""
    years = xr.DataArray(time.year.to_numpy("float32"), dims="time")
    data = {
        key: (years * xr.DataArray(np.ones((time.size, *GRID.shape), "f4"), dims=var.dims)).assign_attrs(
            units=var.units
        )
        for key, var in PRODUCTS[name].variables.items()
    }
    return xr.Dataset(data, coords={**GRID.coords(), "time": time.to_numpy()})


def test_input_names_are_the_cubes(store: Store) -> None:
    assert catalog.input_names(store) == ["no2_omi", "no2_tropomi", "population", "xco2"]


def test_an_input_is_cut_to_its_years_and_stays_lazy(store: Store) -> None:
    ds = catalog.open_input(store, "no2_tropomi", [2022])
    assert (ds.sizes["time"], int(ds.time.dt.year.min()), int(ds.time.dt.year.max())) == (365, 2022, 2022)
    assert ds["no2_column"].chunks is not None
    assert float(ds["no2_column"].min()) == float(ds["no2_column"].max()) == 2022
    assert catalog.open_input(store, "no2_tropomi", [2021, 2023]).sizes["time"] == 4


def test_an_absent_year_says_what_there_is(store: Store) -> None:
    with pytest.raises(InputError, match=r"population.zarr has nothing of 2021; expected one of its years, 2020, 2022"):
        catalog.open_input(store, "population", [2021, 2022])


def test_a_family_gives_the_members_that_have_the_years(store: Store) -> None:
    assert list(catalog.open_family(store, "no2")) == ["no2_omi", "no2_tropomi"]
    assert list(catalog.open_family(store, "no2", [2022])) == ["no2_tropomi"]
    assert catalog.open_family(store, "inventory", [2022]) == {}
    with pytest.raises(InputError, match=r"no cube of no2 .* has anything of 2031"):
        catalog.open_family(store, "no2", [2031])


def test_points_come_from_one_file_or_a_folder(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    with pytest.raises(InputError, match="has no point sources"):
        catalog.open_points(store)
    for place in ("inputs/point_sources.parquet", "inputs/point_sources/b.parquet"):
        buffer = io.BytesIO()
        points().to_parquet(buffer)
        store.write_bytes(buffer.getvalue(), place)
    assert catalog.open_points(store)["name"].tolist() == ["A", "A"]
    store.write_bytes(b"nonsense", "inputs/point_sources/c.parquet")
    with pytest.raises(InputError, match=r"c.parquet cannot be read"):
        catalog.open_points(store)


def test_prior_totals_are_checked(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    assert catalog.open_prior_totals(store) is None
    head = "region,year,sector,co2_tonnes,sigma_rel\n"
    store.write_bytes(f"{head}CN011,2022,power,1e8,0.1\nCN,2022,total,1e10,0.07\n".encode(), "inputs/prior_totals.csv")
    table = catalog.open_prior_totals(store)
    assert table is not None
    assert table["region"].tolist() == ["110000", "CN"]
    for row, fault in {
        "11,2022,farming,1,0.1": "sector",
        "11,2022,power,-1,0.1": "co2_tonnes",
        "11,2022,power,1,0": "sigma_rel",
        "11,2022.5,power,1,0.1": "year",
        "11,2022,power,1,0.1\n11,2022,power,2,0.1": "once",
    }.items():
        store.write_bytes(f"{head}{row}\n".encode(), "inputs/prior_totals.csv")
        with pytest.raises(InputError, match=fault):
            catalog.open_prior_totals(store)


def test_a_product_is_found_by_year_through_the_pointer(store: Store) -> None:
    ds = catalog.open_product(store, "emissions_001", 2022)
    assert ds.time.dt.year.values.tolist() == [2022] * 12
    assert catalog.open_product(store, "emissions_001", "v2021").sizes["time"] == 24
    with pytest.raises(UsageError, match=r"no product of 2019 .* one of the years 2021, 2022"):
        catalog.open_product(store, "emissions_001", 2019)
    with pytest.raises(UsageError, match="product 'emissions'"):
        catalog.open_product(store, "emissions", 2022)
    with pytest.raises(StoreError, match="path inside the store"):
        catalog.open_product(store, "emissions_001", "../v2021")


def test_intake_opens_the_year_that_was_asked_for(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CARBONCUBE_STORE", store.url)
    opened = intake.open_catalog(catalog.catalog_path())
    for year in (2021, 2022):
        ds = opened.emissions_001(year=year).to_dask()
        assert ds["co2_emission"].chunks is not None
        assert set(ds.time.dt.year.values) == {year}
        assert float(ds["co2_emission"].max()) == year
    assert opened.no2(member="tropomi", year="2021").to_dask().sizes["time"] == 2
    assert opened.xco2().to_dask().sizes["time"] == 369
    assert opened.population(store=store.url, year=2020).read()["population"].chunks is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "emissions_001 without a year"),
        ({"year": 2019}, "no product of 2019"),
        ({"year": 1066}, "year '1066'; expected a whole number from 2000 to 2100"),
        ({"year": 20222}, "expected a whole number"),
        ({"year": 2022.5}, "year '2022.5'"),
        ({"year": "this"}, "year 'this'"),
        ({"yeer": 2022}, "yeer"),
    ],
)
def test_intake_refuses_a_wrong_year(store: Store, arguments: dict[str, object], message: str) -> None:
    with pytest.raises((UsageError, TypeError), match=message):
        catalog.open_catalog(store).emissions_001(**arguments).to_dask()


def test_an_ambiguous_family_wants_a_member(store: Store) -> None:
    with pytest.raises(UsageError, match=r"no2 without a member; expected member= one of omi, tropomi"):
        catalog.open_catalog(store).no2(year=2022).to_dask()
    with pytest.raises(InputError, match=r"there is no .*inventory.zarr"):
        catalog.open_catalog(store).inventory().to_dask()


def test_every_input_and_product_of_the_contract_is_in_the_catalog(store: Store) -> None:
    names = set(catalog.open_catalog(store))
    assert names == {*PRODUCTS, *INPUTS, "point_sources", "region_polygons", "prior_totals"}


def test_options_reach_the_store_and_no_description(store: Store) -> None:
    secret = Store(store.url, {"auto_mkdir": True, "secret": "hush"})
    source = catalog.open_catalog(secret).xco2(year=2022)
    assert source.store.options["secret"] == "hush"
    assert "hush" not in repr(source) + str(source.describe())


TEMPLATE = "sources: {a: {driver: pipeline.catalog.CubeSource, args: {kind: input, cube: xco2, store: '%s'}}}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sources: {a: {driver: os.system, args: {}}}", "driver 'os.system'"),
        ("sources: {a: {driver: [pipeline.catalog.CubeSource]}}", "has driver"),
        ("sources: {a: {cls: subprocess.Popen, args: [ls]}}", "has driver None"),
        ("sources: {a: {driver: pipeline.catalog.CubeSource, cache: [x]}}", "the keys driver, cache"),
        (TEMPLATE % "{{ cycler.__init__.__globals__.os.getcwd() }}", "has the template"),
        (TEMPLATE % "{{ env(HOME) }}", "has the template"),
        (TEMPLATE % "{% for x in [] %}{% endfor %}", "has the template"),
        ("plugins: {source: [{module: antigravity}]}\nsources: {}", "brings plug-ins"),
        ("[]", "is not a catalog"),
    ],
)
def test_a_catalog_runs_nothing_but_our_drivers(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "catalog.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        catalog.open_catalog(path=str(path))


@pytest.mark.parametrize("address", ["/etc", "file:///etc", "../x", "local://x"])
def test_a_catalog_from_elsewhere_opens_nothing_of_this_machine(address: str) -> None:
    import fsspec

    with fsspec.open("memory://elsewhere/catalog.yaml", "w") as file:
        file.write(TEMPLATE % address)
    with pytest.raises(InputError, match="of this machine"):
        catalog.open_catalog(path="memory://elsewhere/catalog.yaml")
    with fsspec.open("memory://elsewhere/catalog.yaml", "w") as file:
        file.write(TEMPLATE % "s3://bucket/x")
    assert list(catalog.open_catalog(path="memory://elsewhere/catalog.yaml")) == ["a"]


@pytest.mark.parametrize("name", ["../../etc", "/etc", "%2e%2e/%2e%2e/etc"])
def test_no_member_and_no_version_leaves_the_store(store: Store, name: str) -> None:
    opened = catalog.open_catalog(store)
    with pytest.raises((StoreError, InputError, UsageError)):
        opened.no2(member=name).to_dask()
    with pytest.raises(StoreError, match="inside the store"):
        opened.emissions_001(product_version=name).to_dask()


def test_the_shell_is_off(tmp_path: Path, store: Store) -> None:
    mark = tmp_path / "ran"
    path = tmp_path / "catalog.yaml"
    path.write_text(
        "sources: {a: {driver: pipeline.catalog.CubeSource, args: {kind: input, cube: xco2, store: '{{ store }}'},"
        f" parameters: {{store: {{description: s, type: str, default: 'shell(touch {mark})'}}}}}}}}"
    )
    with pytest.raises((StoreError, InputError)):
        catalog.CubeCatalog(str(path)).a.to_dask()
    assert not mark.exists()


def test_a_catalog_does_not_read_the_environment(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "hush")
    source = catalog.open_catalog(store).xco2(member="env(SECRET)")
    with pytest.raises(InputError, match=r"xco2_env\(SECRET\).zarr"):
        source.to_dask()


def test_only_known_protocols(store: Store) -> None:
    with pytest.raises(StoreError, match="chains file systems"):
        catalog.open_catalog("zip::file://a.zip")
    with pytest.raises(StoreError, match="protocol 'reference'"):
        catalog.open_catalog(store).xco2(store="reference://x")


def test_it_opens_from_anywhere(store: Store, tmp_path: Path) -> None:
    script = "from pipeline.catalog import open_catalog; print(open_catalog().xco2(year=2022).to_dask().sizes['time'])"
    root = Path(catalog.__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True,
        env={**os.environ, "CARBONCUBE_STORE": store.url, "PYTHONPATH": str(root)},
    )  # fmt: skip
    assert done.stdout.split() == ["365"]
