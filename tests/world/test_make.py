"""A whole small world: contract, truth that adds up, seeds, growing by years, refusals."""

import hashlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import pipeline.world
from pipeline.core.errors import InputError, UsageError
from pipeline.core.grid import block_sum, domain_grid
from pipeline.core.labels import labels
from pipeline.core.points import check_points
from pipeline.core.regions import Regions
from pipeline.core.schema import PRIOR_TOTAL_COLUMNS, SECTORS, check, input_schema
from pipeline.store.cubes import open_cube
from pipeline.store.location import Store
from pipeline.world.__main__ import main, numbers
from pipeline.world.beliefs import believed_totals
from pipeline.world.geography import national_regions
from pipeline.world.make import make_world
from pipeline.world.physics import PRIOR_SIGMA_SECTOR, Physics, ideal
from pipeline.world.plan import Plan

DOMAIN = domain_grid("113,35,115,37")
INPUTS = ("no2_tropomi", "xco2_oco2", "era5", "nightlights", "population")


def make(folder, years=(2022,), months=(2,), **options):
    store = Store(str(folder))
    make_world(store, years, domain=DOMAIN, months=months, **options)
    return store


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return make(tmp_path_factory.mktemp("world"), seed=3)


def hashes(store, *cubes):
    found = {}
    for cube in cubes:
        for path in sorted(store.fs.find(store.path(cube))):
            if "/c/" in path and "/time/" not in path:
                found[path[len(store.root) :]] = hashlib.sha256(store.fs.cat_file(path)).hexdigest()
    return found


@pytest.mark.parametrize("name", INPUTS)
def test_inputs_keep_the_contract(world, name):
    ds = check(open_cube(world, f"inputs/{name}.zarr"), input_schema(name), name)
    assert ds.attrs["synthetic"] == "true"
    assert ds.attrs["seed"] == 3
    assert {"title", "source", "license", "schema_version"} <= set(ds.attrs)


def test_times_are_those_asked_for(world):
    assert open_cube(world, "inputs/no2_tropomi.zarr")["time"].size == 28
    assert open_cube(world, "inputs/era5.zarr")["time"].size == 28 * 8
    assert str(open_cube(world, "inputs/population.zarr")["time"].values[0])[:10] == "2022-01-01"


def test_satellites_and_weather_reach_beyond_the_domain(world):
    no2, era5 = (open_cube(world, f"inputs/{n}.zarr") for n in ("no2_tropomi", "era5"))
    assert float(no2["lon"][0]) < 113 - 2
    assert float(era5["lat"][-1]) > float(no2["lat"][-1]) + 1


def test_tables_keep_the_contract(world):
    points = check_points(pd.read_parquet(world.path("inputs/point_sources.parquet")), "points")
    assert points["name"].str.contains("Synthetic").any()
    regions = Regions.from_geojson(world.read_bytes("inputs/regions.geojson"), "regions")
    assert {"Henan", "Hebei", "Shanxi"} <= set(regions.names)
    prior = pd.read_csv(world.path("inputs/prior_totals.csv"), dtype={"region": str})
    assert tuple(prior.columns) == PRIOR_TOTAL_COLUMNS
    assert set(prior["region"]) == {"CN", *regions.codes}


def test_truth_adds_up(world):
    coarse = open_cube(world, "truth/emissions_025.zarr").load()
    fine = open_cube(world, "truth/emissions_001.zarr").load()
    assert tuple(labels(coarse["sector"])) == SECTORS
    parameters = world.read_json("truth/parameters.json")
    annual = np.array([[row[s] for s in SECTORS] for row in parameters["years"]["2022"]["co2_t"].values()])
    np.testing.assert_allclose(
        fine["co2_emission"].sum(("time", "lat", "lon"), dtype="float64"), annual.sum(0), rtol=1e-5
    )
    month = coarse["co2_emission"].sum(("lat", "lon"), dtype="float64").values[0] / annual.sum(0)
    # February 2022: the Lunar New Year's dip, heating.
    assert (month[:3] > 0.04).all()
    assert (month[:3] < 0.085).all()
    assert month[3] > 1 / 12
    pattern = block_sum(fine["co2_emission"].values[0])
    seen = coarse["co2_emission"].values[0]
    for s in range(4):
        assert np.corrcoef(pattern[s].ravel(), seen[s].ravel())[0, 1] > 0.99


