import numpy as np
import pytest

from pipeline.core.grid import Grid
from pipeline.world.advect import Mesh, advance

GRID = Grid.from_bounds(110, 30, 116, 35, 8)
MESH = Mesh(GRID, "float64")
HOUR = 3600.0


def uniform(u, v=0.0):
    return np.full(GRID.shape, u), np.full(GRID.shape, v)


def mass(column):
    return (column * GRID.area).sum()


def blob(lat, lon, size):
    y, x = (GRID.lat[:, None] - lat) / size, (GRID.lon[None] - lon) / size
    return np.exp(-0.5 * (x**2 + y**2))


def test_mass_budget_closes_with_any_wind():
    rng = np.random.default_rng(0)
    wind = tuple(rng.normal(0, 8, GRID.shape) for _ in range(2))
    column, emission = rng.random(GRID.shape), rng.random(GRID.shape) * 1e-5
    before = mass(column)
    outflow = sum(advance(column, wind, emission, None, MESH, HOUR, 5e3) for _ in range(5))
    emitted = 5 * HOUR * (emission * GRID.area).sum()
    assert outflow > 0
    assert mass(column) + outflow == pytest.approx(before + emitted, rel=1e-12)


def test_decay_and_source_are_exact_without_wind():
    tau, emission = np.full(GRID.shape, 4 * HOUR), np.full(GRID.shape, 2e-9)
    column = np.full(GRID.shape, 1e-3)
    advance(column, uniform(0), emission, tau, MESH, HOUR, 0.0)
    expected = 1e-3 * np.exp(-0.25) + 2e-9 * 4 * HOUR * (1 - np.exp(-0.25))
    np.testing.assert_allclose(column, expected, rtol=1e-12)


def test_a_blob_moves_with_the_wind_and_keeps_its_top():
    column = blob(32.5, 111.5, 0.6)
    nothing = np.zeros(GRID.shape)
    for _ in range(10):
        advance(column, uniform(6.0), nothing, None, MESH, HOUR, 0.0)
    centre = (column.sum(0) * GRID.lon).sum() / column.sum()
    moved = (centre - 111.5) * np.deg2rad(1) * 6_371_007.2 * np.cos(np.deg2rad(32.5))
    assert moved == pytest.approx(10 * HOUR * 6.0, rel=0.01)
    # Upwind of first order would leave less than half of it.
    assert column.max() > 0.85


def test_no_new_extremes():
    column = np.where(blob(32.5, 113, 0.5) > 0.5, 1.0, 0.0)
    for _ in range(6):
        advance(column, uniform(7.0, -5.0), np.zeros(GRID.shape), None, MESH, HOUR, 0.0)
    assert column.min() >= -1e-12
    assert column.max() <= 1 + 1e-2


def test_diffusion_widens_a_blob_at_2kt():
    column = blob(32.5, 113, 0.4)
    y = np.deg2rad(GRID.lat) * 6_371_007.2

    def variance():
        profile = column.sum(1)
        mean = (profile * y).sum() / profile.sum()
        return (profile * (y - mean) ** 2).sum() / profile.sum()

    before = variance()
    for _ in range(6):
        advance(column, uniform(0), np.zeros(GRID.shape), None, MESH, HOUR, 2e4)
    assert variance() - before == pytest.approx(2 * 2e4 * 6 * HOUR, rel=0.01)


def test_line_density_of_a_steady_plume():
    tau, wind = 3 * HOUR, 5.0
    j, i = GRID.n_lat // 2, 8
    emission = np.zeros(GRID.shape)
    emission[j, i] = 1.0 / GRID.area[j, i]
    column = np.zeros(GRID.shape)
    for _ in range(24):
        advance(column, uniform(wind), emission, np.full(GRID.shape, tau), MESH, HOUR, 1e3)
    dx = GRID.area[j, 0] / MESH.dy
    line = column.sum(0) * MESH.dy
    distance = (np.arange(GRID.n_lon) - i) * dx
    expected = 1.0 / wind * np.exp(-distance / (wind * tau))
    np.testing.assert_allclose(line[i + 2 : i + 25], expected[i + 2 : i + 25], rtol=0.025)


def test_float32_agrees():
    single, double = blob(32.5, 113, 0.5).astype("float32"), blob(32.5, 113, 0.5)
    for column, mesh in ((single, Mesh(GRID)), (double, MESH)):
        advance(column, uniform(6.0, 3.0), np.zeros(GRID.shape), None, mesh, 6 * HOUR, 5e3)
    np.testing.assert_allclose(single, double, atol=1e-5)


def test_substeps_grow_with_the_wind():
    assert MESH.substeps(*uniform(40.0), HOUR) > MESH.substeps(*uniform(5.0), HOUR) >= 1
