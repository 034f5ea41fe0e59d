"""Provincial tables: MEIC by subsector, Carbon Monitor, CEADs, and the population of the statistical yearbook."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import pandas as pd

from pipeline.core.provinces import BY_NAME
from pipeline.core.schema import SECTORS
from pipeline.ingest.ceads import read_ceads
from pipeline.ingest.contract import Rejected, Rules
from pipeline.ingest.documents import Document
from pipeline.ingest.gridded import magic
from pipeline.ingest.regions import short_name
from pipeline.ingest.sheets import numbers, read_csv

POPULATION_PATH = "inputs/provincial_population.csv"
_MT = 1e6

_MEIC_BY_SECTOR: Mapping[str, tuple[str, ...]] = {
    "power": ("Power generation", "Heat production (public)", "Own use in electricity, CHP and heat plants"),
    "industry": (
        "BKB/peat briquette plants", "Blast furnaces", "Cement industry", "Charcoal production plants",
        "Chemical industry", "Coal liquefaction plants", "Coal mines", "Coke ovens", "Construction",
        "Food and tobacco industry", "Gas works", "Gas-to-liquids (GTL) plants", "Gasification plants for biogases",
        "Heat production (autoproducer)", "Iron and steel industry", "Liquefaction (LNG) / regasification plants",
        "Machinery industry", "Mining and quarrying industry", "Non-ferrous metal industry", "Oil and gas extraction",
        "Oil refineries", "Other non-metallic mineral industry", "Other non-specified industries",
        "Other non-specified transformation industries", "Patent fuel plants", "Process emissions in cement industry",
        "Pulp and paper industry", "Textile and leather industry", "Transport equipment industry",
        "Wood product industry",
    ),
    "transport": (
        "Buses", "Cars", "Domestic aviation", "Domestic navigation", "Heavy duty trucks", "Light duty trucks",
        "Motorcycles", "Other non-specified transport", "Other on-road fleets", "Pipeline transport", "Rail",
    ),
    "residential": (
        "Agriculture and forestry", "Commercial and institutional", "Fishing", "Other non-specified sectors",
        "Residential (rural)", "Residential (urban)",
    ),
}  # fmt: skip
MEIC_SECTORS: Mapping[str, str] = {name: sector for sector, names in _MEIC_BY_SECTOR.items() for name in names}
"""MEIC's 50 subsectors in the four sectors.

Heat sold by public plants is energy supply (IPCC 1A1a) and goes to power; what factories make for themselves
(autoproducers) is industry; the rest follows the subsector's name. Agriculture holds fuel only and goes to residential.
"""
_MONITOR_SECTORS: Mapping[str, str] = {
    "Power": "power",
    "Industry": "industry",
    "Ground Transport": "transport",
    "Domestic Aviation": "transport",
    "Residential": "residential",
}


@dataclass(frozen=True)
class StatisticsReader:
    """Tells the tables apart by their columns."""

    rules: Rules = field(default_factory=dict)

    def read(self, path: str, rules: Rules) -> Document:  # noqa: ARG002
        """One table in the store's form."""
        if magic(path) == b"PK\x03\x04":
            return read_ceads(path, path.rsplit("/", 1)[-1])
        skip = _comment_lines(path)
        head = read_csv(path, [], nrows=1, skiprows=skip)
        if head.empty:
            raise Rejected("the table has no rows")
        columns = set(head.columns)
        if {"year", "month", "province", "sector", "MtCO2"} <= columns:
            return _meic(read_csv(path, [], skiprows=skip))
        if {"date", "sector"} <= columns and columns & {"state", "province"}:
            return _carbon_monitor(read_csv(path, [], skiprows=skip))
        if "region" in columns and any(c.isdigit() for c in columns):
            return _population(read_csv(path, [], skiprows=skip))
        seen = ", ".join(map(str, head.columns[:8]))
        raise Rejected(f"a table with the columns {seen}, not one of MEIC, Carbon Monitor or provincial population")


def _comment_lines(path: str) -> int:
    with open(path, "rb") as file:
        for count, line in enumerate(file):
            if not line.startswith(b"#"):
                return count
    return 0


def _regions(names: pd.Series) -> pd.Series:
    codes = names.map(lambda name: BY_NAME[short_name(name)].code if short_name(name) in BY_NAME else None)
    if codes.isna().any():
        raise Rejected(f"{names[codes.isna()].iloc[0]!r} is no province of China")
    return codes


def _sectors(names: pd.Series, known: Mapping[str, str]) -> pd.Series:
    sectors = names.map(known)
    if sectors.isna().any():
        raise Rejected(f"the sector {names[sectors.isna()].iloc[0]!r} is not one of the {len(known)} known ones")
    return sectors


