import io
import zipfile

import numpy as np
import pandas as pd
import pytest

from pipeline.core.errors import InputError
from pipeline.ingest import sheets
from pipeline.ingest.books import Request
from pipeline.ingest.contract import Granule, Rejected, check_counts, merged_rules, public
from pipeline.ingest.run import run
from pipeline.ingest.sheets import coordinates, read_csv, read_sheet, years
from pipeline.store.location import Store

MEIC = "year,month,province,sector,MtCO2\n"


def ingest(store, product, *urls):
    return run(Request(product, tuple(map(str, urls)), store))


@pytest.fixture
def store(tmp_path):
    return Store(str(tmp_path / "s"))


def table(store, name):
    return pd.read_parquet(io.BytesIO(store.read_bytes(f"inputs/{name}.parquet")))


def test_tables_of_several_files_are_one_and_grow_with_later_runs(tmp_path, store):
    for year in (2020, 2021, 2022):
        (tmp_path / f"{year}.csv").write_text(MEIC + f"{year},1,Hebei,Buses,0.{year - 2015}\n")
    ingest(store, "statistics", tmp_path / "2020.csv", tmp_path / "2022.csv")
    assert table(store, "inventory_meic_table")["year"].tolist() == [2020, 2022]
    ingest(store, "statistics", tmp_path / "2021.csv")
    found = table(store, "inventory_meic_table")
    assert dict(zip(found["year"], found["co2_tonnes"] / 1e6, strict=True)) == {2020: 0.5, 2021: 0.6, 2022: 0.7}


def test_a_corrected_file_replaces_its_rows(tmp_path, store):
    path = tmp_path / "a.csv"
    for value in (1.0, 2.0):
        path.write_text(MEIC + f"2020,1,Hebei,Buses,{value}\n")
        ingest(store, "statistics", path)
    assert table(store, "inventory_meic_table")["co2_tonnes"].tolist() == [2e6]


def test_two_files_that_say_the_same_are_refused(tmp_path, store):
    for name in ("a.csv", "b.csv"):
        (tmp_path / name).write_text(MEIC + "2020,1,Hebei,Buses,1\n")
    with pytest.raises(InputError, match="both hold"):
        ingest(store, "statistics", tmp_path / "a.csv", tmp_path / "b.csv")


def ceads(path, sheets_=("Hebei2019", "Shanxi"), total=72.0):
    rows = [
        ["Unit: Mt CO2", "", "", ""], ["Sectors", "Raw coal", "Process", "Total"], ["Total Consumption", 1, 1, total],
        ["Farming, Forestry, Animal Husbandry, Fishery and Water Conservancy", 0, 0, 1.0],
        ["Coal Mining and Dressing", 0, 0, 2.0], ["Nonmetal Mineral Products", 0, 0, 3.0],
        ["Production and Supply of Electric Power, Steam and Hot Water", 0, 0, 40.0],
        ["Transportation, Storage, Post and Telecommunication Services", 0, 0, 5.0],
        ["Wholesale, Retail Trade and Catering Services", 0, 0, 6.0], ["Urban", 0, 0, 7.0], ["Rural", 0, 0, 8.0],
    ]  # fmt: skip
    with pd.ExcelWriter(path) as book:
        pd.DataFrame([["About"]]).to_excel(book, sheet_name="NOTE", index=False, header=False)
        for sheet in sheets_:
            pd.DataFrame(rows).to_excel(book, sheet_name=sheet, index=False, header=False)
    return path


def test_ceads_sheets_are_provinces_and_rows_sectors(tmp_path, store):
    assert ingest(store, "statistics", ceads(tmp_path / "CEADs 2019.xlsx")).statuses == {"used": 1}
    found = table(store, "inventory_ceads_table")
    hebei = found[found["region"] == "130000"].set_index("sector")["co2_tonnes"] / 1e6
    assert hebei.to_dict() == {"industry": 5.0, "power": 40.0, "residential": 22.0, "transport": 5.0}
    assert set(found["region"]) == {"130000", "140000"}
    assert set(found["year"]) == {2019}


