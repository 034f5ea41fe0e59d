"""A product version beside an inventory: totals, sectors, provinces, months and patterns; is it independent?"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import shapely
from numpy.typing import NDArray

from pipeline.core.ancestry import related
from pipeline.core.errors import InputError
from pipeline.core.labels import labels
from pipeline.core.metrics import correlation, coverage, interval, relative_mae
from pipeline.core.provinces import gb_code
from pipeline.core.schema import INPUTS, SECTORS, check
from pipeline.core.units import DAY, KG_PER_TONNE
from pipeline.store.cubes import open_cube
from pipeline.store.location import Store
from pipeline.store.publish import product_path
from pipeline.validate.overlap import areas, to_grid
from pipeline.validate.version import Version

COLUMNS = ("year", "month", "region", "sector", "co2_tonnes")
"""Columns of `inputs/inventory_<name>_table.parquet`."""
WHOLE = 0.98
"""Share of a province's area that must be on the product's grid for its table total to be compared."""


@dataclass(frozen=True)
class Inventory:
    """An inventory on the product's terms.

    Attributes
    ----------
    name : of the inventory.
    codes : provinces that can be compared.
    totals : (month, province, sector), t.
    cells : (month, lat, lon), t, where the inventory is gridded.
    """

    name: str
    codes: tuple[str, ...]
    totals: NDArray[np.float64]
    cells: NDArray[np.float64] | None


def inventories(store: Store) -> list[str]:
    """Names of the inventories in a store."""
    names = [n.partition(".")[0] for n in store.names("inputs") if n.startswith("inventory_")]
    return sorted({n.removeprefix("inventory_").removesuffix("_table") for n in names})


def load_inventory(product: Version, name: str, year: int) -> Inventory:
    """Bring an inventory to the product's provinces, cells and months.

    A provincial table is taken for totals where there is one, a gridded cube for patterns and, without a table, for
    totals.

    Raises
    ------
    InputError : no such inventory, or it lacks months of the product.
    """
    store = product.store
    cube, table = f"inputs/inventory_{name}.zarr", f"inputs/inventory_{name}_table.parquet"
    months = product.cells["time"].values[product.months(year)].astype("datetime64[M]")
    if not store.exists(cube) and not store.exists(table):
        held = ", ".join(inventories(store)) or "none"
        raise InputError(f"{store.url} has no inventory {name!r}", f"one of {held}", "ingest it first")
    by_sector = _gridded(product, cube, months) if store.exists(cube) else np.empty(0)
    cells = by_sector.sum(axis=1) if by_sector.size else None
    if store.exists(table):
        codes = _whole_provinces(product)
        return Inventory(name, codes, _tabled(store, table, months, codes), cells)
    codes = tuple(c for c in product.regions.codes if c in product.totals)
    share = np.stack([product.shares[c] for c in codes])
    return Inventory(name, codes, np.einsum("tsij,rij->trs", by_sector, share), cells)


def _gridded(product: Version, path: str, months: NDArray[np.datetime64]) -> NDArray[np.float64]:
    """Tonnes by month, sector and cell of the product: E = F A t / 1000, F in kg m-2 s-1, A in m2, t in s."""
    where = product.store.address(path)
    ds = check(open_cube(product.store, path, chunks=None), INPUTS["inventory"], where)
    held = ds["time"].values.astype("datetime64[M]")
    _all_there(months, held, where)
    flux = ds["co2_flux"].isel(time=np.flatnonzero(np.isin(held, months)))
    order = _sector_order(labels(flux["sector"]), where)
    area = areas(ds["lat"], ds["lon"])
    seconds = ((months + 1).astype("M8[D]") - months.astype("M8[D]")).astype(float) * DAY
    amounts = [
        to_grid(flux.isel(time=k).to_numpy()[order] * area, ds["lat"], ds["lon"], product.grid) * s / KG_PER_TONNE
        for k, s in enumerate(seconds)
    ]
    return np.stack(amounts)


def _sector_order(names: Sequence[str], where: str) -> list[int]:
    if set(names) != set(SECTORS):
        raise InputError(f"{where} has the sectors {', '.join(names)}", ", ".join(SECTORS))
    return [list(names).index(s) for s in SECTORS]


def _tabled(store: Store, path: str, months: NDArray[np.datetime64], codes: Sequence[str]) -> NDArray[np.float64]:
    """Tonnes by month, province and sector from a table."""
    where = store.address(path)
    table = pd.read_parquet(io.BytesIO(store.read_bytes(path)))
    missing = [c for c in COLUMNS if c not in table.columns]
    if missing:
        raise InputError(f"{where} lacks the columns {', '.join(missing)}", ", ".join(COLUMNS))
    stamp = (table["year"].astype(int) - 1970) * 12 + table["month"].astype(int) - 1
    table = table.assign(stamp=stamp, region=[gb_code(r) for r in table["region"]])
    _all_there(months, table["stamp"].unique().astype("datetime64[M]"), where)
    index = pd.MultiIndex.from_product([months.astype(int), codes, SECTORS])
    summed = table.groupby(["stamp", "region", "sector"], observed=True)["co2_tonnes"].sum()
    absent = sorted(set(codes) - set(table["region"]))
    if absent:
        raise InputError(f"{where} has nothing of the regions {', '.join(absent)}", "every province of the product")
    return summed.reindex(index, fill_value=0.0).to_numpy(float).reshape(len(months), len(codes), len(SECTORS))


def _all_there(wanted: NDArray[np.datetime64], held: NDArray[np.datetime64], where: str) -> None:
    absent = np.setdiff1d(wanted, held)
    if absent.size:
        raise InputError(
            f"{where} lacks {', '.join(map(str, absent[:3]))}{', ...' if absent.size > 3 else ''}",
            f"the product's months; it has {held.min()} to {held.max()}",
        )


def _whole_provinces(product: Version) -> tuple[str, ...]:
    """Provinces that lie on the product's grid but for far islands: a table knows whole provinces only."""
    box = shapely.box(*product.grid.bounds)
    regions = product.regions
    return tuple(
        code
        for code, polygon in zip(regions.codes, regions.polygons, strict=True)
        if code in product.totals and shapely.area(shapely.intersection(polygon, box)) >= WHOLE * shapely.area(polygon)
    )


