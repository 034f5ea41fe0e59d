"""Population: GPW density as netCDF brought to provincial totals, and count rasters of several makers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
import shapely
import xarray as xr
from numpy.typing import NDArray

from pipeline.core.errors import InputError
from pipeline.core.regions import Regions
from pipeline.core.schema import SCHEMA_VERSION
from pipeline.core.units import EARTH_RADIUS
from pipeline.ingest.axes import Axis
from pipeline.ingest.contract import Rejected, Rules
from pipeline.ingest.documents import Document
from pipeline.ingest.gridded import open_netcdf
from pipeline.ingest.regions import short_name
from pipeline.store.ledger import digest

PATH = "inputs/population.zarr"
MAX_DENSITY = 2e5
"""persons km-2; the densest square kilometres on Earth hold about 1e5."""


@dataclass(frozen=True)
class GpwDensity:
    """GPW density, point-sampled: persons = density x cell area, then each province scaled to its official total.

    Parameters
    ----------
    regions : provinces.
    totals : persons, columns region (code), year, persons.
    """

    regions: Regions
    totals: pd.DataFrame

    @property
    def rules(self) -> Rules:
        """The totals are part of what decides the result."""
        return {"totals": digest(self.totals.to_csv(index=False)), "regions": digest(self.regions.to_geojson())}

    def read(self, path: str, rules: Rules) -> Document:  # noqa: ARG002
        """Persons per cell for every year of the totals."""
        density, lat, lon = _density(path)
        persons = np.nan_to_num(density) * cell_area_km2(lat, lon)
        shares = region_shares(self.regions, lat, lon)
        counted = np.isfinite(density)
        years = sorted(int(y) for y in self.totals["year"].unique())
        fields, unscaled = [], set[str]()
        for year in years:
            field_, left = rescale(persons, shares, self.regions.codes, _totals_of(self.totals, year))
            unscaled |= left
            fields.append(np.where(counted, field_, np.nan).astype(np.float32))
        ds = _dataset(np.stack(fields), years, lat, lon)
        attrs = {
            "source": "GPWv4 r11 population density 2020, scaled to provincial totals (statistical yearbook)",
            "license": "CC BY 4.0",
            "schema_version": SCHEMA_VERSION,
            "product": "gpw",
            "assumed": "density sampled at cell centres, held for the cell; the pattern of 2020 for all years; "
            f"before scaling the cells hold {persons.sum() / 1e6:.1f} million persons",
            "unscaled_regions": ", ".join(sorted(unscaled)) or "none",
        }
        counts = {"seen": density.size, "used": int(counted.sum()), "missing": int((~counted).sum())}
        return Document(PATH, ds, attrs, counts)


def _density(path: str) -> tuple[NDArray[np.float64], NDArray, NDArray]:
    with open_netcdf(path) as ds:
        name = next((n for n, v in ds.data_vars.items() if "density" in str(n).lower() and v.ndim == 2), None)
        if name is None:
            raise Rejected(f"no 2-D variable of density among {', '.join(map(str, ds.data_vars)) or 'none'}")
        x = next((d for d in ("x", "lon", "longitude") if d in ds[name].dims), None)
        y = next((d for d in ("y", "lat", "latitude") if d in ds[name].dims), None)
        if x is None or y is None:
            raise Rejected(f"{name} has dims {ds[name].dims}, expected x and y")
        array = ds[name].transpose(y, x).sortby([y, x]).load()
        values = array.values.astype(np.float64)
        lat, lon = Axis.of(array[y].values), Axis.of(array[x].values)
    values[values < 0] = np.nan
    if not np.isfinite(values).any() or np.nanmax(values) > MAX_DENSITY:
        raise Rejected(f"densities up to {np.nanmax(values) if np.isfinite(values).any() else 'nothing'} persons km-2")
    return values, lat.centres, lon.centres


def cell_area_km2(lat: NDArray, lon: NDArray) -> NDArray[np.float64]:
    """Area of the cells around centres on the authalic sphere, km2: R2 dlon (sin north - sin south)."""
    edges = np.deg2rad(Axis.of(lat).edges)
    width = np.deg2rad(np.diff(Axis.of(lon).edges))
    return (EARTH_RADIUS / 1e3) ** 2 * np.diff(np.sin(edges))[:, None] * width[None, :]


def region_shares(regions: Regions, lat: NDArray, lon: NDArray) -> NDArray[np.float64]:
    """Share of each cell (in degrees) in each region, shape (region, lat, lon)."""
    south, west = np.meshgrid(Axis.of(lat).edges[:-1], Axis.of(lon).edges[:-1], indexing="ij")
    north, east = np.meshgrid(Axis.of(lat).edges[1:], Axis.of(lon).edges[1:], indexing="ij")
    boxes = shapely.box(west, south, east, north).ravel()
    tree = shapely.STRtree(boxes)
    shares = np.zeros((len(regions.codes), boxes.size))
    for k, polygon in enumerate(regions.polygons):
        thin = shapely.make_valid(shapely.simplify(polygon, 0.002))
        touched = tree.query(thin, predicate="intersects")
        shares[k, touched] = shapely.area(shapely.intersection(thin, boxes[touched])) / shapely.area(boxes[touched])
    return (shares / np.maximum(shares.sum(axis=0), 1.0)).reshape(-1, lat.size, lon.size)


def rescale(
    persons: NDArray[np.float64], shares: NDArray[np.float64], codes: tuple[str, ...], totals: Mapping[str, float]
) -> tuple[NDArray[np.float64], set[str]]:
    """Scale each region's persons to its total: P' = sum_r s_r P T_r / sum(s_r P) + rest.

    Cells that lie partly outside all regions (coasts) give all they hold to the regions they touch, since people there
    live on land. A region without a total or without people keeps its density; its code is given back.
    """
    inside = shares.sum(axis=0)
    split = shares / np.where(inside > 0, inside, 1.0)
    result = np.where(inside > 0, 0.0, persons)
    unscaled = set()
    for k, code in enumerate(codes):
        own = split[k] * persons
        if code in totals and own.sum() > 0:
            own = own * (totals[code] / own.sum())
        else:
            unscaled.add(code)
        result += own
    return result, unscaled


def _totals_of(totals: pd.DataFrame, year: int) -> dict[str, float]:
    rows = totals[totals["year"] == year]
    return dict(zip(rows["region"].astype(str), rows["persons"].astype(float), strict=True))


def _dataset(values: NDArray, years: list[int], lat: NDArray, lon: NDArray) -> xr.Dataset:
    times = np.array([f"{y}-01-01" for y in years], "datetime64[ns]")
    return xr.Dataset(
        {"population": (("time", "lat", "lon"), values, {"units": "persons", "long_name": "persons in the cell"})},
        coords={
            "time": times,
            "lat": ("lat", lat, {"units": "degrees_north", "standard_name": "latitude"}),
            "lon": ("lon", lon, {"units": "degrees_east", "standard_name": "longitude"}),
        },
    )


def read_totals(table: pd.DataFrame, where: str) -> pd.DataFrame:
    """Provincial totals from our own CSV (region, year, persons).

    Raises
    ------
    InputError : other columns.
    """
    if not {"region", "year", "persons"} <= set(table.columns):
        raise InputError(f"{where} has the columns {', '.join(table.columns)}", "region, year, persons")
    codes = table["region"].astype(str).map(short_name)
    return table.assign(region=codes)[["region", "year", "persons"]]
