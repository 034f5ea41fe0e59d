"""The products: name, reader, and which files of a folder are its own. A new product is a module and a line here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from pipeline.core.errors import InputError, UsageError
from pipeline.core.regions import Regions
from pipeline.ingest import regions, statistics
from pipeline.ingest.arco import ArcoReader
from pipeline.ingest.blackmarble import BlackMarble
from pipeline.ingest.columns import ColumnReader
from pipeline.ingest.counts import CountRaster
from pipeline.ingest.documents import DocumentReader
from pipeline.ingest.era5 import Reanalysis
from pipeline.ingest.gosat import AcosReader
from pipeline.ingest.grids import GridReader
from pipeline.ingest.inventories import Inventory, Odiac, TropessNox, ceds, edgar, graced, gridfed
from pipeline.ingest.meic import MeicReader
from pipeline.ingest.oco import LiteReader
from pipeline.ingest.omi import OmiReader
from pipeline.ingest.pbl import PblReader
from pipeline.ingest.plants import Plants
from pipeline.ingest.population import GpwDensity, read_totals
from pipeline.ingest.tropomi import HarpReader, SwathReader
from pipeline.ingest.viirs import ViirsLike, ViirsVnl
from pipeline.store.location import Store

_TIFF = ("*.tif", "*.tiff")
ERA5_PATH = "inputs/era5.zarr"
_GRIDDED = ("*.nc", "*.nc4", "*.grib", "*.grb", "*.grib2", "*.grb2")
_NETCDF = ("*.nc", "*.nc4", "*.h5", "*.hdf5", "*.he5")


@dataclass(frozen=True)
class Product:
    """One product of the command line.

    Parameters
    ----------
    reader : makes the reader from the store and the paths the user named (provincial totals, regions).
    patterns : names of its files.
    about : one line for ``--help``.
    """

    name: str
    reader: Callable[[Store, Mapping[str, str]], Any]
    patterns: tuple[str, ...]
    about: str


def _plain(reader: DocumentReader | GridReader | ColumnReader) -> Callable[[Store, Mapping[str, str]], Any]:
    return lambda store, paths: reader  # noqa: ARG005


def _plants(source: str, license_: str, many: bool = False) -> Callable[[Store, Mapping[str, str]], Any]:
    return _plain(Plants(source, license_, many))


def _gpw(store: Store, paths: Mapping[str, str]) -> GpwDensity:
    outlines = regions.RegionReader()
    if "regions" in paths:
        content = outlines.read(paths["regions"], outlines.rules).content
        known = Regions.from_geojson(str(content), paths["regions"])
    else:
        known = Regions.from_geojson(_needed(store, "inputs/regions.geojson", "regions"), "inputs/regions.geojson")
    if "provincial_totals" in paths:
        table = statistics.StatisticsReader().read(paths["provincial_totals"], {}).content
        return GpwDensity(known, table)  # type: ignore[arg-type]
    raw = _needed(store, statistics.POPULATION_PATH, "statistics")
    return GpwDensity(known, read_totals(pd.read_csv(pd.io.common.BytesIO(raw)), statistics.POPULATION_PATH))


def _arco(store: Store, paths: Mapping[str, str]) -> ArcoReader:  # noqa: ARG001
    years = tuple(int(y) for y in paths.get("years", "").split(",") if y)
    if not years:
        raise UsageError("arco_era5 without years", "the years to cut: the store holds decades", "add --year 2022")
    return ArcoReader(years, anonymous=bool(paths.get("anonymous")))


def _needed(store: Store, path: str, product: str) -> bytes:
    try:
        return store.read_bytes(path)
    except FileNotFoundError:
        raise InputError(
            f"the store has no {path}",
            "it to be there before gpw, which scales persons to provincial totals",
            f"run python -m pipeline.ingest {product} first, or name a file (--regions, --provincial-totals)",
        ) from None


_GEM = "Global Energy Monitor, CC BY 4.0"
PRODUCTS: Mapping[str, Product] = {
    p.name: p
    for p in (
        Product("oco2", _plain(LiteReader("oco2", "oco2")), _NETCDF, "OCO-2 Lite XCO2"),
        Product("oco3", _plain(LiteReader("oco3", "oco3")), _NETCDF, "OCO-3 Lite XCO2"),
        Product("gosat_acos", _plain(AcosReader()), _NETCDF, "GOSAT XCO2 by ACOS, Lite or level 2"),
        Product("tansat", _plain(LiteReader("tansat", "tansat")), _NETCDF, "TanSat XCO2 in the Lite layout"),
        Product("tropomi_no2", _plain(SwathReader()), _NETCDF, "TROPOMI NO2 level 2 swaths"),
        Product("tropomi_no2_l3", _plain(HarpReader()), _NETCDF, "TROPOMI NO2 gridded by HARP"),
        Product("omi_no2", _plain(OmiReader()), (*_NETCDF, "*.csv"), "OMI NO2 daily grids (OMNO2d)"),
        Product(
            "era5", _plain(Reanalysis(ERA5_PATH, "ERA5 (Copernicus)")), _GRIDDED, "ERA5 from the CDS, netCDF or GRIB"
        ),
        Product("arco_era5", _arco, (), "ERA5 from the ARCO Zarr in the cloud; needs --year"),
        Product("ncep", _plain(Reanalysis("inputs/ncep.zarr", "NCEP reanalysis")), _GRIDDED, "NCEP reanalysis, GRIB"),
        Product("pbl", _plain(PblReader()), _NETCDF, "merged boundary-layer height, China (netCDF a day)"),
        Product("viirs_like", _plain(ViirsLike()), _TIFF, "NPP-VIIRS-like yearly nightlights (8-bit GeoTIFF)"),
        Product("viirs_vnl", _plain(ViirsVnl()), _TIFF, "EOG VIIRS nightlights, annual or monthly (GeoTIFF)"),
        Product("black_marble", _plain(BlackMarble()), _NETCDF, "Black Marble VNP46A3 / VNP46A4 tiles (HDF5)"),
        *(
            Product(name, _plain(CountRaster(name)), _TIFF, f"{about} population counts (GeoTIFF)")
            for name, about in (("worldpop", "WorldPop"), ("landscan", "LandScan"), ("ghs_pop", "GHS-POP"))
        ),
        Product("gpw_count", _plain(CountRaster("gpw")), _TIFF, "GPW population counts (GeoTIFF)"),
        Product("meic", _plain(MeicReader()), ("*.asc", "*.nc"), "MEIC grid, a file a month, sector and species"),
        Product("edgar", _plain(Inventory("edgar", edgar)), ("*.nc",), "EDGAR CO2, totals or sectors (netCDF)"),
        Product("odiac", _plain(Odiac()), _TIFF, "ODIAC 1 km, tonnes of carbon a month (GeoTIFF)"),
        Product("graced", _plain(Inventory("graced", graced)), ("*.nc",), "GRACED, kg of carbon an hour (netCDF)"),
        Product("gridfed", _plain(Inventory("gridfed", gridfed, "CO2")), ("*.nc",), "GCP-GridFED (netCDF)"),
        Product("ceds", _plain(Inventory("ceds", ceds)), ("*.nc",), "CEDS for input4MIPs, CO2 (netCDF)"),
        Product("tropess", _plain(TropessNox()), ("*.nc",), "TROPESS anthropogenic NOx (netCDF)"),
        Product("gpw", _gpw, _NETCDF, "GPW density (netCDF), scaled to provincial totals"),
        Product("gem_coal", _plants("gem_coal", _GEM), ("*coal*.xlsx",), "GEM Global Coal Plant Tracker"),
        Product("gem_gas", _plants("gem_gas", _GEM), ("*gas*.xlsx",), "GEM Global Oil and Gas Plant Tracker"),
        Product("gem_cement", _plants("gem_cement", _GEM), ("*cement*.xlsx",), "GEM Cement and Concrete Tracker"),
        Product("gem_steel", _plants("gem_steel", _GEM), ("*steel*.xlsx",), "GEM Iron and Steel Tracker"),
        Product("wri", _plants("wri", "CC BY 4.0"), ("*.csv",), "WRI power plants (CSV)"),
        Product(
            "climate_trace", _plants("climate_trace", "CC BY 4.0", many=True), ("*.csv",), "Climate TRACE sources (CSV)"
        ),
        Product("regions", _plain(regions.RegionReader()), regions.PATTERNS, "provinces from any vector file"),
        Product("statistics", _plain(statistics.StatisticsReader()), ("*.csv", "*.xlsx"), "provincial tables"),
    )
}


def product(name: str) -> Product:
    """The product of a name.

    Raises
    ------
    UsageError : there is none.
    """
    if name not in PRODUCTS:
        raise UsageError(f"product {name!r}", f"one of {', '.join(PRODUCTS)}", "see python -m pipeline.ingest --help")
    return PRODUCTS[name]
