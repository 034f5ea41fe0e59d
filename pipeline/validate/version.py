"""What validation reads of a product version."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from pipeline.core.ancestry import split_names
from pipeline.core.errors import InputError, UsageError
from pipeline.core.grid import G025, Grid
from pipeline.core.labels import labels
from pipeline.core.regions import Regions
from pipeline.core.schema import PRODUCTS, check
from pipeline.store.cubes import open_cube
from pipeline.store.location import Store
from pipeline.store.publish import latest, product_path

NATION = "CN"


@dataclass(frozen=True)
class Version:
    """A version of the product."""

    store: Store
    name: str

    @classmethod
    def of_year(cls, store: Store, year: int) -> Version:
        """The version that `latest.json` names for a year.

        Raises
        ------
        UsageError : none.
        """
        name = latest(store, year)
        if name is None:
            raise UsageError(
                f"no product of {year} in {store.url}",
                "a year that latest.json names",
                f"name a version with --version, or run python -m pipeline.build --year {year}",
            )
        return cls(store, name)

    def cube(self, name: str) -> xr.Dataset:
        """A cube of the version, checked, read when used."""
        path = f"{product_path(self.name)}/{name}.zarr"
        return check(open_cube(self.store, path, chunks=None), PRODUCTS[name], self.store.address(path))

    @cached_property
    def cells(self) -> xr.Dataset:
        """`emissions_025`."""
        return self.cube("emissions_025")

    @cached_property
    def grid(self) -> Grid:
        """The cells of the version."""
        return Grid.of_centres(self.cells["lat"], self.cells["lon"], G025.per_degree)

    @cached_property
    def land(self) -> NDArray[np.bool_]:
        """Cells that are in the product, those that emit nothing included."""
        return np.isfinite(self.cells["co2_emission"].to_numpy()).all(axis=0)

    @cached_property
    def regions(self) -> Regions:
        """The polygons the version was made with."""
        path = "inputs/regions.geojson"
        if not self.store.exists(path):
            raise InputError(f"there is no {self.store.address(path)}", "the regions' polygons", "ingest regions")
        return Regions.from_geojson(self.store.read_bytes(path), self.store.address(path))

    @cached_property
    def shares(self) -> dict[str, NDArray[np.float64]]:
        """Share of each cell's emission that counts to each province, and to the nation, (lat, lon)."""
        share = self.regions.shares(self.grid)
        return {
            **dict(zip(self.regions.codes, share, strict=True)),
            NATION: share[self.regions.in_cn()].sum(axis=0),
        }

    @property
    def years(self) -> list[int]:
        """Years of the version."""
        return sorted({int(y) for y in self.cells["time"].dt.year.values})

    def months(self, year: int) -> NDArray[np.intp]:
        """Indices of the months of a year.

        Raises
        ------
        UsageError : the version has none.
        """
        index = np.flatnonzero(self.cells["time"].dt.year.values == year)
        if not index.size:
            years = ", ".join(map(str, self.years))
            raise UsageError(f"version {self.name} has nothing of {year}", f"one of its years, {years}")
        return index

    @cached_property
    def _members(self) -> tuple[NDArray[np.float64], list[str], list[str]]:
        ds = self.cube("region_samples")
        return ds["co2_emission"].to_numpy().astype(float), labels(ds["region"]), labels(ds["sector"])

    @property
    def totals(self) -> list[str]:
        """Codes of the regions that have totals."""
        return self._members[1]

    def members(self, region: str, year: int, sector: str = "total") -> NDArray[np.float64]:
        """Members of a region's monthly totals of a year, (member, month), t."""
        values, regions, sectors = self._members
        return values[:, self.months(year), regions.index(region), sectors.index(sector)]

    @cached_property
    def ancestry(self) -> frozenset[str]:
        """Names of all inventories that the version's inputs descend from, by what `provenance.json` records.

        Of every file that ingest saw only what became an input counts: the store holds inventories to compare with.
        """
        record = self.store.read_json(product_path(self.name), "provenance.json") or {}
        return frozenset(_named({key: value for key, value in record.items() if key != "granules"}))


def _named(record: Any) -> Iterator[str]:
    """Names under every key ``ancestry`` of nested JSON, and inventories among the names of inputs."""
    if isinstance(record, Mapping):
        for key, value in record.items():
            if key == "ancestry":
                yield from split_names(value)
            elif key == "name" and str(value).startswith("inventory_"):
                yield str(value).partition(".")[0].removeprefix("inventory_").removesuffix("_table").lower()
            else:
                yield from _named(value)
    elif isinstance(record, list):
        for item in record:
            yield from _named(item)
