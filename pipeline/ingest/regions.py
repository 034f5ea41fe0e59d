"""Provinces or other regions from any vector file, with code, name and training group."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

import geopandas as gpd
import pandas as pd
import shapely

from pipeline.core.errors import InputError
from pipeline.core.provinces import BY_CODE, BY_NAME, gb_code
from pipeline.ingest.contract import Rejected, Rules
from pipeline.ingest.documents import Document

PATTERNS = ("*.shp", "*.geojson", "*.json", "*.gpkg", "*.fgb")
_CODES = ("code", "ADM1_PCODE", "adcode", "adm1_code", "PAC")
_NAMES = ("name", "ADM1_EN", "NAME_1", "name_en", "NAME")
_SUFFIXES = (
    " Special Administrative Region", " Autonomous Region", " Municipality", " Province", " province", " Hui",
    " Zhuang", " Uygur", " Uyghur", " Sheng", " Shi",
)  # fmt: skip


@dataclass(frozen=True)
class RegionReader:
    """Reads polygons; `tolerance` (degrees) thins outlines that are finer than any grid here."""

    rules: Rules = field(default_factory=lambda: {"code": "", "name": "", "group": "", "tolerance": 0.001})

    def read(self, path: str, rules: Rules) -> Document:
        """One feature a region, in order of the code."""
        frame = _opened(path)
        codes = _column(frame, str(rules["code"]), _CODES, "code")
        names = _column(frame, str(rules["name"]), _NAMES, "name")
        groups = frame[rules["group"]].astype(str) if rules["group"] else None
        features = []
        for k, (code, name) in enumerate(zip(codes, names, strict=True)):
            known = BY_CODE.get(gb_code(code)) or BY_NAME.get(short_name(name))
            group = str(groups.iloc[k]) if groups is not None else known.group if known else "all"
            features.append(
                (
                    known.code if known else gb_code(code),
                    known.name if known else short_name(name),
                    group,
                    _outline(frame.geometry.iloc[k], float(rules["tolerance"]), str(name)),
                )
            )
        features.sort(key=lambda f: f[0])
        repeated = pd.Series([f[0] for f in features])
        if repeated.duplicated().any():
            raise Rejected(f"the code {repeated[repeated.duplicated()].iloc[0]} stands on two features")
        counts = {"seen": len(features), "used": len(features)}
        return Document("inputs/regions.geojson", _geojson(features), {"source": path.rsplit("/", 1)[-1]}, counts)


def short_name(name: str) -> str:
    """English name without the kind of unit: ``Ningxia Hui Autonomous Region`` and ``InnerMongolia`` are ours."""
    text = str(name).strip()
    for suffix in _SUFFIXES:
        text = text.removesuffix(suffix)
    joined = {key.replace(" ", "").lower(): key for key in BY_NAME}
    aliases = {"xizang": "Tibet", "neimongol": "Inner Mongolia", "macau": "Macao", "hongkong": "Hong Kong"}
    folded = text.replace(" ", "").lower()
    return aliases.get(folded) or joined.get(folded) or text


def _opened(path: str) -> gpd.GeoDataFrame:
    try:
        frame = gpd.read_file(path)
    except Exception as error:
        raise InputError(f"no vector file that can be read ({type(error).__name__}: {error})") from error
    if not isinstance(frame, gpd.GeoDataFrame) or frame.empty:
        raise Rejected("the file holds no feature")
    if not frame.geom_type.isin(["Polygon", "MultiPolygon"]).all():
        raise Rejected(f"the file holds {', '.join(sorted(set(map(str, frame.geom_type))))}, not polygons")
    if frame.crs is None:
        west, south, east, north = frame.total_bounds
        if not (-180.001 <= west <= east <= 180.001 and -90 <= south <= north <= 90):
            raise Rejected(f"no coordinate system, and bounds {west, south, east, north} that are not degrees")
        return frame
    return frame.to_crs("EPSG:4326")


def _column(frame: gpd.GeoDataFrame, chosen: str, known: tuple[str, ...], what: str) -> list[str]:
    for name in (chosen,) if chosen else known:
        if name in frame.columns:
            return [str(v) for v in frame[name]]
    columns = ", ".join(str(c) for c in frame.columns if c != frame.geometry.name)
    raise Rejected(f"no column for the {what} among {columns}; name it with --rule {what}=COLUMN")


def _outline(polygon: shapely.Geometry, tolerance: float, name: str) -> shapely.Geometry:
    thinned = shapely.make_valid(shapely.simplify(polygon, tolerance, preserve_topology=True))
    thinned = shapely.set_precision(thinned, 1e-6)
    if thinned.is_empty:
        raise Rejected(f"the outline of {name} is empty")
    return thinned


def _geojson(features: list[tuple[str, str, str, shapely.Geometry]]) -> str:
    body = [
        {
            "type": "Feature",
            "properties": {"code": code, "name": name, "group": group},
            "geometry": shapely.geometry.mapping(outline),
        }
        for code, name, group, outline in features
    ]
    return json.dumps({"type": "FeatureCollection", "features": body}, separators=(",", ":"))
