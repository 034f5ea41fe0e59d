"""The kernels of the engine, each against its equation or a second way."""

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.regrid.esmpy_engine.bilinear import bilinear, locate
from pipeline.regrid.esmpy_engine.cells import Cells, degenerate, quads
from pipeline.regrid.esmpy_engine.conservative import clip, convex_parts, normalise, overlaps
from pipeline.regrid.esmpy_engine.nearest import inverse_distance, source_to_target, target_to_source
from pipeline.regrid.esmpy_engine.pole import pole_fan
from pipeline.regrid.esmpy_engine.sphere import box_pairs, boxes, polygon_area, to_xyz
from pipeline.regrid.esmpy_engine.weights import Triplets


def box(west, south, east, north):
    lon, lat = np.array([[west, east, east, west]], float), np.array([[south, south, north, north]], float)
    return lon, lat, to_xyz(lon, lat)


def test_an_octant_is_an_eighth_of_the_sphere():
    corners = to_xyz(np.array([[0.0, 90.0, 0.0]]), np.array([[0.0, 0.0, 90.0]]))
    assert polygon_area(corners) == pytest.approx(4 * np.pi / 8, rel=1e-14)
    assert polygon_area(corners[:, ::-1]) == pytest.approx(-4 * np.pi / 8, rel=1e-14)


@given(st.floats(-80, 80), st.floats(1e-4, 30))
@settings(max_examples=40, deadline=None)
def test_area_of_a_lune_piece(south, width):
    """Below a great circle between equal latitudes f lies 2 atan(tan(w / 2) sin f)."""
    north = south + min(width, 85 - south)
    xyz = box(10, south, 10 + width, north)[2]
    w = np.deg2rad(width)
    below = 2 * np.arctan(np.tan(w / 2) * np.sin(np.deg2rad([south, north])))
    assert polygon_area(xyz)[0] == pytest.approx(below[1] - below[0], rel=1e-9)


def test_area_of_a_concave_polygon_is_the_sum_of_its_parts():
    lon, lat = np.array([[0.0, 2, 2, 1, 0]]), np.array([[0.0, 0, 2, 1, 2]])
    whole = polygon_area(to_xyz(lon, lat))
    left, right = [0, 1, 3, 4], [1, 2, 3]
    parts = sum(polygon_area(to_xyz(lon[:, k], lat[:, k]))[0] for k in (left, right))
    assert whole[0] == pytest.approx(parts, rel=1e-12)


@given(st.integers(0, 10_000))
@settings(max_examples=60, deadline=None)
def test_clipping_agrees_with_the_plane_where_the_sphere_is_flat(seed):
    """Near (0, 0) a cell of 1e-3 degree is flat to 1e-10: shapely's planar overlap is the reference."""
    rng = np.random.default_rng(seed)
    angle = np.sort(rng.random((2, 4)), axis=1) * 2 * np.pi
    shift = rng.normal(0, 4e-4, (2, 2, 1))
    lon, lat = (1e-3 * f(angle) + shift[:, k] for k, f in enumerate((np.cos, np.sin)))
    flat = [shapely.Polygon(np.stack([x, y], 1)) for x, y in zip(lon, lat, strict=True)]
    expected = np.deg2rad(1) ** 2 * flat[0].intersection(flat[1]).area
    xyz = to_xyz(lon, lat)
    assert polygon_area(clip(xyz[:1], xyz[1:]))[0] == pytest.approx(expected, abs=1e-8 * np.deg2rad(1e-3) ** 2)


def test_a_concave_polygon_is_clipped_to_its_true_area():
    lon, lat = np.array([[0.0, 2, 2, 1, 0]]) * 1e-3, np.array([[0.0, 0, 2, 0.5, 2]]) * 1e-3
    window = box(0, 1e-3, 2e-3, 3e-3)
    expected = shapely.Polygon(np.stack([lon[0], lat[0]], 1)).intersection(shapely.box(0, 1e-3, 2e-3, 3e-3)).area
    got = polygon_area(clip(to_xyz(lon, lat), window[2]))[0]
    assert got == pytest.approx(np.deg2rad(1) ** 2 * expected, rel=1e-7)


def test_concave_quads_are_split_and_clockwise_ones_turned():
    lon, lat = np.array([[0.0, 0, 2, 2], [0, 2, 0.5, 0]]), np.array([[0.0, 2, 2, 0], [0, 0, 0.5, 2]])
    parts, owner = convex_parts(to_xyz(lon, lat))
    assert owner.tolist() == [0, 1, 1]
    areas = polygon_area(parts)
    assert (areas > 0).all()
    assert np.bincount(owner, areas) == pytest.approx(np.abs(polygon_area(to_xyz(lon, lat))), rel=1e-12)


@pytest.mark.parametrize("lon0", [0.0, 178.0, 359.0, -1.0, 540.0])
def test_overlaps_do_not_depend_on_where_longitude_is_cut(lon0):
    a, b = box(lon0, 10, lon0 + 2, 12), box(1.0, 11.0, 2.5, 13.0)
    b = box(b[0][0, 0] + lon0 - 360 * (lon0 > 300), 11.0, 2.5 + lon0 - 360 * (lon0 > 300), 13.0)
    found = overlaps(a[2], boxes(*a[:2]), b[2], boxes(*b[:2]))
    here = overlaps(*(v for g in (box(0, 10, 2, 12), box(1, 11, 2.5, 13)) for v in (g[2], boxes(*g[:2]))))
    assert found.weight == pytest.approx(here.weight, rel=1e-10)


