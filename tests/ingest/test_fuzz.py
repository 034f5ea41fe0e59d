"""Damaged, foreign and mislabelled files: never a crash, never a silent loss, never a wrong number.

Every good file holds one constant value on one day, so that whatever of a damaged one gets into the cube must be that
value, in those cells, on that day. Formats without any checksum (plain text, netCDF-3) are not bit-flipped: a changed
digit in them is a valid digit.
"""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest

from pipeline.core.errors import CarbonCubeError
from pipeline.ingest import counts, preflight
from pipeline.ingest.books import Request
from pipeline.ingest.contract import FAILED, REJECTED, USED
from pipeline.ingest.report import report
from pipeline.ingest.run import run
from pipeline.store.cubes import open_cube
from pipeline.store.location import Store
from tests.ingest.granules import era5, lite, omi, tiff, tropomi, tropomi_name
from tests.ingest.test_grids import LAT, LON, hours
from tests.ingest.test_inventories import meic_asc, meic_nc, netcdf

DAY = "2022-01-15"


@dataclass(frozen=True)
class Case:
    """A product with a way to write a good file, and what its cube then holds."""

    product: str
    write: Callable[[Path], str]
    cube: str
    layer: str
    value: float
    flips: bool = True
    names: Callable[[int], str] = lambda k: f"damaged_{k:03d}.nc"


def _era5(path):
    return era5(path, hours("2022-01-15", 24), {"t2m": ("K", 288.0)}, LAT, LON)


def _packed(path):
    field = np.full((24, LAT.size, LON.size), 288.0)
    return era5(path, hours("2022-01-15", 24), {"t2m": ("K", field)}, LAT, LON, new=False, packed=True)


def _meic(path):
    return (meic_nc if path.suffix == ".nc" else meic_asc)(path, np.full((200, 320), 100.0))


CASES = [
    Case("tropomi_no2", lambda p: tropomi(p, 5e-5, day=DAY), "no2_tropomi", "no2_column", 5e-5,
         names=lambda k: tropomi_name(orbit=k)),
    Case("oco2", lambda p: lite(p, np.full(40, 30.1), np.linspace(110, 111, 40), 412.0), "xco2_oco2", "xco2", 412.0),
    Case("omi_no2", lambda p: omi(p, 3e15), "no2_omi", "no2_column", 3e15 / 6.02214076e19,
         names=lambda k: f"OMI-Aura_L3-OMNO2d_2022m0115_v003-{k}.he5"),
    Case("era5", _era5, "era5", "t2m", 288.0),
    Case("era5", _packed, "era5", "t2m", 288.0, flips=False),
    Case("viirs_like", lambda p: tiff(p, np.full((300, 300), 50, "u1"), 110, 35, 0.0045), "nightlights", "radiance",
         100.0, names=lambda k: f"lights{k}_2022.tif"),
    Case("landscan", lambda p: tiff(p, np.full((300, 300), 7, "i4"), 110, 35, 1 / 120), "population", "population", 7.0,
         names=lambda k: f"landscan-{k}-2022.tif"),
    Case("edgar", lambda p: netcdf(p, {"fluxes": ("kg m-2 s-1", np.full((20, 30), 1e-8))}), "inventory_edgar",
         "co2_flux", 1e-8, flips=False, names=lambda k: f"v8.0_{k}_CO2_2022_TOTALS_flx.nc"),
    Case("meic", _meic, "inventory_meic", "co2_flux", np.nan, flips=False,
         names=lambda k: f"2022_{1 if k == 900 else k % 11 + 2}_power_CO2.asc"),
]  # fmt: skip
KINDS = ("truncated", "flipped", "zeroed", "empty", "noise", "foreign", "header_only", "appended")


