"""Scores against the truth: the numbers of an independent computation; a perfect product is perfect."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from sklearn.metrics import r2_score

from pipeline.core.errors import InputError, UsageError
from pipeline.core.metrics import LOG_FLOOR
from pipeline.store.location import Store
from pipeline.validate.truth import region_sums, score_truth, score_unlisted, scored_regions, true_months
from pipeline.validate.version import Version
from tests.product_fixture import SHARES, write_product


@pytest.fixture(scope="module")
def scores(made) -> dict[str, float]:
    return score_truth(*made)[2022]


def test_scores_are_those_of_a_second_computation(made, scores) -> None:
    store, version = made
    root = store.path("products", version)
    cells = xr.open_zarr(f"{root}/emissions_025.zarr").load()
    truth = xr.open_zarr(store.path("truth/emissions_025.zarr"))["co2_emission"].sum("sector").load()
    x, t = cells["co2_emission"].values.ravel(), truth.values.ravel()
    assert scores["r2_monthly"] == pytest.approx(r2_score(t, x))
    assert scores["prior_r2_annual"] == pytest.approx(
        r2_score(truth.sum("time").values.ravel(), cells["co2_proxy_prior"].sum("time").values.ravel())
    )
    assert scores["relative_mae"] == pytest.approx(np.abs(x - t).sum() / t.sum())
    keep = t > LOG_FLOOR
    assert scores["log_r2_monthly"] == pytest.approx(r2_score(np.log(t[keep]), np.log(np.maximum(x[keep], LOG_FLOOR))))
    inside = (cells["co2_emission_p05"] <= truth) & (truth <= cells["co2_emission_p95"])
    assert scores["coverage_90_cells"] == pytest.approx(float(inside.mean()))
    assert scores["cells"] * scores["months"] == x.size


def test_cells_without_emission_count(made, scores) -> None:
    store, version = made
    product = Version(store, version)
    assert (true_months(product, 2022) == 0).any()
    assert scores["cells"] == product.land.size


def test_the_nation_is_its_members(made, scores) -> None:
    product = Version(*made)
    year = product.members("CN", 2022).sum(axis=1)
    true = true_months(product, 2022).sum()
    assert scores["national_bias"] == pytest.approx(year.mean() / true - 1)
    assert scores["national_z"] == pytest.approx((year.mean() - true) / year.std(ddof=1))


def test_totals_of_regions_are_those_of_the_product(made) -> None:
    product = Version(*made)
    sums = region_sums(product, np.nan_to_num(product.cells["co2_emission"].to_numpy()))
    for k, code in enumerate(scored_regions(product)):
        assert sums[:, k] == pytest.approx(product.members(code, 2022).mean(axis=0), rel=1e-5)


def test_unlisted_plants_are_found_where_the_product_surely_exceeds_the_proxies(tmp_path) -> None:
    store = Store(str(tmp_path))
    version = write_product(store, fine=False)
    product = Version(store, version)
    none = score_unlisted(store, version)[2022]
    assert (none["plants_1mt"], none["found_1mt"]) == (0, 0)
    assert none["blocks"] == product.land.sum()
    members = product.cube("samples_025")["co2_emission"].sum("time").values.astype(float)
    prior = product.cells["co2_proxy_prior"].sum("time").values
    rows, cols = range(1, product.grid.n_lat - 1), range(1, product.grid.n_lon - 1)
    low = {
        (j, i): np.quantile(members[:, j - 1 : j + 2, i - 1 : i + 2].sum(axis=(1, 2)), 0.05, method="weibull")
        - prior[j - 1 : j + 2, i - 1 : i + 2].sum()
        for j in rows
        for i in cols
    }
    above, below = max(low, key=low.get), min(low, key=low.get)
    plants = [
        {"lat": float(product.grid.lat[j]), "lon": float(product.grid.lon[i]), "t_per_year": t}
        for (j, i), t in ((above, 6e6), (below, 3e6), (above, 5e5))
    ]
    outside = {"lat": 0.0, "lon": 0.0, "t_per_year": 9e6}
    store.write_json({"years": {"2022": {"unlisted": [*plants, outside]}}}, "truth/parameters.json")
    scores = score_unlisted(store, version)[2022]
    assert [scores[f"plants_{n}mt"] for n in (1, 2, 5)] == [2, 2, 1]
    assert [scores[f"found_{n}mt"] for n in (1, 2, 5)] == [1, 1, 1]
    truth = true_months(product, 2022).sum(axis=0)
    ratio = [
        truth[j - 1 : j + 2, i - 1 : i + 2].sum() / prior[j - 1 : j + 2, i - 1 : i + 2].sum() for j, i in (above, below)
    ]
    for kind, least in (("above", 1.0), ("far_above", 1.25)):
        there = [r > least for r in ratio]
        assert [scores[f"{kind}_{n}mt"] for n in (1, 5)] == [sum(there), there[0]]
    assert len({scores["plants_1mt"], scores["far_above_1mt"]}) == 2
    assert none["false_alarms"] - 9 <= scores["false_alarms"] < none["false_alarms"]
    assert scores["blocks"] < none["blocks"]


def test_the_truth_must_be_there_and_cover_the_product(tmp_path) -> None:
    store = Store(str(tmp_path))
    version = write_product(store, fine=False, members=10)
    product = Version(store, version)
    with pytest.raises(UsageError, match="has nothing of 2021; expected one of its years, 2022"):
        true_months(product, 2021)
    ds = xr.open_zarr(store.path("truth/emissions_025.zarr")).load().drop_encoding()
    store.remove("truth/emissions_025.zarr")
    with pytest.raises(InputError, match="has no truth"):
        true_months(product, 2022)
    ds.isel(time=[0, 1]).to_zarr(store.path("truth/emissions_025.zarr"))
    with pytest.raises(InputError, match="does not cover the product"):
        true_months(product, 2022)
    assert SHARES.sum() == pytest.approx(1)