def compare(store: Store, version: str, name: str, year: int, *, allow_dependent: bool = False) -> dict[str, Any]:
    """A year of a product version beside an inventory, as JSON values; tonnes throughout.

    ``independent`` is false when the version's recorded ancestry names the inventory: then agreement proves nothing.
    ``national`` is the sum of the 31 mainland provinces that can be compared.

    Parameters
    ----------
    allow_dependent : compare also what descends from the inventory; the verdict then says so.

    Raises
    ------
    InputError : the version descends from the inventory, or nobody knows whether it does.
    """
    product = Version(store, version)
    ancestors = _ancestors(product, name, allow_dependent)
    inventory = load_inventory(product, name, year)
    mainland = [
        k for k, code in enumerate(inventory.codes) if product.regions.in_cn()[product.regions.codes.index(code)]
    ]
    if not mainland:
        raise InputError(f"no whole province lies on the grid of {version}", "a larger domain")
    by_sector = np.stack(
        [sum(product.members(inventory.codes[k], year, s) for k in mainland) for s in SECTORS], axis=-1
    )
    return {
        "inventory": name,
        "version": version,
        "year": year,
        "independent": not ancestors,
        "verdict": f"not independent: the inputs descend from {', '.join(ancestors)}" if ancestors else "independent",
        "national": _beside(by_sector.sum(axis=(1, 2)), float(inventory.totals[:, mainland].sum())),
        "months": _months(product, inventory, year, by_sector.sum(axis=-1), mainland),
        "sectors": _sectors(by_sector.sum(axis=1), inventory.totals[:, mainland].sum(axis=(0, 1))),
        "provinces": _provinces(product, inventory, year),
        **_summary(product, inventory, year),
    }


