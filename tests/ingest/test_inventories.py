import calendar

import netCDF4
import numpy as np
import pytest
import xarray as xr

from pipeline.core.errors import InputError
from pipeline.core.labels import labels
from pipeline.core.schema import check, input_schema
from pipeline.ingest.axes import Axis
from pipeline.ingest.books import Request
from pipeline.ingest.contract import Rejected
from pipeline.ingest.inventories import CO2_PER_C, _edgar_name, cell_areas, month_seconds
from pipeline.ingest.run import run
from pipeline.store.cubes import open_cube
from pipeline.store.location import Store
from tests.ingest.granules import tiff

LAT, LON = np.arange(30.05, 32, 0.1), np.arange(110.05, 113, 0.1)


def ingest(store, product, *urls, **more):
    return run(Request(product, tuple(map(str, urls)), Store(str(store)), **more))


def opened(store, name):
    return open_cube(Store(str(store)), f"inputs/inventory_{name}.zarr", chunks=None)


def tonnes(ds):
    """Mass of CO2 by time and sector, from fluxes."""
    areas = cell_areas(Axis.of(ds["lat"].values), Axis.of(ds["lon"].values))
    seconds = np.array([month_seconds(str(t)) for t in ds["time"].values])
    kg = np.nansum(ds["co2_flux"].values.astype("f8") * areas, axis=(-2, -1)) * seconds[:, None]
    return kg / 1000.0


def netcdf(path, variables, times=None, lat=LAT, lon=LON, **more):
    coords = {"lat": lat, "lon": lon}
    if times is not None:
        coords["time"] = times
    dims = ("time", "lat", "lon") if times is not None else ("lat", "lon")
    data = {n: (dims, v, {"units": u}) for n, (u, v) in variables.items()}
    xr.Dataset(data, coords).to_netcdf(path, engine="h5netcdf", **more)
    return str(path)


def meic_values(seed=0):
    return np.random.default_rng(seed).uniform(0, 1e4, (200, 320)).round(2)


def meic_asc(path, values):
    header = "ncols 320\nnrows 200\nxllcorner 70\nyllcorner 10\ncellsize 0.25\nNODATA_value -9999\n"
    rows = "\n".join(" ".join(f"{v:.2f}" for v in row) for row in values)
    path.write_text(header + rows + "\n")
    return str(path)


def meic_nc(path, values):
    ds = xr.Dataset(
        {
            "x_range": ("side", [70.0, 150.0]), "y_range": ("side", [10.0, 60.0]), "z_range": ("side", [0.0, 1e4]),
            "spacing": ("side", [0.25, 0.25]), "dimension": ("side", np.array([320, 200], "i4")),
            "z": ("xysize", values.ravel().astype("f4")),
        }
    )  # fmt: skip
    ds.to_netcdf(path, engine="scipy")
    return str(path)


def test_meic_keeps_its_mass_by_sector_in_both_formats(tmp_path):
    place = tmp_path / "meic"
    place.mkdir()
    power, farm, home = (meic_values(k) for k in range(3))
    power[0, :3] = -9999.0
    meic_asc(place / "2020_01__power__CO2.asc", power)
    meic_nc(place / "2020_1_agriculture_CO2.nc", farm)
    meic_nc(place / "2020_01_residential_CO2.nc", home)
    assert ingest(tmp_path / "s", "meic", place).statuses == {"used": 3}
    ds = opened(tmp_path / "s", "meic")
    check(ds, input_schema("inventory_meic"), "cube")
    assert ds.attrs["ancestry"] == "meic"
    mass = dict(zip(labels(ds["sector"]), tonnes(ds)[0], strict=True))
    assert mass["power"] == pytest.approx(power[power >= 0].sum(), rel=1e-5)
    assert mass["residential"] == pytest.approx(farm.sum() + home.sum(), rel=1e-5)
    assert mass["industry"] == 0


def test_meic_rows_run_from_the_north(tmp_path):
    values = np.zeros((200, 320))
    values[0, 0], values[-1, -1] = 100.0, 7.0
    for name, write in (("2020_01_power_CO2.asc", meic_asc), ("2020_02_power_CO2.nc", meic_nc)):
        ingest(tmp_path / "s", "meic", write(tmp_path / name, values))
    ds = opened(tmp_path / "s", "meic").isel(sector=0)
    for time in (0, 1):
        field = ds["co2_flux"].isel(time=time)
        north_west = field.sel(lat=59.875, lon=70.125, method="nearest")
        assert float(north_west) > 0
        assert float(field.sel(lat=10.125, lon=149.875, method="nearest")) > 0
        assert float(field.sel(lat=10.125, lon=70.125, method="nearest")) == 0