def test_boxes_hold_a_cap_around_the_pole():
    lon, lat = np.array([[0.0, 90, 180, 270]]), np.full((1, 4), 80.0)
    point = boxes(np.array([[200.0]]), np.array([[89.0]]))
    assert len(box_pairs(point, boxes(lon, lat))[0]) == 1
    assert len(box_pairs(point, boxes(lon, -lat))[0]) == 0


def test_overlaps_of_the_whole_globe_fill_it():
    edges = np.meshgrid(np.linspace(0, 360, 13), np.linspace(-90, 90, 7))
    other = np.meshgrid(np.linspace(-180, 180, 9), np.linspace(-90, 90, 6))
    grids = [quads(*g) for g in (edges, other)]
    parts = [(g.xyz[g.corner], boxes(g.lon[g.corner], g.lat[g.corner])) for g in grids]
    found = overlaps(*parts[0], *parts[1])
    assert found.weight.sum() == pytest.approx(4 * np.pi, rel=1e-12)
    by_source = np.bincount(found.col, found.weight)
    assert by_source == pytest.approx(np.abs(polygon_area(parts[0][0])), rel=1e-10)


def test_normalised_weights_sum_to_one_or_to_the_covered_part():
    overlap = Triplets(np.array([0, 0, 1]), np.array([0, 1, 1]), np.array([1.0, 2.0, 1.0]))
    area = np.array([3.0, 4.0])
    whole, covered = (normalise(overlap, area, by).summed(2) for by in (False, True))
    assert np.bincount(whole.row, whole.weight).tolist() == [1.0, 0.25]
    assert np.bincount(covered.row, covered.weight).tolist() == [1.0, 1.0]


def skewed(n=7):
    x, y = np.meshgrid(np.arange(n), np.arange(n))
    return quads(100.0 + x + 0.3 * y, 30.0 + y - 0.2 * x + 0.02 * x * y)


@given(st.integers(0, 10_000))
@settings(max_examples=30, deadline=None)
def test_bilinear_weights_point_back_at_the_target(seed):
    """sum of N_i X_i, brought to unit length, is the target."""
    cells = skewed()
    rng = np.random.default_rng(seed)
    lon, lat = rng.uniform(102, 106, 20), rng.uniform(31, 34, 20)
    xyz = to_xyz(lon, lat)
    weights = bilinear(cells, lon, lat, xyz)
    assert len(weights.row)
    for k in np.unique(weights.row):
        mine = weights.row == k
        point = weights.weight[mine] @ cells.xyz[weights.col[mine]]
        assert point / np.linalg.norm(point) == pytest.approx(xyz[k], abs=1e-13)
        assert weights.weight[mine].sum() == pytest.approx(1, abs=1e-13)


def test_points_on_edges_are_found_once_and_points_outside_not():
    cells = quads(*np.meshgrid(np.arange(4.0), np.arange(4.0)))
    lon, lat = np.array([1.0, 1.5, 0.0, 3.0, -1e-9, -1e-5, 9.0]), np.array([1.0, 0.0, 0.0, 3.0, 1.5, 1.5, 1.0])
    point, *_ = locate(cells, lon, lat, to_xyz(lon, lat))
    assert point.tolist() == [0, 1, 2, 3, 4]


def test_cells_without_width_are_told_from_pole_triangles():
    lon, lat = np.meshgrid([0.0, 1.0, 1.0], [80.0, 90.0])
    assert degenerate(quads(lon, lat)).tolist() == [False, True]


def test_the_fan_at_the_pole_keeps_constants_and_takes_the_mean_there():
    lon, lat = np.arange(0, 360, 30.0), np.full(12, 80.0)
    target = np.array([15.0, 0.0]), np.array([90.0, 85.0])
    fan = pole_fan(np.arange(12), lon, lat, to_xyz(lon, lat), (*target, to_xyz(*target))).summed(12)
    value = np.bincount(fan.row, fan.weight * lon[fan.col])
    assert np.bincount(fan.row, fan.weight) == pytest.approx([1, 1], abs=1e-13)
    assert value[0] == pytest.approx(lon.mean(), abs=1e-9)
    assert fan.weight[(fan.row == 1) & (fan.col == 0)] > 0.5


def test_ties_go_to_the_lowest_id():
    ids = np.array([7, 3])
    points = to_xyz(np.array([1.0, -1.0]), np.zeros(2))
    middle = to_xyz(np.zeros(1), np.zeros(1))
    assert source_to_target(points, ids, middle, np.array([0])).col.tolist() == [3]
    assert target_to_source(middle, np.array([5]), points, ids).row.tolist() == [3]


def test_inverse_distance_weights_and_a_source_at_the_target():
    points = to_xyz(np.array([0.0, 1.0, 4.0]), np.zeros(3))
    got = inverse_distance(points, np.arange(3), to_xyz(np.array([2.0, 1.0]), np.zeros(2)), np.arange(2), 2.0, 8)
    got = got.summed(3)
    distance = np.linalg.norm(points - to_xyz(np.array([2.0]), np.zeros(1)), axis=1)
    assert got.weight[:3] == pytest.approx(distance**-2 / (distance**-2).sum())
    assert got.weight[3:].tolist() == [0, 1, 0]


def test_nothing_near_gives_no_weights():
    none = np.zeros((0, 3)), np.zeros(0, int)
    one = to_xyz(np.zeros(1), np.zeros(1)), np.zeros(1, int)
    for function in (source_to_target, target_to_source):
        assert not len(function(*none, *one).row)
    assert not len(inverse_distance(*none, *one, 2.0, 8).row)


def test_some_cells_can_be_taken():
    cells = skewed(3)
    assert isinstance(cells.take(np.array([1, 2])), Cells)
    assert np.array_equal(cells.take(np.array([1, 2])).corner, cells.corner[1:3])
