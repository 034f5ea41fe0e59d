"""The ground of a world on real proxies: truth follows them, perturbed, at MEIC's monthly provincial sector totals."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray
from scipy import sparse

from pipeline.core.errors import InputError
from pipeline.core.grid import Grid
from pipeline.core.points import check_points
from pipeline.core.provinces import gb_code
from pipeline.core.regions import Regions
from pipeline.core.schema import POINT_SOURCE_COLUMNS, SECTORS, check, input_schema
from pipeline.core.seeds import generator
from pipeline.store.cubes import open_cube
from pipeline.store.location import Store
from pipeline.world.clock import days_of, week_and_holiday
from pipeline.world.fields import cell_noise, correlated, lines, lognormal
from pipeline.world.patterns import Maps
from pipeline.world.physics import PLANT_SIGMA, UNLISTED, Physics
from pipeline.world.plants import region_of
from pipeline.world.settlements import Settlements, scatter, settle

TOTALS = "inputs/inventory_meic_table.parquet"
_INDUSTRY_PLANTS = 0.55
"""Share of industry's CO2 from cement and steel plants where a province has any."""
_ROADS, _HOMES = 0.2, 0.3
"""Shares of transport's emission on made-up main roads and where people live; the rest follows lights."""
_CHINA_GLOW, _CHINA_PEOPLE = 4.4e6, 1.4e9
"""About the sums of nightlights (nW cm-2 sr-1 km2) and people over China, so that those shares mean what they say."""
_STRIP = 1200
"""Rows of a native grid that are read at a time."""


