"""What the report reads of a version: months and cells at 0.25 degree, and windows of the fine grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from pipeline.core.errors import InputError
from pipeline.core.grid import FINE_PER_COARSE, G025, Grid
from pipeline.core.labels import labels
from pipeline.core.metrics import interval
from pipeline.core.provinces import BY_CODE
from pipeline.core.regions import Regions
from pipeline.core.schema import PRODUCTS, check
from pipeline.store.cubes import open_cube
from pipeline.store.location import Store
from pipeline.store.publish import product_path

NATION = "CN"
Range = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]
"""Mean, 5 % and 95 % quantile."""


@dataclass(frozen=True)
class Place:
    """A window of whole coarse cells: its name and its grid."""

    name: str
    grid: Grid


PLACES = (
    Place("Beijing, Tianjin and Hebei", Grid.from_bounds(114.25, 37.75, 118.75, 40.75, 4)),
    Place("Yangtze delta", Grid.from_bounds(118.0, 29.75, 122.25, 32.5, 4)),
    Place("Pearl delta", Grid.from_bounds(112.0, 21.75, 115.25, 24.0, 4)),
    Place("Shanxi", Grid.from_bounds(110.75, 35.5, 114.5, 38.25, 4)),
)
"""Where the fine grid is looked at."""


@dataclass(frozen=True)
class Product:
    """A version of the product, opened lazily.

    Parameters
    ----------
    store, version : which.
    with_truth : whether the truth of a synthetic store may be looked at.
    """

    store: Store
    version: str
    with_truth: bool = False

    def cube(self, name: str) -> xr.Dataset:
        """A cube of the version, checked, its arrays lazy without Dask."""
        path = f"{product_path(self.version)}/{name}.zarr"
        return check(open_cube(self.store, path, chunks=None), PRODUCTS[name], self.store.address(path))

    @cached_property
    def cells(self) -> xr.Dataset:
        """`emissions_025`."""
        return self.cube("emissions_025")

    @cached_property
    def provenance(self) -> dict[str, Any]:
        """`provenance.json`, empty where absent."""
        return self.store.read_json(product_path(self.version), "provenance.json") or {}

    @cached_property
    def regions(self) -> Regions | None:
        """The polygons of the inputs, where they are still there."""
        path = "inputs/regions.geojson"
        if not self.store.exists(path):
            return None
        return Regions.from_geojson(self.store.read_bytes(path), self.store.address(path))

    @cached_property
    def grid(self) -> Grid:
        """The coarse grid of the version."""
        return Grid.of_centres(self.cells["lat"], self.cells["lon"], G025.per_degree)

    @property
    def synthetic(self) -> bool:
        """Whether anything in it is synthetic."""
        return str(self.cells.attrs.get("synthetic", "false")).lower() == "true"

    @property
    def national(self) -> bool:
        """Whether it covers the whole analysis grid."""
        return self.grid == G025

    @property
    def scope(self) -> str:
        """What the total is the total of."""
        return "China (31 mainland provinces)" if self.national else "The domain"

    @cached_property
    def years(self) -> list[int]:
        """Its years."""
        return sorted({int(y) for y in self.cells["time"].dt.year.values})

    @cached_property
    def months(self) -> NDArray[np.datetime64]:
        """Start of each month."""
        return self.cells["time"].values.astype("datetime64[M]")

    def of_year(self, year: int) -> NDArray[np.intp]:
        """Indices of the year's months."""
        return np.flatnonzero(self.cells["time"].dt.year.values == year)

    def period(self, year: int) -> str:
        """The year, with its months where they are not all there."""
        n = self.of_year(year).size
        return str(year) if n == 12 else f"{year}, {n} of 12 months"

    def monthly(self, name: str, year: int) -> NDArray[np.float64]:
        """A layer of a year, (month, lat, lon)."""
        return self.cells[name].isel(time=self.of_year(year)).to_numpy().astype(float)

    def annual(self, name: str, year: int) -> NDArray[np.float64]:
        """Sum of a layer over the months of a year, (lat, lon); NaN outside."""
        return self.monthly(name, year).sum(axis=0)

    def annual_members(self, year: int) -> NDArray[np.float32]:
        """Members of the year's emission of each cell, (member, lat, lon), t; read month by month."""
        samples = self.cube("samples_025")["co2_emission"]
        total: NDArray[np.float32] | None = None
        for k in self.of_year(year):
            month = samples.isel(time=int(k)).to_numpy()
            total = month if total is None else total + month
        if total is None:
            raise InputError(f"version {self.version} has nothing of {year}", f"one of {self.years}")
        return total

    @cached_property
    def _members(self) -> tuple[NDArray[np.float64], list[str], list[str]]:
        ds = self.cube("region_samples")
        return ds["co2_emission"].to_numpy().astype(float), labels(ds["region"]), labels(ds["sector"])

    def members(self, region: str, sector: str = "total") -> NDArray[np.float64]:
        """Members of the monthly total of a region, (member, month), t."""
        values, regions, sectors = self._members
        return values[:, :, regions.index(region), sectors.index(sector)]

    def range_of_year(self, region: str, year: int, sector: str = "total") -> tuple[float, float, float]:
        """Mean, 5 % and 95 % quantile of a region's year, t."""
        year_sums = self.members(region, sector)[:, self.of_year(year)].sum(axis=1)
        low, high = interval(year_sums)
        return float(year_sums.mean()), float(low), float(high)

    def range_of_months(self, region: str, sector: str = "total") -> Range:
        """Mean, 5 % and 95 % quantile of each month of a region, t."""
        monthly = self.members(region, sector)
        return monthly.mean(axis=0), *interval(monthly)

    @cached_property
    def provinces(self) -> list[str]:
        """Codes of the provinces that emit anything, largest first by the first year."""
        groups = {*(self.regions.group_names if self.regions else ()), *(p.group for p in BY_CODE.values())}
        codes = [c for c in self._members[1] if c != NATION and c not in groups]
        size = {c: self.members(c).mean(axis=0).sum() for c in codes}
        return sorted((c for c in codes if size[c] > 0), key=lambda c: -size[c])

    def name_of(self, code: str) -> str:
        """A region's name."""
        known = dict(zip(self.regions.codes, self.regions.names, strict=True)) if self.regions else {}
        return known.get(code) or (BY_CODE[code].name if code in BY_CODE else code)

    @cached_property
    def _weights(self) -> tuple[list[str], NDArray[np.float64]]:
        """Regions, the nation last, and the share of each cell's emission that counts to each, (region, lat, lon)."""
        if self.regions is None:
            return [], np.zeros((0, *self.grid.shape))
        share = self.regions.shares(self.grid)
        nation = share[self.regions.in_cn()].sum(axis=0, keepdims=True)
        return [*self.regions.codes, NATION], np.concatenate([share, nation])

    def by_region(self, monthly: NDArray) -> dict[str, NDArray[np.float64]]:
        """Monthly totals of each region whose polygon is known, from (time, lat, lon)."""
        codes, weights = self._weights
        return dict(zip(codes, np.einsum("tij,rij->rt", np.nan_to_num(monthly), weights), strict=True))

    @cached_property
    def prior_totals(self) -> dict[str, NDArray[np.float64]]:
        """The prior's monthly total of each region whose polygon is known, t."""
        return self.by_region(self.cells["co2_prior"].to_numpy())

    @cached_property
    def true_totals(self) -> dict[str, NDArray[np.float64]]:
        """The true monthly total of each region, t; empty where there is no truth to look at."""
        return {} if self.truth is None else self.by_region(np.where(self.land, self.truth, 0.0))

    @cached_property
    def truth(self) -> NDArray[np.float64] | None:
        """True monthly emission of the cells, (time, lat, lon), t; `None` where there is none to look at."""
        path = "truth/emissions_025.zarr"
        if not self.with_truth or not self.store.exists(path):
            return None
        true = open_cube(self.store, path, chunks=None)["co2_emission"]
        try:
            true = true.sel(time=self.cells["time"].values)
            true = true.sel(lat=self.grid.lat, lon=self.grid.lon, method="nearest", tolerance=1e-6)
        except KeyError as error:
            raise InputError(
                f"{self.store.address(path)} does not cover the product ({error})", "its months and cells"
            ) from error
        return true.sum("sector").transpose("time", "lat", "lon").to_numpy().astype(float)

    @cached_property
    def land(self) -> NDArray[np.bool_]:
        """Cells that are in the product."""
        return np.isfinite(self.cells["co2_emission"].to_numpy()).all(axis=0)

    def has(self, name: str) -> bool:
        """Whether the version has a cube."""
        return self.store.exists(product_path(self.version), f"{name}.zarr")

    @property
    def fine(self) -> bool:
        """Whether the version has the fine grid."""
        return self.has("emissions_001")

    def places(self) -> Sequence[Place]:
        """Windows to look at closely: the known ones inside, else where most is emitted."""
        known = [p for p in PLACES if self.grid.contains(p.grid)]
        if known:
            return known
        field = np.nan_to_num(self.annual("co2_emission", self.years[-1]))
        side = [min(12, n) for n in self.grid.shape]
        sums = np.lib.stride_tricks.sliding_window_view(field, side).sum(axis=(2, 3))
        j, i = np.unravel_index(int(sums.argmax()), sums.shape)
        g = self.grid
        window = Grid(g.per_degree, g.west_index + int(i), g.south_index + int(j), side[1], side[0])
        return [Place("Where most is emitted", window)]

    def zoom(self, place: Place, year: int) -> NDArray[np.float64]:
        """The year's emission of a window on the fine grid, (lat, lon), t; read month by month."""
        rows, cols = self.grid.window(place.grid)
        f = FINE_PER_COARSE
        cube = self.cube("emissions_001")["co2_emission"]
        cube = cube.isel(lat=slice(rows.start * f, rows.stop * f), lon=slice(cols.start * f, cols.stop * f))
        months = [cube.isel(time=int(k)).to_numpy().astype(float) for k in self.of_year(year)]
        return np.sum(months, axis=0)

    def zoom_truth(self, place: Place, year: int) -> NDArray[np.float64] | None:
        """The truth of a window on the fine grid, (lat, lon), t, where it is known and all months are here."""
        path = "truth/emissions_001.zarr"
        if self.truth is None or self.of_year(year).size != 12 or not self.store.exists(path):
            return None
        true = open_cube(self.store, path, chunks=None)["co2_emission"]
        fine = place.grid.refine()
        box = true.isel(time=np.flatnonzero(true["time"].dt.year.values == year))
        box = box.sel(lat=fine.lat, lon=fine.lon, method="nearest", tolerance=1e-6)
        return (
            box.sum(("time", "sector")).transpose("lat", "lon").to_numpy().astype(float) if box.sizes["time"] else None
        )
