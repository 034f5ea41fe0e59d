"""The inversion's own account: how much it learned, and whether its errors are those it believed in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.colors import TwoSlopeNorm
from numpy.typing import NDArray

from pipeline.core.schema import CONSISTENCY
from pipeline.report import html
from pipeline.report.data import Product
from pipeline.report.evidence import plain_table, short
from pipeline.report.maps import Layer
from pipeline.report.sections import layer_map
from pipeline.report.style import INK

_HEADS = {
    "innovation_mean": "innovation, mean",
    "innovation_rms": "innovation, RMS",
    "residual_mean": "residual, mean",
    "residual_rms": "residual, RMS",
    "observation_error_ratio": "observation error",
    "background_error_ratio": "prior error",
}
_LEAD = (
    "χ² is twice the cost at the optimum over the number of observations: about 1 when the errors are what the "
    "inversion believes, below it by the factor that errors were widened with because neighbours err together. DOFS "
    "counts the independent pieces of information that the observations gave."
)
_EXPECTED = (
    "Innovations are NO₂ columns less those of the prior, over their believed spread: mean 0 and RMS 1 are expected. "
    "Residuals are columns less those of the posterior, over their error: mean 0, RMS below 1. Observation and prior "
    "error are variances as the columns themselves tell them (Desroziers et al. 2005) over the believed ones: 1 where "
    "belief was right, below 1 where it was too wide. The observations' are believed wide on purpose."
)


def diagnostics(product: Product) -> str:
    """The inversion's own account, whatever it holds; maps where the version has them."""
    rows = product.provenance.get("diagnostics")
    if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) for row in rows):
        return ""
    parts = [html.panel(plain_table(rows, first="month")), *_tables(rows)]
    if product.has("diagnostics_025"):
        drawn = (_panel(product, *made) for made in _MAPS)
        parts.append(html.boxed("two", *drawn))
    return html.section("diagnostics", "Inversion", _LEAD, *parts)


def _tables(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Consistency by training group, mean over the months, and by month over all groups."""
    told = [(str(row.get("month", "")), row["consistency"]) for row in rows if isinstance(row.get("consistency"), dict)]
    if not told:
        return []
    groups = sorted({group for _, by_group in told for group in by_group}, key=lambda group: (group == "all", group))
    by_group = [[g, *(_mean([c[g].get(n) for _, c in told if g in c]) for n in CONSISTENCY)] for g in groups]
    by_month = [[month, *(short(c.get("all", {}).get(n)) for n in CONSISTENCY)] for month, c in told]
    heads = [_HEADS[name] for name in CONSISTENCY]
    first = html.table(["Training group", *heads], by_group)
    second = html.details("By month", html.table(["Month", *heads], by_month))
    return [html.note(_EXPECTED), html.panel(first, second)]


def _mean(values: Sequence[float | None]) -> str:
    known = [v for v in values if v is not None]
    return short(float(np.mean(known))) if known else ""


_MAPS = (
    (
        "innovation_mean",
        Layer("mean innovation, believed sigmas", TwoSlopeNorm(0, -1, 1), "RdBu_r", "both", border=INK),
        "What the prior lacks",
        "Mean of observed less prior NO₂ columns over their believed spread. Red: more was seen than the prior has.",
    ),
    (
        "residual_mean",
        Layer("mean residual, sigmas of the columns", TwoSlopeNorm(0, -1, 1), "RdBu_r", "both", border=INK),
        "What is left unexplained",
        "Mean of observed less posterior columns over their error. What has a pattern here the model cannot follow.",
    ),
    (
        "observation_error_ratio",
        Layer("observation error variance, seen over believed", TwoSlopeNorm(1, 0, 3), "PuOr_r", "max", border=INK),
        "Observation error",
        "Desroziers ratio of the columns' errors. Below 1: columns are better than believed, or widened on purpose.",
    ),
    (
        "background_error_ratio",
        Layer(
            "prior error variance in columns, seen over believed", TwoSlopeNorm(1, 0, 3), "PuOr_r", "max", border=INK
        ),
        "Prior error",
        "Desroziers ratio of the prior. Above 1: the prior is worse there than it was believed to be.",
    ),
)
"""Variable, scale, title and caption of the maps."""


def _panel(product: Product, name: str, layer: Layer, title: str, caption: str) -> str:
    year = product.years[-1]
    words = (name.replace("_", "-"), title, f"{caption} {product.period(year)}.", f"Map of {name.replace('_', ' ')}")
    return layer_map(product, over_months(product, name, year), layer, words)


def over_months(product: Product, name: str, year: int) -> NDArray[np.float64]:
    """Mean of a consistency layer over a year's months, weighted by NO2 observations; NaN where there were none."""
    months = product.of_year(year)
    values = product.cube("diagnostics_025")[name].isel(time=months).to_numpy().astype(float)
    weight = np.where(np.isfinite(values), np.nan_to_num(product.monthly("n_no2", year)), 0.0)
    total = weight.sum(axis=0)
    mean = np.divide(
        (weight * np.nan_to_num(values)).sum(axis=0), total, out=np.full(total.shape, np.nan), where=total > 0
    )
    return np.where(product.land, mean, np.nan)
