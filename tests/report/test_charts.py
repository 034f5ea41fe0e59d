"""Charts: what is drawn is what was given, in the unit the axis says."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.collections import FillBetweenPolyCollection, LineCollection
from matplotlib.figure import Figure

from pipeline.report import charts

TOTAL = (np.array([2e8, 3e8, 4e8]), np.array([1e8, 2e8, 3e8]), np.array([3e8, 4e8, 5e8]))


@pytest.fixture
def ax():
    return Figure().subplots()


def test_a_series_in_megatonnes(ax) -> None:
    charts.draw_series(ax, np.array(["2022-01", "2022-02", "2022-03"], "M8[M]"), TOTAL, TOTAL[0] / 2, None)
    lines = {line.get_label(): line.get_ydata().tolist() for line in ax.lines}
    assert lines == {"prior": [100, 150, 200], "posterior mean": [200, 300, 400]}
    assert any(isinstance(c, FillBetweenPolyCollection) for c in ax.collections)


def test_no_line_crosses_months_that_are_not_there(ax) -> None:
    charts.draw_series(ax, np.array(["2022-01", "2022-02", "2022-07"], "M8[M]"), TOTAL, None, TOTAL[0])
    assert {line.get_linestyle() for line in ax.lines} == {"None"}
    (bars,) = ax.collections
    assert isinstance(bars, LineCollection)
    assert [segment[:, 1].tolist() for segment in bars.get_segments()] == [[100, 300], [200, 400], [300, 500]]


def test_ranges_come_first_on_top(ax) -> None:
    charts.draw_ranges(ax, ["a", "b"], [(3e6, 2e6, 4e6), (1e6, 0.5e6, 2e6)], [1e6, None], [None, None])
    assert [t.get_text() for t in ax.get_yticklabels()] == ["a", "b"]
    assert ax.get_yticks().tolist() == [1, 0]
    assert {line.get_label() for line in ax.lines} == {"posterior mean and 90 % range", "prior"}


def test_sectors_stack_to_the_total(ax) -> None:
    months = np.array(["2022-01", "2022-02"], "M8[M]")
    charts.draw_sectors(ax, months, {"power": np.array([1e6, 2e6]), "industry": np.array([3e6, 4e6])})
    tops = [patch.get_y() + patch.get_height() for patch in ax.patches]
    assert tops == pytest.approx([1, 2, 4, 6])


def test_shares_fill_the_bar(ax) -> None:
    charts.draw_shares(ax, {"power": 0.5, "industry": 0.47, "transport": 0.03})
    assert sum(patch.get_width() for patch in ax.patches) == pytest.approx(1)
    assert [t.get_text() for t in ax.texts] == ["power\n50 %", "industry\n47 %"]


def test_years_in_gigatonnes(ax) -> None:
    charts.draw_annual(ax, [2021, 2022], [(1e10, 9e9, 1.1e10), (1.05e10, 9.5e9, 1.15e10)])
    assert [patch.get_height() for patch in ax.patches] == pytest.approx([10, 10.5])
    assert [t.get_text() for t in ax.texts] == ["10.00", "10.50"]
