"""Unlisted plants by size: how many were found, how many could be, over all seeds; drawn by `benchmarks.tables`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.validate.truth import PLANT_SIZES, size_name

Scores = Mapping[str, float]
Seeds = Mapping[int, Scores]


@dataclass(frozen=True)
class SizeClass:
    """Plants from `low` to less than `high` t a year: how many there are, were found, and lie in blocks of 3 x 3 cells
    whose truth is above the proxies, and far above (`pipeline.validate.truth.FAR_ABOVE`).
    """

    low: float
    high: float
    plants: float
    found: float
    above: float
    far_above: float

    @property
    def name(self) -> str:
        """``5-8``, in Mt."""
        return f"{self.low / 1e6:g}" + (f"-{self.high / 1e6:g}" if np.isfinite(self.high) else " or more")


def classes(seeds: Seeds) -> list[SizeClass]:
    """Classes between the sizes of `PLANT_SIZES`, the seeds pooled; scores hold all plants from a size up."""
    ends = [*PLANT_SIZES[1:], np.inf]
    kinds = ("plants", "found", "above", "far_above")

    def count(what: str, size: float) -> float:
        return sum(row[f"{what}_{size_name(size)}"] for row in seeds.values()) if np.isfinite(size) else 0.0

    return [
        SizeClass(a, b, *(count(k, a) - count(k, b) for k in kinds)) for a, b in zip(PLANT_SIZES, ends, strict=True)
    ]


def figure(sets: Mapping[str, Seeds], path: Path) -> None:
    """Shares by size, a panel a set, whiskers of one standard deviation of the share found; false alarms as a line."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    fig, axes = plt.subplots(
        1, len(sets), figsize=(4.6 * len(sets), 3.9), sharey=True, layout="constrained", squeeze=False
    )
    for ax, (name, seeds) in zip(axes[0], sets.items(), strict=True):
        there = [c for c in classes(seeds) if c.plants]
        x, n = np.arange(len(there)), np.array([c.plants for c in there])
        found = np.array([c.found for c in there]) / n
        alarms, blocks = (sum(row[k] for row in seeds.values()) for k in ("false_alarms", "blocks"))
        ax.plot(x, [c.above / c.plants for c in there], "^:", color="#888888", label="truth above the proxies")
        ax.plot(x, [c.far_above / c.plants for c in there], "s--", color="#86bbd8", label="truth 25 % above them")
        # Of the share with half a plant more on either side, so that none found has a whisker too.
        near = (found * n + 0.5) / (n + 1)
        ax.errorbar(x, found, np.sqrt(near * (1 - near) / n), fmt="o-", color="#33658a", capsize=3, label="found")
        ax.axhline(alarms / max(blocks, 1), color="#c1440e", lw=1, label="flagged blocks without any")
        ax.set_xticks(x, [f"{c.name}\n({c.plants:.0f})" for c in there], fontsize=8)
        ax.set(title=f"{name}, {len(seeds)} seeds", xlabel="Mt of CO2 a year (plants)", ylim=(-0.03, 1.03))
    axes[0, 0].set_ylabel("share of unlisted plants")
    fig.legend(*axes[0, 0].get_legend_handles_labels(), fontsize=8, loc="outside lower center", ncols=2 * len(sets))
    path.parent.mkdir(parents=True, exist_ok=True)
    fig.savefig(path, dpi=130)
    plt.close(fig)
