import h5py
import numpy as np
import pytest
import shapely

from pipeline.ingest.columns import by_day
from pipeline.ingest.contract import Rejected, check_counts
from pipeline.ingest.tropomi import HarpReader, SwathReader, estimated_corners, no2_rules
from tests.ingest.granules import corners, swath, tropomi, tropomi_name

READER = SwathReader()


def read(path, **rules):
    return READER.read(str(path), {**READER.rules, **rules})


def sums(observations):
    days, counts = by_day(observations)
    check_counts(counts)
    return days, counts


def test_a_swath_comes_back_with_its_mass(tmp_path):
    rng = np.random.default_rng(1)
    value = rng.normal(5e-5, 2e-5, (40, 30))
    observations = read(tropomi(tmp_path / tropomi_name(), value))
    days, counts = sums(observations)
    assert list(days) == ["2022-01-15"]
    assert counts == {"seen": 1200, "used": 1200}
    lat, lon = (corners(k).reshape(-1, 4).astype("f4") for k in swath())
    areas = shapely.area(shapely.polygons(np.stack([lon, lat], -1))) * 16
    total = days["2022-01-15"]
    assert total[0].sum() == pytest.approx(areas.sum(), rel=1e-5)
    assert total[2].sum() == pytest.approx((areas * value.ravel()).sum(), rel=1e-5)
    assert (value < 0).any(), "negative columns must be among them"


def test_quality_is_above_the_threshold_and_counted(tmp_path):
    qa = np.full((40, 30), 100)
    qa[:10], qa[10:12], qa[12] = 75, 76, 255
    observations = read(tropomi(tmp_path / "a.nc", qa=qa))
    _, counts = sums(observations)
    assert counts["quality"] == 300 + 30
    assert counts["used"] == 870
    assert sums(read(tropomi(tmp_path / "a.nc", qa=qa), min_qa=0.5))[1]["used"] == 1170


def test_fill_that_nobody_declared_is_missing_in_values_and_coordinates(tmp_path):
    value = np.full((40, 30), 5e-5, "f4")
    value[3] = 9.96921e36
    path = tropomi(tmp_path / "a.nc", value, declare_fill=False)
    with h5py.File(path, "a") as file:
        for name in ("PRODUCT/latitude", "PRODUCT/longitude"):
            file[name][0, 30:] = 9.96921e36
        for name in ("latitude_bounds", "longitude_bounds"):
            file[f"PRODUCT/SUPPORT_DATA/GEOLOCATIONS/{name}"][0, 30:] = 9.96921e36
    observations = read(path)
    assert np.isfinite(observations.value).all()
    _, counts = sums(observations)
    assert counts["used"] == 29 * 30
    assert counts["no_value"] == 30
    assert counts["outside_region"] + counts.get("no_place_or_time", 0) == 10 * 30


def test_a_night_granule_over_the_region_is_rejected_with_its_counts(tmp_path):
    path = tropomi(tmp_path / "a.nc", np.full((40, 30), 9.96921e36))
    with pytest.raises(Rejected, match="none of 1200 pixels is usable: 1200 no_value") as caught:
        read(path)
    assert caught.value.counts["no_value"] == 1200


def test_a_stripped_shell_and_sister_products_say_what_they_are(tmp_path):
    with h5py.File(tmp_path / "shell.nc", "w") as file:
        file.create_dataset("PRODUCT/scanline", data=np.zeros(4))
    with pytest.raises(Rejected, match="pixel variables were stripped"):
        read(tmp_path / "shell.nc")
    with h5py.File(tmp_path / "ch4.nc", "w") as file:
        file.create_dataset("PRODUCT/methane_mixing_ratio", data=np.zeros((1, 4, 4)))
    with pytest.raises(Rejected, match="methane_mixing_ratio"):
        read(tmp_path / "ch4.nc")
    with h5py.File(tmp_path / "empty.nc", "w"):
        pass
    with pytest.raises(Rejected, match="no group PRODUCT"):
        read(tmp_path / "empty.nc")


def test_wrong_units_are_refused(tmp_path):
    with pytest.raises(Rejected, match=r"units 'molec cm-2', expected 'mol m-2'"):
        read(tropomi(tmp_path / "a.nc", units="molec cm-2"))


def test_both_spellings_of_delta_time_give_the_same_times(tmp_path):
    plain = read(tropomi(tmp_path / "a.nc"))
    dated = read(tropomi(tmp_path / "b.nc", dated_delta=True))
    np.testing.assert_array_equal(plain.time, dated.time)
    assert plain.time[0] == np.datetime64("2022-01-15T05:30:00")


