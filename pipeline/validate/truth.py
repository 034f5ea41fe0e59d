"""Scores of a product version against the truth of a synthetic store."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.core.errors import InputError
from pipeline.core.metrics import cell_scores, total_scores
from pipeline.store.cubes import open_cube
from pipeline.store.location import Store
from pipeline.validate.version import NATION, Version

TRUTH = "truth/emissions_025.zarr"


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
    inside = np.where(land, truth, 0.0)
    codes = [c for c, share in product.shares.items() if c in product.totals and (share[land].sum() > 0 or c == NATION)]
    members = np.stack([product.members(c, year) for c in codes], axis=-1)
    true = np.stack([np.einsum("tij,ij->t", inside, product.shares[c]) for c in codes], axis=-1)
    return scores | total_scores(members, true, nation=codes.index(NATION))


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
