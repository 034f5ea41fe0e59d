"""The catalog: every input and product of a store by name, through Intake or by the functions the build uses.

`catalog.yaml` is what Intake reads; the drivers here are the only ones it may name.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import xarray as xr
import yaml
from intake.catalog.local import YAMLFileCatalog
from intake.source.base import DataSourceBase, Schema

from pipeline.access import (
    input_names,
    open_family,
    open_input,
    open_points,
    open_prior_totals,
    open_product,
    open_regions,
)
from pipeline.core.errors import InputError, UsageError
from pipeline.settings import DEFAULT_STORE, FIRST_YEAR, LAST_YEAR, PREFIX, load_place
from pipeline.store.addresses import check_store_url, check_url, is_remote
from pipeline.store.location import Store

__all__ = [
    "CubeCatalog",
    "CubeSource",
    "TableSource",
    "catalog_path",
    "default_store",
    "input_names",
    "open_catalog",
    "open_family",
    "open_input",
    "open_points",
    "open_prior_totals",
    "open_product",
    "open_regions",
    "remote_sources",
]

DRIVERS = frozenset({"pipeline.catalog.CubeSource", "pipeline.catalog.TableSource"})
"""What a catalog may name as driver."""
_KEYS = frozenset({"description", "driver", "args", "parameters", "metadata"})
_PLAIN_TEMPLATE = re.compile(r"\{\{ *[a-z_]+ *\}\}")
_BRACES = re.compile(r"\{[{%#]")


def default_store() -> str:
    """Address of the store where none is given: the environment's, else ``./data``."""
    return os.environ.get(f"{PREFIX}STORE") or DEFAULT_STORE


class _Source(DataSourceBase):
    """What the drivers share: a store, and an answer that is made once and only when asked for."""

    version = "1"
    partition_access = False

    def __init__(self, store: str = "", metadata: dict[str, Any] | None = None) -> None:
        super().__init__(metadata=metadata)
        self._url = check_store_url(store or default_store())
        self._answer: Any = None

    @property
    def store(self) -> Store:
        """The store; how to reach it comes from the catalog or the environment, never from a description."""
        if options := getattr(self.cat, "options", None):
            return Store(self._url, dict(options))
        return Store.at(*load_place(self._url))

    def _open(self) -> Any:
        raise NotImplementedError

    def _get_schema(self) -> Schema:
        return Schema(npartitions=1, extra_metadata={})

    def _get_partition(self, _: int) -> Any:
        return self.read()

    def _close(self) -> None:
        self._answer = None


