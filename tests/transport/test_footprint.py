"""The source-receptor matrices: exact adjoint, exact mass, the steady plume, and a second way to compute them."""

from itertools import pairwise

import numpy as np
import pytest
from scipy.special import ndtr

from pipeline.core.grid import Grid
from pipeline.core.options import TransportOptions
from pipeline.core.units import EARTH_RADIUS
from pipeline.transport.chemistry import age_weights
from pipeline.transport.footprint import Wind, aggregation, class_shapes, footprints

GRID = Grid.from_bounds(105, 28, 117, 38, 4)
HOUR = np.full(GRID.n_lon, 6.0)


def uniform_wind(u: float, v: float, grid: Grid = GRID) -> Wind:
    field = np.ones((1, *grid.shape), np.float32)
    return Wind(u * field, v * field, np.array([6.0]))


def swirling_wind(seed: int = 0) -> Wind:
    rng = np.random.default_rng(seed)
    x, y = np.meshgrid(np.linspace(0, 2 * np.pi, GRID.n_lon), np.linspace(0, 2 * np.pi, GRID.n_lat))
    phase = rng.uniform(0, 6, (5, 4, 1, 1))
    u = 5 * np.sin(x + phase[:, 0]) * np.cos(y + phase[:, 1])
    v = 4 * np.cos(x + phase[:, 2]) * np.sin(2 * y + phase[:, 3])
    return Wind(u.astype(np.float32), v.astype(np.float32), np.array([-9.0, -4.0, 1.0, 6.0, 11.0]))


def everywhere(grid: Grid = GRID) -> np.ndarray:
    return np.arange(grid.n_lat * grid.n_lon)


def columns_of(matrix, source: np.ndarray, options: TransportOptions, grid: Grid = GRID) -> np.ndarray:
    blocks = np.concatenate([a @ source.ravel() for a in aggregation(grid, options)])
    return (matrix.astype(float) @ blocks).reshape(grid.shape)


def test_forward_and_adjoint_agree():
    options = TransportOptions()
    matrix = footprints(GRID, swirling_wind(), everywhere(), HOUR, options).astype(float)
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=matrix.shape[1]), rng.normal(size=matrix.shape[0])
    assert (matrix @ x) @ y == pytest.approx(x @ (matrix.T @ y), rel=1e-10)


@pytest.mark.parametrize("wind", [uniform_wind(6, -3), swirling_wind(3)], ids=["uniform", "swirling"])
def test_what_is_emitted_is_stored_or_decayed(wind):
    """Away from the edges nothing flows out: the mass in the air is the emission that outlived its age."""
    options = TransportOptions(ages=(0, 1, 2, 3, 4), classes=(0, 4), coarsen=(1,))
    source = np.zeros(GRID.shape)
    source[18:22, 22:26] = np.random.default_rng(2).uniform(1, 5, (4, 4))
    matrix = footprints(GRID, wind, everywhere(), HOUR, options)
    mass = (columns_of(matrix, source, options) * GRID.area).sum()
    # Single precision holds each entry to 6e-8; the sum over thousands of entries is better than that.
    assert mass == pytest.approx(source.sum() * age_weights((0, 4), options.lifetime)[0], rel=2e-8)


def test_mass_is_lost_through_the_edge_only():
    options = TransportOptions(ages=(0, 1, 2, 3, 4), classes=(0, 4), coarsen=(1,))
    source = np.zeros(GRID.shape)
    source[20, -2] = 1.0
    kept = columns_of(footprints(GRID, uniform_wind(10, 0), everywhere(), HOUR, options), source, options)
    emitted = age_weights((0, 4), options.lifetime)[0]
    assert 0.05 * emitted < (kept * GRID.area).sum() < 0.6 * emitted


def steady_plume(u: float, diffusion: float, tau: float = 4.0) -> tuple[np.ndarray, np.ndarray, float]:
    """Columns of a source of 1 kg s-1 at the equator in a steady wind: rows from the source, columns downwind."""
    grid = Grid.from_bounds(100, -3, 116, 3, 4)
    ages = tuple(np.arange(0, 24.01, 0.5))
    options = TransportOptions(
        ages=ages, classes=(0, 24), coarsen=(1,), diffusion=diffusion, wind_error=0.0, lifetime=tau
    )
    row, col = 11, 6
    source = np.zeros(grid.shape)
    source[row, col] = 1.0
    matrix = footprints(grid, uniform_wind(u, 0, grid), everywhere(grid), np.full(grid.n_lon, 6.0), options)
    metres = EARTH_RADIUS * np.deg2rad(grid.step)
    return columns_of(matrix, source, options, grid)[:, col:], (np.arange(grid.n_lat) - row) * metres, metres


