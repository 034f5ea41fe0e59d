import pandas as pd
import pyarrow.parquet as pq
import pytest

from pipeline.core.schema import SECTORS
from pipeline.ingest.contract import Granule, Rejected
from pipeline.ingest.documents import write_documents
from pipeline.ingest.statistics import MEIC_SECTORS, StatisticsReader
from pipeline.store.location import Store

MEIC = "year,month,province,sector,MtCO2\n"


def _read(tmp_path, text):
    path = tmp_path / "table.csv"
    path.write_text(text)
    return StatisticsReader().read(str(path), {})


def test_map_of_subsectors_is_complete_and_onto():
    assert len(MEIC_SECTORS) == 50
    assert set(MEIC_SECTORS.values()) == set(SECTORS)
    assert MEIC_SECTORS["Power generation"] == "power"
    assert MEIC_SECTORS["Process emissions in cement industry"] == "industry"
    assert MEIC_SECTORS["Rail"] == "transport"
    assert MEIC_SECTORS["Agriculture and forestry"] == "residential"


def test_meic_sums_subsectors_in_tonnes_with_ancestry(tmp_path):
    document = _read(
        tmp_path, MEIC + "2022,1,Hebei,Buses,0.5\n2022,1,Hebei,Cars,0.25\n2022,1,Inner Mongolia,Power generation,2\n"
    )
    rows = document.content.set_index(["region", "sector"])["co2_tonnes"].to_dict()
    assert rows == {("130000", "transport"): 0.75e6, ("150000", "power"): 2e6}
    store = Store(str(tmp_path / "store"))
    write_documents(store, [(Granule("a", 1), document)])
    path = tmp_path / "store/inputs/inventory_meic_table.parquet"
    assert pq.read_schema(path).metadata[b"ancestry"] == b"meic"
    assert list(pd.read_parquet(path).columns) == ["year", "month", "region", "sector", "co2_tonnes"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (MEIC + "2022,1,Bavaria,Buses,0.5\n", "no province"),
        (MEIC + "2022,1,Hebei,Unicorns,0.5\n", "sector 'Unicorns'"),
        (MEIC + "2022,13,Hebei,Buses,0.5\n", "month 13"),
        (MEIC + "2022,1,Hebei,Buses,-3\n", "no amount"),
        ("a,b\n1,2\n", "columns a, b"),
        ("region,2022\nBeijing,21840000\n", "populations"),
    ],
)
def test_wrong_tables_are_rejected(tmp_path, text, reason):
    with pytest.raises(Rejected, match=reason):
        _read(tmp_path, text)


def test_population_in_ten_thousands_after_a_comment_line(tmp_path):
    table = _read(tmp_path, "# source, 10000 persons\nregion,2021,2022\nBeijing,2189,2184\nInnerMongolia,2400,2401\n")
    rows = table.content.set_index(["region", "year"])["persons"].to_dict()
    assert rows[("110000", 2022)] == 2184e4
    assert rows[("150000", 2021)] == 2400e4


MONITOR = "state,date,sector,value (MtCO2 per day)\n"


@pytest.mark.parametrize("written", ["{d:02d}/{m:02d}/2022", "2022-{m:02d}-{d:02d}"])
def test_days_of_carbon_monitor_become_months_that_are_whole(tmp_path, written):
    rows = [("Power", 1, d, 0.1) for d in range(1, 32)] + [("Ground Transport", 2, d, 0.2) for d in range(1, 29)]
    rows += [("Domestic Aviation", 2, d, 0.05) for d in range(1, 29)] + [("Power", 2, d, 9.0) for d in range(1, 13)]
    text = "".join(f"Hebei,{written.format(d=d, m=m)},{sector},{value}\n" for sector, m, d, value in rows)
    document = _read(tmp_path, MONITOR + text)
    assert document.content["co2_tonnes"].round(3).tolist() == [3.1e6, 7.0e6]
    assert document.content["month"].tolist() == [1, 2]
    assert document.counts == {"seen": 99, "used": 87, "day_of_an_incomplete_month": 12}


def test_twelve_iso_days_are_not_twelve_months(tmp_path):
    with pytest.raises(Rejected, match="no month has all its days"):
        _read(tmp_path, MONITOR + "".join(f"Hebei,2022-01-{d:02d},Power,0.1\n" for d in range(1, 13)))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("Hebei,01/02/2022,Power,1\nHebei,2022-02-02,Power,1\n", "the date '2022-02-02'"),
        ("Hebei,01/02/2022,Power,1\nHebei,01/02/2022,Power,2\n", "1 days stand twice"),
        ("Hebei,31/02/2022,Power,1\n", "the date '31/02/2022'"),
    ],
)
def test_carbon_monitor_days_must_be_clear(tmp_path, text, reason):
    with pytest.raises(Rejected, match=reason):
        _read(tmp_path, MONITOR + text)
