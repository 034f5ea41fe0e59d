"""Regions: polygons with code, name and training group, and their share of every cell."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry import shape

from pipeline.core.errors import InputError
from pipeline.core.grid import Grid
from pipeline.core.provinces import gb_code, in_cn


@dataclass(frozen=True)
class Regions:
    """Polygons in file order.

    `codes`, `names`, `groups` and `polygons` have one entry a region; codes are in GB/T 2260 form where they are
    provinces'.
    """

    codes: tuple[str, ...]
    names: tuple[str, ...]
    groups: tuple[str, ...]
    polygons: tuple[shapely.Geometry, ...]

    @classmethod
    def from_geojson(cls, raw: bytes | str, where: str) -> Regions:
        """Read `regions.geojson`.

        Raises
        ------
        InputError : not GeoJSON, no polygon, missing properties or a code twice.
        """
        try:
            features = json.loads(raw)["features"]
            rows = [
                (_property(f, "code", where), _property(f, "name", where), _property(f, "group", where))
                for f in features
            ]
            polygons = [shapely.make_valid(shape(f["geometry"])) for f in features]
        except (ValueError, KeyError, TypeError, shapely.errors.ShapelyError) as error:
            raise InputError(
                f"{where} is not a FeatureCollection of polygons ({error})", "GeoJSON, EPSG:4326"
            ) from error
        codes = [gb_code(code) for code, _, _ in rows]
        if not rows or len(set(codes)) != len(codes):
            raise InputError(f"{where} has the codes {', '.join(codes) or 'none'}", "one feature for each code")
        return cls(tuple(codes), tuple(n for _, n, _ in rows), tuple(g for _, _, g in rows), tuple(polygons))

    def to_geojson(self) -> str:
        """As text of a GeoJSON FeatureCollection."""
        features = [
            {
                "type": "Feature",
                "properties": {"code": c, "name": n, "group": g},
                "geometry": shapely.geometry.mapping(p),
            }
            for c, n, g, p in zip(self.codes, self.names, self.groups, self.polygons, strict=True)
        ]
        return json.dumps({"type": "FeatureCollection", "features": features})

    @property
    def group_names(self) -> tuple[str, ...]:
        """The training groups, sorted."""
        return tuple(sorted(set(self.groups)))

    def in_cn(self) -> NDArray[np.bool_]:
        """Which regions count to `CN`."""
        return np.array([in_cn(code) for code in self.codes])

    def fractions(self, grid: Grid) -> NDArray[np.float64]:
        """Share of each cell's degree box covered by each region, shape (region, n_lat, n_lon).

        Where polygons overlap the shares of a cell are scaled to sum to at most 1.
        """
        west, south = np.meshgrid(grid.lon_edges[:-1], grid.lat_edges[:-1])
        boxes = shapely.box(west, south, west + grid.step, south + grid.step)
        tree = shapely.STRtree(boxes.ravel())
        result = np.zeros((len(self.codes), grid.n_lat * grid.n_lon))
        for k, polygon in enumerate(self.polygons):
            touched = tree.query(polygon, predicate="intersects")
            within = tree.query(polygon, predicate="contains_properly")
            result[k, within] = 1.0
            border = np.setdiff1d(touched, within, assume_unique=True)
            cut = shapely.intersection(_simplified(polygon, grid), boxes.ravel()[border])
            result[k, border] = shapely.area(cut) / grid.step**2
        total = result.sum(axis=0)
        result /= np.maximum(total, 1.0)
        return result.reshape(-1, *grid.shape)

    def shares(self, grid: Grid) -> NDArray[np.float64]:
        """Share of a cell's emission that counts to each region, shape (region, n_lat, n_lon).

        A cell's emission is that of its part inside the regions, so shares are relative to that part and sum to 1.
        """
        fractions = self.fractions(grid)
        inside = fractions.sum(axis=0)
        return np.divide(fractions, inside, out=np.zeros_like(fractions), where=inside > 0)

    def index(self, grid: Grid) -> NDArray[np.int16]:
        """Index of the region at each cell centre, -1 where none: for fine grids, where shares would be wasteful."""
        from rasterio.features import rasterize
        from rasterio.transform import from_origin

        west, _, _, north = grid.bounds
        burnt = rasterize(
            ((polygon, k) for k, polygon in enumerate(self.polygons)),
            out_shape=grid.shape,
            fill=-1,
            transform=from_origin(west, north, grid.step, grid.step),
            dtype="int16",
        )
        return np.ascontiguousarray(burnt[::-1])


def _simplified(polygon: shapely.Geometry, grid: Grid) -> shapely.Geometry:
    # A coast traced at 100 m costs much and says nothing about the share of a 25 km cell.
    return shapely.make_valid(shapely.simplify(polygon, grid.step / 200))


def _property(feature: Mapping[str, Any], key: str, where: str) -> str:
    value = feature.get("properties", {}).get(key)
    if value in (None, ""):
        raise InputError(f"{where}: a region without {key!r}", "properties code, name and group on every feature")
    return str(value)