class CubeSource(_Source):
    """An input or product cube of a store, for Intake.

    Parameters
    ----------
    kind : ``input`` or ``product``.
    cube : name of the cube, or of the family of an input.
    store : address; the environment's `CARBONCUBE_STORE`, else ``./data``, where empty.
    year : four digits; a product needs it (or a version), an input without it comes whole.
    member : of a family of inputs (``tropomi`` of ``no2``).
    product_version : instead of the year: this version of the product, whole.
    """

    name = "carboncube"
    container = "xarray"

    def __init__(
        self,
        kind: str,
        cube: str,
        store: str = "",
        year: str | int = "",
        member: str = "",
        product_version: str = "",
        metadata: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(store, metadata)
        if kind not in ("input", "product"):
            raise UsageError(f"kind {kind!r} in the catalog", "input or product")
        self._kind, self._cube, self._member, self._product_version = kind, cube, member, product_version
        self._year = _parse_year(year)

    def _open(self) -> xr.Dataset:
        if self._kind == "product":
            return open_product(self.store, self._cube, self._product_version or self._needed_year())
        name = f"{self._cube}_{self._member}" if self._member else self._only_member()
        return open_input(self.store, name, None if self._year is None else [self._year])

    def _needed_year(self) -> int:
        if self._year is None:
            raise UsageError(f"{self._cube} without a year", "a year", f"{self._cube}(year=2022)")
        return self._year

    def _only_member(self) -> str:
        names = [n for n in input_names(self.store) if n == self._cube or n.startswith(f"{self._cube}_")]
        if self._cube in names or not names:
            return self._cube
        if len(names) == 1:
            return names[0]
        members = ", ".join(n.removeprefix(f"{self._cube}_") for n in names)
        raise UsageError(f"{self._cube} without a member", f"member= one of {members}")

    def to_dask(self) -> xr.Dataset:
        """The cube, lazily."""
        if self._answer is None:
            self._answer = self._open()
        return self._answer

    def read(self) -> xr.Dataset:
        """The cube, loaded."""
        return self.to_dask().load()

    def _get_schema(self) -> Schema:
        ds = self.to_dask()
        return Schema(shape=dict(ds.sizes), npartitions=1, extra_metadata={str(k): v for k, v in ds.attrs.items()})


class TableSource(_Source):
    """A table of a store, for Intake: ``point_sources``, ``regions`` (with geometry) or ``prior_totals``."""

    name = "carboncube_table"
    container = "dataframe"

    def __init__(self, table: str, store: str = "", metadata: dict[str, Any] | None = None) -> None:
        super().__init__(store, metadata)
        self._table = table

    def read(self) -> pd.DataFrame:
        """The table."""
        if self._answer is None:
            self._answer = self._open()
        return self._answer

    def _open(self) -> pd.DataFrame:
        if self._table == "point_sources":
            return open_points(self.store)
        if self._table == "regions":
            import geopandas

            r = open_regions(self.store)
            columns = {"code": r.codes, "name": r.names, "group": r.groups}
            return geopandas.GeoDataFrame(columns, geometry=list(r.polygons), crs="EPSG:4326")
        if self._table != "prior_totals":
            raise UsageError(f"table {self._table!r} in the catalog", "point_sources, regions or prior_totals")
        totals = open_prior_totals(self.store)
        if totals is None:
            raise InputError(f"{self.store.url} has no inputs/prior_totals.csv", remedy="it is optional")
        return totals


class CubeCatalog(YAMLFileCatalog):
    """`catalog.yaml` with nothing but our drivers: no plug-ins, no other classes, no shell, no environment, no code.

    Intake renders the strings of a catalog as Jinja templates, which can call anything in Python, so a template may
    name a parameter and do nothing else.

    Parameters
    ----------
    path : of the YAML file.
    store : address that the sources take unless told otherwise.
    options : storage options of that store.
    """

    name = "carboncube"

    def __init__(self, path: str, store: str = "", options: dict[str, Any] | None = None, **kwargs: Any) -> None:
        self._store, self.options = store, options or {}
        super().__init__(check_url(path), **{"persist_mode": "never", **kwargs, "getshell": False, "getenv": False})

    def parse(self, text: str) -> None:
        """Read the entries, after holding them to what a catalog may say."""
        content = _safe_catalog(text, str(self.path))
        for entry in content["sources"].values() if self._store else ():
            entry.setdefault("parameters", {}).setdefault("store", {"description": "address", "type": "str"})
            entry["parameters"]["store"]["default"] = self._store
        super().parse(yaml.safe_dump(content))


def open_catalog(store: str | Store | None = None, path: str | None = None) -> CubeCatalog:
    """Open the catalog: the packaged one, or the repository's in a clone.

    Parameters
    ----------
    store : what its sources open; the environment's `CARBONCUBE_STORE`, else ``./data``, where `None`.
    path : another catalog file.
    """
    if isinstance(store, Store):
        return CubeCatalog(path or catalog_path(), store.url, store.options)
    return CubeCatalog(path or catalog_path(), check_store_url(store or default_store()))


def catalog_path() -> str:
    """Where `catalog.yaml` is: inside the installed package, or at the root of a clone.

    Raises
    ------
    UsageError : neither.
    """
    here = Path(__file__).resolve().parent
    for candidate in (here / "catalog.yaml", here.parent / "catalog.yaml"):
        if candidate.is_file():
            return str(candidate)
    raise UsageError(f"no catalog.yaml beside {here}", "the packaged catalog", "install carboncube again")


def remote_sources() -> dict[str, dict[str, Any]]:
    """Public data that the packaged catalog knows by name: description, product, access, url."""
    with open(catalog_path(), encoding="utf-8") as file:
        return dict(yaml.safe_load(file)["metadata"]["remote_sources"])


def _parse_year(year: str | int) -> int | None:
    text = str(year).strip()
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and FIRST_YEAR <= int(text) <= LAST_YEAR):
        raise UsageError(f"year {year!r}", f"a whole number from {FIRST_YEAR} to {LAST_YEAR}", "for example year=2022")
    return int(text)


def _safe_catalog(text: str, where: str) -> dict[str, Any]:
    """The content of a catalog file, refused when it could run anything but our drivers."""
    content = yaml.safe_load(text)
    if not isinstance(content, dict) or not isinstance(content.get("sources"), dict):
        raise InputError(f"{where} is not a catalog", "a mapping with 'sources'")
    if "plugins" in content:
        raise InputError(f"{where} brings plug-ins", "a catalog without 'plugins'", "use the packaged catalog")
    for name, entry in content["sources"].items():
        driver = entry.get("driver") if isinstance(entry, dict) else None
        if not isinstance(driver, str) or driver not in DRIVERS or not set(entry) <= _KEYS:
            raise InputError(
                f"{where}: {name} has driver {driver!r} and the keys {', '.join(map(str, entry or ()))}",
                f"one of {', '.join(sorted(DRIVERS))} and no keys but {', '.join(sorted(_KEYS))}",
            )
        if is_remote(where) and (local := [a for a in _stores(entry) if a and not is_remote(a) and "{{" not in a]):
            raise InputError(f"{where}: {name} opens {local[0]!r} of this machine", "an address elsewhere")
        for found in _strings(entry):
            if _BRACES.search(_PLAIN_TEMPLATE.sub("", found)):
                raise InputError(f"{where}: {name} has the template {found!r}", "{{ parameter }} and nothing else")
    return content


def _stores(entry: dict[str, Any]) -> list[str]:
    """The addresses that an entry opens: its argument, and the default of its parameter."""
    parameter = (entry.get("parameters") or {}).get("store") or {}
    return [str(v) for v in ((entry.get("args") or {}).get("store", ""), parameter.get("default", ""))]


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield from (*_strings(key), *_strings(item))
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _strings(item)
    elif isinstance(value, str):
        yield value
