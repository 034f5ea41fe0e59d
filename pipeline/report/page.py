"""One self-contained page for each product version, and the picture of the README."""

from __future__ import annotations

from html import escape
from pathlib import Path

from pipeline.core.provinces import OUTSIDE_CN
from pipeline.report import charts, html, maps
from pipeline.report.data import NATION, Product
from pipeline.report.evidence import learning, provenance, skill, truth_scores
from pipeline.report.inversion import diagnostics
from pipeline.report.maps import Layer
from pipeline.report.sections import ORDER, amount, amounts, density, emission_map, percent
from pipeline.report.style import figure, styled, to_png
from pipeline.store.location import Store
from pipeline.store.publish import product_path


def write_report(store: Store, version: str, *, truth: bool) -> str:
    """Write `products/<version>/report/index.html`; it needs nothing but itself.

    Parameters
    ----------
    truth : whether to score the product against `truth/` where the store has one; a run never looks at it, this may.

    Returns
    -------
    str : the page's address.
    """
    product = Product(store, version, with_truth=truth)
    sections = [("map", "Map", html.section("map", "The map", _map_lead(product), emission_map(product)))]
    sections += [(key, name, make(product)) for key, name, make in ORDER]
    evidence = (
        ("skill", "Skill", skill),
        ("diagnostics", "Inversion", diagnostics),
        ("learning", "Learning", learning),
        ("provenance", "Provenance", provenance),
    )
    sections += [(key, name, make(product)) for key, name, make in evidence]
    page = html.page(_title(product), _header(product), sections, _footer(product))
    path = (product_path(version), "report", "index.html")
    store.write_bytes(page.encode(), *path)
    return store.address(*path)


def draw_readme_figure(store: Store, version: str, path: str) -> None:
    """Write one PNG: the year at 0.25 degree, a close-up at 1 km and the monthly series.

    Parameters
    ----------
    path : of the PNG, on this machine.
    """
    product = Product(store, version)
    year, place = product.years[-1], product.places()[0]
    field = density(product.annual("co2_emission", year), product.grid)
    fine_grid = place.grid.refine()
    fine = density(product.zoom(place, year), fine_grid)
    coarse_layer = Layer("t CO₂ per km²", maps.log_norm(field), extend="both")
    fine_layer = Layer("t CO₂ per km²", maps.log_norm(fine, 4.5))
    with styled():
        fig = figure(12, 5.7)
        left, right = fig.subfigures(1, 2, squeeze=False, width_ratios=[1.55, 1])[0]
        whole = left.subplots()
        maps.draw_map(left, whole, field, product.land, product.grid, coarse_layer, product.regions)
        whole.set_title(f"CO₂ emission {product.period(year)}, 0.25 degree{_mark(product)}")
        close, below = right.subplots(2, 1, height_ratios=[1.5, 1])
        maps.draw_zoom(close, fine, fine_grid, fine_layer, product.regions)
        maps.draw_bar(right, close, fine_layer, 0.7)
        close.set_title(f"{place.name}, 1 km")
        national, prior = product.range_of_months(NATION), product.prior_totals.get(NATION)
        charts.draw_series(below, product.months, national, prior, None)
        below.set_title("Monthly total with 90 % range")
        Path(path).write_bytes(to_png(fig, 120))


def _mark(product: Product) -> str:
    return " (synthetic)" if product.synthetic else ""


def _title(product: Product) -> str:
    return f"CO₂ emissions {', '.join(map(product.period, product.years))}{_mark(product)}"


def _map_lead(product: Product) -> str:
    west, south, east, north = product.grid.bounds
    box = f"{west:g} to {east:g} °E, {south:g} to {north:g} °N"
    return (
        f"Where CO₂ is emitted, {box}. Islands south of 17 °N are not on the grid." if product.national else f"{box}."
    )


def _header(product: Product) -> str:
    parts = [
        f"<h1>{escape(_title(product))}</h1>",
        '<div class="sub">Gridded monthly CO₂ from satellite columns, with uncertainty. Fossil and process CO₂; no '
        f"biosphere, fires or biofuel. Version {escape(product.version)}.</div>",
    ]
    if product.synthetic:
        parts.append(
            '<div class="banner" role="note"><b>SYNTHETIC</b> Some or all of the observations behind this product were '
            "made by a simulation. It shows what the method does; it says nothing about real emissions.</div>"
        )
    leaves = [int(month["leaves"]) for month in (product.provenance.get("diagnostics") or ()) if "leaves" in month]
    if leaves:
        parts.append(
            f'<div class="sub">Quick look, made with a reduced state of {max(leaves)} leaves: cells of a leaf are told '
            "from each other by the prior alone.</div>"
        )
    ancestry = product.provenance.get("ancestry")
    if ancestry:
        parts.append(
            f'<div class="sub">Not independent of {escape(", ".join(map(str, ancestry)))}: inputs descend from it, so '
            "that agreement with it proves nothing.</div>"
        )
    parts.append(html.cards(_key_figures(product)))
    return "".join(parts)


def _key_figures(product: Product) -> list[tuple[str, str, str]]:
    year = product.years[-1]
    mean, low, high = product.range_of_year(NATION, year)
    cards = [(f"{product.scope}, {product.period(year)}", amount(mean), f"90 % range {amounts(low, high)}")]
    prior = product.prior_totals.get(NATION)
    if prior is not None:
        before = float(prior[product.of_year(year)].sum())
        cards.append(("The prior said", amount(before), f"the posterior is {100 * (mean / before - 1):+.1f} % from it"))
    others = [c for c in product.provinces if c not in OUTSIDE_CN]
    if others:
        top = product.range_of_year(others[0], year)
        cards.append(("Largest province", product.name_of(others[0]), f"{amount(top[0])} ({amounts(*top[1:])})"))
    scores = truth_scores(product, year)
    if scores:
        cards.append(
            ("Skill, R² of months and cells", f"{scores['r2_monthly']:.2f}", f"prior {scores['prior_r2_monthly']:.2f}")
        )
        cards.append(("Cells inside their 90 % range", percent(scores["coverage_90_cells"]), "should be 90 %"))
    return cards


def _footer(product: Product) -> str:
    license_name = escape(str(product.cells.attrs.get("license", "see provenance")))
    return (
        f"CarbonCube {escape(str(product.provenance.get('code_version', '')))}. Data: {license_name}. Tonnes are of "
        "CO₂, never of carbon. China's total is of its 31 mainland provinces; Hong Kong, Macao and Taiwan are listed "
        "by themselves. 0.25 degree cells on borders count by the share that lies inside."
    )
