"""The sections of the report: what is shown of a product, in which words."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from matplotlib.colors import Normalize, TwoSlopeNorm
from numpy.typing import NDArray

from pipeline.core.grid import Grid
from pipeline.core.schema import INFORMATION, SECTORS
from pipeline.report import charts, html, maps
from pipeline.report.data import NATION, Product
from pipeline.report.maps import Layer
from pipeline.report.style import INFORMATION_COLORS, INK, figure, styled, to_svg

KM2 = 1e6
"""m2."""
_SMALL = 4.3
"""Inches of a map that shares its row with others."""


def amount(tonnes: float) -> str:
    """Tonnes in the unit that reads best."""
    for unit, size in (("Gt", 1e9), ("Mt", 1e6), ("kt", 1e3)):
        if abs(tonnes) >= size:
            scaled = tonnes / size
            return f"{scaled:,.2f} {unit}" if unit == "Gt" or scaled < 10 else f"{scaled:,.0f} {unit}"
    return f"{tonnes:,.0f} t"


def amounts(low: float, high: float) -> str:
    """A range of tonnes."""
    return f"{amount(low)} to {amount(high)}"


def density(tonnes: NDArray, grid: Grid) -> NDArray[np.float64]:
    """Emission of each cell over its area, t km-2."""
    return tonnes / (grid.area / KM2)


def emission_map(product: Product) -> str:
    """The country at 0.25 degree, large."""
    year = product.years[-1]
    field = density(product.annual("co2_emission", year), product.grid)
    layer = Layer(f"t CO₂ per km² in {product.period(year)}", maps.log_norm(field), extend="both")
    caption = (
        f"Posterior mean at 0.25 degree, {product.period(year)}. The colours are logarithmic; the darkest also "
        "stands for zero. Lines are province borders."
    )
    where = "the domain" if not product.national else "China"
    return layer_map(
        product, field, layer, ("emission", "CO₂ emission", caption, f"Map of CO2 emission of {where}"), 7.8
    )


def layer_map(
    product: Product, field: NDArray, layer: Layer, words: tuple[str, str, str, str], width: float = _SMALL
) -> str:
    """One map as a figure; words: (key, title, caption, text for those who do not see it)."""
    key, title, caption, alt = words
    n_lat, n_lon = product.grid.shape
    height = width * min(1.25, 1.28 * n_lat / n_lon + 0.1)
    height = min(height, 0.78 * width) if width > _SMALL else height
    with styled():
        fig = figure(width, height)
        fig.set_dpi(170)
        maps.draw_map(fig, fig.subplots(), field, product.land, product.grid, layer, product.regions)
        return html.figure(to_svg(fig, key), title, caption, alt)


def layer_maps(product: Product) -> str:
    """Uncertainty and information, small maps."""
    year = product.years[-1]
    emission = product.annual("co2_emission", year)
    drawn = [
        layer_map(product, field, layer, words)
        for field, layer, words in (
            make(product, year, emission) for make in (_sigma, _ratio, _flags, _kernel, _reduction, _no2)
        )
    ]
    return html.section(
        "information",
        "How well it is known, and from what",
        f"The year {product.period(year)}, cell by cell. {_information_words(product, year, emission)}",
        html.boxed("grid", *drawn),
    )


Panel = tuple[NDArray, Layer, tuple[str, str, str, str]]


def _sigma(product: Product, year: int, emission: NDArray) -> Panel:
    sigma = product.annual_members(year).std(axis=0, ddof=1)
    relative = np.where(emission > 0, 100 * sigma / np.where(emission > 0, emission, 1.0), np.nan)
    relative[~np.isfinite(emission)] = np.nan
    layer = Layer("1 sigma of the sum, % of the mean", Normalize(0, min(_top(relative), 200.0)), "viridis_r", "max")
    caption = (
        "Spread of the members' sum over the months, over their mean: small where much is emitted and much is seen."
    )
    return relative, layer, ("sigma", "Relative uncertainty", caption, "Map of the relative uncertainty of cells")


def _top(field: NDArray) -> float:
    """A round number that nearly all of a field stays below: 1, 2 or 5 times a power of ten."""
    good = field[np.isfinite(field)]
    top = max(float(np.quantile(good, 0.98)), 1e-9) if good.size else 1.0
    power = 10.0 ** np.floor(np.log10(top))
    return float(power * min(step for step in (1, 2, 5, 10) if step * power >= top))


def percent(share: float, digits: int = 0) -> str:
    """A share in percent."""
    return f"{100 * share:.{digits}f} %"


def _ratio(product: Product, year: int, emission: NDArray) -> Panel:
    prior = product.annual("co2_prior", year)
    ratio = np.where(prior > 0, emission / np.where(prior > 0, prior, 1.0), np.nan)
    layer = Layer(
        "posterior over prior (doublings)",
        TwoSlopeNorm(0, -2, 2),
        "RdBu_r",
        "both",
        ticks=(-2, -1, 0, 1, 2),
        border=INK,
    )
    caption = "Red: the satellites moved the cell up; blue: down. One doubling is a factor of two; white is the prior."
    doublings = np.log2(np.where(ratio > 0, ratio, np.nan))
    return doublings, layer, ("ratio", "What the observations changed", caption, "Map of posterior over prior")


def _flags(product: Product, year: int, emission: NDArray) -> Panel:
    flags = np.median(product.monthly("information", year), axis=0)
    flags = np.where(np.isfinite(emission) & (flags > 0), np.floor(flags), np.nan)
    names = [name for name, value in INFORMATION.items() if value > 0]
    layer = maps.flag_layer("where the value comes from in the middle month", INFORMATION_COLORS, names)
    caption = (
        "Prior: nothing was learned or seen. Learned: from proxies by the regional models. Observed: by satellites."
    )
    return flags, layer, ("information-map", "Information layer", caption, "Map of the information layer")


def _weighted(product: Product, name: str, year: int) -> NDArray[np.float64]:
    """Mean of a layer over the months, weighted by emission."""
    weight = product.monthly("co2_emission", year)
    values = product.monthly(name, year)
    total = np.nansum(weight, axis=0)
    mean = np.nansum(weight * values, axis=0) / np.where(total > 0, total, 1.0)
    return np.where(np.isfinite(weight).any(axis=0), np.where(total > 0, mean, values.mean(axis=0)), np.nan)


def _kernel(product: Product, year: int, emission: NDArray) -> Panel:  # noqa: ARG001
    field = _weighted(product, "averaging_kernel", year)
    layer = Layer("diagonal of the averaging kernel", Normalize(0, 1), "cividis", "both")
    caption = (
        "Share of a change in the cell that the inversion would find, totals of provinces held: 1 is seen sharply."
    )
    return field, layer, ("kernel", "Averaging kernel", caption, "Map of the averaging kernel's diagonal")


def _reduction(product: Product, year: int, emission: NDArray) -> Panel:  # noqa: ARG001
    field = _weighted(product, "variance_reduction", year)
    layer = Layer("1 - posterior / prior variance", Normalize(0, 1), "cividis", "both")
    caption = "How much of the prior's variance the observations removed, neighbours' help included."
    return field, layer, ("reduction", "Variance reduction", caption, "Map of the variance reduction")


def _no2(product: Product, year: int, emission: NDArray) -> Panel:
    count = np.where(np.isfinite(emission), product.annual("n_no2", year), np.nan)
    layer = Layer(f"NO₂ observations in {product.period(year)}", Normalize(0, _top(count)), "YlGnBu", "max", border=INK)
    caption = "Daily NO₂ columns that touched the cell's months; clouds and snow leave gaps."
    return count, layer, ("no2", "NO₂ observations", caption, "Map of the number of NO2 observations")


def _information_words(product: Product, year: int, emission: NDArray) -> str:  # noqa: ARG001
    flags, field = product.monthly("information", year), np.nan_to_num(product.monthly("co2_emission", year))
    share = {name: field[flags == value].sum() / max(field.sum(), 1e-9) for name, value in INFORMATION.items()}
    return (
        f"Of the emission, {percent(share['observed'])} lies in cells and months that satellites observed, "
        f"{percent(share['learned'])} is learned from proxies and {percent(share['prior'])} is the prior."
    )


def zooms(product: Product) -> str:
    """Close-ups at 1 km beside 0.25 degree."""
    if not product.fine:
        return ""
    year = product.years[-1]
    drawn = []
    places = product.places()
    wide = 2.9 if len(places) > 1 else 4.0
    for k, place in enumerate(places):
        rows, cols = product.grid.window(place.grid)
        coarse = density(product.annual("co2_emission", year)[rows, cols], place.grid)
        fine_grid = place.grid.refine()
        fine = density(product.zoom(place, year), fine_grid)
        panels = [("0.25 degree", coarse, place.grid), ("1 km", fine, fine_grid)]
        true = product.zoom_truth(place, year)
        if true is not None:
            panels.append(("truth, 1 km", density(true, fine_grid), fine_grid))
        layer = Layer(f"t CO₂ per km² in {product.period(year)}", maps.log_norm(fine, 4.5))
        aspect = place.grid.n_lat / place.grid.n_lon / np.cos(np.deg2rad(place.grid.lat.mean()))
        with styled():
            fig = figure(wide * len(panels), (wide - 0.1) * aspect + 0.85)
            maps.zoom_figure(fig, panels, layer, product.regions)
            drawing = to_svg(fig, f"zoom{k}")
        caption = "Each 0.25 degree cell is split into 25 x 25; their sum is the cell's. The sector weights place it."
        drawn.append(html.figure(drawing, place.name, caption, f"Close-up of {place.name} at 0.25 degree and 1 km"))
    lead = f"The same emission at both resolutions, {product.period(year)}, on one logarithmic scale for each place."
    return html.section("zoom", "At 1 km", lead, html.boxed("two" if len(drawn) > 1 else "wide", *drawn))


def totals(product: Product) -> str:
    """Totals of the years, and the monthly series."""
    ranges = [product.range_of_year(NATION, y) for y in product.years]
    prior = product.prior_totals.get(NATION)
    rows = []
    for year, (mean, low, high) in zip(product.years, ranges, strict=True):
        before = "" if prior is None else amount(float(prior[product.of_year(year)].sum()))
        rows.append((product.period(year), amount(mean), amounts(low, high), before))
    yearly = html.table(("Year", "Mean", "90 % range", "Prior"), rows)
    monthly = [
        (str(m), amount(mean), amounts(low, high), percent((high - low) / 2 / mean) if mean else "")
        for m, mean, low, high in zip(product.months, *product.range_of_months(NATION), strict=True)
    ]
    return html.section(
        "totals",
        "Totals, year and month",
        f"{product.scope}: posterior mean with its 90 % range, and the prior that went in. Fossil and process CO₂.",
        html.boxed("two", html.panel(yearly), _annual_chart(product, ranges)) if len(rows) > 1 else "",
        _series_chart(product),
        html.details("The numbers", yearly, html.table(("Month", "Mean", "90 % range", "Half width"), monthly)),
    )


def _annual_chart(product: Product, ranges: Sequence[tuple[float, float, float]]) -> str:
    with styled():
        fig = figure(5.2, 3.0)
        charts.draw_annual(fig.subplots(), product.years, ranges)
        caption = "Bars are the mean, lines the 90 % range."
        return html.figure(to_svg(fig, "years"), "Each year", caption, "Bar chart of yearly totals")


def _series_chart(product: Product) -> str:
    with styled():
        fig = figure(8.4, 3.5)
        charts.draw_series(
            fig.subplots(),
            product.months,
            product.range_of_months(NATION),
            product.prior_totals.get(NATION),
            product.true_totals.get(NATION),
        )
        drawing = to_svg(fig, "series")
    caption = "The band holds 90 % of the members; all published ranges come from the same members."
    return html.figure(
        drawing, "Each month", caption, "Chart of monthly totals with range, prior and any truth", "chart"
    )


def sectors(product: Product) -> str:
    """Shares and seasons of the sectors."""
    year = product.years[-1]
    monthly = {name: product.members(NATION, name).mean(axis=0) for name in SECTORS}
    ranges = {name: product.range_of_year(NATION, year, name) for name in SECTORS}
    total = sum(mean for mean, _, _ in ranges.values()) or 1.0
    with styled():
        fig = figure(5.4, 1.5)
        charts.draw_shares(fig.subplots(), {name: mean / total for name, (mean, _, _) in ranges.items()})
        shares = html.figure(
            to_svg(fig, "shares"), "Shares", f"Of {product.period(year)}.", "Bar of the sectors' shares"
        )
        fig = figure(8.4, 3.1)
        charts.draw_sectors(fig.subplots(), product.months, monthly)
        bars = html.figure(
            to_svg(fig, "sectors"), "By month", "Posterior mean, stacked.", "Monthly totals by sector", "chart"
        )
    rows = [
        (name, amount(mean), amounts(low, high), percent(mean / total, 1)) for name, (mean, low, high) in ranges.items()
    ]
    table = html.panel(html.table(("Sector", "Mean", "90 % range", "Share"), rows))
    lead = f"{product.scope}. NO₂ tells sectors apart only weakly, so their split leans on the prior."
    return html.section("sectors", "Sectors", lead, html.boxed("two", table, shares), bars)


def provinces(product: Product) -> str:
    """Provinces with ranges."""
    codes, year = product.provinces, product.years[-1]
    if not codes:
        return ""
    now = product.of_year(year)
    ranges = [product.range_of_year(c, year) for c in codes]
    priors = _year_sums(product.prior_totals, codes, now)
    truths = _year_sums(product.true_totals, codes, now)
    names = [product.name_of(c) for c in codes]
    with styled():
        fig = figure(8.4, 1.1 + 0.22 * len(codes))
        charts.draw_ranges(fig.subplots(), names, ranges, priors, truths)
        drawing = to_svg(fig, "provinces")
    nation = product.range_of_year(NATION, year)[0]
    rows = [
        (name, amount(mean), amounts(low, high), percent(mean / nation, 1), "" if prior is None else amount(prior))
        for name, (mean, low, high), prior in zip(names, ranges, priors, strict=True)
    ]
    return html.section(
        "provinces",
        "Provinces",
        f"Totals of {product.period(year)} with 90 % ranges from the members, largest first.",
        html.figure(
            drawing, "Provinces", "Dots: mean; bars: 90 % range.", "Chart of provincial totals with ranges", "chart"
        ),
        html.details("The numbers", html.table(("Province", "Mean", "90 % range", "Of the nation", "Prior"), rows)),
    )


def _year_sums(totals: Mapping[str, NDArray], codes: list[str], now: NDArray) -> list[float | None]:
    return [float(totals[c][now].sum()) if c in totals else None for c in codes]


ORDER: tuple[tuple[str, str, Callable[[Product], str]], ...] = (
    ("totals", "Totals", totals),
    ("zoom", "1 km", zooms),
    ("provinces", "Provinces", provinces),
    ("sectors", "Sectors", sectors),
    ("information", "Uncertainty", layer_maps),
)
"""Key, name in the menu, and maker of the sections about the product itself."""