def _ancestors(product: Version, name: str, allow_dependent: bool) -> list[str]:
    """What of the version's ancestry is this inventory; refused where it is any, unless that was allowed."""
    if not product.store.exists(product_path(product.name), "provenance.json"):
        raise InputError(
            f"version {product.name} has no provenance.json, so nobody knows whether it descends from {name}",
            "a product with its provenance",
            "build it again",
        )
    ancestors = related(name, product.ancestry)
    if ancestors and not allow_dependent:
        raise InputError(
            f"the inputs of version {product.name} descend from {', '.join(ancestors)}: agreement with {name} would "
            "prove nothing",
            f"a product that knows nothing of {name}",
            "compare with another inventory, or with --allow-dependent see it marked as not independent",
        )
    return ancestors


def _beside(members: NDArray[np.float64], other: float) -> dict[str, Any]:
    """A total of the product with its range, and the inventory's."""
    low, high = (float(v) for v in interval(members))
    mean = float(members.mean())
    return {
        "product": mean,
        "p05": low,
        "p95": high,
        "inventory": other,
        "difference": mean / other - 1 if other else None,
        "inside_90": bool(low <= other <= high),
    }


def _months(
    product: Version, inventory: Inventory, year: int, members: NDArray[np.float64], mainland: Sequence[int]
) -> list[dict[str, Any]]:
    now = product.months(year)
    rows = []
    for k, t in enumerate(now):
        row: dict[str, Any] = {"month": str(product.cells["time"].values[t].astype("datetime64[M]"))}
        row |= _beside(members[:, k], float(inventory.totals[k, list(mainland)].sum()))
        if inventory.cells is not None:
            emission = product.cells["co2_emission"].isel(time=int(t)).to_numpy()[product.land]
            row["pattern_correlation"] = correlation(emission, inventory.cells[k][product.land])
        rows.append(row)
    return rows


def _sectors(members: NDArray[np.float64], other: NDArray[np.float64]) -> list[dict[str, Any]]:
    """Shares of the sectors: members (member, sector) and inventory (sector,), t."""
    return [
        {
            "sector": name,
            **_beside(members[:, k], float(other[k])),
            "product_share": float(members[:, k].mean() / members.sum(axis=1).mean()),
            "inventory_share": float(other[k] / other.sum()) if other.sum() else None,
        }
        for k, name in enumerate(SECTORS)
    ]


def _provinces(product: Version, inventory: Inventory, year: int) -> list[dict[str, Any]]:
    names = dict(zip(product.regions.codes, product.regions.names, strict=True))
    rows = [
        {"region": code, "name": names[code]}
        | _beside(product.members(code, year).sum(axis=1), float(inventory.totals[:, k].sum()))
        for k, code in enumerate(inventory.codes)
    ]
    return sorted(rows, key=lambda row: -row["inventory"])


def _summary(product: Version, inventory: Inventory, year: int) -> dict[str, Any]:
    """Agreement over provinces, and over cells where the inventory is gridded."""
    members = np.stack([product.members(code, year) for code in inventory.codes], axis=-1)
    monthly, annual = inventory.totals.sum(axis=-1), inventory.totals.sum(axis=(0, 2))
    yearly = members.sum(axis=1)
    result = {
        "coverage_90_provinces": coverage(annual, *interval(yearly)),
        "coverage_90_provinces_monthly": coverage(monthly, *interval(members)),
        "provinces_correlation": correlation(yearly.mean(axis=0), annual),
        "provinces_relative_difference": relative_mae(yearly.mean(axis=0), annual),
    }
    if inventory.cells is not None:
        cells = product.cells["co2_emission"].isel(time=product.months(year)).to_numpy().sum(axis=0)[product.land]
        other = inventory.cells.sum(axis=0)[product.land]
        result["cells_correlation"] = correlation(cells, other)
        result["cells_relative_difference"] = relative_mae(cells, other)
    return result
