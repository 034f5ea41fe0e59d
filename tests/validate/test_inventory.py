"""A product beside an inventory: known totals come back; what is not independent says so."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest
import shapely
import xarray as xr

from pipeline.core.errors import InputError
from pipeline.core.grid import Grid
from pipeline.store.location import Store
from pipeline.validate.inventory import compare, inventories, load_inventory
from pipeline.validate.overlap import areas, edges, to_grid
from pipeline.validate.version import Version
from tests.product_fixture import MONTHS, SHARES, SMALL, write_inventory, write_meic_table, write_product

FINER = Grid.from_bounds(111.5, 35.5, 120.5, 42.5, 10)


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> tuple[Store, str]:
    """The product's own mean as gridded `twin` and as table `meic`, and 1.2 times it on a finer grid as `edgar`."""
    store = Store(str(tmp_path_factory.mktemp("inventories")))
    version = write_product(store, fine=False, truth=False)
    product = Version(store, version)
    mean = product.cells["co2_emission"].to_numpy()
    write_inventory(store, SMALL, MONTHS, mean, "twin")
    write_meic_table(store, {c: product.members(c, 2022).mean(axis=0) for c in product.regions.codes}, MONTHS)
    write_inventory(store, FINER, MONTHS, 1.2 * to_grid(mean, SMALL.lat, SMALL.lon, FINER), "edgar")
    return store, version


def test_the_inventories_of_a_store(store) -> None:
    assert inventories(store[0]) == ["edgar", "meic", "twin"]


@pytest.mark.parametrize("name", ["twin", "meic"])
def test_a_twin_agrees_everywhere(store, name) -> None:
    result = compare(*store, name, 2022, allow_dependent=True)
    assert result["national"]["difference"] == pytest.approx(0, abs=1e-6)
    assert all(row["inside_90"] for row in result["provinces"])
    assert result["coverage_90_provinces"] == result["coverage_90_provinces_monthly"] == 1
    assert result["provinces_correlation"] == pytest.approx(1)
    assert [row["product_share"] for row in result["sectors"]] == pytest.approx(SHARES)
    assert [row["inventory_share"] for row in result["sectors"]] == pytest.approx(SHARES)
    assert [row["month"] for row in result["months"]] == ["2022-01", "2022-02", "2022-03"]


def test_patterns_are_compared_where_there_is_a_grid(store) -> None:
    assert compare(*store, "twin", 2022)["months"][0]["pattern_correlation"] == pytest.approx(1)
    assert "cells_correlation" not in compare(*store, "meic", 2022, allow_dependent=True)


def test_another_grid_and_level_are_seen(store) -> None:
    result = compare(*store, "edgar", 2022)
    assert result["national"]["difference"] == pytest.approx(1 / 1.2 - 1, rel=1e-6)
    assert result["cells_correlation"] > 0.99
    assert not result["national"]["inside_90"]


def test_what_descends_from_the_inventory_is_refused_unless_that_was_allowed(store) -> None:
    with pytest.raises(InputError, match=r"descend from meic.*expected a product that knows nothing of meic"):
        compare(*store, "meic", 2022)
    told = compare(*store, "meic", 2022, allow_dependent=True)
    assert told["independent"] is False
    assert told["verdict"] == "not independent: the inputs descend from meic"
    assert compare(*store, "edgar", 2022)["verdict"] == "independent"


def test_a_version_whose_ancestry_nobody_knows_is_refused(tmp_path) -> None:
    store = Store(str(tmp_path))
    version = write_product(store, fine=False, truth=False, members=10)
    mean = Version(store, version).cells["co2_emission"].to_numpy()
    write_inventory(store, SMALL, MONTHS, mean, "edgar")
    assert compare(store, version, "edgar", 2022)["independent"] is True
    store.remove(f"products/{version}/provenance.json")
    with pytest.raises(InputError, match=r"no provenance\.json"):
        compare(store, version, "edgar", 2022)


