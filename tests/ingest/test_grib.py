import sys

import eccodes
import numpy as np
import pytest

from pipeline.core.errors import InputError
from pipeline.ingest.books import Request
from pipeline.ingest.contract import Rejected
from pipeline.ingest.era5 import Reanalysis, read_all
from pipeline.ingest.run import run
from pipeline.store.location import Store

READER = Reanalysis("inputs/era5.zarr", "test")
LAT, LON = np.arange(36, 29.9, -1.0), np.arange(108, 114.1, 1.0)


def field(seed=0):
    return np.random.default_rng(seed).normal(0, 5, (LAT.size, LON.size))


def write(path, messages, lat=LAT, lon=LON):
    """Messages of (short name, type of level, level, hour, values[, expver]); edition 2, rows from the north."""
    with open(path, "wb") as file:
        for name, level_type, level, hour, values, *expver in messages:
            message = eccodes.codes_grib_new_from_samples("regular_ll_sfc_grib2")
            keys = {
                "Ni": lon.size, "Nj": lat.size,
                "latitudeOfFirstGridPointInDegrees": lat[0], "latitudeOfLastGridPointInDegrees": lat[-1],
                "longitudeOfFirstGridPointInDegrees": lon[0] % 360, "longitudeOfLastGridPointInDegrees": lon[-1] % 360,
                "iDirectionIncrementInDegrees": 1.0, "jDirectionIncrementInDegrees": 1.0,
                "jScansPositively": int(lat[0] < lat[-1]),
                "dataDate": 20220115, "dataTime": hour * 100, "shortName": name, "typeOfLevel": level_type,
                "level": level, "bitmapPresent": 1, "missingValue": 1e36, "bitsPerValue": 24,
            }  # fmt: skip
            if expver:
                keys |= {"centre": 98, "setLocalDefinition": 1, "localDefinitionNumber": 1, "expver": expver[0]}
            for key, value in keys.items():
                eccodes.codes_set(message, key, value)
            eccodes.codes_set_values(message, np.where(np.isnan(values), 1e36, values).ravel())
            eccodes.codes_write(message, file)
            eccodes.codes_release(message)
    return str(path)


def test_several_heights_and_times_in_one_file(tmp_path):
    fields = {(h, k): field(10 * h + k) for h in (0, 1) for k in range(3)}
    messages = []
    for hour in (0, 1):
        messages += [
            ("10u", "heightAboveGround", 10, hour, fields[hour, 0]),
            ("10v", "heightAboveGround", 10, hour, fields[hour, 1]),
            ("2t", "heightAboveGround", 2, hour, 285 + fields[hour, 2]),
            ("sp", "surface", 0, hour, np.full((LAT.size, LON.size), 98_000.0)),
        ]
    with READER.open(write(tmp_path / "a.grib", messages), {}) as grid:
        assert grid.contents.variables == ("u10", "v10", "t2m", "sp")
        assert grid.contents.times == ("2022-01-15T00:00:00", "2022-01-15T01:00:00")
        assert grid.contents.lat.centres[0] == 30.0
        u, t = read_all(grid, "u10"), read_all(grid, "t2m")
    for hour in (0, 1):
        np.testing.assert_allclose(u[hour], fields[hour, 0][::-1], atol=1e-3)
        np.testing.assert_allclose(t[hour], 285 + fields[hour, 2][::-1], atol=1e-3)


@pytest.mark.parametrize("northward", [False, True])
def test_rows_of_either_direction_and_gaps(tmp_path, northward):
    values = field()
    values[2, 3] = np.nan
    lat = LAT[::-1] if northward else LAT
    path = write(tmp_path / "a.grib", [("10u", "heightAboveGround", 10, 0, values[::-1] if northward else values)], lat)
    with READER.open(path, {}) as grid:
        found = read_all(grid, "u10")[0]
    np.testing.assert_allclose(found, values[::-1], atol=1e-3)
    assert np.isnan(found).sum() == 1


@pytest.mark.parametrize("order", [("0001", "0005"), ("0005", "0001")])
def test_final_messages_win_over_preliminary_ones(tmp_path, order):
    u = ("10u", "heightAboveGround", 10)
    fields = {"0001": field(1), "0005": field(2)}
    messages = [(*u, 0, fields[version], version) for version in order] + [(*u, 1, field(3), "0005")]
    with READER.open(write(tmp_path / "a.grib", messages), {}) as grid:
        assert grid.contents.rank == 1, "an hour is preliminary, so a final file must replace it"
        found = read_all(grid, "u10")
    np.testing.assert_allclose(found, np.stack([fields["0001"], field(3)])[:, ::-1], atol=1e-3)
    with READER.open(write(tmp_path / "b.grib", [(*u, 0, field(), "0001")]), {}) as grid:
        assert grid.contents.rank == 0


def test_a_mean_of_a_month_is_no_hour(tmp_path):
    path = write(tmp_path / "a.grib", [("10u", "heightAboveGround", 10, 0, field(), "0001")])
    with open(path, "rb") as file:
        message = eccodes.codes_grib_new_from_file(file)
    eccodes.codes_set(message, "stream", "moda")
    with open(path, "wb") as file:
        eccodes.codes_write(message, file)
    eccodes.codes_release(message)
    with pytest.raises(Rejected, match="means over months"), READER.open(path, {}):
        pass


def test_a_variable_that_lacks_a_time_is_named(tmp_path):
    messages = [("10u", "heightAboveGround", 10, h, field()) for h in (0, 1)]
    messages += [("10v", "heightAboveGround", 10, 0, field())]
    with (
        pytest.raises(Rejected, match="v10 at 2022-01-15T01:00:00 is missing"),
        READER.open(write(tmp_path / "a.grib", messages), {}),
    ):
        pass


def test_other_messages_and_places_are_rejected(tmp_path):
    with (
        pytest.raises(Rejected, match="none of u10"),
        READER.open(write(tmp_path / "a.grib", [("10u", "heightAboveGround", 50, 0, field())]), {}),
    ):
        pass
    elsewhere = write(tmp_path / "b.grib", [("sp", "surface", 0, 0, field() + 9e4)], lon=np.arange(0, 6.1, 1.0))
    with pytest.raises(Rejected, match="outside the region"), READER.open(elsewhere, {}):
        pass


def test_cut_off_and_wrong_values_fail_in_the_ledger(tmp_path):
    path = write(tmp_path / "a.grib", [("10u", "heightAboveGround", 10, h, field(h)) for h in range(6)])
    raw = (tmp_path / "a.grib").read_bytes()
    (tmp_path / "cut.grib").write_bytes(raw[: len(raw) - 40])
    absurd = write(tmp_path / "absurd.grib", [("10u", "heightAboveGround", 10, 0, field() + 500)])
    for bad in (tmp_path / "cut.grib", absurd):
        assert run(Request("era5", (str(bad),), Store(str(tmp_path / "s")))).statuses == {"failed": 1}
    assert run(Request("era5", (path,), Store(str(tmp_path / "s")))).statuses == {"used": 1}


def test_without_eccodes_the_message_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "eccodes", None)
    (tmp_path / "a.grib").write_bytes(b"GRIB....")
    with (
        pytest.raises(InputError, match=r"pip install \"carboncube\[grib\]\""),
        READER.open(str(tmp_path / "a.grib"), {}),
    ):
        pass
