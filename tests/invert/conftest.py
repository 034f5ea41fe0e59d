"""A small country: two provinces, six by eight cells, thirty days of columns."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
from scipy import sparse

from pipeline.core.grid import Grid
from pipeline.core.options import InversionOptions, PriorOptions, TransportOptions
from pipeline.invert.model import ColumnModel, Observations
from pipeline.invert.month import Month
from pipeline.invert.prior import CLASSES
from pipeline.invert.state import Land, State, build_state
from pipeline.invert.tracks import Soundings, passive
from pipeline.transport.footprint import Wind, aggregation, footprints

SECONDS = 30 * 86400.0


@dataclass(frozen=True)
class Case:
    """Everything a solve needs, and a truth."""

    grid: Grid
    state: State
    observations: Observations
    blocks: list
    transport: TransportOptions
    options: InversionOptions

    def model(self, precision=np.float32, left=1.0, grip=0.0) -> ColumnModel:
        parts = self.state, self.observations, self.blocks, self.transport, self.options
        return ColumnModel(*parts, precision, left, grip)

    def month(self, key=(0, "2022-01"), **changes) -> Month:
        """The month's problem; everything lies on the grid and XCO2 saw nothing."""
        n_total = self.state.membership.shape[1]
        blocks = aggregation(self.grid, passive(self.transport))[0].shape[0]
        nothing = Soundings(sparse.csr_matrix((0, blocks)), *(np.zeros(0, t) for t in (int, float, float, int)))
        month = Month(
            self.grid,
            self.state,
            self.observations,
            self.blocks,
            np.ones(n_total),
            np.arange(n_total // 4),
            nothing,
            self.transport,
            self.options,
            key,
            SECONDS,
        )
        return replace(month, **changes)

    def with_columns(self, column: np.ndarray, sigma: float) -> "Case":
        observations = replace(self.observations, column=column, sigma=np.full(column.size, sigma))
        return replace(self, observations=observations)


def make_case(n_days: int = 4, shape: tuple[int, int] = (6, 8), **options) -> Case:
    rng = np.random.default_rng(7)
    grid = Grid(4, 440, 120, shape[1], shape[0])
    n_cell = shape[0] * shape[1]
    transport = TransportOptions(ages=(0, 1, 2, 4, 6), classes=(0, 2, 6), coarsen=(1, 2))
    chosen = InversionOptions(**{"members": 50, "error_inflation": 1.0, "model_error": 0.1, **options})
    shares = np.zeros((2, *shape))
    shares[0, :, : shape[1] // 2], shares[1, :, shape[1] // 2 :] = 1.0, 1.0
    land = Land(shares.reshape(2, -1), np.array([0, 1]), 2)
    co2 = rng.lognormal(11, 1, (len(CLASSES) - 1, n_cell))
    # As in the prior: what no list and no light explains is a small part.
    co2[4:] *= np.array([[0.3], [0.05]])
    # Half of the floor is power.
    co2 = np.concatenate([co2[:-1], [0.5 * co2[-1], 0.5 * co2[-1]]])
    co2[0, rng.random(n_cell) < 0.6] = 0.0
    covariance = 0.05**2 + 0.15**2 * np.eye(8)
    other = np.full(n_cell, 2e-3)
    state = build_state(grid, co2, other, covariance, land, SECONDS, chosen, PriorOptions())
    matrices, cells = [], []
    for _ in range(n_days):
        u, v = rng.normal(0, 4, 2)
        field = np.ones((1, *shape), np.float32)
        seen = np.sort(rng.choice(n_cell, n_cell * 2 // 3, replace=False))
        wind = Wind(u * field, v * field, np.array([6.0]))
        matrices.append(footprints(grid, wind, seen, np.full(shape[1], 6.0), transport, halo=6))
        cells.append(seen)
    n_block = sum(a.shape[0] for a in aggregation(grid, transport))
    empty = sparse.csr_matrix((0, n_block), dtype=np.float32)
    cell = np.concatenate(cells) if cells else np.zeros(0, np.int64)
    zeros = np.zeros(cell.size)
    observations = Observations(sparse.vstack([empty, *matrices], format="csr"), cell, zeros, zeros + 5e-6, cell * 0)
    return Case(grid, state, observations, aggregation(grid, transport), transport, chosen)


@pytest.fixture(scope="session")
def case() -> Case:
    base = make_case()
    rng = np.random.default_rng(11)
    column = base.model().columns(0.7 * rng.standard_normal(base.state.size))
    return base.with_columns(column + rng.normal(0, 5e-6, column.size), 5e-6)