def test_nox_follows_the_ratios(world):
    truth, parameters = open_cube(world, "truth/emissions_025.zarr").load(), world.read_json("truth/parameters.json")
    ratios = np.array([list(r.values()) for r in parameters["ratio_kg_nox_per_t_co2"].values()])
    co2 = truth["co2_emission"].sum(("time", "lat", "lon"), dtype="float64").values
    low, high = (ratios.min(0) * co2).sum(), (ratios.max(0) * co2).sum()
    # Soils add a few per cent in February.
    assert low < float(truth["nox_emission"].sum(dtype="float64")) < 1.1 * high


def test_beliefs_are_off_and_say_so(world):
    about = world.read_json("inputs/prior_totals.json")
    assert about["ancestry"] == []
    prior = pd.read_csv(world.path("inputs/prior_totals.csv"), dtype={"region": str})
    nation = prior.loc[prior["region"] == "CN", "co2_tonnes"].item()
    truth = sum(sum(r.values()) for r in world.read_json("truth/parameters.json")["years"]["2022"]["co2_t"].values())
    assert nation / truth - 1 == pytest.approx(about["national_error"], abs=1e-6)
    assert abs(about["national_error"]) > 1e-3
    assert prior.loc[prior["region"] == "CN", "sigma_rel"].item() == 0.07


def test_believed_totals_err_alone_or_together(world):
    regions, totals = national_regions(), {2022: np.full((34, 4), 1e6)}
    apart, together = (
        believed_totals(regions, regions.codes, totals[2022], 2022, plan)
        for plan in (Plan(world, 5, Physics(common_belief=flag), (2022,), (1,)) for flag in (False, True))
    )
    rows = [t.loc[t["region"] != "CN", "co2_tonnes"].to_numpy() for t, _ in (apart, together)]
    np.testing.assert_allclose(rows[1] / rows[0], 1 + apart[1])
    errors = np.log(rows[0].reshape(34, 4) / 1e6).std(axis=0)
    np.testing.assert_allclose(errors, PRIOR_SIGMA_SECTOR, rtol=0.35)


def test_believed_national_errors_are_normal_with_seven_per_cent(world):
    regions, totals = national_regions(), np.full((34, 4), 1e6)
    plans = (Plan(world, seed, Physics(), (2022,), (1,)) for seed in range(150))
    drawn = [believed_totals(regions, regions.codes, totals, 2022, plan)[1] for plan in plans]
    assert np.std(drawn) == pytest.approx(0.07, rel=0.2)
    assert abs(np.mean(drawn)) < 0.02


def test_an_interrupted_world_is_made_again(tmp_path):
    def dies(fn, args):
        if fn.__name__ == "make_month":
            raise KeyboardInterrupt
        return map(fn, args)

    with pytest.raises(KeyboardInterrupt):
        make(tmp_path, map_units=dies)
    assert not Store(str(tmp_path)).exists("inputs/era5.zarr")
    store = make(tmp_path)
    assert open_cube(store, "inputs/era5.zarr")["time"].size == 28 * 8
    assert not store.names("work", "staging")


def test_the_nature_run_shares_nothing_with_the_inversion():
    room = Path(pipeline.world.__file__).parent
    for module in room.glob("*.py"):
        for other in ("transport", "invert", "learn", "ingest", "regrid", "product"):
            assert f"from pipeline.{other}" not in module.read_text(), module.name


def test_unlisted_plants_are_in_no_input(world):
    hidden = {p["name"] for p in world.read_json("truth/parameters.json")["years"]["2022"]["unlisted"]}
    assert hidden
    assert not hidden & set(pd.read_parquet(world.path("inputs/point_sources.parquet"))["name"])


def test_inputs_tell_nothing_of_the_truth(world):
    for name in INPUTS:
        attrs = open_cube(world, f"inputs/{name}.zarr").attrs
        assert not {"physics", "gain", "lifetime", "ratio_kg_nox_per_t_co2", "co2_t"} & set(attrs)
    assert not world.names("work", "world")


def test_the_plume_is_seen_where_it_is_emitted(world):
    no2 = open_cube(world, "inputs/no2_tropomi.zarr").load()["no2_column"].mean("time")
    nox = open_cube(world, "truth/emissions_025.zarr").load()["nox_emission"][0]
    inside = no2.sel(lat=nox["lat"], lon=nox["lon"])
    assert np.corrcoef(inside.values.ravel(), nox.values.ravel())[0, 1] > 0.4
    assert 2e-5 < float(inside.mean()) < 5e-4