def test_meic_counts_nothing_twice_and_refuses_other_species(tmp_path):
    ingest(tmp_path / "s", "meic", meic_asc(tmp_path / "2020_01_power_CO2.asc", meic_values()))
    twice = ingest(tmp_path / "s", "meic", meic_nc(tmp_path / "2020_1_power_CO2.nc", meic_values()))
    assert "is there already" in twice.problems[0]
    nox = ingest(tmp_path / "s", "meic", meic_asc(tmp_path / "2020_01_power_NOx.asc", meic_values()))
    assert "species 'NOX'" in nox.problems[0]
    broken = tmp_path / "2020_03_power_CO2.asc"
    broken.write_text(broken.with_name("2020_01_power_CO2.asc").read_text()[:5000])
    assert ingest(tmp_path / "s", "meic", broken).statuses == {"failed": 1}


@pytest.mark.parametrize(
    ("variable", "unit", "name"), [("fluxes", "kg m-2 s-1", "flx"), ("emissions", "Tonnes", "emi")]
)
def test_edgar_years_are_held_for_their_months(tmp_path, variable, unit, name):
    value = np.random.default_rng(0).uniform(0, 1e-7 if name == "flx" else 1e4, (LAT.size, LON.size))
    path = netcdf(tmp_path / f"v8.0_FT2022_GHG_CO2_2020_TOTALS_{name}.nc", {variable: (unit, value)})
    ingest(tmp_path / "s", "edgar", path)
    ds = opened(tmp_path / "s", "edgar")
    check(ds, input_schema("inventory_edgar"), "cube")
    assert labels(ds["sector"]) == ["total"]
    mass = tonnes(ds)
    assert mass.shape == (12, 1)
    areas = cell_areas(Axis.of(LAT), Axis.of(LON))
    expected = (value * areas).sum() * 366 * 86400 / 1000 if name == "flx" else value.sum()
    assert mass.sum() == pytest.approx(expected, rel=1e-5)


def test_edgar_sectors_are_ours_and_do_not_mix_with_totals(tmp_path):
    value = np.full((LAT.size, LON.size), 12.0)
    for code in ("ENE", "IND", "NMM", "TRO_noRES", "RCO"):
        path = netcdf(tmp_path / f"v8.0_FT2022_GHG_CO2_2020_{code}_emi.nc", {"emissions": ("Tonnes", value)})
        assert ingest(tmp_path / "s", "edgar", path).statuses == {"used": 1}
    mass = tonnes(opened(tmp_path / "s", "edgar")).sum(axis=0)
    assert mass == pytest.approx(value.sum() * np.array([1, 2, 1, 1]), rel=1e-5)
    ship = netcdf(tmp_path / "v8.0_FT2022_GHG_CO2_2020_TNR_Ship_emi.nc", {"emissions": ("Tonnes", value)})
    assert "shipping" in ingest(tmp_path / "s", "edgar", ship).problems[0]
    total = netcdf(tmp_path / "v8.0_FT2022_GHG_CO2_2020_TOTALS_emi.nc", {"emissions": ("Tonnes", value)})
    with pytest.raises(InputError, match="counted twice"):
        ingest(tmp_path / "s", "edgar", total)


