"""Scores of a product version against the truth of a synthetic store."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.core.errors import InputError
from pipeline.core.metrics import block_sums, blocks_with, cell_scores, flagged_blocks, total_scores
from pipeline.store.cubes import open_cube
from pipeline.store.location import Store
from pipeline.validate.version import NATION, Version

TRUTH = "truth/emissions_025.zarr"
PARAMETERS = "truth/parameters.json"
PLANT_SIZES = (1e6, 2e6, 3e6, 5e6, 8e6, 15e6)
"""t a year; least emission of the plants that `score_unlisted` looks for."""
FAR_ABOVE = 1.25
"""Truth over the proxies of a block in which a plant can surely be found."""


def score_truth(store: Store, version: str) -> dict[int, dict[str, float]]:
    """Scores by year (`pipeline.core.metrics.cell_scores` and `total_scores`).

    Cells are all those of the product with their month, zeros included; totals are those of the provinces and nation.
    The prior of the scores is that of the proxies: a learned one has heard of the satellites already.

    Raises
    ------
    InputError : the store has no truth, or the truth does not cover the product.
    """
    product = Version(store, version)
    return {year: score_year(product, year) for year in product.years}


def score_year(product: Version, year: int) -> dict[str, float]:
    """Scores of one year."""
    now, land = product.months(year), product.land
    truth = true_months(product, year)
    layers = (
        product.cells[name].isel(time=now).to_numpy()[:, land]
        for name in ("co2_emission", "co2_proxy_prior", "co2_emission_p05", "co2_emission_p95")
    )
    mean, prior, low, high = layers
    scores = cell_scores(mean, prior, low, high, truth[:, land])
    codes = scored_regions(product)
    members = np.stack([product.members(c, year) for c in codes], axis=-1)
    true = region_sums(product, np.where(land, truth, 0.0))
    return scores | total_scores(members, true, nation=codes.index(NATION))


def scored_regions(product: Version) -> list[str]:
    """Codes of the provinces that have land in the product, and of the nation."""
    shares, land = product.shares, product.land
    return [c for c, share in shares.items() if c in product.totals and (share[land].sum() > 0 or c == NATION)]


def region_sums(product: Version, field: NDArray[np.floating]) -> NDArray[np.float64]:
    """Totals of `scored_regions`, (..., lat, lon) -> (..., region)."""
    share = np.stack([product.shares[c] for c in scored_regions(product)])
    return np.einsum("...ij,rij->...r", field, share)


def score_unlisted(store: Store, version: str) -> dict[int, dict[str, float]]:
    """How many plants that no table lists were found, by year.

    One is found where the 3 x 3 block around it is surely above what the proxies say (`flagged_blocks`, over the
    product's months of the year). For each size of `PLANT_SIZES`: `plants_1mt` and so on, how many emit at least so
    much, and `found_1mt`; its ceiling: `above_1mt`, how many lie in blocks whose truth is above the proxies at all, and
    `far_above_1mt`, by a quarter (`FAR_ABOVE`). `blocks` holds blocks around land cells without any unlisted plant,
    `false_alarms` those of them that are flagged. Worlds whose truth names no such plants have none.

    Raises
    ------
    InputError : as `true_months`.
    """
    product = Version(store, version)
    years = (store.read_json(PARAMETERS) or {}).get("years", {})
    return {
        year: _unlisted_of_year(product, year, years.get(str(year), {}).get("unlisted", [])) for year in product.years
    }


def _unlisted_of_year(product: Version, year: int, plants: list[dict[str, Any]]) -> dict[str, float]:
    now, land = product.months(year), product.land
    samples = product.cube("samples_025")["co2_emission"].isel(time=now)
    members = np.where(land, samples.sum("time", skipna=False, dtype=float).transpose("member", "lat", "lon"), 0.0)
    proxies = np.where(land, product.cells["co2_proxy_prior"].isel(time=now).to_numpy().sum(axis=0), 0.0)
    truth = block_sums(np.where(land, true_months(product, year).sum(axis=0), 0.0))
    flagged, believed = flagged_blocks(members, proxies), block_sums(proxies)
    row, col, inside = product.grid.locate([p["lat"] for p in plants], [p["lon"] for p in plants])
    tonnes = np.array([p["t_per_year"] for p in plants], float)[inside]
    row, col = row[inside], col[inside]
    hidden = np.zeros(product.grid.shape, bool)
    hidden[row, col] = True
    scores: dict[str, float] = {}
    marks = {"found": flagged, "above": truth > believed, "far_above": truth > FAR_ABOVE * believed}
    for size in PLANT_SIZES:
        name, large = size_name(size), tonnes >= size
        scores[f"plants_{name}"] = float(large.sum())
        scores |= {f"{what}_{name}": float(of[row, col][large].sum()) for what, of in marks.items()}
    without = land & ~blocks_with(hidden)
    return scores | {"blocks": float(without.sum()), "false_alarms": float((without & flagged).sum())}


def size_name(size: float) -> str:
    """``5mt`` for 5e6 t a year, in the names of scores."""
    return f"{size / 1e6:g}mt"


def true_months(product: Version, year: int) -> NDArray[np.float64]:
    """True emission of the product's cells and months of a year, (month, lat, lon), t.

    Raises
    ------
    InputError : no truth, or not these months and cells.
    """
    store = product.store
    if not store.exists(TRUTH):
        raise InputError(f"{store.url} has no truth", "a synthetic store with truth/", "validate against an inventory")
    true = open_cube(store, TRUTH, chunks=None)["co2_emission"]
    try:
        true = true.sel(time=product.cells["time"].values[product.months(year)])
        true = true.sel(lat=product.grid.lat, lon=product.grid.lon, method="nearest", tolerance=1e-6)
    except KeyError as error:
        raise InputError(
            f"{store.address(TRUTH)} does not cover the product ({error})", "its months and cells"
        ) from None
    return true.sum("sector").transpose("time", "lat", "lon").to_numpy().astype(float)