def test_a_file_across_midnight_gives_each_day_its_pixels(tmp_path):
    path = tropomi(tmp_path / "a.nc", seconds=86_400 - 20 * 0.84)
    days, counts = sums(read(path))
    assert sorted(days) == ["2022-01-15", "2022-01-16"]
    assert counts["used"] == 1200
    whole = sum(part[0].sum() for part in days.values())
    lat, lon = (corners(k).reshape(-1, 4) for k in swath())
    assert whole == pytest.approx(shapely.area(shapely.polygons(np.stack([lon, lat], -1))).sum() * 16, rel=1e-5)


def test_a_swath_elsewhere_and_one_across_the_date_line(tmp_path):
    lat, lon = swath(west=175.0, pixels=200)
    with pytest.raises(Rejected, match="does not pass over the region") as caught:
        read(tropomi(tmp_path / "a.nc", knots=(lat, lon)))
    assert caught.value.counts == {"seen": 8000, "outside_region": 8000}
    lat, lon = swath(west=130.0, pixels=900)
    observations = read(tropomi(tmp_path / "b.nc", knots=(lat, lon)))
    days, counts = sums(observations)
    assert 0 < counts["used"] < 900 * 40
    total = days["2022-01-15"]
    assert total[2].sum() / total[0].sum() == pytest.approx(5e-5)


def test_corners_are_estimated_where_a_subset_lacks_them(tmp_path):
    value = np.random.default_rng(2).normal(5e-5, 2e-5, (40, 30))
    exact, _ = sums(read(tropomi(tmp_path / "a.nc", value)))
    observations = read(tropomi(tmp_path / "b.nc", value, bounds=False))
    guessed, _ = sums(observations)
    np.testing.assert_allclose(guessed["2022-01-15"][0], exact["2022-01-15"][0], atol=2e-3)
    assert "estimated" in observations.attrs["assumed"]


def test_estimated_corners_of_a_regular_swath_are_exact():
    lat, lon = swath()
    for knots in (lat, lon):
        np.testing.assert_allclose(estimated_corners(corners(knots).mean(-1)), corners(knots), atol=1e-9)


def test_implausible_columns_are_left_out(tmp_path):
    value = np.full((40, 30), 5e-5)
    value[0, :3] = 1.0
    _, counts = sums(read(tropomi(tmp_path / "a.nc", value)))
    assert counts["implausible"] == 3


def test_orbit_and_version_come_from_the_name_or_the_file(tmp_path):
    observations = read(tropomi(tmp_path / tropomi_name(orbit=22001, stream="RPRO")))
    assert observations.part == "orbit 22001"
    older = read(tropomi(tmp_path / tropomi_name(orbit=22001, stream="OFFL")))
    assert older.rank < observations.rank
    assert read(tropomi(tmp_path / "renamed.nc", orbit=7)).part == "orbit 00007"


def _harp(path, column="tropospheric_NO2_column_number_density", history="", west=110.0, units="mol/m2"):
    import xarray as xr

    lat, lon = 30.05 + 0.1 * np.arange(20), west + 0.1 * np.arange(30)
    value = np.random.default_rng(4).uniform(1e-5, 9e-5, (1, 20, 30))
    ds = xr.Dataset(
        {column: (("time", "latitude", "longitude"), value, {"units": units})},
        {"latitude": lat, "longitude": lon},
        {"history": history, "source_product": tropomi_name(day="20211217")},
    )
    ds.to_netcdf(path, engine="scipy")
    return str(path), value


def test_harp_grids_keep_their_mean(tmp_path):
    reader = HarpReader()
    path, value = _harp(tmp_path / "a.nc")
    days, counts = sums(reader.read(path, reader.rules))
    assert list(days) == ["2021-12-17"]
    total = days["2021-12-17"]
    assert counts == {"seen": 600, "used": 600}
    assert total[0].sum() == pytest.approx(600 * 0.16)
    assert total[2].sum() / total[0].sum() == pytest.approx(value.mean())


def test_harp_grids_that_dropped_negatives_or_lie_elsewhere_are_refused(tmp_path):
    reader = HarpReader()
    clipped = "operations='tropospheric_NO2_column_number_density>=0;bin_spatial()'"
    path, _ = _harp(tmp_path / "a.nc", history=clipped)
    with pytest.raises(Rejected, match="biases means high"):
        reader.read(path, reader.rules)
    assert reader.read(path, {**reader.rules, "accept_positive_only": True}).value.size == 600
    path, _ = _harp(tmp_path / "b.nc", west=2.0)
    with pytest.raises(Rejected, match="not China"):
        reader.read(path, reader.rules)
    path, _ = _harp(tmp_path / "c.nc", units="molec/cm2")
    with pytest.raises(Rejected, match="units"):
        reader.read(path, reader.rules)


def test_rules_have_defaults_with_changes():
    assert no2_rules(uncertainty=1.0)["uncertainty"] == 1.0
    assert no2_rules()["min_qa"] == 0.75