def test_edgar_says_what_it_does_not_know(tmp_path):
    value = np.ones((LAT.size, LON.size))
    carbon = netcdf(tmp_path / "v8.0_FT2022_GHG_CO2_2020_TOTALS_emi.nc", {"emissions": ("Gg C", value)})
    assert "units 'ggc'" in ingest(tmp_path / "s", "edgar", carbon).problems[0]
    methane = netcdf(tmp_path / "v8.0_FT2022_GHG_CH4_2020_TOTALS_emi.nc", {"emissions": ("Tonnes", value)})
    assert "does not say CO2" in ingest(tmp_path / "s", "edgar", methane).problems[0]


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("v8.0_FT2022_GHG_CO2_2020_TOTALS_emi.nc", (2020, "TOTALS")),
        ("EDGAR_2024_GHG_CO2_2022_TOTALS_emi.nc", (2022, "TOTALS")),
        ("v8.0_FT2022_GHG_CO2_2020_bkl_POWER_INDUSTRY_emi.nc", (2020, "POWER_INDUSTRY")),
        ("v6.0_CO2_excl_short-cycle_org_C_2018_ENE.0.1x0.1.nc", (2018, "ENE")),
        ("v6.0_CO2_excl_short-cycle_org_C_2018_TRO_noRES.0.1x0.1.nc", (2018, "TRO_NORES")),
        ("v50_CO2_excl_short-cycle_org_C_1978.0.1x0.1.nc", (1978, "TOTALS")),
        ("v6.0_CO2_org_short-cycle_C_1970_TOTALS.0.1x0.1.nc", "biofuel"),
        ("v8.0_FT2022_GHG_CO2bio_2020_TOTALS_emi.nc", "biofuel"),
        ("v50_CO2_excl_short-cycle_org_C_2015_1_ENE.0.1x0.1.nc", "single month"),
        ("v8.0_FT2022_GHG_CO2_2020_TNR_Aviation_CRS_emi.nc", "cruise flight"),
        ("v8.0_FT2022_GHG_CO2_2020_TRO_RES_emi.nc", "'TRO_RES_emi'"),
        ("v8.0_FT2022_GHG_CO2_2020_AWB_emi.nc", "'AWB_emi'"),
    ],
)
def test_edgar_names_say_year_species_and_sector(name, found):
    if isinstance(found, tuple):
        assert _edgar_name(name) == found
    else:
        with pytest.raises(Rejected, match=found):
            _edgar_name(name)


def test_two_divisions_of_edgar_are_counted_twice(tmp_path):
    value = np.full((LAT.size, LON.size), 12.0)
    first, second = (
        netcdf(tmp_path / f"v8.0_FT2022_GHG_CO2_2020_{code}_emi.nc", {"emissions": ("Tonnes", value)})
        for code in ("ENE", "bkl_POWER_INDUSTRY")
    )
    ingest(tmp_path / "s", "edgar", first)
    with pytest.raises(InputError, match="counted twice"):
        ingest(tmp_path / "s", "edgar", second)


def test_months_of_edgar_hold_tonnes_of_their_month(tmp_path):
    value = np.random.default_rng(3).uniform(0, 1e4, (12, LAT.size, LON.size))
    times = np.array([f"2020-{m:02d}-01" for m in range(1, 13)], "datetime64[ns]")
    path = netcdf(tmp_path / "v8.0_FT2022_GHG_CO2_2020_bkl_TRANSPORT_emi.nc", {"emissions": ("Tonnes", value)}, times)
    ingest(tmp_path / "s", "edgar", path)
    np.testing.assert_allclose(tonnes(opened(tmp_path / "s", "edgar"))[:, 2], value.sum(axis=(1, 2)), rtol=1e-5)


def test_odiac_is_carbon_and_becomes_co2(tmp_path):
    value = np.random.default_rng(0).uniform(0, 100, (240, 360)).astype("f4")
    path = tiff(tmp_path / "odiac2022_1km_excl_intl_2102.tif", value, 110, 32, 1 / 120)
    ingest(tmp_path / "s", "odiac", path)
    ds = opened(tmp_path / "s", "odiac")
    check(ds, input_schema("inventory_odiac"), "cube")
    assert tonnes(ds)[1, 0] == pytest.approx(value.astype("f8").sum() * CO2_PER_C, rel=1e-5)
    assert pytest.approx(44 / 12, rel=2e-3) == CO2_PER_C
    assert ds["co2_flux"].isel(time=0).isnull().all()


def test_gridfed_group_holds_kg_a_month(tmp_path):
    value = np.random.default_rng(0).uniform(0, 1e6, (12, LAT.size, LON.size))
    times = np.array([f"2021-{m:02d}-15" for m in range(1, 13)], "datetime64[ns]")
    path = netcdf(tmp_path / "GCP-GridFEDv2022.2_2021.nc", {"TOTAL": ("kg CO2", value)}, times, group="CO2")
    assert ingest(tmp_path / "s", "gridfed", path).statuses == {"used": 1}
    mass = tonnes(opened(tmp_path / "s", "gridfed"))[:, 0]
    np.testing.assert_allclose(mass, value.sum(axis=(1, 2)) / 1000, rtol=1e-5)