@dataclass(frozen=True)
class Real:
    """The proxies of a store and MEIC's totals."""

    store: Store
    physics: Physics
    seed: int

    @cached_property
    def regions(self) -> Regions:
        """The store's regions."""
        return Regions.from_geojson(_needed(self.store, "inputs/regions.geojson", "regions"), "inputs/regions.geojson")

    @cached_property
    def towns(self) -> Settlements:
        """Made-up settlements: soils and roads are in no proxy."""
        return settle(self.seed)

    @cached_property
    def plants(self) -> pd.DataFrame:
        """The store's plants, and made-up ones that no table lists."""
        known = check_points(pd.concat(list(self._tables()), ignore_index=True), "inputs/point_sources")
        known = known[known["sector"].isin(SECTORS[:2])].assign(listed=True)
        both = pd.concat([known, self._unlisted(known)], ignore_index=True)
        rng = generator("deviation", self.seed)
        return both.assign(
            region=region_of(self.regions, both["lat"].to_numpy(float), both["lon"].to_numpy(float)),
            deviation=rng.lognormal(-(PLANT_SIGMA**2) / 2, PLANT_SIGMA, len(both)),
        )

    @cached_property
    def point_share(self) -> NDArray[np.float64]:
        """All of power and part of industry, where there are plants."""
        inside = self.plants[self.plants["region"] >= 0]
        count = len(self.regions.codes)
        has = [np.bincount(inside.loc[inside["sector"] == s, "region"], minlength=count) > 0 for s in SECTORS[:2]]
        return np.stack([1.0 * has[0], _INDUSTRY_PLANTS * has[1]])

    def maps(self, grid: Grid, land: NDArray[np.bool_]) -> Maps:
        """Lights and people of the store, with fields of their own for every sector."""
        lights = self._mean_lights(grid) * land
        people = self._people(grid) * land
        area = (grid.area / 1e6).astype(np.float32)
        glow = lights * area
        roads = lines(grid, *self.towns.roads) * land
        spread = np.stack(
            [
                (glow**0.9 + 0.005 * area * land) * self._field(grid, "industry", 40, 0.5, 0.5),
                self._transport(glow, people, roads) * self._field(grid, "transport", 80, 0.35, 0.4),
                people * (0.3 + lights**0.6) * self._field(grid, "residential", 60, 0.4, 0.6),
            ]
        ).astype(np.float32)
        return Maps(people, people, lights, spread)

    def daily(self, year: int) -> NDArray[np.float64]:
        """MEIC's months, with weekdays and the Lunar New Year's days within them."""
        table, days = self._totals(year), days_of(year)
        month = days.astype("datetime64[M]").astype(int) % 12
        shape = week_and_holiday(days)
        mean = np.stack([shape[:, month == m].mean(axis=1) for m in range(12)], axis=1)
        length = np.bincount(month)
        return table[:, :, month] / length[month] * (shape / mean[:, month])[None]

    def _transport(self, glow: NDArray, people: NDArray, roads: NDArray) -> NDArray[np.float32]:
        of_lights = (1 - _ROADS - _HOMES) / _CHINA_GLOW * glow
        of_roads = _ROADS / self.towns.roads[1].sum() * roads
        return np.asarray(of_lights + _HOMES / _CHINA_PEOPLE * people + of_roads, np.float32)

    def _field(self, grid: Grid, name: str, km: float, smooth: float, own: float) -> NDArray[np.float32]:
        per_side = max(1.0, 100.0 / grid.per_degree)
        together = lognormal(correlated(grid.lat, grid.lon, km, name, self.seed), smooth)
        return together * lognormal(cell_noise(grid, name, self.seed), own / per_side)

    def _mean_lights(self, grid: Grid) -> NDArray[np.float32]:
        return resample(self._cube("nightlights")["radiance"], grid, "mean")

    def _people(self, grid: Grid) -> NDArray[np.float32]:
        return smooth_counts(self._cube("population")["population"], grid)

    def _cube(self, name: str) -> xr.Dataset:
        path = f"inputs/{name}.zarr"
        if not self.store.exists(path):
            raise InputError(f"{self.store.url} has no {path}", "real proxies", "python -m pipeline.ingest brings them")
        ds = check(open_cube(self.store, path, chunks=None), input_schema(name), path)
        # The newest year, whichever years are made: a year's truth may not depend on the call.
        return ds.isel(time=-1)

    def _tables(self) -> Iterator[pd.DataFrame]:
        paths = [f"inputs/point_sources/{n}" for n in self.store.names("inputs", "point_sources")]
        paths = [p for p in paths if p.endswith(".parquet")]
        if self.store.exists("inputs/point_sources.parquet"):
            paths.append("inputs/point_sources.parquet")
        if not paths:
            raise InputError(
                f"{self.store.url} has no point sources", "inputs/point_sources/*.parquet", "ingest gem_coal"
            )
        for path in paths:
            yield pd.read_parquet(io.BytesIO(self.store.read_bytes(path)))

    def _unlisted(self, known: pd.DataFrame) -> pd.DataFrame:
        """Plants like the known ones, some 60 km from one of them."""
        rng = generator("unlisted", self.seed)
        count = round(len(known) * UNLISTED / (1 - UNLISTED)) * self.physics.unlisted
        like = known.iloc[rng.integers(0, len(known), count)].reset_index(drop=True)
        lat, lon = scatter(like["lat"].to_numpy(float), like["lon"].to_numpy(float), np.full(count, 60.0), rng)
        names = [f"Synthetic unlisted {n + 1}" for n in range(count)]
        return like.assign(lat=lat, lon=lon, name=names, listed=False, source="synthetic")[
            [*POINT_SOURCE_COLUMNS, "listed"]
        ]

    def _totals(self, year: int) -> NDArray[np.float64]:
        """CO2 by region, sector and month, t."""
        raw = _needed(self.store, TOTALS, "statistics --from .../meic_co2_monthly_province_sector_2019_2022.csv")
        table = pd.read_parquet(io.BytesIO(raw))
        own = table[table["year"] == year]
        if len(own[["month"]].drop_duplicates()) < 12:
            years = ", ".join(map(str, sorted(table["year"].unique())))
            raise InputError(f"{TOTALS} lacks {year}", f"one of {years}", "choose another --year")
        result = np.zeros((len(self.regions.codes), len(SECTORS), 12))
        codes = {code: k for k, code in enumerate(self.regions.codes)}
        for row in own.itertuples():
            k = codes.get(gb_code(str(row.region)))
            if k is not None:
                result[k, SECTORS.index(str(row.sector)), int(row.month) - 1] += float(row.co2_tonnes)
        return result


