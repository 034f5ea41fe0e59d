"""A grid from its centres; shares of a cell's emission."""

from __future__ import annotations

import numpy as np
import pytest
import shapely

from pipeline.core.errors import UsageError
from pipeline.core.grid import G025, Grid
from pipeline.core.regions import Regions

GRID = Grid.from_bounds(110, 30, 111, 31, 4)


@pytest.mark.parametrize("grid", [G025, GRID, GRID.refine()])
def test_a_grid_comes_back_from_its_centres(grid: Grid) -> None:
    assert Grid.of_centres(grid.lat, grid.lon, grid.per_degree) == grid


@pytest.mark.parametrize("lat", [GRID.lat + 0.1, np.delete(GRID.lat, 1), GRID.lat[::-1]])
def test_other_centres_are_refused(lat) -> None:
    with pytest.raises(UsageError):
        Grid.of_centres(lat, GRID.lon, 4)


def test_shares_are_of_the_part_inside() -> None:
    boxes = (shapely.box(110, 30, 110.125, 31), shapely.box(110.125, 30, 110.375, 31))
    shares = Regions(("a", "b"), ("a", "b"), ("g", "g"), boxes).shares(GRID)
    assert shares[:, 0, 0] == pytest.approx([0.5, 0.5])
    assert shares[:, 0, 1] == pytest.approx([0, 1])
    assert shares[:, 0, 2] == pytest.approx([0, 0])