def test_gridfed_axes_may_stand_in_the_root_of_the_file(tmp_path):
    value = np.random.default_rng(0).uniform(0, 1e6, (12, LAT.size, LON.size))
    path = tmp_path / "GCP-GridFEDv2024.0_2021.nc"
    with netCDF4.Dataset(path, "w") as file:
        for name, axis in (("time", np.arange(12)), ("lat", LAT), ("lon", LON)):
            file.createDimension(name, len(axis))
            file.createVariable(name, "f8", (name,))[:] = axis
        file["time"].units = "days since 2021-01-01"
        total = file.createGroup("CO2").createVariable("TOTAL", "f8", ("time", "lat", "lon"), zlib=True)
        total[:], total.units = value, "kg CO2 cell-1 month-1"
    assert ingest(tmp_path / "s", "gridfed", path).statuses == {"used": 1}
    mass = tonnes(opened(tmp_path / "s", "gridfed"))[:, 0]
    np.testing.assert_allclose(mass, value.sum(axis=(1, 2)) / 1000, rtol=1e-5)


@pytest.mark.parametrize("unit", ["kg C", "kg C cell-1 month-1", "kg CO2 m-2 s-1", "kg CO2 year-1", "t CO2", ""])
def test_gridfed_in_other_units_is_refused(tmp_path, unit):
    times = np.array([f"2021-{m:02d}-15" for m in range(1, 13)], "datetime64[ns]")
    value = np.ones((12, LAT.size, LON.size))
    path = netcdf(tmp_path / "GCP-GridFEDv2022.2_2021.nc", {"TOTAL": (unit, value)}, times, group="CO2")
    assert "expected kg CO2 cell-1 month-1" in ingest(tmp_path / "s", "gridfed", path).problems[0]


def test_ceds_sectors_by_number_without_shipping(tmp_path):
    value = np.zeros((2, 8, LAT.size, LON.size))
    value += np.arange(1, 9)[None, :, None, None] * 1e-9
    times = np.array(["2019-01-16", "2019-02-15"], "datetime64[ns]")
    ds = xr.Dataset(
        {"CO2_em_anthro": (("time", "sector", "lat", "lon"), value, {"units": "kg m-2 s-1"})},
        {"time": times, "sector": np.arange(8), "lat": LAT, "lon": LON},
    )
    ds.to_netcdf(tmp_path / "CO2-em-anthro_CEDS.nc", engine="h5netcdf")
    ingest(tmp_path / "s", "ceds", tmp_path / "CO2-em-anthro_CEDS.nc")
    found = opened(tmp_path / "s", "ceds")["co2_flux"].isel(time=0, lat=0, lon=0).values
    assert found == pytest.approx(np.array([2, 3 + 6, 4, 1 + 5 + 7]) * 1e-9, rel=1e-6)


def test_graced_days_become_months_of_co2(tmp_path):
    days = calendar.monthrange(2021, 2)[1]
    value = np.random.default_rng(0).uniform(0, 50, (days, LAT.size, LON.size))
    times = np.datetime64("2021-02-01", "ns") + np.arange(days) * np.timedelta64(1, "D")
    layers = {"power": ("kg C h-1", value), "ground transport": ("kg C h-1", value * 0.5)}
    ingest(tmp_path / "s", "graced", netcdf(tmp_path / "a.nc", layers, times))
    mass = dict(
        zip(("power", "industry", "transport", "residential"), tonnes(opened(tmp_path / "s", "graced"))[1], strict=True)
    )
    assert mass["power"] == pytest.approx(value.sum() * 24 * CO2_PER_C / 1000, rel=1e-5)
    assert mass["transport"] == pytest.approx(mass["power"] / 2, rel=1e-5)
    part = netcdf(tmp_path / "b.nc", {"power": ("kg C h-1", value[:10])}, times[:10])
    assert "10 of 28 days" in ingest(tmp_path / "t", "graced", part).problems[0]


def test_tropess_nitrogen_becomes_nitrogen_dioxide(tmp_path):
    value = np.full((12, LAT.size, LON.size), 1e-11)
    times = np.array([f"2021-{m:02d}-15" for m in range(1, 13)], "datetime64[ns]")
    ingest(tmp_path / "s", "tropess", netcdf(tmp_path / "nox.nc", {"nox": ("kgN/m2/s", value)}, times))
    ds = open_cube(Store(str(tmp_path / "s")), "inputs/nox_tropess.zarr", chunks=None)
    assert float(ds["nox_flux"].max()) == pytest.approx(1e-11 * 46.0055 / 14.0067, rel=1e-4)
    wrong = netcdf(tmp_path / "b.nc", {"nox": ("kg m-2 s-1", value)}, times)
    assert "expected kgN/m2/s" in ingest(tmp_path / "s", "tropess", wrong).problems[0]
