import h5py
import numpy as np
import pytest

from pipeline.ingest.columns import by_day
from pipeline.ingest.contract import Rejected, check_counts
from pipeline.ingest.gosat import AcosReader
from pipeline.ingest.oco import LiteReader, from_id, layer_kernel
from tests.ingest.granules import lite

READER = LiteReader("oco2", "oco2")
LAT, LON = np.array([30.1, 30.11, 30.12, 40.0]), np.array([110.1, 110.11, 110.12, 116.0])
XCO2 = np.array([410.0, 412.0, 414.0, 420.0])


def read(path, reader=READER, **rules):
    return reader.read(str(path), {**reader.rules, **rules})


def test_soundings_come_back_as_cell_means(tmp_path):
    observations = read(lite(tmp_path / "a.nc4", LAT, LON, XCO2))
    days, counts = by_day(observations)
    assert check_counts(counts) == {"seen": 4, "used": 4}
    total = days["2022-01-15"]
    assert total[4].sum() == 4
    assert total[2].sum() == pytest.approx(XCO2.sum())
    with np.errstate(invalid="ignore"):
        means = total[2] / total[0]
    assert np.sort(means[total[4] > 0]) == pytest.approx([412.0, 420.0])


def test_flags_fills_and_places_are_counted(tmp_path):
    value = np.array([410.0, -999999.0, 414.0, 900.0])
    path = lite(tmp_path / "a.nc4", LAT, LON, value, flag=[0, 0, 1, 0])
    observations = read(path)
    assert observations.value.tolist() == [410.0]
    assert dict(observations.counts) == {"seen": 4, "no_value": 1, "quality_flag": 1, "implausible": 1}


@pytest.mark.parametrize("declare", ["_FillValue", "missing_value", None])
def test_fill_counts_as_missing_however_it_is_declared(tmp_path, declare):
    lat = LAT.copy()
    lat[0] = -999999.0
    observations = read(lite(tmp_path / "a.nc4", lat, LON, [410, 411, -999999, 413], declare=declare))
    assert observations.value.tolist() == [411.0, 413.0]
    assert dict(observations.counts) == {"seen": 4, "no_place_or_time": 1, "no_value": 1}


def test_scales_are_chosen_and_never_mixed(tmp_path):
    both = lite(tmp_path / "a.nc4", LAT, LON, XCO2, scale_note="Bias-corrected XCO2 on X2007 scale", x2019=XCO2 + 0.2)
    assert read(both).value.tolist() == XCO2.tolist()
    assert read(both).attrs["co2_scale"] == "X2007"
    later = read(both, scale="X2019")
    assert later.value == pytest.approx(XCO2 + 0.2, abs=1e-4)
    assert later.attrs["co2_scale"] == "X2019"
    silent = lite(tmp_path / "b.nc4", LAT, LON, XCO2)
    assert read(silent).attrs["co2_scale"] == "X2007"
    with pytest.raises(Rejected, match="scales X2007, not on X2019"):
        read(silent, scale="X2019")
    only_new = lite(tmp_path / "c.nc4", LAT, LON, XCO2, scale_note="XCO2 on X2019 scale")
    with pytest.raises(Rejected, match="scales X2019, not on X2007"):
        read(only_new)


def test_modes_land_and_platform(tmp_path):
    path = lite(tmp_path / "a.nc4", LAT, LON, XCO2, mode=[0, 1, 2, 4])
    assert read(path, modes="nadir glint").value.tolist() == [410.0, 412.0]
    assert read(path, min_land_percent=50.0).value.size == 4
    with pytest.raises(Rejected, match="'OCO-3', not of oco2"):
        read(lite(tmp_path / "b.nc4", LAT, LON, XCO2, platform="OCO-3"))


def test_groups_that_opendap_flattened_are_found_and_rules_that_cannot_be_held_are_refused(tmp_path):
    path = lite(tmp_path / "a.nc4", LAT, LON, XCO2, mode=[0, 1, 2, 4])
    with h5py.File(path, "a") as file:
        file["Sounding_operation_mode"] = file["Sounding/operation_mode"][:]
        del file["Sounding"]
    assert read(path, modes="nadir glint").value.tolist() == [410.0, 412.0]
    with pytest.raises(Rejected, match="Sounding/land_fraction, which the file lacks"):
        read(path, min_land_percent=50.0)
    with h5py.File(path, "a") as file:
        del file["Sounding_operation_mode"]
    with pytest.raises(Rejected, match="Sounding/operation_mode, which the file lacks"):
        read(path, modes="nadir")
    assert read(path).value.size == 4


