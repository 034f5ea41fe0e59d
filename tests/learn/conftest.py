"""One toy world and its training table for all tests of the room."""

import numpy as np
import pytest
from toy_world import make_world

from pipeline.learn.blocks import block_index
from pipeline.learn.table import concatenate, feature_matrix, month_rows


@pytest.fixture(scope="session")
def toy():
    return make_world()


@pytest.fixture(scope="session")
def table(toy):
    blocks = block_index(toy.grid, 2.0)
    rows = []
    for k, t in enumerate(toy.posterior["time"].values):
        month = toy.posterior.isel(time=k)
        stack = feature_matrix(*toy.features, month["prior"].values, t, toy.grid)
        rows.append(month_rows(month, stack, blocks, k, np.ones(toy.grid.shape, bool)))
    return concatenate(rows)
