"""What the report reads: sums and ranges agree with the cubes; windows of the fine grid only."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.core.grid import G025, Grid, block_sum
from pipeline.report import data
from pipeline.report.data import PLACES, Place, Product
from pipeline.report.evidence import truth_scores
from tests.product_fixture import SMALL


@pytest.fixture(scope="module")
def product(made) -> Product:
    return Product(*made, with_truth=True)


def test_regions_agree_with_cells(product) -> None:
    cells = product.cells["co2_emission"].to_numpy()
    by_region = product.by_region(cells)
    for code in ("110000", "CN"):
        assert by_region[code] == pytest.approx(product.members(code).mean(axis=0), rel=1e-6)
    assert by_region["CN"] == pytest.approx(cells.sum(axis=(1, 2)))
    assert sum(by_region[c] for c in product.provinces) == pytest.approx(by_region["CN"])


def test_ranges_come_from_members(product) -> None:
    mean, low, high = product.range_of_year("CN", 2022)
    sums = np.sort(product.members("CN").sum(axis=1))
    assert mean == pytest.approx(sums.mean())
    assert sums[0] < low < sums[4]
    assert sums[-5] < high < sums[-1]
    assert product.annual_members(2022).sum(axis=(1, 2)) == pytest.approx(product.members("CN").sum(axis=1), rel=1e-5)


def test_provinces_are_not_groups_and_come_largest_first(product) -> None:
    assert set(product.provinces) == {"110000", "120000", "130000", "140000", "370000", "410000"}
    sizes = [product.range_of_year(c, 2022)[0] for c in product.provinces]
    assert sizes == sorted(sizes, reverse=True)
    assert product.name_of("110000") == "Beijing"


def test_a_zoom_holds_the_mass_of_its_cells(product) -> None:
    (place,) = product.places()
    assert place.name == PLACES[0].name
    rows, cols = product.grid.window(place.grid)
    coarse = product.annual("co2_emission", 2022)[rows, cols]
    assert block_sum(product.zoom(place, 2022)) == pytest.approx(coarse, rel=1e-5)


def test_only_the_window_of_the_fine_grid_is_read(product, monkeypatch) -> None:
    read = []
    original = data.xr.DataArray.to_numpy
    monkeypatch.setattr(data.xr.DataArray, "to_numpy", lambda self: read.append(self.size) or original(self))
    place = Place("here", Grid(4, SMALL.west_index + 2, SMALL.south_index + 3, 4, 5))
    assert product.zoom(place, 2022).shape == (125, 100)
    assert read == [125 * 100] * 3


def test_elsewhere_the_window_is_where_most_is_emitted(product, monkeypatch) -> None:
    monkeypatch.setattr(data, "PLACES", ())
    (place,) = product.places()
    rows, cols = product.grid.window(place.grid)
    field = product.annual("co2_emission", 2022)
    assert place.grid.shape == (12, 12)
    best = max(field[j : j + 12, i : i + 12].sum() for j in range(13) for i in range(21))
    assert field[rows, cols].sum() == pytest.approx(best)


def test_the_known_places_are_whole_cells_of_the_grid() -> None:
    assert all(G025.contains(p.grid) for p in PLACES)


def test_the_period_names_missing_months(product) -> None:
    assert product.period(2022) == "2022, 3 of 12 months"
    assert not product.national
    assert product.synthetic


def test_scores_against_the_truth(product, made) -> None:
    scores = truth_scores(product, 2022)
    assert 0.8 < scores["r2_monthly"] < 1
    assert scores["relative_mae_over_prior"] < 0.7
    assert 0.8 < scores["coverage_90_cells"] < 1
    assert abs(scores["national_z"]) < 4
    assert truth_scores(Product(*made), 2022) == {}