def damage(raw, kind, rng, flips, foreign):
    """One damaged version of a file's bytes."""
    data = bytearray(raw)
    if kind == "truncated":
        return bytes(data[: int(rng.integers(1, len(data)))])
    if kind == "flipped" and flips:
        for position in rng.integers(0, len(data), int(rng.integers(1, 12))):
            data[position] ^= 1 << int(rng.integers(0, 8))
        return bytes(data)
    if kind == "zeroed" and flips:
        start = int(rng.integers(0, len(data)))
        stop = min(len(data), start + int(rng.integers(16, 2000)))
        data[start:stop] = bytes(stop - start)
        return bytes(data)
    if kind == "empty":
        return b""
    if kind == "foreign":
        return foreign[int(rng.integers(0, len(foreign)))]
    if kind == "header_only":
        return bytes(data[: int(rng.integers(4, 600))])
    if kind == "appended":
        return bytes(data) + rng.bytes(100)
    return rng.bytes(int(rng.integers(1, 5000)))


@pytest.fixture(autouse=True)
def _impatient(monkeypatch):
    monkeypatch.setattr(preflight, "LIMIT", 15.0)
    monkeypatch.setattr(counts, "FRAME", (108.0, 31.0, 114.0, 37.0))


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """The bytes of a good file of every case."""
    place = tmp_path_factory.mktemp("good")
    files = {}
    for k, case in enumerate(CASES):
        path = place / f"{k}-{case.names(0)}" if case.product != "meic" else place / case.names(0)
        case.write(path)
        files[k] = path.read_bytes()
    return files


def ingest_damaged(case, index, corpus, folder, n, seed):
    """Ingest a good file together with n damaged ones."""
    place = folder / "in"
    place.mkdir()
    case.write(place / case.names(900))
    rng = np.random.default_rng([seed, index])
    foreign = [raw for k, raw in corpus.items() if CASES[k].product != case.product]
    for k in range(n):
        kind = KINDS[k % len(KINDS)]
        (place / case.names(k)).write_bytes(damage(corpus[index], kind, rng, case.flips, foreign))
    store = Store(str(folder / "s"))
    summary = run(Request(case.product, tuple(str(p) for p in sorted(place.iterdir())), store))
    return store, summary, len(list(place.iterdir()))


def check_numbers(case, store, reference):
    """Whatever is in the cube is the good file's value in its cells on its day."""
    ds = open_cube(store, f"inputs/{case.cube}.zarr", chunks=None)
    marked = ds["ingested"].values > 0
    expected = reference["ingested"].values > 0
    if case.product != "meic":
        assert ds["time"].values[marked].tolist() == reference["time"].values[expected].tolist()
    found, good = (
        d[case.layer].isel(time=np.flatnonzero(m)[:1]).values for d, m in ((ds, marked), (reference, expected))
    )
    assert not (np.isfinite(found) & ~np.isfinite(good)).any(), "a cell outside the good file's"
    known = np.isfinite(found)
    np.testing.assert_allclose(found[known], good[known], rtol=2e-5)


def fuzz(index, corpus, folder, n, seed):
    case = CASES[index]
    store, summary, files = ingest_damaged(case, index, corpus, folder, n, seed)
    counted = dict(summary.statuses)
    assert set(counted) <= {USED, REJECTED, FAILED}
    assert sum(counted.values()) == files, "a file is missing from the account"
    assert counted[USED] >= 1, "the good file must be used whatever lies beside it"
    found = report(store)["products"][case.product]
    assert sum(found["files"].values()) == files
    records = dict(found["records"])
    assert records.pop("seen", 0) == sum(records.values())
    json.dumps(found["left_out"])
    assert all(item["reason"] for item in found["left_out"])
    alone = Store(str(folder / "alone"))
    good = folder / "good"
    good.mkdir()
    case.write(good / case.names(900))
    run(Request(case.product, (str(good),), alone))
    check_numbers(case, store, open_cube(alone, f"inputs/{case.cube}.zarr", chunks=None))


@pytest.mark.parametrize("index", range(len(CASES)), ids=lambda k: f"{CASES[k].product}-{k}")
def test_damaged_files(index, corpus, tmp_path):
    fuzz(index, corpus, tmp_path, 8, 0)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("index", range(len(CASES)), ids=lambda k: f"{CASES[k].product}-{k}")
def test_many_damaged_files(index, seed, corpus, tmp_path):
    fuzz(index, corpus, tmp_path, 40, seed)


