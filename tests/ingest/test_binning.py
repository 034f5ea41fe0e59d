import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.core.grid import Grid
from pipeline.ingest.binning import SUMS, bin_points, bin_polygons, cell_means

GRID = Grid.from_bounds(100, 30, 104, 33, 4)


def quads(seed, n, size=0.4, centre=(102.0, 31.5), spread=2.5):
    """Convex quadrilaterals of random shape, corners in order."""
    rng = np.random.default_rng(seed)
    angle = np.sort(rng.uniform(0, 2 * np.pi, (n, 4)), axis=1)
    radius = size * rng.uniform(0.2, 1.0, (n, 1))
    lon = centre[0] + rng.uniform(-spread, spread, (n, 1)) + radius * np.cos(angle)
    lat = centre[1] + rng.uniform(-spread, spread, (n, 1)) + radius * np.sin(angle)
    return lat, lon


def reference(lat, lon, value, grid):
    """Weights and weighted values by shapely, cell by cell."""
    weight, weighted = np.zeros(grid.shape), np.zeros(grid.shape)
    for j in range(grid.n_lat):
        for i in range(grid.n_lon):
            cell = shapely.box(grid.lon_edges[i], grid.lat_edges[j], grid.lon_edges[i + 1], grid.lat_edges[j + 1])
            areas = shapely.area(shapely.intersection(shapely.polygons(np.stack([lon, lat], axis=-1)), cell))
            areas = areas * grid.per_degree**2
            weight[j, i], weighted[j, i] = areas.sum(), (areas * value).sum()
    return weight, weighted


def data(n, value=None, error=1.0):
    return np.stack(
        [np.arange(n, dtype=float) if value is None else value, np.full(n, error), np.zeros(n), np.full(n, np.nan)]
    )


@given(st.integers(0, 10_000), st.floats(0.02, 1.5))
@settings(max_examples=25, deadline=None)
def test_overlap_areas_equal_polygon_intersections(seed, size):
    lat, lon = quads(seed, 12, size)
    values = data(12)
    sums, used = bin_polygons(lat, lon, values, GRID)
    weight, weighted = reference(lat, lon, values[0], GRID)
    np.testing.assert_allclose(sums[0], weight, atol=1e-9)
    np.testing.assert_allclose(sums[2], weighted, atol=1e-8)
    inside = shapely.area(
        shapely.intersection(shapely.polygons(np.stack([lon, lat], -1)), shapely.box(100, 30, 104, 33))
    )
    np.testing.assert_array_equal(used, inside > 1e-12)


def test_total_weight_is_the_area_of_pixels_inside():
    lat, lon = quads(3, 200, 0.1, spread=1.0)
    sums, used = bin_polygons(lat, lon, data(200), GRID)
    assert used.all()
    assert sums[0].sum() == pytest.approx(
        shapely.area(shapely.polygons(np.stack([lon, lat], -1))).sum() * 16, rel=1e-12
    )


def test_corners_in_either_order_weigh_the_same():
    lat, lon = quads(5, 30)
    there, _ = bin_polygons(lat, lon, data(30), GRID)
    back, _ = bin_polygons(lat[:, ::-1], lon[:, ::-1], data(30), GRID)
    np.testing.assert_allclose(there, back, atol=1e-12)


def test_a_pixel_across_the_date_line_stays_there():
    lat = np.array([[30.0, 30.0, 31.0, 31.0]])
    lon = np.array([[179.6, -179.6, -179.6, 179.6]])
    sums, used = bin_polygons(lat, lon, data(1), GRID)
    assert not used.any()
    assert sums.sum() == 0
    east = Grid.from_bounds(178, 29, 180, 32, 4)
    sums, used = bin_polygons(lat, lon, data(1), east)
    assert used.all()
    assert sums[0].sum() == pytest.approx(0.4 * 1.0 * 16)


def test_broken_corners_do_not_smear():
    lat = np.array([[30.0, 30.0, 31.0, np.nan], [-80.0, 80.0, 80.0, -80.0]])
    lon = np.array([[101.0, 102.0, 102.0, 101.0], [100.0, 100.0, 130.0, 130.0]])
    sums, used = bin_polygons(lat, lon, data(2), GRID)
    assert not used.any()
    assert sums.sum() == 0


def test_points_count_in_the_cell_that_holds_them():
    lat, lon = np.array([30.1, 30.1, 31.0, 50.0]), np.array([100.1, 460.1, 102.0, 100.0])
    sums, inside = bin_points(lat, lon, data(4, np.array([1.0, 3.0, 5.0, 7.0])), GRID)
    assert inside.tolist() == [True, True, True, False]
    assert sums[4].sum() == 3
    assert sums[2, 0, 0] == 4.0
    assert sums[2, 4, 8] == 5.0, "a point on an edge belongs to the north-east cell"


def test_error_of_a_mean_follows_the_equation():
    n, error, r, floor = 9, 0.6, 0.55, 0.3
    lat, lon = np.full(n, 30.1), np.full(n, 100.1)
    sums, _ = bin_points(lat, lon, data(n, np.linspace(400, 402, n), error), GRID)
    cells = cell_means(sums, r, floor)
    assert cells.mean[0, 0] == pytest.approx(401)
    assert cells.error[0, 0] == pytest.approx(np.sqrt(error**2 * ((1 - r) / n + r) + floor**2))
    assert np.isnan(cells.mean[1:]).all()
    assert np.isnan(cells.error[1:]).all()


@given(st.floats(0, 1), st.integers(1, 50))
@settings(max_examples=20, deadline=None)
def test_more_observations_never_raise_the_error(r, n):
    def error(count):
        sums, _ = bin_points(np.full(count, 30.1), np.full(count, 100.1), data(count), GRID)
        return cell_means(sums, r, 0.1).error[0, 0]

    assert error(n + 1) <= error(n) * (1 + 1e-12)


def test_unknown_kernels_do_not_count():
    lat, lon = np.full(3, 30.1), np.full(3, 100.1)
    values = data(3)
    values[3] = [0.8, np.nan, 1.0]
    sums, _ = bin_points(lat, lon, values, GRID)
    assert cell_means(sums, 0.5, 0.1).kernel[0, 0] == pytest.approx(0.9)
    assert len(SUMS) == sums.shape[0]