def _needed(store: Store, path: str, product: str) -> bytes:
    try:
        return store.read_bytes(path)
    except FileNotFoundError:
        raise InputError(
            f"{store.url} has no {path}",
            "what truth on real proxies is scaled to",
            f"run python -m pipeline.ingest {product} --store {store.url}",
        ) from None


def resample(field: xr.DataArray, grid: Grid, how: str) -> NDArray[np.float32]:
    """Carry a map (lat, lon ascending) to a grid by overlap in degrees: ``mean`` of a density, ``sum`` of counts.

    Cells without data count as 0. Read in strips, so that memory does not grow with the native grid.
    """
    rows, cols = (np.asarray(field[d].values, float) for d in ("lat", "lon"))
    a = _overlap(rows, grid.lat_edges, how)
    b = _overlap(cols, grid.lon_edges, how)
    used_rows, used_cols = np.unique(a.indices), np.unique(b.indices)
    out = np.zeros(grid.shape, np.float32)
    if not used_rows.size or not used_cols.size:
        return out
    col_cut = slice(int(used_cols[0]), int(used_cols[-1]) + 1)
    for start in range(int(used_rows[0]), int(used_rows[-1]) + 1, _STRIP):
        cut = slice(start, min(start + _STRIP, int(used_rows[-1]) + 1))
        values = np.nan_to_num(field.isel(lat=cut, lon=col_cut).values.astype(np.float32))
        out += (b[:, col_cut] @ (a[:, cut] @ values).T).T
    return out


def smooth_counts(field: xr.DataArray, grid: Grid) -> NDArray[np.float32]:
    """Counts of a coarse native grid as counts per cell, by linear interpolation of their density.

    Sums are kept to a few per cent only: totals by region are set afterwards. Native cells without data say nothing.
    """
    counts = np.asarray(field.values, np.float32)
    known = np.isfinite(counts)
    rows, cols = (_linear(np.asarray(field[d].values, float), at) for d, at in (("lat", grid.lat), ("lon", grid.lon)))
    total, weight = ((cols @ (rows @ a).T).T for a in (np.where(known, counts, 0), known.astype(np.float32)))
    native = abs(float(field["lat"].diff("lat").mean()) * float(field["lon"].diff("lon").mean()))
    return np.asarray(total / np.maximum(weight, 0.05) * grid.step**2 / native, np.float32)


def _linear(lattice: NDArray, points: NDArray) -> sparse.csr_matrix:
    """Weights of linear interpolation, constant beyond the ends."""
    low = np.clip(np.searchsorted(lattice, points) - 1, 0, lattice.size - 2)
    t = np.clip((points - lattice[low]) / (lattice[low + 1] - lattice[low]), 0, 1).astype(np.float32)
    row = np.tile(np.arange(points.size), 2)
    entries = np.concatenate([1 - t, t])
    return sparse.csr_matrix((entries, (row, np.concatenate([low, low + 1]))), shape=(points.size, lattice.size))


def _overlap(centres: NDArray, edges: NDArray, how: str) -> sparse.csr_matrix:
    """Overlap of each native cell with each cell of the grid, over the grid's cell (mean) or the native one (sum)."""
    step = np.diff(centres).mean()
    low, high = centres - step / 2, centres + step / 2
    first = np.clip(np.searchsorted(edges, low, side="right") - 1, 0, edges.size - 2)
    last = np.clip(np.searchsorted(edges, high, side="left") - 1, 0, edges.size - 2)
    count = last - first + 1
    native = np.repeat(np.arange(centres.size), count)
    ours = np.repeat(first, count) + np.arange(native.size) - np.repeat(np.cumsum(count) - count, count)
    length = np.minimum(high[native], edges[ours + 1]) - np.maximum(low[native], edges[ours])
    scale = (edges[1] - edges[0]) if how == "mean" else step
    keep = length > 0
    entries = ((length / scale)[keep].astype(np.float32), (ours[keep], native[keep]))
    return sparse.csr_matrix(entries, shape=(edges.size - 1, centres.size))