UNITS = [
    (0, "PRODUCT/nitrogendioxide_tropospheric_column", "units", ("molec cm-2", "mol cm-2", "1", "")),
    (0, "PRODUCT/nitrogendioxide_tropospheric_column_precision", "units", ("molec cm-2", "")),
    (0, "PRODUCT/delta_time", "units", ("seconds", "s since 2022-01-15", "")),
    (1, "xco2", "units", ("mol/mol", "ppb", "1", "")),
    (1, "xco2_uncertainty", "units", ("ppb", "%", "")),
    (2, "HDFEOS/GRIDS/ColumnAmountNO2/Data Fields/ColumnAmountNO2TropCloudScreened", "Units", ("mol m-2", "DU", "")),
    (3, "t2m", "units", ("degC", "degF", "")),
    (7, "fluxes", "units", ("kg m-2 h-1", "g m-2 s-1", "kg C m-2 s-1", "t km-2 yr-1", "")),
]


@pytest.mark.parametrize(("index", "name", "key", "unit"), [(k, n, a, u) for k, n, a, units in UNITS for u in units])
def test_another_unit_is_rejected_with_its_name(index, name, key, unit, tmp_path):
    case = CASES[index]
    path = tmp_path / case.names(1)
    case.write(path)
    with h5py.File(path, "a") as file:
        assert key in file[name].attrs
        file[name].attrs[key] = np.bytes_(unit) if unit else b" "
    summary = run(Request(case.product, (str(path),), Store(str(tmp_path / "s"))))
    assert summary.statuses == {REJECTED: 1}
    said = summary.problems[0]
    assert name.rsplit("/", 1)[-1] in said or "units" in said
    assert "expected" in said
    assert not (tmp_path / f"s/inputs/{case.cube}.zarr").exists()


TABLES = {
    "gem_coal": ("coal.xlsx", "point_sources/gem_coal.parquet"),
    "statistics": ("people.csv", "provincial_population.csv"),
    "regions": ("regions.geojson", "regions.geojson"),
}


def _table(product, path):
    if product == "gem_coal":
        from tests.ingest.test_plants import ROWS, _coal

        shutil.move(_coal(path.parent, ROWS), path)
    elif product == "statistics":
        path.write_text("region,2020,2021\nHubei,5000,5100\nHenan,9000,9100\n")
    else:
        from tests.ingest.test_population import vector

        vector(path)


@pytest.mark.parametrize("product", TABLES)
@pytest.mark.parametrize("kind", ["truncated", "empty", "noise", "foreign", "header_only", "zeroed"])
def test_damaged_tables_never_replace_a_good_one(product, kind, corpus, tmp_path):
    name, target = TABLES[product]
    good = tmp_path / name
    _table(product, good)
    store = Store(str(tmp_path / "s"))
    assert run(Request(product, (str(good),), store)).statuses == {USED: 1}
    before = store.read_bytes(f"inputs/{target}")
    raw, rng = good.read_bytes(), np.random.default_rng([len(kind), len(product)])
    flips = product == "gem_coal"
    if kind == "zeroed" and not flips:
        kind = "truncated"
    for _ in range(5):
        good.write_bytes(damage(raw, kind, rng, flips, [corpus[0], corpus[5]]))
        try:
            summary = run(Request(product, (str(good),), store))
        except CarbonCubeError:
            continue
        if summary.statuses.get(USED) and product == "statistics":
            # A CSV cut between lines is a valid, shorter table; what it still says must be what it said.
            table = pd.read_csv(tmp_path / "s/inputs" / target).merge(
                pd.read_csv(pd.io.common.BytesIO(before)), on=["region", "year"], suffixes=("", "_before")
            )
            assert set(table["persons"]) <= set(table["persons_before"]) | {50e6, 500e4, 51e6, 510e4, 90e6, 91e6, 910e4}
        elif summary.statuses.get(USED):
            assert store.read_bytes(f"inputs/{target}") == before
        else:
            assert store.read_bytes(f"inputs/{target}") == before
            assert summary.problems
