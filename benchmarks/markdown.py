"""The tables of docs/inversion.md and docs/comparison.md in Markdown, from the scores of seeds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from benchmarks import comparison
from benchmarks.recall import Scores, Seeds, classes
from pipeline.validate.truth import size_name

SIZE = size_name(5e6)
"""Of the plants that a row of found ones is about."""
POOLED = ("plants_", "found_", "blocks", "false_alarms")
"""What counts of all seeds together."""


def share(value: float) -> str:
    """``+1.2 %``."""
    return f"{value:+.1%}".replace("%", " %")


def percent(value: float) -> str:
    """``1.2 %``."""
    return f"{value:.1%}".replace("%", " %")


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table, a line a row."""
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def found(row: Scores) -> str:
    """How many unlisted plants were found."""
    return f"{row[f'found_{SIZE}']:.0f} of {row[f'plants_{SIZE}']:.0f}"


def alarms(row: Scores) -> str:
    """How many blocks without any are flagged."""
    return percent(row["false_alarms"] / max(row["blocks"], 1))


NATIONAL: dict[str, tuple[Callable[[Scores], str], str]] = {
    "R2, cells and months": (lambda r: f"{r['r2_monthly']:.3f} ({r['prior_r2_monthly']:.3f})", ">= 0.80"),
    "R2 of the year's sums": (lambda r: f"{r['r2_annual']:.3f} ({r['prior_r2_annual']:.3f})", ">= 0.85"),
    "mean absolute error over the proxies'": (lambda r: f"{r['relative_mae_over_prior']:.2f}", "0.75"),
    "bias of China's year": (lambda r: f"{share(r['national_bias'])} ({share(r['prior_bias'])})", ""),
    "its z": (lambda r: f"{r['national_z']:.2f}", ""),
    "its sigma": (lambda r: percent(r["national_sigma"]), ""),
    "RMS bias of months": (lambda r: percent(r["national_bias_monthly"]), ""),
    "without XCO2: bias of China's year": (lambda r: share(r["no_xco2_national_bias"]), ""),
    "without XCO2: its z": (lambda r: f"{r['no_xco2_national_z']:.2f}", ""),
    "without XCO2: its sigma": (lambda r: percent(r["no_xco2_national_sigma"]), ""),
    "without XCO2: RMS bias of months": (lambda r: percent(r["no_xco2_national_bias_monthly"]), ""),
    "cells inside 90 %": (lambda r: f"{r['coverage_90_cells']:.2f}", "0.85-0.95"),
    "provinces inside 90 %, months": (lambda r: f"{r['coverage_90_provinces_monthly']:.2f}", "0.85-0.95"),
    "provinces inside 90 %, year": (lambda r: f"{r['coverage_90_provinces_annual']:.2f}", "0.85-0.95"),
    "unlisted plants of 5 Mt a year or more found": (found, "70 %"),
    "blocks without one that are flagged": (alarms, "10 % at most"),
    "cells and months below zero": (lambda r: percent(r["negative"]), "none"),
}
"""Rows of the national table: what a seed shows and what is wanted."""


def national(seeds: Seeds) -> str:
    """A column a seed."""
    rows = [[name, *(show(row) for row in seeds.values()), wanted] for name, (show, wanted) in NATIONAL.items()]
    return markdown(["(proxies in brackets)", *(f"seed {seed}" for seed in seeds), "wanted"], rows)


def regional(seeds: Seeds) -> str:
    """Means and root mean squares over the seeds; plants are pooled."""
    rows = list(seeds.values())
    pooled = {name: sum(row[name] for row in rows) for name in rows[0] if name.startswith(POOLED)}

    def mean(name: str) -> float:
        return float(np.mean([row[name] for row in rows]))

    def rms(name: str) -> float:
        return float(np.sqrt(np.mean([row[name] ** 2 for row in rows])))

    def both(name: str) -> list[str]:
        return [f"{mean(n):.3f}" for n in (f"prior_{name}", name)]

    lines = [
        ["R2, cells and months", *both("r2_monthly"), ""],
        ["R2 of the year's sums", *both("r2_annual"), ""],
        ["mean absolute error over the proxies'", "1", f"{mean('relative_mae_over_prior'):.3f}", ""],
        ["mean bias of the total", share(mean("prior_bias")), share(mean("national_bias")), "2 % at most"],
        ["RMS bias of the total", percent(rms("prior_bias")), percent(rms("national_bias")), "5 % at most"],
        ["RMS bias of months", "", percent(rms("national_bias_monthly")), "8 % at most"],
        ["RMS z of the total", "", f"{rms('national_z'):.2f}", "0.8-1.2"],
        ["mean sigma of the total", "", percent(mean("national_sigma")), ""],
        ["without XCO2: mean bias of the total", "", share(mean("no_xco2_national_bias")), ""],
        ["without XCO2: RMS bias of the total", "", percent(rms("no_xco2_national_bias")), ""],
        ["without XCO2: RMS bias of months", "", percent(rms("no_xco2_national_bias_monthly")), ""],
        ["without XCO2: RMS z of the total", "", f"{rms('no_xco2_national_z'):.2f}", ""],
        ["without XCO2: mean sigma of the total", "", percent(mean("no_xco2_national_sigma")), ""],
        ["cells inside 90 %", "", f"{mean('coverage_90_cells'):.3f}", "0.85-0.95"],
        ["provinces inside 90 %, months", "", f"{mean('coverage_90_provinces_monthly'):.2f}", "0.85-0.95"],
        ["provinces inside 90 %, year", "", f"{mean('coverage_90_provinces_annual'):.2f}", "0.85-0.95"],
        ["unlisted plants of 5 Mt a year or more found", "", found(pooled), "70 %"],
        ["blocks without one that are flagged", "", alarms(pooled), "10 % at most"],
        ["cells and months below zero", "", percent(mean("negative")), "none"],
    ]
    return markdown([f"{len(rows)} seeds", "proxies", "product", "wanted"], lines)


def lockdown(seeds: Seeds) -> str:
    """The month of the event against the mean of the others."""
    rows = list(seeds.values())
    fell = [float(np.mean([row[f"fall_{k}"] for row in rows])) for k in ("truth", "proxies", "product")]
    inside = [row["event_inside"] for row in rows]
    lines = [
        ["over the mean of the others", *(share(np.exp(f) - 1) for f in fell), ""],
        ["as ln", *(f"{f:+.2f}" for f in fell), ""],
        ["seeds with the truth inside 90 %", "", "", f"{sum(inside):.0f} of {len(inside)}", "80 %"],
    ]
    return markdown([f"{len(rows)} seeds", "truth", "proxies", "product", "wanted"], lines)


def compared(seeds: Sequence[Mapping[str, Scores]]) -> str:
    """Ours beside the alternatives, then on what it is not ahead."""
    means = comparison.average(seeds)
    return "\n".join([comparison.table(means), "", *comparison.not_ahead(means)])


def switches(seeds: Sequence[Mapping[str, Scores]]) -> str:
    """Ours in each world; only those that every seed has."""
    there = [name for name in seeds[0] if all(name in worlds for worlds in seeds)]
    return comparison.table(comparison.average([{n: s[n] for n in there} for s in seeds]), "world")


def sizes(seeds: Seeds) -> str:
    """Unlisted plants by size over all seeds: found, and those whose block has more in truth than the proxies say."""
    rows = [[c.name, *(f"{n:.0f}" for n in (c.plants, c.found, c.above, c.far_above))] for c in classes(seeds)]
    return markdown(["Mt a year", "plants", "found", "truth above the proxies", "truth 25 % above"], rows)