def test_ceads_sectors_must_sum_to_the_sheets_own_total(tmp_path, store):
    summary = ingest(store, "statistics", ceads(tmp_path / "CEADs 2019.xlsx", total=99.0))
    assert "sum to 72.0 Mt, its own total is 99.0" in summary.problems[0]


def test_an_energy_inventory_in_the_same_layout_is_no_co2(tmp_path, store):
    summary = ingest(store, "statistics", ceads(tmp_path / "Energy Inventories of 30 provinces 2019.xlsx"))
    assert "no CO2" in summary.problems[0]
    assert ingest(store, "statistics", ceads(tmp_path / "Emission inventories 2019.xlsx")).statuses == {"used": 1}


def test_ceads_says_what_it_does_not_understand(tmp_path, store):
    assert "does not say the year" in ingest(store, "statistics", ceads(tmp_path / "CEADs.xlsx")).problems[0]
    other = ceads(tmp_path / "x 2019.xlsx", ("Sheet1",))
    assert "named after a province" in ingest(store, "statistics", other).problems[0]


def test_workbooks_are_bounded_and_entities_refused(tmp_path, monkeypatch):
    path = tmp_path / "a.xlsx"
    pd.DataFrame({"a": range(10)}).to_excel(path, sheet_name="S", index=False)
    assert len(read_sheet(str(path), "S", ["a"])) == 10
    monkeypatch.setattr(sheets, "MAX_SHEET_BYTES", 100)
    with pytest.raises(InputError, match="expands beyond 100 bytes"):
        read_sheet(str(path), "S", ["a"])
    monkeypatch.undo()
    bad = tmp_path / "b.xlsx"
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(bad, "w") as target:
        for info in source.infolist():
            data = source.read(info)
            if info.filename == "xl/workbook.xml":
                data = data.replace(b"<workbook", b'<!DOCTYPE x [<!ENTITY a "aaaa">]><workbook', 1)
            target.writestr(info, data)
    with pytest.raises(InputError, match="declares XML entities"):
        read_sheet(str(bad), "S", ["a"])


def test_a_table_cut_in_its_last_number_is_not_a_table(tmp_path):
    (tmp_path / "a.csv").write_text("a,b\n1,2\n3,4")
    with pytest.raises(InputError, match="cut off"):
        read_csv(str(tmp_path / "a.csv"), ["a"])
    (tmp_path / "a.csv").write_text("a,b\n1,2\n")
    with pytest.raises(Rejected, match="lacks the columns c"):
        read_csv(str(tmp_path / "a.csv"), ["c"])


def test_years_and_coordinates_from_text():
    found = years(pd.Series(["2014", "2014-2015", "not found", "2005-10-12 00:00:00", None, 1987.0, 12345]))
    np.testing.assert_array_equal(found, [2014, 2014, np.nan, 2005, np.nan, 1987, np.nan])
    lat, lon = coordinates(pd.Series(["31.2, 118.3", "unknown", "-5,10", "1,2,3"]))
    np.testing.assert_array_equal(lat, [31.2, np.nan, -5, np.nan])
    np.testing.assert_array_equal(lon, [118.3, np.nan, 10, np.nan])


def test_secrets_of_an_address_are_not_written_down():
    url = "https://user:pass@host/a.nc?id=7&sig=abc&X-Amz-Signature=1&access_token=t"
    assert public(url) == "https://host/a.nc?id=7"
    one, two = Granule(url, 5), Granule(url.replace("abc", "xyz"), 5)
    assert one.key("p", 1, {}) == two.key("p", 1, {})
    assert one.name == "a.nc"
    assert public("s3://bucket/a.nc") == "s3://bucket/a.nc"


def test_counts_must_add_up():
    assert check_counts({"seen": 3, "used": 2, "bad": 1})["seen"] == 3
    with pytest.raises(ValueError, match="3 seen but 2"):
        check_counts({"seen": 3, "used": 2})


def test_rules_take_the_type_of_their_default():
    defaults = {"a": 1.0, "b": True, "c": "x", "d": 2}
    assert merged_rules(defaults, {"a": "2", "b": "false", "c": "y", "d": "3"}) == {
        "a": 2.0,
        "b": False,
        "c": "y",
        "d": 3,
    }