def test_steady_plume_has_the_line_density_of_theory():
    """(Q / u) exp(-x / (u tau)), with K so small that mixing along the wind does not matter."""
    u, tau = 8.0, 4.0
    column, _, metres = steady_plume(u, 3e3, tau)
    far = np.arange(4, 12)
    expected = np.exp(-far * metres / (u * tau * 3600)) / u
    assert (column.sum(axis=0) * metres)[far] == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize("diffusion", [1.5e4, 4e4])
def test_steady_plume_widens_as_theory_says(diffusion):
    """The variance across grows by 2 K a mean age; the scheme adds nothing that grows.

    With mixing along the wind the mean age grows by x / sqrt(u^2 + 4 K / tau), which is x / u for small K.
    """
    u, tau = 8.0, 4.0
    column, offset, metres = steady_plume(u, diffusion, tau)
    far = np.arange(4, 12)
    variance = (column[:, far] * offset[:, None] ** 2).sum(axis=0) / column[:, far].sum(axis=0)
    growth = np.polyfit(far * metres, variance, 1)[0]
    expected = 2 * diffusion / np.sqrt(u**2 + 4 * diffusion / (tau * 3600))
    assert growth == pytest.approx(expected, rel=0.05)


def test_second_implementation_with_particles():
    """Puffs released and followed forward, each spread by the same Gaussian, leave the same columns."""
    options = TransportOptions(
        ages=tuple(np.arange(0, 6.01, 0.5)), classes=(0, 6), coarsen=(1,), diffusion=4e4, wind_error=0.0
    )
    wind = uniform_wind(4, 3)
    source = np.zeros(GRID.shape)
    source[15, 20] = 1.0
    ours = columns_of(footprints(GRID, wind, everywhere(), HOUR, options), source, options)

    metres = EARTH_RADIUS * np.deg2rad(GRID.step)
    cosine = np.cos(np.deg2rad(GRID.lat[15]))
    expected = np.zeros(GRID.shape)
    fine = np.linspace(0, 6, 1201)
    for start, end in pairwise(fine):
        age = (start + end) / 2
        seconds = age * 3600
        sigma = np.sqrt(2 * options.diffusion * seconds / metres**2 + 1 / 12)
        across = np.sqrt(2 * options.diffusion * seconds / (metres * cosine) ** 2 + 1 / 12)
        y = 15 + 3 * seconds / metres
        x = 20 + 4 * seconds / (metres * cosine)
        wy = np.diff(ndtr((np.arange(GRID.n_lat + 1) - 0.5 - y) / sigma))
        wx = np.diff(ndtr((np.arange(GRID.n_lon + 1) - 0.5 - x) / across))
        expected += age_weights((start, end), options.lifetime)[0] * np.outer(wy, wx) / GRID.area
    assert np.abs(ours - expected).sum() / expected.sum() < 0.08
    assert ours.sum() == pytest.approx(expected.sum(), rel=0.01)


def test_classes_split_the_same_transport():
    """A matrix of three classes on single cells sums to that of one class."""
    ages = (0, 1, 2, 3, 4, 5, 6)
    one = TransportOptions(ages=ages, classes=(0, 6), coarsen=(1,))
    three = TransportOptions(ages=ages, classes=(0, 2, 4, 6), coarsen=(1, 1, 1))
    source = np.random.default_rng(5).uniform(0, 1, GRID.shape)
    a = columns_of(footprints(GRID, swirling_wind(), everywhere(), HOUR, one), source, one)
    b = columns_of(footprints(GRID, swirling_wind(), everywhere(), HOUR, three), source, three)
    assert a == pytest.approx(b, rel=1e-5)


def test_receptors_choose_rows():
    options = TransportOptions()
    whole = footprints(GRID, swirling_wind(), everywhere(), HOUR, options)
    some = np.array([3, 500, 1200])
    part = footprints(GRID, swirling_wind(), some, HOUR, options)
    assert abs(whole[some] - part).max() == 0
    assert part.shape == (3, sum(a * b for a, b in class_shapes(GRID, options)))


def test_later_overpass_sees_emission_carried_further():
    options = TransportOptions()
    still = footprints(GRID, uniform_wind(0, 0), everywhere(), HOUR, options)
    source = np.zeros(GRID.shape)
    source[20, 24] = 1.0
    column = columns_of(still, source, options)
    assert np.unravel_index(column.argmax(), column.shape) == (20, 24)
    moved = columns_of(footprints(GRID, uniform_wind(8, 0), everywhere(), HOUR, options), source, options)
    centre = (moved * np.arange(GRID.n_lon)).sum() / moved.sum()
    assert centre > 26
