import numpy as np
import shapely

from pipeline.core.grid import Grid
from pipeline.core.points import check_points
from pipeline.core.provinces import PROVINCES
from pipeline.core.schema import SECTORS
from pipeline.world.geography import annual_totals, national_regions, outline, regions_within, table
from pipeline.world.physics import Physics
from pipeline.world.plants import listed, plants, region_of, running
from pipeline.world.settlements import settle


def test_regions_are_all_provinces_without_overlap():
    regions = national_regions()
    assert regions.codes == tuple(p.code for p in PROVINCES)
    assert all(p.is_valid and p.area > 0 for p in regions.polygons)
    together = shapely.union_all(regions.polygons)
    assert together.area == np.float64(sum(p.area for p in regions.polygons)).round(12) or np.isclose(
        together.area, sum(p.area for p in regions.polygons), rtol=1e-9
    )


def test_areas_are_of_the_right_order():
    regions, grid = national_regions(), Grid.from_bounds(73, 17, 136, 55, 10)
    index = regions.index(grid)
    area = {n: grid.area[index == k].sum() / 1e12 for k, n in enumerate(regions.names)}
    assert 9.0 < sum(area.values()) < 10.2
    for name, km2 in {"Xinjiang": 1.66, "Sichuan": 0.486, "Hebei": 0.188, "Guangdong": 0.18}.items():
        assert 0.6 < area[name] / km2 < 1.5, name


def test_every_city_lies_in_its_province():
    cities, regions = table("cities"), national_regions()
    found = region_of(regions, cities["lat"].to_numpy(), cities["lon"].to_numpy())
    wrong = cities["name"][np.array([regions.names[k] for k in found]) != cities["province"]]
    assert (found >= 0).all()
    assert list(wrong) == []


def test_every_known_plant_lies_on_land():
    known = table("point_sources")
    assert (region_of(national_regions(), known["lat"].to_numpy(), known["lon"].to_numpy()) >= 0).all()


def test_totals_are_of_the_order_of_inventories():
    total = annual_totals()
    assert total.shape == (34, len(SECTORS))
    assert 10.5e9 < total.sum() < 11.8e9


def test_regions_within_a_box_are_cut():
    grid = Grid.from_bounds(113, 34, 117, 38, 4)
    regions = regions_within(national_regions(), grid)
    assert {"Hebei", "Henan", "Shandong"} <= set(regions.names)
    assert "Xinjiang" not in regions.names
    assert shapely.box(*grid.bounds).buffer(1e-9).covers(shapely.union_all(regions.polygons))


def test_people_add_up():
    towns = settle(0)
    people = towns.people[:, 3].sum() + towns.rural[:, 3].sum()
    assert np.isclose(people, table("cities")["population"].sum() * 1e3, rtol=1e-6)


def test_roads_are_bent_but_whole():
    ends, traffic = settle(0).roads
    pieces = ends.reshape(-1, 16, 4)
    np.testing.assert_allclose(pieces[:, 1:, :2], pieces[:, :-1, 2:])
    assert (traffic > 0).all()


def test_plants_fill_the_provinces():
    table_ = plants(national_regions(), Physics(), 0)
    power = table_["sector"] == "power"
    assert 1000 < power.sum() < 3500
    tonnes = running(table_.assign(deviation=1.0), 2019)
    ratio = np.bincount(table_["region"][power], tonnes[power], 34) / annual_totals()[:, 0]
    assert 0.7 < np.median(ratio) < 1.3


def test_a_known_share_is_unlisted():
    everything = plants(national_regions(), Physics(), 1)
    seen = check_points(listed(everything), "test")
    assert 0.10 < 1 - len(seen) / len(everything) < 0.14
    assert plants(national_regions(), Physics(unlisted=False), 1)["listed"].all()


def test_unlisted_switch_leaves_all_else():
    on, off = (plants(national_regions(), Physics(unlisted=flag), 2) for flag in (True, False))
    np.testing.assert_array_equal(on["deviation"], off["deviation"])
    np.testing.assert_array_equal(on["lat"], off["lat"])


def test_outline_claims_nothing():
    assert "claims none" in outline()["about"]
