"""The guard of independence: what descends from the inventory that a product is compared with does not go in.

An input descends from an inventory when it says so (`ancestry`), when its name, source or title names it, or, for
totals, when it has the inventory's numbers up to one factor: then it is its shares that were taken.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import xarray as xr

from pipeline.access import open_prior_totals
from pipeline.core.ancestry import named_in, related, split_names
from pipeline.core.errors import InputError
from pipeline.core.provinces import gb_code
from pipeline.store.location import Store

TOTALS, REGIONS = "prior_totals.csv", "regions.geojson"
SIMULATED = ("no2", "xco2", "era5")
"""Families whose synthetic members may descend from an inventory: what a simulation saw of a hidden truth. They are no
evidence of the real world, everything made of them says so, and `pipeline.validate` refuses to compare it."""
_SPOKEN = ("source", "title", "history", "summary")
"""Attributes in which data say in words where they are from."""
_ALIKE = 1e-3
"""Spread of ln(believed / inventory) below which totals are the inventory's, perhaps times a factor."""
_ENOUGH = 5
"""Rows from which such agreement is no chance."""


@dataclass(frozen=True)
class Origin:
    """Where an input is from: its name under `inputs/`, ancestors among inventories, whether a simulation saw it."""

    name: str
    ancestry: frozenset[str]
    simulated: bool = False


def origins(store: Store, cubes: Mapping[str, xr.Dataset], tables: Sequence[str]) -> list[Origin]:
    """Where every input of a run is from.

    Parameters
    ----------
    cubes : the cubes by name, of which attributes are read.
    tables : names of the tables and files under `inputs/` (a folder of tables counts as one each).
    """
    found = []
    for name, ds in cubes.items():
        simulated = ds.attrs.get("synthetic") == "true" and name.split("_")[0] in SIMULATED
        found.append(Origin(f"{name}.zarr", _descent(name, ds.attrs), simulated))
    for table in tables:
        if table == TOTALS:
            found.append(Origin(TOTALS, _descent_of_totals(store)))
        elif table == REGIONS:
            head = {k: v for k, v in json.loads(store.read_bytes("inputs", REGIONS)).items() if k != "features"}
            found.append(Origin(REGIONS, _descent("", head)))
        else:
            found += [Origin(path, _descent_of_points(store, path)) for path in _files(store, table)]
    return found


def refuse_dependent(found: Iterable[Origin], independent_of: Sequence[str]) -> None:
    """Refuse inputs that descend from an inventory that the product is to be independent of.

    Raises
    ------
    InputError : names the input and the inventory.
    """
    for inventory in independent_of:
        for origin in found:
            ancestors = related(inventory, origin.ancestry)
            if ancestors and not origin.simulated:
                raise InputError(
                    f"inputs/{origin.name} descends from {', '.join(ancestors)}",
                    f"inputs that know nothing of {inventory}, with which the product is to be compared",
                    f"bring another {origin.name}, or leave {inventory} out of --independent-of: the product then says "
                    "that it is not independent",
                )


def _descent(name: str, said: Mapping[Any, Any]) -> frozenset[str]:
    """Ancestors by what is recorded, by the input's name, and by the words it has for its source."""
    words = " ".join([name, *(str(said[key]) for key in _SPOKEN if key in said)])
    return frozenset(split_names(said.get("ancestry"))) | named_in(words)


def _descent_of_points(store: Store, path: str) -> frozenset[str]:
    file = pq.ParquetFile(io.BytesIO(store.read_bytes("inputs", path)))
    said = {k.decode(): v.decode(errors="replace") for k, v in (file.schema_arrow.metadata or {}).items()}
    column = [c for c in ("source",) if c in file.schema_arrow.names]
    sources = set(file.read(column).column(0).to_pylist()) if column else set()
    return _descent(path, said) | named_in(" ".join(map(str, sources)))


def _descent_of_totals(store: Store) -> frozenset[str]:
    """Of `prior_totals.csv`: by columns `source` or `ancestry`, by `prior_totals.json` beside it, by its numbers."""
    raw = pd.read_csv(io.BytesIO(store.read_bytes("inputs", TOTALS)), dtype=str)
    said = {c: " ".join(raw[c].dropna().unique()) for c in (*_SPOKEN, "ancestry") if c in raw}
    beside = store.read_json("inputs", "prior_totals.json") or {}
    totals = open_prior_totals(store)
    copied = {n for n in _tables(store) if totals is not None and same_shares(totals, _annual(store, n))}
    return _descent("", said) | _descent("", beside) | copied


def same_shares(totals: pd.DataFrame, inventory: pd.Series) -> bool:
    """Whether totals are an inventory's up to one factor.

    Parameters
    ----------
    totals : columns `region`, `year`, `sector`, `co2_tonnes`.
    inventory : tonnes by (region, year, sector).
    """
    ours = totals.set_index(["region", "year", "sector"])["co2_tonnes"].astype(float)
    both = pd.concat([ours, inventory.rename("theirs")], axis=1, join="inner").to_numpy(float)
    logs = np.log(both[(both > 0).all(axis=1)])
    ratio = logs[:, 0] - logs[:, 1]
    return bool(ratio.size >= _ENOUGH and np.median(np.abs(ratio - np.median(ratio))) < _ALIKE)


def _tables(store: Store) -> list[str]:
    """Inventories that the store has as tables."""
    names = [n for n in store.names("inputs") if n.startswith("inventory_") and n.endswith("_table.parquet")]
    return [n.removeprefix("inventory_").removesuffix("_table.parquet") for n in names]


def _annual(store: Store, name: str) -> pd.Series:
    """An inventory's tonnes by (region, year, sector), with `total` of each region."""
    table = pd.read_parquet(io.BytesIO(store.read_bytes("inputs", f"inventory_{name}_table.parquet")))
    table = table.assign(region=[gb_code(r) for r in table["region"]], sector=table["sector"].astype(str))
    by_sector = table.groupby(["region", "year", "sector"])["co2_tonnes"].sum()
    whole = by_sector.groupby(["region", "year"]).sum()
    return pd.concat([by_sector, pd.concat({"total": whole}, names=["sector"]).reorder_levels(by_sector.index.names)])


def _files(store: Store, table: str) -> list[str]:
    if table.endswith(".parquet"):
        return [table]
    return [f"{table}/{n}" for n in store.names("inputs", table) if n.endswith(".parquet")]
