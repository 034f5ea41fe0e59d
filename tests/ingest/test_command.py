import json

import pytest

from pipeline.catalog import remote_sources
from pipeline.core.errors import UsageError
from pipeline.ingest.products import PRODUCTS
from pipeline.ingest.remote import ANONYMOUS, PREFIX, resolve
from pipeline.store.addresses import check_url
from tests.ingest.granules import tropomi, tropomi_name


def command(*arguments):
    from pipeline.ingest.__main__ import main

    return main([str(a) for a in arguments])


def test_ingest_then_report(tmp_path, capsys):
    tropomi(tmp_path / tropomi_name(), 5e-5)
    store = tmp_path / "s"
    assert command("tropomi_no2", "--from", tmp_path / tropomi_name(), "--store", store) == 0
    assert "1 used" in capsys.readouterr().out
    assert command("report", "--store", store) == 0
    assert "tropomi_no2: 1 used" in capsys.readouterr().out
    assert command("report", "--store", store, "--json") == 0
    assert json.loads(capsys.readouterr().out)["products"]["tropomi_no2"]["records"]["used"] == 1200


def test_dry_run_lists_and_writes_nothing(tmp_path, capsys):
    place = tmp_path / "in"
    place.mkdir()
    tropomi(place / tropomi_name(), 5e-5)
    (place / "readme.md").write_text("x")
    assert command("tropomi_no2", "--from", place, "--store", tmp_path / "s", "--dry-run") == 0
    out = capsys.readouterr().out
    assert "1 files" in out
    assert "ignored" in out
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["unicorn", "--from", __file__], 2, "product 'unicorn'"),
        (["era5"], 2, "--from"),
        (["era5", "--from", __file__, "--year", "x"], 2, "--year 'x'"),
        (["era5", "--from", __file__, "--rule", "min_qa"], 2, "NAME=VALUE"),
        (["tropomi_no2", "--from", __file__, "--rule", "qa=1"], 2, "rule 'qa'"),
        (["tropomi_no2", "--from", __file__, "--rule", "min_qa=high"], 2, "type float"),
        (["era5", "--from", "/no/such/place"], 3, "nothing at"),
        (["era5", "--from", "ftp://x/y"], 4, "protocol 'ftp'"),
    ],
)
def test_mistakes_have_their_exit_code_and_say_what_to_do(tmp_path, capsys, arguments, code, message):
    assert command(*arguments, "--store", tmp_path / "s") == code
    assert message in capsys.readouterr().err


def test_a_foreign_folder_is_not_written_into(tmp_path, capsys):
    (tmp_path / "thesis.tex").write_text("x")
    assert command("era5", "--from", tmp_path, "--store", tmp_path) == 4
    assert "thesis.tex" in capsys.readouterr().err


def test_files_that_fail_or_give_nothing_show_in_the_exit_code(tmp_path, capsys):
    (tmp_path / "a.nc").write_bytes(b"\x89HDF broken")
    assert command("tropomi_no2", "--from", tmp_path / "a.nc", "--store", tmp_path / "s") == 5
    tropomi(tmp_path / "b.nc", 5e-5, qa=3)
    assert command("tropomi_no2", "--from", tmp_path / "b.nc", "--store", tmp_path / "t") == 3
    assert "1200 quality" in capsys.readouterr().out


def test_help_lists_every_product(capsys):
    with pytest.raises(SystemExit) as caught:
        command("--help")
    assert caught.value.code == 0
    out = capsys.readouterr().out
    assert all(name in out for name in PRODUCTS)


def test_every_product_of_the_contract_is_there():
    wanted = (
        "oco2 oco3 gosat_acos tansat tropomi_no2 tropomi_no2_l3 omi_no2 era5 ncep arco_era5 pbl viirs_vnl viirs_like "
        "black_marble worldpop landscan gpw ghs_pop gem_coal gem_gas gem_cement gem_steel wri climate_trace meic edgar "
        "odiac graced gridfed ceds tropess regions statistics"
    )
    assert set(wanted.split()) <= set(PRODUCTS)


def test_remote_sources_of_the_catalog_are_of_known_products_at_allowed_addresses():
    sources = remote_sources()
    assert {entry["product"] for entry in sources.values()} >= {"arco_era5", "tropomi_no2", "oco2", "worldpop"}
    for name, entry in sources.items():
        assert entry["product"] in PRODUCTS
        check_url(entry["url"])
        assert entry["access"] == ANONYMOUS or not entry["direct"], "what needs an account cannot be read directly"
        if entry.get("direct", True):
            urls, free = resolve([PREFIX + name, "x.nc"], [2021, 2020], entry["product"], sources)
            assert free
            assert urls[-1] == "x.nc"
            assert len(urls) == (3 if "{year}" in entry["url"] else 2)
            assert not any("{" in url for url in urls)


@pytest.mark.parametrize(
    ("name", "years", "product", "message"),
    [
        ("nowhere", [2020], "worldpop", "one of its sources in the catalog: worldpop"),
        ("worldpop", [2020], "era5", "catalog: none"),
        ("worldpop", [], "worldpop", "--year"),
        ("oco2_lite", [2020], "oco2", "Earthdata login"),
    ],
)
def test_remote_names_that_lead_nowhere_say_why(name, years, product, message):
    with pytest.raises(UsageError, match=message):
        resolve([PREFIX + name], years, product, remote_sources())


def test_a_name_stands_for_its_address_on_the_command_line(tmp_path, capsys, monkeypatch):
    folder = tmp_path / "2022"
    folder.mkdir()
    tropomi(folder / tropomi_name(), 5e-5)
    entry = {"product": "tropomi_no2", "access": ANONYMOUS, "url": f"{tmp_path}/{{year}}"}
    monkeypatch.setattr("pipeline.catalog.remote_sources", lambda: {"here": entry})
    named = ("tropomi_no2", "--from", "catalog:here", "--year", "2022", "--store", tmp_path / "s")
    assert command(*named, "--dry-run") == 0
    assert "1 files" in capsys.readouterr().out
    assert command(*named) == 0
    assert "1 used" in capsys.readouterr().out