def test_ancestry_is_found_wherever_an_input_records_it(tmp_path) -> None:
    """Files that ingest saw do not count: an inventory is there to be compared with."""
    made = Store(str(tmp_path))
    record = {
        "inputs": [{"name": "inventory_edgar_v8.zarr"}, {"name": "no2", "attrs": {"ancestry": "ceads, meic"}}],
        "granules": [{"attrs": {"ancestry": "odiac"}}],
    }
    made.write_json(record, "products", "v", "provenance.json")
    assert Version(made, "v").ancestry == {"edgar_v8", "ceads", "meic"}


def test_a_table_is_compared_with_whole_provinces_only(tmp_path) -> None:
    store = Store(str(tmp_path))
    version = write_product(store, fine=False, truth=False, members=10)
    product = Version(store, version)
    assert len(load_codes(product, store)) == 6
    wider = [shapely.union(p, shapely.box(118, 36, 130, 38)) if c == "410000" else p for c, p in _polygons(product)]
    moved = dataclasses.replace(product.regions, polygons=tuple(wider))
    store.write_bytes(moved.to_geojson().encode(), "inputs/regions.geojson")
    assert len(load_codes(Version(store, version), store)) == 5


def _polygons(product: Version):
    return zip(product.regions.codes, product.regions.polygons, strict=True)


def load_codes(product: Version, store: Store) -> tuple[str, ...]:
    write_meic_table(store, {c: np.ones(3) for c in product.regions.codes}, MONTHS)
    return load_inventory(product, "meic", 2022).codes


def test_missing_inventories_months_and_regions_are_told(store, tmp_path) -> None:
    made, version = store
    product = Version(made, version)
    with pytest.raises(InputError, match="no inventory 'odiac'; expected one of edgar, meic, twin"):
        compare(made, version, "odiac", 2022)
    other = Store(str(tmp_path))
    write_product(other, fine=False, truth=False, members=10)
    write_inventory(other, SMALL, MONTHS[:2], np.ones((2, *SMALL.shape)), "short")
    with pytest.raises(InputError, match=r"inventory_short.zarr lacks 2022-03"):
        compare(other, version, "short", 2022)
    write_meic_table(other, {"110000": np.ones(3)}, MONTHS)
    with pytest.raises(InputError, match="has nothing of the regions 120000"):
        compare(other, version, "meic", 2022, allow_dependent=True)
    assert product.years == [2022]


def test_amounts_survive_a_change_of_grid() -> None:
    rng = np.random.default_rng(0)
    amount = rng.lognormal(0, 1, (2, *SMALL.shape))
    spread = to_grid(amount, SMALL.lat, SMALL.lon, FINER)
    assert spread.sum(axis=(1, 2)) == pytest.approx(amount.sum(axis=(1, 2)))
    nested = SMALL.refine(5)
    fine = to_grid(amount, SMALL.lat, SMALL.lon, nested)
    assert to_grid(fine, nested.lat, nested.lon, SMALL) == pytest.approx(amount)
    assert to_grid(SMALL.area, SMALL.lat, SMALL.lon, nested) == pytest.approx(nested.area, rel=1e-9)


def test_areas_and_edges_are_the_grids() -> None:
    assert areas(SMALL.lat, SMALL.lon) == pytest.approx(SMALL.area)
    assert edges(SMALL.lon) == pytest.approx(SMALL.lon_edges)


def test_flux_times_area_and_time_is_mass(store) -> None:
    made, version = store
    flux = xr.open_zarr(made.path("inputs/inventory_twin.zarr"))["co2_flux"]
    seconds = pd.Series(MONTHS).dt.days_in_month.to_numpy() * 86400.0
    tonnes = (flux.sum("sector").values * SMALL.area * seconds[:, None, None]).sum(axis=(1, 2)) / 1000
    inventory = load_inventory(Version(made, version), "twin", 2022)
    assert inventory.totals.sum(axis=(1, 2)) == pytest.approx(tonnes)