def test_what_is_missing_or_in_another_unit_is_named(tmp_path):
    path = lite(tmp_path / "a.nc4", LAT, LON, XCO2)
    with h5py.File(path, "a") as file:
        del file["xco2_quality_flag"]
    with pytest.raises(Rejected, match="xco2_quality_flag are missing"):
        read(path)
    path = lite(tmp_path / "b.nc4", LAT, LON, XCO2)
    with h5py.File(path, "a") as file:
        file["xco2"].attrs["units"] = "mol/mol"
    with pytest.raises(Rejected, match="units 'mol/mol', expected 'ppm'"):
        read(path)


def test_boundary_layer_kernel_is_the_weighted_mean_of_the_lowest_levels(tmp_path):
    kernel = np.linspace(0.2, 1.1, 20)
    observations = read(lite(tmp_path / "a.nc4", LAT, LON, XCO2, kernel=kernel), pbl_hpa=110.0)
    assert observations.kernel == pytest.approx(np.full(4, kernel[-3:].mean()), rel=1e-5)


def test_kernel_does_not_depend_on_the_order_of_levels_and_skips_inactive_ones():
    kernel, h, p = np.random.default_rng(0).uniform(0.5, 1, (3, 5, 20))
    p = np.sort(p, axis=1) * 1000
    p[:, -1] = np.nan
    forward = layer_kernel(kernel, h, p, 150.0)
    np.testing.assert_allclose(layer_kernel(kernel[:, ::-1], h[:, ::-1], p[:, ::-1], 150.0), forward)
    assert np.isfinite(forward).all()


def test_ids_are_times_and_nonsense_is_lost():
    time, lost = from_id(np.array([20220115054001, 20221315054001, 0, 20240229235959]))
    assert lost.tolist() == [False, True, True, False]
    assert time[0] == np.datetime64("2022-01-15T05:40:01")
    assert time[3] == np.datetime64("2024-02-29T23:59:59")


def _acos(path, ids, retrieved, geometry_for_all=True, units="Mole Mole^{-1}", outcome=1):
    ids, retrieved = np.asarray(ids, "i8"), np.asarray(retrieved, "i8")
    lat = 30.0 + np.arange(ids.size)
    where = np.searchsorted(ids, retrieved)
    with h5py.File(path, "w") as file:
        for name, data in (
            ("xco2", 400e-6 + 1e-6 * np.arange(retrieved.size)),
            ("xco2_uncert", 1e-6 * np.ones(retrieved.size)),
        ):
            variable = file.create_dataset(f"RetrievalResults/{name}", data=data.astype("f4"))
            variable.attrs["Units"] = np.array([units], dtype=h5py.string_dtype())
        file["RetrievalResults/sounding_id_reference"] = retrieved
        file["RetrievalResults/outcome_flag"] = np.broadcast_to(np.asarray(outcome, "i1"), retrieved.size)
        file["SoundingHeader/sounding_id"] = ids
        place = lat if geometry_for_all else lat[where]
        file["SoundingGeometry/sounding_latitude"] = place.astype("f4")
        file["SoundingGeometry/sounding_longitude"] = np.full(place.size, 110.0, "f4")
    return str(path)


IDS = [20220115050000 + k for k in (1, 5, 9, 13, 20, 33)]


@pytest.mark.parametrize("everywhere", [True, False])
def test_acos_joins_results_to_geometry_by_id(tmp_path, everywhere):
    reader = AcosReader()
    path = _acos(tmp_path / "a.h5", IDS, [IDS[4], IDS[1]], everywhere)
    observations = read(path, reader, allow_uncorrected=True)
    assert observations.lat.tolist() == [34.0, 31.0]
    assert observations.value == pytest.approx([400.0, 401.0], rel=1e-6)
    assert observations.attrs["co2_scale"].startswith("none")


def test_acos_level_2_needs_consent_its_unit_and_convergence(tmp_path):
    reader = AcosReader()
    path = _acos(tmp_path / "a.h5", IDS, IDS, outcome=[1, 2, 3, 4, 1, 0])
    with pytest.raises(Rejected, match="not bias-corrected"):
        read(path, reader)
    assert read(path, reader, allow_uncorrected=True).counts["not_converged"] == 3
    with pytest.raises(Rejected, match="units 'ppm'"):
        read(_acos(tmp_path / "b.h5", IDS, IDS, units="ppm"), reader, allow_uncorrected=True)


def test_acos_lite_is_read_as_lite(tmp_path):
    reader = AcosReader()
    observations = read(lite(tmp_path / "a.nc4", LAT, LON, XCO2, platform="GOSAT"), reader)
    assert observations.attrs["co2_scale"] == "X2007"
    assert reader.path == "inputs/xco2_gosat.zarr"
