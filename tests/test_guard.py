"""The guard of independence: what descends from the inventory, by record, name or numbers, stays out."""

import io
import json
import shutil

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xarray as xr

from pipeline.build import main
from pipeline.core.errors import InputError
from pipeline.flow import inspect_inputs
from pipeline.guard import origins, refuse_dependent, same_shares
from pipeline.store.cubes import open_cube, write_cube
from pipeline.store.location import Store
from tests.product_fixture import write_meic_table

from .conftest import DOMAIN, settings_for

PLANTS, TOTALS = "inputs/point_sources.parquet", "inputs/prior_totals.csv"


@pytest.fixture
def store(world, tmp_path) -> Store:
    """The inputs of the small world, free to be spoilt."""
    shutil.copytree(f"{world}/inputs", tmp_path / "store" / "inputs")
    return Store(str(tmp_path / "store"))


def totals(store: Store) -> pd.DataFrame:
    return pd.read_csv(io.BytesIO(store.read_bytes(TOTALS)), dtype={"region": str})


def write_totals(store: Store, table: pd.DataFrame) -> None:
    store.write_bytes(table.to_csv(index=False).encode(), TOTALS)


def plants_of(store: Store, change) -> None:
    """Write the point sources anew: `change` takes and gives table and metadata."""
    table = pq.read_table(io.BytesIO(store.read_bytes(PLANTS)))
    frame, said = change(table.to_pandas(), dict(table.schema.metadata or {}))
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pandas(frame, preserve_index=False).replace_schema_metadata(said), buffer)
    store.write_bytes(buffer.getvalue(), PLANTS)


def believe_meic(store: Store, factor: float, scatter: float) -> None:
    """An inventory table whose year has the believed totals over `factor`, each with its own error."""
    table = totals(store)
    rng = np.random.default_rng(5)
    codes = [code for code in table["region"].unique() if code != "CN"]
    rows = [
        (2022, m, c, s, rng.lognormal(15, 1.5))
        for m in range(1, 13)
        for c in codes
        for s in ("power", "industry", "transport", "residential")
    ]
    inventory = pd.DataFrame(rows, columns=["year", "month", "region", "sector", "co2_tonnes"])
    buffer = io.BytesIO()
    inventory.to_parquet(buffer)
    store.write_bytes(buffer.getvalue(), "inputs/inventory_meic_table.parquet")
    year = inventory.groupby(["region", "year", "sector"], as_index=False)["co2_tonnes"].sum()
    error = factor * np.exp(scatter * rng.standard_normal(len(year)))
    write_totals(store, year.assign(co2_tonnes=year["co2_tonnes"] * error, sigma_rel=0.1))


def spoil(kind: str, store: Store) -> None:
    if kind == "record beside the totals":
        store.write_json({"ancestry": ["meic_v14"], "synthetic": True}, "inputs/prior_totals.json")
    elif kind == "column of the totals":
        write_totals(store, totals(store).assign(source="MEIC v1.4, scaled"))
    elif kind == "numbers of the totals":
        believe_meic(store, 1.1, 0.0)
    elif kind == "metadata of the plants":
        plants_of(store, lambda table, said: (table, {**said, b"ancestry": b"meic"}))
    elif kind == "source of a plant":
        plants_of(store, lambda t, said: (t.assign(source=["CPED of MEIC", *t["source"][1:]]), said))
    elif kind == "polygons":
        regions = json.loads(store.read_bytes("inputs/regions.geojson"))
        store.write_bytes(json.dumps({**regions, "ancestry": ["meic"]}).encode(), "inputs/regions.geojson")
    else:
        lights = open_cube(store, "inputs/nightlights.zarr").load()
        said = {"ancestry": "ceads meic"} if kind == "ancestry of a proxy" else {"source": "MEIC-calibrated lights"}
        write_cube(store, "inputs/nightlights.zarr", lights.assign_attrs(said))


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("record beside the totals", "prior_totals.csv"),
        ("column of the totals", "prior_totals.csv"),
        ("numbers of the totals", "prior_totals.csv"),
        ("metadata of the plants", "point_sources.parquet"),
        ("source of a plant", "point_sources.parquet"),
        ("polygons", "regions.geojson"),
        ("ancestry of a proxy", "nightlights.zarr"),
        ("source of a proxy", "nightlights.zarr"),
    ],
)
def test_what_descends_from_the_inventory_is_refused_unless_told_otherwise(store, kind, name):
    spoil(kind, store)
    with pytest.raises(
        InputError, match=rf"{name} descends from meic.*expected inputs that know nothing of meic.*--indep"
    ):
        inspect_inputs(store, settings_for(store.url))
    allowed = inspect_inputs(store, settings_for(store.url, independent_of="edgar"))
    assert any(a.startswith("meic") for a in allowed.ancestry)


def test_what_descends_from_nothing_goes_in(store):
    """Totals as uncertain as beliefs are, an inventory to compare with beside them, plants of other sources."""
    believe_meic(store, 1.0, 0.05)
    assert inspect_inputs(store, settings_for(store.url)).ancestry == ()


def test_what_a_simulation_saw_goes_in_and_is_recorded(store):
    """Synthetic satellites over a hidden truth at an inventory's totals."""
    seen = open_cube(store, "inputs/no2_tropomi.zarr").load()
    write_cube(store, "inputs/no2_tropomi.zarr", seen.assign_attrs(ancestry="meic"))
    assert inspect_inputs(store, settings_for(store.url)).ancestry == ("meic",)
    write_cube(store, "inputs/no2_tropomi.zarr", seen.assign_attrs(ancestry="meic", synthetic="false"))
    with pytest.raises(InputError, match=r"no2_tropomi\.zarr descends from meic"):
        inspect_inputs(store, settings_for(store.url))


def test_the_command_line_says_so(store, capsys):
    spoil("record beside the totals", store)
    flags = ["--year", "2022", "--months", "7", "--domain", DOMAIN, "--store", store.url, "--workers", "1"]
    assert main(flags) == 3
    assert "descends from meic_v14" in capsys.readouterr().err


@pytest.mark.parametrize(("given", "read"), [(None, ("meic",)), ("none", ()), ("MEIC, edgar", ("meic", "edgar"))])
def test_the_inventories_of_the_settings(given, read):
    assert settings_for("x", independent_of=given).independent_of == read
    assert "independent_of" not in settings_for("x").science()


def test_same_shares_needs_more_than_a_few_rows():
    index = pd.MultiIndex.from_product([["110000", "120000"], [2022], ["power", "industry"]])
    inventory = pd.Series([1.0, 2.0, 3.0, 4.0], index=index.set_names(["region", "year", "sector"]))
    table = inventory.rename("co2_tonnes").reset_index()
    assert not same_shares(table, inventory)


def test_tables_in_a_folder_are_named_one_by_one(tmp_path):
    store = Store(str(tmp_path))
    write_meic_table(store, {"110000": np.ones(3)}, pd.date_range("2022-01-01", periods=3, freq="MS"))
    raw = store.read_bytes("inputs/inventory_meic_table.parquet")
    for name in ("gem", "meic"):
        store.write_bytes(raw, f"inputs/point_sources/{name}.parquet")
    found = origins(store, {"no2": xr.Dataset(attrs={"synthetic": "true"})}, ["point_sources"])
    assert [(o.name, sorted(o.ancestry)) for o in found] == [
        ("no2.zarr", []), ("point_sources/gem.parquet", []), ("point_sources/meic.parquet", ["meic"]),
    ]  # fmt: skip
    with pytest.raises(InputError, match=r"point_sources/meic\.parquet"):
        refuse_dependent(found, ["meic"])
