import numpy as np
import pandas as pd
import pytest

from pipeline.core.points import annual_tonnes, check_points
from pipeline.core.schema import POINT_SOURCE_COLUMNS
from pipeline.ingest.contract import Rejected, check_counts
from pipeline.ingest.plants import Plants, select


def _coal(tmp_path, rows, columns=None, sheet="Units"):
    names = columns or [
        "Country", "Plant name", "Unit name", "Capacity (MW)", "Status", "Start year", "Retired year", "Latitude",
        "Longitude", "Annual CO2 (million tonnes / annum)",
    ]  # fmt: skip
    path = tmp_path / "coal.xlsx"
    pd.DataFrame(rows, columns=names).to_excel(path, sheet_name=sheet, index=False)
    return str(path)


ROWS = [
    ["China", "A", "Unit 1", 600, "operating", 2010, None, 30.0, 110.0, 2.5],
    ["China", "A", "Unit 2", 300, "retired", 1990, 2021, 30.0, 110.0, 1.5],
    ["China", "B", "Unit 1", 300, "retired", 1990, None, 31.0, 110.0, 1.5],
    ["China", "C", "Unit 1", 300, "construction", 2025, None, 31.0, 110.0, 1.5],
    ["China", "D", "Unit 1", 300, "operating", "not found", None, None, None, 1.5],
    ["China", "E", "Unit 1", 300, "operating", 2011, None, 110.0, 30.0, 1.5],
    ["India", "F", "Unit 1", 300, "operating", 2011, None, 20.0, 80.0, 1.5],
]


def test_coal_keeps_running_and_dated_units_and_accounts_for_all(tmp_path):
    document = Plants("gem_coal", "x").read(_coal(tmp_path, ROWS), {})
    assert list(document.content.columns) == list(POINT_SOURCE_COLUMNS)
    assert list(document.content["name"]) == ["A Unit 1", "A Unit 2"]
    assert check_counts(document.counts) == {
        "seen": 7, "used": 2, "outside_china": 1, "status_not_operating_or_retired": 1, "retired_without_year": 1,
        "no_coordinates": 2,
    }  # fmt: skip


def test_annual_figure_is_tonnes_and_retirement_counts(tmp_path):
    table = check_points(Plants("gem_coal", "x").read(_coal(tmp_path, ROWS), {}).content, "coal")
    assert annual_tonnes(table, 2020).sum() == pytest.approx(4.0e6)
    assert annual_tonnes(table, 2021).sum() == pytest.approx(2.5e6)
    assert annual_tonnes(table, 2005).sum() == pytest.approx(1.5e6)


def test_other_workbooks_are_rejected_with_what_they_are(tmp_path):
    with pytest.raises(Rejected, match="sheets Plants, not 'Units'"):
        Plants("gem_coal", "x").read(_coal(tmp_path, ROWS, sheet="Plants"), {})
    with pytest.raises(Rejected, match="lacks the columns"):
        Plants("gem_coal", "x").read(_coal(tmp_path, [[1]], columns=["Country"]), {})


def test_steel_joins_plants_by_id_and_converts_thousand_tonnes(tmp_path):
    path = tmp_path / "steel.xlsx"
    ttpa = "Nominal crude steel capacity (ttpa)"
    units = pd.DataFrame(
        [["P2", "China", "operating", "2001", 1500], ["P1", "China", "operating pre-retirement", "unknown", 800],
         ["P1", "China", "retired", "1990", 300], ["P9", "China", "operating", "1990", 300]],
        columns=["Plant ID", "Country/Area", "Status", "Start date", ttpa],
    )  # fmt: skip
    plants = pd.DataFrame(
        [["P1", "One", "31.0, 118.0", "2022-05-01"], ["P2", "Two", "40.5, 116.0", "unknown"]],
        columns=["Plant ID", "Plant name (English)", "Coordinates", "Retired date"],
    )
    with pd.ExcelWriter(path) as book:
        plants.to_excel(book, sheet_name="Plant data", index=False)
        units.to_excel(book, sheet_name="Plant capacities and status", index=False)
    document = Plants("gem_steel", "x").read(str(path), {})
    table = document.content
    assert dict(zip(table["name"] + table["capacity"].astype(str), table["lat"], strict=True)) == {
        "One0.8": 31.0, "One0.3": 31.0, "Two1.5": 40.5,
    }  # fmt: skip
    assert document.counts["no_coordinates"] == 1
    assert set(table["capacity_unit"]) == {"Mt/a"}
    # Only the retired line ends; the line that runs on must not inherit the plant's retirement.
    assert list(table.loc[table["capacity"] == 0.8, "retire_year"].isna()) == [True]
    assert list(table.loc[table["capacity"] == 0.3, "retire_year"]) == [2022.0]


