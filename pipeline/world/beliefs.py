"""What the user believes before the satellites look, and what is kept about the truth."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.core.errors import InputError
from pipeline.core.regions import Regions
from pipeline.core.schema import PRIOR_TOTAL_COLUMNS, SECTORS
from pipeline.core.seeds import generator
from pipeline.world.ground import Ground
from pipeline.world.physics import GAIN, NOX_PER_NO2, PRIOR_SIGMA_NATION, PRIOR_SIGMA_SECTOR
from pipeline.world.plan import Plan

PARAMETERS = "truth/parameters.json"
TOTALS = "inputs/prior_totals.csv"


def believed_totals(
    regions: Regions, codes: tuple[str, ...], totals: NDArray[np.float64], year: int, plan: Plan
) -> tuple[pd.DataFrame, float]:
    """Rows of `prior_totals.csv` for a year: off by errors of the stated size that stay the same over the years.

    Parameters
    ----------
    regions : of the store (as far as the domain goes).
    codes, totals : true CO2 by region of `codes` and sector, t.

    Returns
    -------
    The rows, and the national relative error that was drawn.
    """
    rng = generator("beliefs", plan.seed)
    nation = float(rng.normal(0, PRIOR_SIGMA_NATION))
    own = np.exp(rng.standard_normal((len(codes), len(SECTORS))) * np.array(PRIOR_SIGMA_SECTOR))
    own *= 1 + nation * plan.physics.common_belief
    members = [codes.index(code) for code, inside in zip(regions.codes, regions.in_cn(), strict=True) if inside]
    rows = [("CN", year, "total", totals[members].sum() * (1 + nation), PRIOR_SIGMA_NATION)]
    for code in regions.codes:
        k = codes.index(code)
        rows += [
            (code, year, sector, totals[k, s] * own[k, s], PRIOR_SIGMA_SECTOR[s])
            for s, sector in enumerate(SECTORS)
            if totals[k, s] > 0
        ]
    return pd.DataFrame(rows, columns=list(PRIOR_TOTAL_COLUMNS)), nation


def write_beliefs(plan: Plan, regions: Regions, codes: tuple[str, ...], totals: dict[int, NDArray]) -> None:
    """Write `prior_totals.csv`, other years kept, and beside it where the numbers come from."""
    drawn = {year: believed_totals(regions, codes, t, year, plan) for year, t in totals.items()}
    table = pd.concat([rows for rows, _ in drawn.values()], ignore_index=True)
    if plan.store.exists(TOTALS):
        old = pd.read_csv(io.BytesIO(plan.store.read_bytes(TOTALS)), dtype={"region": str})
        table = pd.concat([old[~old["year"].isin(list(totals))], table], ignore_index=True)
    table = table.sort_values("year", kind="stable").round({"co2_tonnes": 0})
    plan.store.write_bytes(table.to_csv(index=False).encode(), TOTALS)
    about = {
        "ancestry": [],
        "synthetic": True,
        "national_error": next(nation for _, nation in drawn.values()),
        "common_sigma": PRIOR_SIGMA_NATION if plan.physics.common_belief else 0.0,
        "note": "true totals times errors of the stated sizes, the same every year; common_sigma is the part of the "
        "error that all rows share",
    }
    plan.store.write_json(about, "inputs/prior_totals.json")


def parameters(
    plan: Plan, ground: Ground, ratios: NDArray[np.float64], years: dict[int, dict[str, Any]]
) -> dict[str, Any]:
    """What `truth/parameters.json` holds of a world; `years` are added to those already there."""
    old = plan.store.read_json(PARAMETERS) or {}
    return {
        "schema": 1,
        **plan.identity(),
        "ratio_kg_nox_per_t_co2": {
            code: dict(zip(SECTORS, row.round(5).tolist(), strict=True))
            for code, row in zip(ground.regions.codes, ratios, strict=True)
        },
        "no2_gain": GAIN if plan.physics.gain else 1.0,
        "nox_per_no2": NOX_PER_NO2,
        "years": {**old.get("years", {}), **{str(y): v for y, v in years.items()}},
    }


def year_record(
    plan: Plan, ground: Ground, plant_tonnes: NDArray[np.float64], totals: NDArray[np.float64], months: list[dict]
) -> dict[str, Any]:
    """Truth of a year: totals by region and sector in the domain, mean lifetimes, unlisted plants."""
    table = ground.plants
    inside = plan.domain.locate(table["lat"].to_numpy(float), table["lon"].to_numpy(float))[2]
    hidden = ~table["listed"].to_numpy(bool) & inside & (plant_tonnes > 0)
    names = table.loc[hidden, ["name", "sector", "lat", "lon"]].assign(t_per_year=plant_tonnes[hidden])
    return {
        "co2_t": {
            code: dict(zip(SECTORS, row.round(1).tolist(), strict=True))
            for code, row in zip(ground.regions.codes, totals, strict=True)
            if row.any()
        },
        "lifetime_h": {str(m["month"]): m["lifetime"] for m in months},
        "unlisted": names.round({"lat": 5, "lon": 5, "t_per_year": 1}).to_dict("records"),
    }


def check_store(plan: Plan) -> None:
    """Refuse to mix two worlds in one store, or to write over what is real; then note whose world it is.

    Raises
    ------
    InputError : another world, or real inputs where made-up ones would go.
    """
    store, old = plan.store, plan.store.read_json(PARAMETERS)
    if old is None:
        _check_nothing_real(plan)
        store.write_json({"schema": 1, **plan.identity(), "years": {}}, PARAMETERS)
        return
    for key, value in plan.identity().items():
        if old.get(key) != value:
            raise InputError(
                f"{store.url} holds a world with {key} {old.get(key)}", f"{value}", "name another store with --store"
            )


def _check_nothing_real(plan: Plan) -> None:
    ours = {"no2_tropomi.zarr", "xco2_oco2.zarr", "era5.zarr"}
    there = set(plan.store.names("inputs"))
    for name in sorted(there & ours if plan.real else there):
        raise InputError(
            f"{plan.store.url} has inputs/{name} and no truth", "a store without what a world would write over",
            "name another store" if plan.real else "name another store with --store, or add to real proxies with --on",
        )  # fmt: skip
