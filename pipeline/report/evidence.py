"""The sections that say how far to trust the product: skill against a known truth, diagnostics, provenance."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.core.metrics import LOG_FLOOR, cell_scores, total_scores
from pipeline.report import charts, html
from pipeline.report.data import NATION, Product
from pipeline.report.style import figure, styled, to_svg
from pipeline.store.publish import product_path

LISTED_INPUTS = 200
"""Rows of the list of inputs; the whole list is in provenance.json."""
_SKILL_ROWS = (
    ("R², months and cells", "r2_monthly", "{:.3f}"),
    ("R², year and cells", "r2_annual", "{:.3f}"),
    ("R² without the top 1 % of cells", "r2_without_top_1_percent", "{:.3f}"),
    (f"R² of logarithms above {LOG_FLOOR:,.0f} t a month", "log_r2_monthly", "{:.3f}"),
    ("Relative mean absolute error", "relative_mae", "{:.1f} %"),
    ("Bias of the sum over cells", "bias", "{:+.1f} %"),
)


def truth_scores(product: Product, year: int) -> dict[str, float]:
    """Scores of a year against the truth of a synthetic store; empty where there is none to look at."""
    if product.truth is None:
        return {}
    now, land = product.of_year(year), product.land
    mean, prior, low, high = (
        product.monthly(name, year)[:, land]
        for name in ("co2_emission", "co2_proxy_prior", "co2_emission_p05", "co2_emission_p95")
    )
    scores = cell_scores(mean, prior, low, high, product.truth[now][:, land])
    codes = [c for c in product.provinces if c in product.true_totals]
    if codes and NATION in product.true_totals:
        members = np.stack([product.members(c)[:, now] for c in [*codes, NATION]], axis=-1)
        true = np.stack([product.true_totals[c][now] for c in [*codes, NATION]], axis=-1)
        scores |= total_scores(members, true, nation=len(codes))
    return scores


def skill(product: Product) -> str:
    """Skill against the truth, posterior beside prior."""
    if product.truth is None:
        return ""
    tables = []
    for year in product.years:
        scores = truth_scores(product, year)
        rows = [(label, _format(f, scores[f"prior_{key}"]), _format(f, scores[key])) for label, key, f in _SKILL_ROWS]
        table = html.table((f"Cells, {product.period(year)}", "Proxy prior", "Posterior"), rows)
        ranges = html.table(("Ranges and totals", "Value", "Should be"), _range_rows(scores))
        tables.append(html.boxed("two", html.panel(table), html.panel(ranges)))
    now = product.of_year(product.years[-1])
    mean, prior = (product.cells[n].to_numpy()[now][:, product.land] for n in ("co2_emission", "co2_proxy_prior"))
    drawing = _scatter(prior, mean, product.truth[now][:, product.land])
    caption = "Density of cells and months; on the blue line the estimate is the truth."
    return html.section(
        "skill",
        "Skill against the known truth",
        "This store is synthetic, so the truth is known. The run never saw it; only this report does. All cells count, "
        "those that emit nothing included.",
        html.figure(
            drawing, "Prior and posterior", caption, "Scatter of prior and of posterior against the truth", "chart"
        ),
        *tables,
    )


def _range_rows(scores: Mapping[str, float]) -> list[tuple[str, str, str]]:
    wanted = (
        ("Error over the prior's", "relative_mae_over_prior", "{:.2f}", "below 1"),
        ("Cells and months inside their 90 % range", "coverage_90_cells", "{:.1f} %", "90 %"),
        ("Provinces and months inside", "coverage_90_provinces_monthly", "{:.1f} %", "90 %"),
        ("Provinces and years inside", "coverage_90_provinces_annual", "{:.1f} %", "90 %"),
        ("Bias of the national total", "national_bias", "{:+.2f} %", "near 0"),
        ("The same in standard deviations", "national_z", "{:+.2f}", "within 2"),
    )
    return [(label, _format(f, scores[key]), goal) for label, key, f, goal in wanted if key in scores]


def _format(pattern: str, value: float) -> str:
    return pattern.format(100 * value if pattern.endswith("%") else value)


def _scatter(prior: NDArray, posterior: NDArray, truth: NDArray) -> str:
    with styled():
        fig = figure(8.4, 4.2)
        left, right = fig.subplots(1, 2, sharex=True, sharey=True)
        positive = truth[truth > 0]
        floor = max(10.0, 10 ** np.floor(np.log10(np.quantile(positive, 0.02)))) if positive.size else LOG_FLOOR
        charts.draw_scatter(left, prior.ravel(), truth.ravel(), floor, "prior")
        charts.draw_scatter(right, posterior.ravel(), truth.ravel(), floor, "posterior")
        left.set_title("Before the satellites")
        right.set_title("After")
        return to_svg(fig, "scatter")


def learning(product: Product) -> str:
    """Skill of the learned fields by training region."""
    rows = _rows(product.provenance.get("scores"))
    if not rows:
        return ""
    lead = (
        "Skill of the regional models: blocks are whole areas of at least 2 degrees that a model never saw, the honest "
        "figure; random leaves single cells out and is too good, shown so that its optimism can be seen."
    )
    keys = [k for k in dict.fromkeys(key for row in rows for key in row) if k != "name"]
    table = html.table(
        ["", *(str(row["name"]) for row in rows)], [[label(k), *(short(row.get(k)) for row in rows)] for k in keys]
    )
    return html.section("learning", "Learning", lead, html.panel(table))


def provenance(product: Product) -> str:
    """Where everything comes from."""
    record = product.provenance
    attrs = product.cells.attrs
    facts = [
        ("Version", product.version),
        ("Code", record.get("code_version") or attrs.get("code_version", "")),
        ("Regridding engine", record.get("regrid_engine") or attrs.get("regrid_engine", "")),
        ("Made", record.get("created", "")),
        ("License", attrs.get("license", "")),
        ("Synthetic", "yes" if product.synthetic else "no"),
    ]
    facts += [
        (k.replace("_", " ").capitalize(), short(v))
        for k, v in record.items()
        if k not in _SHOWN_ELSEWHERE and _plain(v)
    ]
    facts.append(("Not independent of", short(record.get("ancestry") or [])))
    parts = [html.panel(html.table(("", ""), [f for f in facts if f[1] != ""], text_columns=2))]
    stages = _rows(record.get("stages"))
    if stages:
        parts.append(html.panel(plain_table(stages, first="name")))
    predictions = _rows(record.get("predictions"))
    if predictions:
        keys = ("quantity", "predicted", "seen", "ratio")
        told = html.table(keys, [[short(row.get(k)) for k in keys] for row in predictions])
        parts.append(html.panel(told, html.note(_PREDICTED)))
    listed = (("Inputs", _rows(record.get("inputs"))), ("Granules", _rows(record.get("granules"))))
    settings = record.get("settings") or attrs.get("settings")
    return html.section(
        "provenance",
        "Provenance",
        "What this was made from and with; provenance.json beside the cubes has all of it.",
        html.boxed("two", *parts),
        *(_inputs(name, rows) for name, rows in listed if rows),
        html.details("Settings", html.preformatted(_pretty(settings))) if settings else "",
        html.details("Open it yourself", html.preformatted(_recipe(product))),
    )


_PREDICTED = (
    "What was expected of the run before it started, and what came. Time and memory are left out where finished units "
    "of an earlier run were taken over."
)
_SHOWN_ELSEWHERE = frozenset(
    {
        *("settings", "inputs", "granules", "stages", "diagnostics", "scores", "ancestry", "predictions"),
        *("version", "code_version", "regrid_engine", "created", "synthetic"),
    }
)


_NAMES = {
    "chi2": "χ² per observation",
    "dofs": "DOFS",
    "n_obs": "observations",
    "n_dropped": "dropped",
    "lifetime": "lifetime, h",
    "spread_left": "posterior / prior sigma",
}


def plain_table(rows: Sequence[Mapping[str, Any]], first: str) -> str:
    """Objects as a table: a column for each key that holds plain values anywhere, `first` in front."""
    keys = list(dict.fromkeys(key for row in rows for key in row if _plain(row[key])))
    keys.sort(key=lambda k: k != first)
    return html.table([label(k) for k in keys], [[short(row.get(k)) for k in keys] for row in rows])


def label(key: str) -> str:
    """What a key of provenance is called."""
    return _NAMES.get(key, key.replace("r2_log_", "R² of logarithms, ").replace("r2_", "R², ").replace("_", " "))


def _inputs(name: str, rows: Sequence[Mapping[str, Any]]) -> str:
    status = [str(row.get("status", "used")) for row in rows]
    counts = ", ".join(f"{status.count(s)} {s}" for s in dict.fromkeys(status))
    keys = list(dict.fromkeys(key for row in rows for key in row))
    table = html.table(keys, [[short(row.get(k)) for k in keys] for row in rows[:LISTED_INPUTS]], len(keys))
    more = len(rows) - LISTED_INPUTS
    return html.details(f"{name}: {counts}", table, html.note(f"and {more:,} more") if more > 0 else "")


def _rows(value: Any) -> list[dict[str, Any]]:
    """A list of objects, or an object of objects or numbers by name, as rows."""
    if isinstance(value, Mapping):
        return [{"name": k, **(v if isinstance(v, Mapping) else {"seconds": v})} for k, v in value.items()]
    return [row for row in value if isinstance(row, dict)] if isinstance(value, list) else []


def _plain(value: Any) -> bool:
    if isinstance(value, Mapping):
        return all(not isinstance(v, (Mapping, list)) for v in value.values())
    return value is None or isinstance(value, (str, int, float, bool))


def short(value: Any) -> str:
    """A value as a cell of a table."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1e4 else f"{value:.4g}"
    if isinstance(value, int):
        return f"{value:,}" if abs(value) >= 1e4 else str(value)
    if isinstance(value, (list, tuple)) and all(_plain(v) for v in value):
        return ", ".join(map(short, value))
    if isinstance(value, Mapping):
        return ", ".join(f"{k} {v:.2g}" if isinstance(v, float) else f"{k} {short(v)}" for k, v in value.items())
    return value if isinstance(value, str) else json.dumps(value)


def _pretty(settings: Any) -> str:
    if isinstance(settings, str):
        try:
            settings = json.loads(settings)
        except ValueError:
            return str(settings)
    return json.dumps(settings, indent=1, sort_keys=True)


def _recipe(product: Product) -> str:
    year = product.years[-1]
    return (
        "import intake\n"
        'catalog = intake.open_catalog("catalog.yaml")\n'
        f'ds = catalog.emissions_025(product_version="{product.version}", store="...").to_dask()\n'
        f'ds["co2_emission"].sel(time="{year}").sum("time")\n\n'
        "# or without this project\nimport xarray as xr\n"
        f'xr.open_zarr(".../{product_path(product.version)}/emissions_025.zarr")\n'
    )