def _monthly(table: pd.DataFrame, path: str, ancestry: str, title: str, counts: Mapping[str, int]) -> Document:
    table = table.assign(sector=pd.Categorical(table["sector"], SECTORS, ordered=True))
    keys = ["year", "month", "region", "sector"]
    summed = table.groupby(keys, as_index=False, observed=True)["co2_tonnes"].sum().sort_values(keys)
    summed = summed.assign(sector=summed["sector"].astype(str)).reset_index(drop=True)
    attrs = {"ancestry": ancestry, "title": title, "units": "tonnes of CO2 (fossil and process)"}
    return Document(path, summed, attrs, counts, tuple(keys), grows=True)


def _tonnes(column: pd.Series, factor: float) -> pd.Series:
    values = numbers(column)
    bad = ~(values >= 0)
    if bad.any():
        raise Rejected(
            f"the emission {column[bad].iloc[0]!r} is no amount", {"seen": len(column), "no_amount": len(column)}
        )
    return pd.Series(values * factor, index=column.index)


def _meic(raw: pd.DataFrame) -> Document:
    table = raw.assign(
        region=_regions(raw["province"]),
        sector=_sectors(raw["sector"], MEIC_SECTORS),
        co2_tonnes=_tonnes(raw["MtCO2"], _MT),
    )
    _check_calendar(table)
    path, counts = "inputs/inventory_meic_table.parquet", {"seen": len(raw), "used": len(raw)}
    return _monthly(table, path, "meic", "MEIC monthly provincial CO2", counts)


def _carbon_monitor(raw: pd.DataFrame) -> Document:
    value = next((c for c in raw.columns if "MtCO2" in c or c == "value"), None)
    if value is None:
        raise Rejected("no column of MtCO2")
    dates = _days(raw["date"])
    table = raw.assign(
        region=_regions(raw["state" if "state" in raw else "province"]),
        sector=_sectors(raw["sector"], _MONITOR_SECTORS),
        year=dates.dt.year,
        month=dates.dt.month,
        co2_tonnes=_tonnes(raw[value], _MT),
    )
    keys = ["region", "sector", "year", "month"]
    if (twice := table.assign(date=dates, theirs=raw["sector"]).duplicated(["region", "theirs", "date"])).any():
        raise Rejected(f"{int(twice.sum())} days stand twice, first {dict(raw.loc[twice.idxmax()])}")
    # A month counts only with all its days: the newest one is usually cut off.
    days = dates.groupby([*(table[k] for k in keys), raw["sector"]]).transform("size")
    whole = days == dates.dt.days_in_month
    left = int((~whole).sum())
    counts = {"seen": len(raw), "used": len(raw) - left} | ({"day_of_an_incomplete_month": left} if left else {})
    if not whole.any():
        raise Rejected("no month has all its days", counts)
    path = "inputs/inventory_carbon_monitor_table.parquet"
    return _monthly(table[whole], path, "carbon_monitor", "Carbon Monitor China, daily summed to months", counts)


def _days(column: pd.Series) -> pd.Series:
    """Days written 2022-01-31 or 31/01/2022; one way for the whole column."""
    text = column.astype(str).str.strip()
    iso = text.str.fullmatch(r"\d{4}-\d\d-\d\d").all()
    dates = pd.to_datetime(text, format="%Y-%m-%d" if iso else "%d/%m/%Y", errors="coerce")
    if dates.isna().any():
        raise Rejected(f"the date {column[dates.isna()].iloc[0]!r}, expected 31/01/2022 or 2022-01-31 throughout")
    return dates


def _check_calendar(table: pd.DataFrame) -> None:
    bad = ~(table["month"].between(1, 12) & table["year"].between(1970, 2100))
    if bad.any():
        first = table.loc[bad.idxmax()]
        raise Rejected(f"year {first['year']}, month {first['month']}")


def _population(raw: pd.DataFrame) -> Document:
    """Yearbook table: one row a province, one column a year, in 10^4 persons."""
    years = [c for c in raw.columns if c.isdigit()]
    long = raw.melt(id_vars="region", value_vars=years, var_name="year", value_name="persons")
    persons = _tonnes(long["persons"], 1e4)
    if not (persons.between(1e5, 3e8)).all():
        raise Rejected(
            f"populations from {persons.min():.4g} to {persons.max():.4g}, expected 10^4 persons by province"
        )
    table = pd.DataFrame({"region": _regions(long["region"]), "year": long["year"].astype(int), "persons": persons})
    table = table.sort_values(["year", "region"], ignore_index=True).assign(persons=lambda t: t["persons"].round(0))
    attrs = {"source": "National Bureau of Statistics of China", "units": "persons"}
    return Document(POPULATION_PATH, table, attrs, {"seen": len(long), "used": len(long)}, ("year", "region"), True)