def test_grinding_stations_have_no_cement_factor(tmp_path):
    path = tmp_path / "cement.xlsx"
    columns = [
        "GEM Asset name (English)", "Coordinates", "Country/Area",
        "Cement Capacity (millions metric tonnes per annum)", "Clinker Capacity (millions metric tonnes per annum)",
        "Operating status", "Start date", "Plant type",
    ]  # fmt: skip
    rows = [
        ["Kiln", "30.0, 110.0", "China", 2.0, 1.5, "operating", "2001", "integrated"],
        ["Mill", "30.1, 110.0", "China", 2.0, None, "operating", "2001", "grinding"],
        ["Clinker", "30.2, 110.0", "China", "n/a", 1.3, "operating", "2001", "clinker only"],
        ["Unknown size", "30.3, 110.0", "China", ">0", ">0", "operating", "unknown", "integrated"],
    ]
    pd.DataFrame(rows, columns=columns).to_excel(path, sheet_name="Plant Data", index=False)
    table = Plants("gem_cement", "x").read(str(path), {}).content
    assert list(table["kind"]) == ["cement", "cement_grinding", "cement", "cement"]
    np.testing.assert_allclose(table["capacity"], [2.0, 2.0, 2.0, np.nan])
    assert annual_tonnes(table, 2020).tolist() == [0.8e6, 0.0, 0.8e6, 0.0]


def test_selection_never_loses_a_row():
    table = pd.DataFrame(
        {
            "country": ["China", "Chile"], "status": ["Operating", None], "lat": [30.0, 0.0], "lon": [110.0, 0.0],
            "retire_year": [2030.0, np.nan], "name": ["a", "b"], "start_year": [np.nan, np.nan],
        }
    )  # fmt: skip
    kept, counts = select(table)
    assert len(kept) == counts["used"] == 1
    check_counts(counts)
    assert kept["retire_year"].isna().all(), "an operating unit's planned retirement is not a retirement"


def test_climate_trace_months_become_years_of_their_own(tmp_path):
    header = "source_name,iso3_country,lat,lon,gas,emissions_quantity,start_time,subsector\n"
    rows = [f"Plant,CHN,30,110,co2,100,2021-{m:02d}-01,electricity-generation" for m in range(1, 13)]
    rows += ["Plant,CHN,30,110,ch4,5,2021-01-01,electricity-generation", "Ship,CHN,30,110,co2,5,2021-01-01,shipping"]
    rows += ["Plant,CHN,30,110,co2,900,2022-01-01,electricity-generation", "Kiln,USA,30,90,co2,9,2022-01-01,cement"]
    path = tmp_path / "trace.csv"
    path.write_text(header + "\n".join(rows) + "\n")
    document = Plants("climate_trace", "x", many=True).read(str(path), {})
    assert check_counts(document.counts) == {
        "seen": 16, "used": 13, "outside_china": 1, "status_not_operating_or_retired": 2,
    }  # fmt: skip
    assert [annual_tonnes(document.content, year).sum() for year in (2020, 2021, 2022, 2023)] == [0, 1200, 900, 0]


def test_two_sources_of_one_kind_are_refused(tmp_path):
    from pipeline.core.errors import InputError
    from pipeline.ingest.books import Request
    from pipeline.ingest.run import run
    from pipeline.store.location import Store

    store = Store(str(tmp_path / "s"))
    run(Request("gem_coal", (_coal(tmp_path, ROWS),), store))
    header = (
        "Name,Fuel,Capacity (MW),Commissioning Date,Operational Status,CO2 Annual Reported,Latitude,Longitude,Country\n"
    )
    (tmp_path / "wri.csv").write_text(header + "A,Coal,600,2010,,,30,110,China\nB,Hydro,600,2010,,,30,110,China\n")
    with pytest.raises(InputError, match=r"gem_coal\.parquet holds coal already"):
        run(Request("wri", (str(tmp_path / "wri.csv"),), store))
    assert run(Request("wri", (str(tmp_path / "wri.csv"),), Store(str(tmp_path / "t")))).statuses == {"used": 1}
    header = "source_name,iso3_country,lat,lon,gas,emissions_quantity,start_time,subsector\n"
    (tmp_path / "trace.csv").write_text(header + "A,CHN,30,110,co2,100,2021-01-01,electricity-generation\n")
    with pytest.raises(InputError, match=r"gem_coal\.parquet holds coal already"):
        run(Request("climate_trace", (str(tmp_path / "trace.csv"),), store))
