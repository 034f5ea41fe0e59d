"""Maps: the projection keeps areas; scales and pieces of text."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.core.grid import G025, Grid
from pipeline.core.units import EARTH_RADIUS
from pipeline.report.maps import Albers, log_norm
from pipeline.report.sections import _top, amount, percent


@pytest.mark.parametrize("grid", [G025, Grid.from_bounds(113, 36, 120, 43, 4)])
def test_albers_keeps_the_area_of_cells(grid: Grid) -> None:
    x, y = Albers.over(grid)(grid.lon_edges[None, :], grid.lat_edges[:, None])
    corners = [(x[:-1, :-1], y[:-1, :-1]), (x[:-1, 1:], y[:-1, 1:]), (x[1:, 1:], y[1:, 1:]), (x[1:, :-1], y[1:, :-1])]
    shoelace = sum(xa * yb - xb * ya for (xa, ya), (xb, yb) in zip(corners, [*corners[1:], corners[0]], strict=True))
    assert shoelace / 2 * EARTH_RADIUS**2 == pytest.approx(grid.area, rel=1e-4)


def test_albers_agrees_with_proj() -> None:
    pyproj = pytest.importorskip("pyproj")
    reference = pyproj.Proj("+proj=aea +lat_1=25 +lat_2=47 +lon_0=105 +lat_0=0 +R=1")
    lon, lat = np.array([73.5, 105.0, 134.0]), np.array([39.0, 20.0, 48.0])
    x, y = Albers(25, 47, 105)(lon, lat)
    rx, ry = reference(lon, lat)
    assert x == pytest.approx(rx, abs=1e-12)
    assert np.diff(y) == pytest.approx(np.diff(ry), abs=1e-12)


def test_the_scale_ends_above_nearly_everything() -> None:
    norm = log_norm(np.append(np.full(5000, 900.0), 1e9), 3)
    assert norm.vmax == pytest.approx(1000)
    assert norm.vmin == pytest.approx(1)
    assert log_norm(np.zeros(3)).vmax == 1


def test_words_for_numbers() -> None:
    assert [amount(v) for v in (1.0631e10, 6.25e8, 9.5e6, 4.2e4, 12.0)] == [
        "10.63 Gt",
        "625 Mt",
        "9.50 Mt",
        "42 kt",
        "12 t",
    ]
    assert percent(0.128, 1) == "12.8 %"
    assert [_top(np.array([v])) for v in (0.9, 1.3, 34.0, 51.0)] == pytest.approx([1, 2, 50, 100])
