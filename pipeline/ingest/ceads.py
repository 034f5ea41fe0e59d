"""CEADs provincial inventories: a workbook with one sheet a province, sectors in rows, fuels in columns."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd

from pipeline.core.provinces import BY_NAME
from pipeline.ingest.contract import Rejected
from pipeline.ingest.documents import Document
from pipeline.ingest.regions import short_name
from pipeline.ingest.sheets import read_sheets

PATH = "inputs/inventory_ceads_table.parquet"
_MT = 1e6
_RULES: tuple[tuple[str, str], ...] = (
    (r"total", ""),
    (r"electric power|steam and hot water|electricity", "power"),
    (r"transport.*(storage|post)|post and telecom", "transport"),
    (r"wholesale|retail|catering|^others?$|urban|rural|resident|household", "residential"),
    (r"farming|forestry|agricultur|fishery", "residential"),
)
"""Words of a sector's name and ours, first hit; sums are left out, everything else is industry."""
_WHOLE = re.compile(r"total\s*(consumption|emissions?)?")
"""The row that holds the sum of all sectors, where a sheet has one: the sectors are held to it."""


def read_ceads(path: str, name: str) -> Document:
    """Annual tonnes by province and sector; the column ``Total`` holds million tonnes of CO2.

    The layout is taken from its description, not from a file: a sheet is a province's when its name is one, with or
    without the year; its header is the row that has a cell ``Total``.
    """
    year = _year(name)
    if re.search(r"energy", name, re.IGNORECASE) and not re.search(r"emission|co2", name, re.IGNORECASE):
        raise Rejected("an energy inventory by its name, whose totals are no CO2")
    rows: list[dict[str, object]] = []
    for sheet, cells in read_sheets(path).items():
        province = short_name(re.sub(r"\d{4}", "", sheet).strip())
        if province in BY_NAME:
            rows += _province(cells, sheet, BY_NAME[province].code, year)
    if not rows:
        raise Rejected("no sheet of the workbook is named after a province")
    table = pd.DataFrame(rows).groupby(["year", "region", "sector"], as_index=False)["co2_tonnes"].sum()
    attrs = {"ancestry": "ceads", "title": "CEADs provincial CO2", "units": "tonnes of CO2 (fossil and process)"}
    counts = {"seen": len(rows), "used": len(rows)}
    return Document(PATH, table, attrs, counts, ("year", "region", "sector"), grows=True)


def _year(name: str) -> int:
    found = re.search(r"(?<!\d)(19|20)\d\d(?!\d)", name)
    if not found:
        raise Rejected(f"the name {name!r} does not say the year")
    return int(found[0])


def _province(cells: pd.DataFrame, sheet: str, region: str, year: int) -> list[dict[str, object]]:
    text = cells.map(lambda v: str(v).strip().lower())
    header = next((k for k in range(min(len(text), 10)) if "total" in set(text.iloc[k, 1:])), None)
    if header is None:
        raise Rejected(f"sheet {sheet!r} has no header with a column Total")
    column = list(text.iloc[header]).index("total", 1)
    rows, whole = [], np.nan
    for sector, value in zip(text.iloc[header + 1 :, 0], cells.iloc[header + 1 :, column], strict=True):
        tonnes = pd.to_numeric(value, errors="coerce")
        ours = next((s for words, s in _RULES if re.search(words, sector)), "industry")
        if _WHOLE.fullmatch(sector):
            whole = float(tonnes) * _MT
        if sector in ("", "nan") or not ours:
            continue
        if not tonnes >= 0:
            raise Rejected(f"sheet {sheet!r}: {sector!r} has the total {value!r}")
        rows.append({"year": year, "region": region, "sector": ours, "co2_tonnes": float(tonnes) * _MT})
    known = sum(float(str(row["co2_tonnes"])) for row in rows)
    if abs(known - whole) > 0.02 * whole:
        raise Rejected(f"sheet {sheet!r}: the sectors sum to {known / _MT:.1f} Mt, its own total is {whole / _MT:.1f}")
    return rows
