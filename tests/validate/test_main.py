"""The command line: what it prints and its exit codes."""

from __future__ import annotations

import json

import pytest

from pipeline.store.location import Store
from pipeline.store.publish import point_to
from pipeline.validate.__main__ import main
from pipeline.validate.version import Version
from tests.product_fixture import VERSION, write_meic_table, write_product

from tests.product_fixture import MONTHS  # isort: skip


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Store:
    store = Store(str(tmp_path_factory.mktemp("validate")))
    version = write_product(store, fine=False, members=20)
    product = Version(store, version)
    write_meic_table(store, {c: product.members(c, 2022).mean(axis=0) for c in product.regions.codes}, MONTHS)
    return store


def test_truth_as_json_and_as_text(store, capsys) -> None:
    assert main(["--store", store.url, "--year", "2022", "--version", VERSION, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["version"] == VERSION
    assert 0.5 < told["r2_monthly"] < 1
    assert main(["--store", store.url, "--year", "2022", "--version", VERSION]) == 0
    assert f"r2_monthly{told['r2_monthly']:>38.4f}" in capsys.readouterr().out


def test_an_inventory(store, capsys) -> None:
    flags = ["--store", store.url, "--year", "2022", "--version", VERSION, "--against", "meic"]
    assert main(flags) == 3
    assert "agreement with meic would prove nothing" in capsys.readouterr().err
    assert main([*flags, "--allow-dependent"]) == 0
    text = capsys.readouterr().out
    assert "not independent: the inputs descend from meic" in text
    assert "+0.0 %" in text or "-0.0 %" in text


def test_errors_are_one_line_and_an_exit_code(store, capsys) -> None:
    assert main(["--store", store.url, "--year", "2022"]) == 2
    assert "no product of 2022" in capsys.readouterr().err
    point_to(store, VERSION, [2022])
    assert main(["--store", store.url, "--year", "2022"]) == 0
    assert main(["--store", store.url, "--year", "2022", "--against", "odiac"]) == 3
    assert capsys.readouterr().err.count("\n") == 1
