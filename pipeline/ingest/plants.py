"""Point sources: GEM trackers, WRI power plants and Climate TRACE, as one table each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.core.schema import POINT_SOURCE_COLUMNS
from pipeline.ingest.contract import Rejected, Rules
from pipeline.ingest.documents import Document
from pipeline.ingest.sheets import coordinates, numbers, read_csv, read_sheet, years

RUNS = ("operating", "operating pre-retirement")
"""Statuses of a unit that runs (from its start year on)."""
RETIRED = "retired"
"""A retired unit counts while it ran, so only with a known year of retirement."""
CLINKER_PER_CEMENT = 0.65
"""Clinker in a tonne of Chinese cement (GCCA, 2019-2021: 0.63-0.67): turns clinker into cement capacity."""
_CHINA = ("China", "Hong Kong", "Macao", "Macau", "Taiwan", "Chinese Taipei", "Hong Kong, China", "Macao, China")
_MT = 1e6


@dataclass(frozen=True)
class Plants:
    """A reader of a table of plants.

    Parameters
    ----------
    source : name of the file under `point_sources`, and of its ``source`` column.
    parse : from a path to the raw table with the contract's columns plus ``country`` and ``status``.
    license : of the data.
    many : whether it comes in several files that make one table.
    """

    source: str
    license: str
    many: bool = False
    rules: Rules = field(default_factory=dict)

    def read(self, path: str, rules: Rules) -> Document:  # noqa: ARG002
        """The plants of one file that ran at a known time at a known place in China."""
        table = _PARSERS[self.source](path)
        kept, counts = select(table)
        if kept.empty:
            raise Rejected("no plant of it ran in China at a known time and place", counts)
        kept = kept.assign(source=self.source)[list(POINT_SOURCE_COLUMNS)]
        attrs = {"source": self.source, "license": self.license, "assumed": _ASSUMED}
        unique = ("lat", "lon", "name", "kind", "start_year") if self.many else ()
        return Document(f"inputs/point_sources/{self.source}.parquet", kept, attrs, counts, unique)


_ASSUMED = (
    "operating units run from start_year on, retired ones until retire_year; planned, mothballed, cancelled units and "
    "retired ones without a year are left out; co2_tonnes_per_year is CO2, null where the source gives none"
)


def select(table: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, int]]:
    """Rows that count, and how many records of the file (a column, where rows join several) were left out by reason.

    Returns
    -------
    The rows in order of latitude, longitude, name and start, and the counts.
    """
    status = table["status"].astype("string").str.strip().str.lower()
    retired = (status == RETIRED).fillna(False).to_numpy(bool)
    running = status.isin(RUNS).to_numpy(bool)
    lat, lon = table["lat"].to_numpy(float), table["lon"].to_numpy(float)
    reasons: dict[str, NDArray[np.bool_]] = {
        "outside_china": ~table["country"].isin(_CHINA).to_numpy(bool),
        "status_not_operating_or_retired": ~(running | retired),
        "retired_without_year": retired & ~np.isfinite(table["retire_year"].to_numpy(float)),
        "no_coordinates": ~((np.abs(lat) <= 90) & (np.abs(lon) <= 180)),
        "coordinates_outside_china": ~((lat > 3) & (lat < 54) & (lon > 73) & (lon < 136)),
    }
    records = table["records"].to_numpy(int) if "records" in table else np.ones(len(table), int)
    counts, left = {"seen": int(records.sum())}, np.ones(len(table), bool)
    for reason, wrong in reasons.items():
        if n := int(records[left & wrong].sum()):
            counts[reason] = n
        left &= ~wrong
    counts["used"] = int(records[left].sum())
    kept = table.loc[left].assign(retire_year=np.where(retired, table["retire_year"], np.nan)[left])
    return kept.sort_values(["lat", "lon", "name", "start_year"], kind="stable", ignore_index=True), counts


def _table(raw: pd.DataFrame, **columns: object) -> pd.DataFrame:
    table = pd.DataFrame(columns, index=raw.index)
    for name in ("capacity", "co2_tonnes_per_year", "start_year", "retire_year", "lat", "lon"):
        values = table[name].to_numpy(dtype=float) if name in table else np.full(len(table), np.nan)
        table[name] = values
    table["name"] = table["name"].astype("string").fillna("").str.strip()
    return table


def _coal(path: str) -> pd.DataFrame:
    tonnes = "Annual CO2 (million tonnes / annum)"
    raw = read_sheet(
        path,
        "Units",
        ["Country", "Plant name", "Unit name", "Capacity (MW)", "Status", "Start year", "Retired year", "Latitude",
         "Longitude", tonnes],
    )  # fmt: skip
    return _table(
        raw, lat=numbers(raw["Latitude"]), lon=numbers(raw["Longitude"]), name=_named(raw), sector="power", kind="coal",
        capacity=numbers(raw["Capacity (MW)"]), capacity_unit="MW", co2_tonnes_per_year=numbers(raw[tonnes]) * _MT,
        start_year=years(raw["Start year"]), retire_year=years(raw["Retired year"]), country=raw["Country"],
        status=raw["Status"],
    )  # fmt: skip


def _gas(path: str) -> pd.DataFrame:
    megawatts = "Capacity elec. (MW)"
    raw = read_sheet(
        path,
        "Gas Units",
        ["Country", "Plant name", "Unit name", megawatts, "Status", "Start year", "Retired year", "Latitude",
         "Longitude"],
    )  # fmt: skip
    return _table(
        raw, lat=numbers(raw["Latitude"]), lon=numbers(raw["Longitude"]), name=_named(raw), sector="power", kind="gas",
        capacity=numbers(raw[megawatts]), capacity_unit="MW", start_year=years(raw["Start year"]),
        retire_year=years(raw["Retired year"]), country=raw["Country"], status=raw["Status"],
    )  # fmt: skip


def _named(raw: pd.DataFrame) -> pd.Series:
    return raw["Plant name"].astype("string") + " " + raw["Unit name"].astype("string").fillna("")


def _cement(path: str) -> pd.DataFrame:
    cement = "Cement Capacity (millions metric tonnes per annum)"
    clinker = "Clinker Capacity (millions metric tonnes per annum)"
    raw = read_sheet(
        path,
        "Plant Data",
        ["GEM Asset name (English)", "Coordinates", "Country/Area", cement, clinker, "Operating status", "Start date",
         "Plant type"],
    )  # fmt: skip
    lat, lon = coordinates(raw["Coordinates"])
    kiln_only = (raw["Plant type"] == "clinker only").to_numpy(bool)
    capacity = np.where(kiln_only, numbers(raw[clinker]) / CLINKER_PER_CEMENT, numbers(raw[cement]))
    # Grinding stations have no kiln, so they must not get the emission factor of cement.
    kind = np.where(raw["Plant type"] == "grinding", "cement_grinding", "cement")
    return _table(
        raw, lat=lat, lon=lon, name=raw["GEM Asset name (English)"], sector="industry", kind=kind, capacity=capacity,
        capacity_unit="Mt/a", start_year=years(raw["Start date"]), country=raw["Country/Area"],
        status=raw["Operating status"],
    )  # fmt: skip


def _steel(path: str) -> pd.DataFrame:
    ttpa = "Nominal crude steel capacity (ttpa)"
    rows = read_sheet(path, "Plant capacities and status", ["Plant ID", "Country/Area", "Status", "Start date", ttpa])
    plants = read_sheet(path, "Plant data", ["Plant ID", "Plant name (English)", "Coordinates", "Retired date"])
    plants = plants.drop_duplicates("Plant ID")
    raw = rows.merge(plants, on="Plant ID", how="left", suffixes=("", " (plant)"), validate="many_to_one")
    lat, lon = coordinates(raw["Coordinates"])
    return _table(
        raw, lat=lat, lon=lon, name=raw["Plant name (English)"], sector="industry", kind="steel",
        capacity=numbers(raw[ttpa]) / 1000.0, capacity_unit="Mt/a", start_year=years(raw["Start date"]),
        retire_year=years(raw["Retired date"]), country=raw["Country/Area"], status=raw["Status"],
    )  # fmt: skip


_WRI_KINDS: Mapping[str, str] = {
    **dict.fromkeys(("Coal", "Petcoke"), "coal"),
    **dict.fromkeys(("Gas", "Natural Gas", "LNG", "Coal Mine Methane"), "gas"),
    **dict.fromkeys(("Oil", "Diesel", "Fuel Oil", "Heavy Fuel Oil", "Distillate Oil"), "oil"),
}
"""Fuels that make fossil CO2; landfill gas and biomass do not."""


def _wri(path: str) -> pd.DataFrame:
    raw = read_csv(
        path,
        ["Name", "Fuel", "Capacity (MW)", "Commissioning Date", "Operational Status", "CO2 Annual Reported", "Latitude",
         "Longitude", "Country"],
    )  # fmt: skip
    kind = raw["Fuel"].map(_WRI_KINDS)
    # Plants without a fuel that makes CO2 are not sources; their status says so in the counts.
    status = raw["Operational Status"].astype("string").str.lower().replace({"operational": "operating"})
    status = status.fillna("operating").where(kind.notna(), "no fossil fuel")
    return _table(
        raw, lat=numbers(raw["Latitude"]), lon=numbers(raw["Longitude"]), name=raw["Name"], sector="power",
        kind=kind.fillna(""), capacity=numbers(raw["Capacity (MW)"]), capacity_unit="MW",
        co2_tonnes_per_year=numbers(raw["CO2 Annual Reported"]), start_year=years(raw["Commissioning Date"]),
        country=raw["Country"], status=status,
    )  # fmt: skip


_TRACE_KINDS: Mapping[str, tuple[str, str]] = {
    "electricity-generation": ("power", "fossil"),
    "cement": ("industry", "cement"),
    "iron-and-steel": ("industry", "steel"),
    "aluminum": ("industry", "aluminium"),
    "oil-and-gas-refining": ("industry", "refinery"),
    "petrochemical-steam-cracking": ("industry", "chemical"),
    "chemicals": ("industry", "chemical"),
    "other-manufacturing": ("industry", "other"),
}


def _climate_trace(path: str) -> pd.DataFrame:
    """One row a source and year, whose CO2 counts for that year only; months are summed."""
    raw = read_csv(path, ["source_name", "iso3_country", "lat", "lon", "gas", "emissions_quantity", "start_time"])
    subsector = raw["subsector"] if "subsector" in raw else raw.get("original_inventory_sector")
    if subsector is None:
        raise Rejected("the table has neither a column 'subsector' nor 'original_inventory_sector'")
    co2 = raw["gas"].astype("string").str.lower() == "co2"
    known = subsector.isin(_TRACE_KINDS) & co2.fillna(False)
    raw = raw.assign(subsector=subsector.where(known, "other"), year=years(raw["start_time"]))
    keys = ["source_name", "iso3_country", "lat", "lon", "subsector", "year"]
    sums = raw.groupby(keys, dropna=False)["emissions_quantity"].agg(["size", lambda v: v.sum(min_count=1)])
    annual = sums.set_axis(["rows", "tonnes"], axis=1).reset_index()
    kinds = annual["subsector"].map(lambda s: _TRACE_KINDS.get(s, ("industry", "")))
    return _table(
        annual, lat=numbers(annual["lat"]), lon=numbers(annual["lon"]), name=annual["source_name"],
        sector=kinds.str[0], kind=kinds.str[1], capacity_unit="", co2_tonnes_per_year=numbers(annual["tonnes"]),
        start_year=annual["year"], retire_year=annual["year"] + 1, records=annual["rows"],
        status=annual["subsector"].isin(_TRACE_KINDS).map({True: RETIRED, False: "another gas or subsector"}),
        country=annual["iso3_country"].replace(
            {"CHN": "China", "HKG": "Hong Kong", "MAC": "Macao", "TWN": "Taiwan"}
        ),
    )  # fmt: skip


_PARSERS = {
    "gem_coal": _coal,
    "gem_gas": _gas,
    "gem_cement": _cement,
    "gem_steel": _steel,
    "wri": _wri,
    "climate_trace": _climate_trace,
}
