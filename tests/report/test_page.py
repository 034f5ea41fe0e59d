"""The page: everything in it, nothing outside it, every name escaped; the truth only when asked for."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from pipeline.report.data import Product
from pipeline.report.inversion import over_months
from pipeline.report.page import draw_readme_figure, write_report
from pipeline.store.location import Store
from tests.product_fixture import SMALL, write_product

VOID = {"meta", "img", "br", "use", "path", "image", "line", "input"}


class Outline(HTMLParser):
    """Collects tags and checks that each closes what was opened."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag


@pytest.fixture(scope="module")
def page(made) -> str:
    store, version = made
    address = write_report(store, version, truth=True)
    assert address.endswith(f"products/{version}/report/index.html")
    return store.read_bytes("products", version, "report", "index.html").decode()


@pytest.fixture(scope="module")
def outline(page) -> Outline:
    parser = Outline()
    parser.feed(page)
    return parser


def test_it_is_well_formed_and_every_section_is_there(outline) -> None:
    assert outline.open == []
    sections = [a["id"] for tag, a in outline.tags if tag == "section"]
    expected = "map totals zoom provinces sectors information skill diagnostics learning provenance"
    assert sections == expected.split()


def test_it_needs_nothing_from_outside(page, outline) -> None:
    assert not [tag for tag, _ in outline.tags if tag in ("script", "link", "iframe", "object")]
    targets = [v for _, a in outline.tags for k, v in a.items() if k in ("src", "href", "xlink:href") and v]
    assert targets
    assert all(t.startswith(("#", "data:image/png;base64,")) for t in targets)
    assert not re.search(r"@import|url\((?!#)", page)


def test_every_drawing_says_what_it_shows(outline) -> None:
    drawings = [a for tag, a in outline.tags if tag == "svg"]
    assert len(drawings) >= 12
    assert all(a["role"] == "img" and len(a["aria-label"] or "") > 15 for a in drawings)


def test_identifiers_are_unique(outline) -> None:
    names = [a["id"] for _, a in outline.tags if a.get("id")]
    assert len(names) == len(set(names))


def test_names_are_escaped(page) -> None:
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)" in page
    assert "no &lt;valid&gt; pixel" in page
    assert "night &lt;all&gt;" in page


def test_what_is_synthetic_says_so(page) -> None:
    assert 'class="banner"' in page
    assert "(synthetic)</title>" in page


def test_consistency_is_told_by_group_and_month(page) -> None:
    part = page.split('id="diagnostics"')[1].split("</section>")[0]
    assert "<tr><td>north</td><td class=num>0.91</td>" in part
    assert "<tr><td>south</td><td class=num></td>" in part
    assert part.count("<tr><td>2022-0") == 6
    assert part.count("<svg") == 4


def test_months_are_weighted_by_their_observations(made) -> None:
    product = Product(*made)
    layer = over_months(product, "innovation_rms", 2022)
    cube, count = product.cube("diagnostics_025")["innovation_rms"].to_numpy(), product.monthly("n_no2", 2022)
    row, col = np.argwhere(product.land & (np.nan_to_num(count).min(axis=0) > 0))[0]
    expected = np.average(cube[:, row, col], weights=count[:, row, col])
    assert layer[row, col] == pytest.approx(expected)
    assert np.isnan(layer[~product.land]).all()


def test_a_version_without_diagnostics_has_its_other_sections(tmp_path) -> None:
    store = Store(str(tmp_path))
    version = write_product(store, fine=False, truth=False, members=20)
    store.remove(f"products/{version}/diagnostics_025.zarr")
    write_report(store, version, truth=False)
    part = store.read_bytes("products", version, "report", "index.html").decode().split('id="diagnostics"')[1]
    assert "<svg" not in part.split("</section>")[0]


def test_what_is_not_independent_says_so(page) -> None:
    assert "Not independent of meic" in page.split("</header>")[0]


def test_its_ink_follows_the_theme(page) -> None:
    assert "prefers-color-scheme:dark" in page
    assert page.count("var(--ink)") > 20
    assert "#1b2632" not in page.split("</style>")[1]


def test_truth_is_shown_only_when_asked(made, page, tmp_path) -> None:
    assert "Skill against the known truth" in page
    store, version = made
    write_report(store, version, truth=False)
    blind = store.read_bytes("products", version, "report", "index.html").decode()
    assert "known truth" not in blind
    assert ">truth<" not in blind


def test_the_same_product_gives_the_same_bytes(made) -> None:
    store, version = made
    pages = []
    for _ in range(2):
        write_report(store, version, truth=False)
        pages.append(store.read_bytes("products", version, "report", "index.html"))
    assert pages[0] == pages[1]


def test_it_does_without_what_may_be_absent(tmp_path) -> None:
    store = Store(str(tmp_path))
    version = write_product(store, fine=False, truth=False, members=20)
    store.remove("inputs/regions.geojson")
    store.remove(f"products/{version}/provenance.json")
    write_report(store, version, truth=True)
    page = store.read_bytes("products", version, "report", "index.html").decode()
    assert 'id="zoom"' not in page
    assert 'id="diagnostics"' not in page
    assert 'id="provenance"' in page


def test_the_readme_picture(made, tmp_path) -> None:
    store, version = made
    path = tmp_path / "picture.png"
    draw_readme_figure(store, version, str(path))
    with Image.open(path) as image:
        assert image.width > 1000
        assert np.asarray(image.convert("RGB")).std() > 20
    assert SMALL.shape == (24, 32)


def test_years_and_gaps_are_shown_as_they_are(tmp_path) -> None:
    store = Store(str(tmp_path))
    months = pd.to_datetime(["2021-11-01", "2021-12-01", "2022-02-01"])
    version = write_product(store, months=months, fine=False, members=20)
    write_report(store, version, truth=True)
    page = store.read_bytes("products", version, "report", "index.html").decode()
    assert "2021, 2 of 12 months, 2022, 1 of 12 months" in page
    assert 'aria-label="Bar chart of yearly totals"' in page
    assert page.count("Ranges and totals") == 2
