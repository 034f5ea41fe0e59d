"""Charts: series, ranges, shares and scatter, each drawn on axes that are handed in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.dates import ConciseDateFormatter, MonthLocator, YearLocator
from numpy.typing import NDArray

from pipeline.report.data import Range
from pipeline.report.style import EMISSION, INK, LINE, MUTED, POSTERIOR, PRIOR, SECTOR_COLORS, TRUTH

MEGATONNE = 1e6


def draw_series(
    ax: Axes, months: NDArray[np.datetime64], total: Range, prior: NDArray | None, truth: NDArray | None
) -> None:
    """Monthly totals with their 90 % band, the prior and (where known) the truth; t in, Mt shown."""
    x = months.astype("datetime64[D]")
    mean, low, high = (v / MEGATONNE for v in total)
    # A line across months that were not made would show what nobody computed.
    joined = bool(np.all(np.diff(months.astype("datetime64[M]")).astype(int) == 1))
    if joined:
        ax.fill_between(x, low, high, color=POSTERIOR, alpha=0.22, linewidth=0, label="90 % range")
    else:
        ax.vlines(x, low, high, color=POSTERIOR, alpha=0.35, linewidth=7, label="90 % range")
    dashes = (0, (4, 2)) if joined else "none"
    if prior is not None:
        ax.plot(x, prior / MEGATONNE, "_", color=PRIOR, ls=dashes, lw=1.6, ms=0 if joined else 12, label="prior")
    if truth is not None:
        ax.plot(x, truth / MEGATONNE, "o", color=TRUTH, ls="-" if joined else "none", lw=1.2, ms=4, label="truth")
    ax.plot(x, mean, "o", color=POSTERIOR, ls="-" if joined else "none", lw=2.4, ms=3.5, label="posterior mean")
    ax.set_ylabel("Mt CO₂ per month")
    ax.grid(visible=False, axis="x")
    locator = MonthLocator() if x.size <= 14 else YearLocator() if x.size > 40 else MonthLocator(bymonth=(1, 4, 7, 10))
    ax.xaxis.set_major_locator(locator)
    ax.xaxis.set_major_formatter(ConciseDateFormatter(locator, show_offset=False))
    low_end = min(float(v.min()) for v in (low, *(s / MEGATONNE for s in (prior, truth) if s is not None)))
    if low_end < 0.5 * float(high.max()):
        ax.set_ylim(bottom=0)
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.1), ncols=4, fontsize=9)


def draw_ranges(
    ax: Axes,
    names: Sequence[str],
    ranges: Sequence[tuple[float, float, float]],
    priors: Sequence[float | None],
    truths: Sequence[float | None],
) -> None:
    """One row a region, first on top: 90 % range as a bar, mean as a dot, prior and truth as marks; t in, Mt shown."""
    y = np.arange(len(names))[::-1]
    mean, low, high = np.array(ranges).T / MEGATONNE
    ax.hlines(y, low, high, color=POSTERIOR, alpha=0.35, linewidth=7)
    ax.plot(mean, y, "o", color=POSTERIOR, markersize=6, label="posterior mean and 90 % range")
    for values, marker, color, label in ((priors, "|", PRIOR, "prior"), (truths, "d", TRUTH, "truth")):
        known = [(v / MEGATONNE, row) for v, row in zip(values, y, strict=True) if v is not None]
        if known:
            ax.plot(
                *zip(*known, strict=True),
                marker,
                color=color,
                markersize=5 if marker == "d" else 10,
                markeredgewidth=2,
                label=label,
            )
    ax.set(yticks=y, yticklabels=names, ylim=(-0.7, len(names) - 0.3), xlim=(0, None))
    ax.tick_params(axis="y", colors=INK)
    ax.grid(visible=False, axis="y")
    ax.spines["left"].set_visible(False)
    ax.set_xlabel("Mt CO₂")
    ax.legend(loc="lower right", fontsize=9)


def draw_sectors(ax: Axes, months: NDArray[np.datetime64], sectors: Mapping[str, NDArray]) -> None:
    """Monthly totals by sector, stacked; t in, Mt shown."""
    x = months.astype("datetime64[D]") + np.timedelta64(14, "D")
    width = np.timedelta64(26, "D")
    base = np.zeros(x.size)
    for name, values in sectors.items():
        color = SECTOR_COLORS.get(name, MUTED)
        ax.bar(x, values / MEGATONNE, width=width, bottom=base, color=color, label=name)
        base = base + values / MEGATONNE
    half = np.timedelta64(15, "D")
    ax.set_xlim(x[0] - half, x[-1] + half)
    ax.set_ylabel("Mt CO₂ per month")
    ax.grid(visible=False, axis="x")
    locator = MonthLocator(bymonthday=15) if x.size <= 14 else YearLocator()
    ax.xaxis.set_major_locator(locator)
    ax.xaxis.set_major_formatter(ConciseDateFormatter(locator, show_offset=False))
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.1), ncols=4, fontsize=9)


def draw_shares(ax: Axes, shares: Mapping[str, float]) -> None:
    """One bar cut into sector shares, named inside where there is room."""
    start = 0.0
    for name, share in shares.items():
        ax.barh(0, share, left=start, color=SECTOR_COLORS.get(name, MUTED), height=0.7)
        if share > 0.06:
            label = f"{name}\n{100 * share:.0f} %" if share > 0.1 else f"{100 * share:.0f} %"
            ax.text(start + share / 2, 0, label, ha="center", va="center", color="white", fontsize=9.5, weight="bold")
        start += share
    ax.set(xlim=(0, 1), ylim=(-0.4, 0.4))
    ax.set_axis_off()


def draw_scatter(ax: Axes, estimate: NDArray, truth: NDArray, floor: float, name: str) -> None:
    """Density of cells, estimate against truth, on logarithmic axes; t. Values below the floor sit on it."""
    x, y = np.maximum(truth, floor), np.maximum(estimate, floor)
    top = float(max(x.max(), y.max(), 10 * floor)) * 1.3
    bins = np.geomspace(floor, top, 70)
    counts, _, _ = np.histogram2d(x, y, bins=[bins, bins])
    norm = LogNorm(1, max(10.0, float(counts.max())))
    ax.pcolormesh(bins, bins, np.ma.masked_equal(counts.T, 0), norm=norm, cmap=EMISSION, rasterized=True)
    ax.plot([floor, top], [floor, top], color=TRUTH, linewidth=1.2)
    ax.set(xscale="log", yscale="log", xlim=(floor, top), ylim=(floor, top), aspect="equal")
    ax.set_xlabel("truth, t per cell and month")
    ax.set_ylabel(f"{name}, t per cell and month")
    ax.minorticks_off()


def draw_annual(ax: Axes, years: Sequence[int], ranges: Sequence[tuple[float, float, float]]) -> None:
    """National totals of the years with their 90 % range; t in, Gt shown."""
    mean, low, high = np.array(ranges).T / 1e9
    ax.bar(years, mean, width=0.6, color=POSTERIOR, alpha=0.85)
    ax.vlines(years, low, high, color=INK, linewidth=2)
    for year, value, top in zip(years, mean, high, strict=True):
        ax.annotate(f"{value:.2f}", (year, top), xytext=(0, 4), textcoords="offset points", ha="center", fontsize=9)
    ax.set_xticks(list(years))
    ax.set_ylabel("Gt CO₂")
    ax.grid(visible=False, axis="x")
    ax.spines["bottom"].set_color(LINE)
