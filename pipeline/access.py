"""What a store holds, opened by name: lazily, checked against its schema, never of another year than asked for."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from pipeline.core.errors import InputError, UsageError
from pipeline.core.points import check_points
from pipeline.core.provinces import gb_code
from pipeline.core.regions import Regions
from pipeline.core.schema import PRIOR_TOTAL_COLUMNS, PRODUCTS, SECTORS, check, input_schema
from pipeline.store.cubes import open_cube
from pipeline.store.location import Store
from pipeline.store.publish import LATEST, latest, product_path


def input_names(store: Store) -> list[str]:
    """Names of the cubes under `inputs/`, sorted."""
    return [name.removesuffix(".zarr") for name in store.names("inputs") if name.endswith(".zarr")]


def open_input(store: Store, name: str, years: Sequence[int] | None = None) -> xr.Dataset:
    """Open an input cube lazily, in normal form (`pipeline.core.schema.check`).

    Parameters
    ----------
    name : of the cube, for example ``era5`` or ``no2_tropomi``.
    years : keep these years only; all where `None`.

    Raises
    ------
    InputError : no such cube, not what the contract says, or without one of the years.
    """
    ds = _open_checked(store, name)
    if years is None:
        return ds
    absent = sorted(set(years) - _years_of(ds))
    if absent:
        raise InputError(
            f"{store.address('inputs', f'{name}.zarr')} has nothing of {_listed(absent)}",
            f"one of its years, {_listed(_years_of(ds))}",
            f"ingest {name} for {_listed(absent)}",
        )
    return _cut(ds, years)


def open_family(store: Store, family: str, years: Sequence[int] | None = None) -> dict[str, xr.Dataset]:
    """Open all members of a family of cubes: `no2` gives ``no2``, ``no2_tropomi``, ...; empty where there is none.

    With `years`, each member is cut to those of the years that it has, and members that have none are left out.

    Raises
    ------
    InputError : a member is not what the contract says, or there are members but none has any of the years.
    """
    names = [name for name in input_names(store) if name == family or name.startswith(f"{family}_")]
    members = {name: _open_checked(store, name) for name in names}
    if years is None or not members:
        return members
    kept = {name: _cut(ds, years) for name, ds in members.items() if _years_of(ds) & set(years)}
    if not kept:
        held = set().union(*(_years_of(ds) for ds in members.values()))
        raise InputError(
            f"no cube of {family} ({', '.join(names)}) has anything of {_listed(years)}",
            f"one of the years {_listed(held)}",
            f"ingest {family} for {_listed(years)}",
        )
    return kept


def open_points(store: Store) -> pd.DataFrame:
    """All known point sources of the store, checked: `inputs/point_sources/*.parquet` or `point_sources.parquet`.

    Raises
    ------
    InputError : there is none, or a table is not what the contract says.
    """
    tables = [check_points(_read_parquet(store, path), store.address(path)) for path in _point_paths(store)]
    if not tables:
        raise InputError(
            f"{store.url} has no point sources",
            "inputs/point_sources/<source>.parquet",
            "python -m pipeline.ingest gem_coal --from ... --store ...",
        )
    return pd.concat(tables, ignore_index=True)


def open_regions(store: Store) -> Regions:
    """The polygons of `inputs/regions.geojson`.

    Raises
    ------
    InputError : absent or not what the contract says.
    """
    path = "inputs/regions.geojson"
    if not store.exists(path):
        raise InputError(f"there is no {store.address(path)}", "the regions' polygons", "ingest regions")
    return Regions.from_geojson(store.read_bytes(path), store.address(path))


def open_prior_totals(store: Store) -> pd.DataFrame | None:
    """What the user believes before the satellites look (`inputs/prior_totals.csv`), or `None`.

    Region codes come back in GB/T 2260 form.

    Raises
    ------
    InputError : missing columns, unknown sectors, negative tonnes, a sigma that is not positive, or a row twice.
    """
    path = "inputs/prior_totals.csv"
    if not store.exists(path):
        return None
    where = store.address(path)
    table = pd.read_csv(io.BytesIO(store.read_bytes(path)), dtype={"region": "string", "sector": "string"})
    missing = [c for c in PRIOR_TOTAL_COLUMNS if c not in table.columns]
    if missing:
        raise InputError(f"{where} lacks the columns {', '.join(missing)}", ", ".join(PRIOR_TOTAL_COLUMNS))
    table = table[list(PRIOR_TOTAL_COLUMNS)].assign(region=[gb_code(code) for code in table["region"]])
    _check_prior_totals(table, where)
    return table


def open_product(store: Store, cube: str, version: int | str) -> xr.Dataset:
    """Open a product cube lazily.

    Parameters
    ----------
    cube : a name of `PRODUCTS`.
    version : a year, looked up in `latest.json` and cut out of the cube, or the name of a version, taken whole.

    Raises
    ------
    UsageError : no such product cube, or no product of the year.
    InputError : the cube is absent or not what the contract says.
    """
    if cube not in PRODUCTS:
        raise UsageError(f"product {cube!r}", f"one of {', '.join(PRODUCTS)}")
    name = _latest(store, version) if isinstance(version, int) else version
    path = f"{product_path(name)}/{cube}.zarr"
    ds = check(open_cube(store, path), PRODUCTS[cube], store.address(path))
    if not isinstance(version, int):
        return ds
    if version not in _years_of(ds):
        raise InputError(f"{store.address(path)} has nothing of {version}", "the year that latest.json names it for")
    return _cut(ds, [version])


def _latest(store: Store, year: int) -> str:
    name = latest(store, year)
    if name is None:
        held = (store.read_json(LATEST) or {}).get("years", {})
        raise UsageError(
            f"no product of {year} in {store.url}",
            f"one of the years {_listed(held)}" if held else "a store with a product",
            f"python -m pipeline.build --year {year}",
        )
    return name


def _open_checked(store: Store, name: str) -> xr.Dataset:
    schema = input_schema(name)
    path = f"inputs/{name}.zarr"
    return check(open_cube(store, path), schema, store.address(path))


def _years_of(ds: xr.Dataset) -> set[int]:
    return {int(y) for y in np.unique(ds["time"].dt.year)}


def _cut(ds: xr.Dataset, years: Sequence[int]) -> xr.Dataset:
    keep = np.flatnonzero(np.isin(ds["time"].dt.year, list(years)))
    # A slice keeps the stored chunks; picking single steps would split them.
    whole = keep[-1] - keep[0] + 1 == keep.size
    return ds.isel(time=slice(keep[0], keep[-1] + 1) if whole else keep)


def _listed(items: Any) -> str:
    return ", ".join(map(str, sorted(items))) or "none"


def _point_paths(store: Store) -> Iterator[str]:
    if store.exists("inputs/point_sources.parquet"):
        yield "inputs/point_sources.parquet"
    for name in store.names("inputs", "point_sources"):
        if name.endswith(".parquet"):
            yield f"inputs/point_sources/{name}"


def _read_parquet(store: Store, path: str) -> pd.DataFrame:
    try:
        return pd.read_parquet(io.BytesIO(store.read_bytes(path)))
    except (OSError, ValueError) as error:
        raise InputError(
            f"{store.address(path)} cannot be read ({error})", "a Parquet table", "ingest again"
        ) from error


def _check_prior_totals(table: pd.DataFrame, where: str) -> None:
    sectors = (*SECTORS, "total")
    numbers = {c: pd.to_numeric(table[c], errors="coerce") for c in ("year", "co2_tonnes", "sigma_rel")}
    faults = {
        f"sector, one of {', '.join(sectors)}": ~table["sector"].isin(sectors).fillna(False).astype(bool),
        "year, a whole number": ~(numbers["year"] % 1 == 0),
        "co2_tonnes, zero or more": ~(numbers["co2_tonnes"] >= 0) | np.isinf(numbers["co2_tonnes"]),
        "sigma_rel, more than zero": ~(numbers["sigma_rel"] > 0) | np.isinf(numbers["sigma_rel"]),
        "region, year and sector once": table.duplicated(["region", "year", "sector"]),
    }
    for expected, bad in faults.items():
        if bad.any():
            raise InputError(f"{where}: row {int(bad.argmax()) + 2} has {dict(table[bad].iloc[0])}", expected)