def test_same_seed_same_bytes_in_any_order_and_in_parallel(world, tmp_path):
    with ThreadPoolExecutor(2) as pool:
        other = make(tmp_path / "other", seed=3, months=(3,), map_units=pool.map)
        make(tmp_path / "other", seed=3, map_units=pool.map)
    cubes = ("inputs/nightlights.zarr", "inputs/population.zarr", "truth/emissions_001.zarr")
    assert hashes(other, *cubes) == hashes(world, *cubes)
    for name in ("inputs/no2_tropomi.zarr", "inputs/era5.zarr", "truth/emissions_025.zarr"):
        mine, theirs = open_cube(world, name).load(), open_cube(other, name).load()
        assert theirs["time"].size > mine["time"].size
        assert theirs.sel(time=mine["time"]).drop_attrs().identical(mine.drop_attrs())


def test_a_later_year_is_added(tmp_path):
    store = make(tmp_path, physics=ideal())
    before = hashes(store, "inputs/nightlights.zarr")
    make(tmp_path, years=(2021,), physics=ideal())
    lights = open_cube(store, "inputs/nightlights.zarr")
    assert lights["time"].dt.year.values.tolist() == [2021, 2022]
    assert set(before.values()) <= set(hashes(store, "inputs/nightlights.zarr").values())
    prior = pd.read_csv(store.path("inputs/prior_totals.csv"))
    assert sorted(set(prior["year"])) == [2021, 2022]
    assert set(store.read_json("truth/parameters.json")["years"]) == {"2021", "2022"}
    assert float(open_cube(store, "inputs/no2_tropomi.zarr")["no2_column"].isnull().mean()) == 0


def test_another_seed_is_another_world_and_not_mixed(world, tmp_path):
    with pytest.raises(InputError, match="holds a world with seed 3; expected 4"):
        make(world.url, seed=4)
    other = make(tmp_path, seed=4)
    a, b = (open_cube(s, "truth/emissions_025.zarr").load()["co2_emission"] for s in (world, other))
    assert not np.array_equal(a, b)
    assert float(a.sum()) == pytest.approx(float(b.sum()), rel=0.5)


def test_real_inputs_are_not_written_over(tmp_path):
    store = Store(str(tmp_path))
    store.write_bytes(b"x", "inputs/regions.geojson")
    with pytest.raises(InputError, match=r"has inputs/regions\.geojson and no truth.*--on"):
        make(tmp_path)


@pytest.mark.parametrize(("years", "months"), [((), (1,)), ((2022,), (13,)), ((2022,), (0, 1))])
def test_wrong_times_are_refused(tmp_path, years, months):
    with pytest.raises(UsageError, match=r"months 1\.\.12"):
        make(tmp_path, years, months)


def test_a_store_in_memory():
    store = Store("memory://world-test")
    make_world(store, [2022], domain=domain_grid("113,35,114,36"), months=[1], physics=ideal())
    assert open_cube(store, "inputs/no2_tropomi.zarr")["no2_column"].shape[0] == 31


def test_command_line(tmp_path, capsys):
    options = ["--store", str(tmp_path), "--domain", "113,35,114,36", "--months", "1", "--workers", "1"]
    assert main([*options, "--switch-off", "clouds", "--seed", "9"]) == 0
    assert "synthetic" in capsys.readouterr().out
    assert Store(str(tmp_path)).read_json("truth/parameters.json")["physics"]["clouds"] is False


def test_command_line_refuses(tmp_path, capsys):
    assert main(["--store", str(tmp_path), "--switch-off", "gravity"]) == 2
    assert "switch 'gravity'; expected one of gain" in capsys.readouterr().err
    assert main(["--store", str(tmp_path), "--year", "soon"]) == 2
    assert main(["--on", str(tmp_path), "--domain", "shanxi"]) == 2


def test_numbers():
    assert numbers("2019-2021,2023") == [2019, 2020, 2021, 2023]


def test_switches():
    assert Physics().switched(off=("clouds",), on=("gain",)) == Physics(clouds=False, gain=True)
    assert not any(ideal().as_dict().values())
