"""The look: colours, the style sheet, and figures as inline SVG that follow the page's light or dark theme."""

from __future__ import annotations

import io
import re
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure

INK, MUTED, LINE, PAPER = "#1b2632", "#5d6b7a", "#d5dbe2", "#fefefe"
POSTERIOR, PRIOR, TRUTH = "#e8590c", "#7b8794", "#1c7ed6"
SECTOR_COLORS = {"power": "#e8590c", "industry": "#7950f2", "transport": "#1c7ed6", "residential": "#2f9e44"}
INFORMATION_COLORS = ("#98a4b0", "#4c8dca", "#f08c00")
"""Of the flags prior, learned and observed."""
EMISSION = ListedColormap(mpl.colormaps["inferno"](np.linspace(0.1, 1, 256)), name="emission")
"""Inferno without its black, which would be lost on a dark page."""
_THEMED = {INK: "--ink", MUTED: "--muted", LINE: "--line", PAPER: "--paper"}
_PAGE_FONTS = "'Helvetica Neue', Arial, 'Liberation Sans', 'DejaVu Sans', sans-serif"
"""Narrower than the one that Matplotlib brings and measures with, so labels keep their room."""
_RC: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "text.color": INK,
    "axes.edgecolor": LINE,
    "axes.labelcolor": MUTED,
    "axes.titlecolor": INK,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": LINE,
    "grid.linewidth": 0.6,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "svg.fonttype": "none",
    "legend.frameon": False,
    "axes.unicode_minus": True,
}

CSS = """
:root{--ink:#1b2632;--muted:#5d6b7a;--line:#d5dbe2;--paper:#ffffff;--page:#f3f5f7;--accent:#c2410c;--warn:#fff4e0;
--warnink:#7a4100;--warnline:#f0a53a;color-scheme:light dark}
@media (prefers-color-scheme:dark){:root{--ink:#e8edf2;--muted:#9aa8b6;--line:#33404d;--paper:#161d25;--page:#0e1318;
--accent:#ff8a4c;--warn:#33260f;--warnink:#ffd591;--warnline:#a86d17}}
*{box-sizing:border-box}html{scroll-behavior:smooth;-webkit-text-size-adjust:100%}
body{margin:0;background:var(--page);color:var(--ink);
font:16px/1.55 "Helvetica Neue",Arial,"Liberation Sans","DejaVu Sans",sans-serif}
main,.top>div,nav>div,footer>div{max-width:1180px;margin:0 auto;padding:0 20px}
.top{background:var(--paper);border-bottom:1px solid var(--line);padding:30px 0 24px}
h1{font-size:clamp(1.5rem,3.6vw,2.2rem);line-height:1.2;margin:0 0 .3rem;letter-spacing:-.01em}
h2{font-size:1.35rem;margin:0 0 .25rem;letter-spacing:-.01em}h3{font-size:1rem;margin:1.2rem 0 .4rem}
.sub,.lead,figcaption,.note{color:var(--muted)}.lead{max-width:46rem;margin:0 0 1rem}
.banner{background:var(--warn);color:var(--warnink);border:1px solid var(--warnline);border-left-width:6px;
border-radius:8px;padding:12px 16px;margin:18px 0 0}
.banner b{letter-spacing:.06em}
.banner+.sub{margin-top:12px}
nav{position:sticky;top:0;z-index:2;background:var(--paper);border-bottom:1px solid var(--line);overflow-x:auto}
nav>div{display:flex;gap:18px;white-space:nowrap}
nav a{color:var(--muted);text-decoration:none;padding:10px 0;font-size:.9rem}
nav a:hover,nav a:focus{color:var(--accent)}a{color:var(--accent)}
section{margin:34px 0;scroll-margin-top:56px}
.cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(170px,1fr));gap:14px;margin:22px 0 0}
.card{border:1px solid var(--line);border-radius:10px;padding:12px 14px;background:var(--page)}
.card b{display:block;font-size:1.45rem;line-height:1.25;letter-spacing:-.01em}
.card span{color:var(--muted);font-size:.85rem;display:block}
.grid{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,360px),1fr));gap:16px}
.wide{display:grid;grid-template-columns:minmax(0,1fr);gap:16px}
.two{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,480px),1fr));gap:16px;align-items:start}
figure,.panel{margin:0;background:var(--paper);border:1px solid var(--line);border-radius:12px;padding:14px 16px}
figure svg{display:block;width:100%;height:auto}figure svg image{image-rendering:pixelated}
figcaption{font-size:.86rem;margin-top:8px}figcaption b{color:var(--ink)}
section>*+figure,section>*+.panel,section>.panel+.two,section>.two+*,section>.wide+*,section>figure+*,.panel>*+*{margin-top:16px}
.scroll{overflow-x:auto}table{border-collapse:collapse;font-size:.9rem;font-variant-numeric:tabular-nums}
th{color:var(--muted);font-weight:600;text-align:left;border-bottom:1px solid var(--line);padding:6px 28px 6px 0}
td{border-bottom:1px solid var(--line);padding:5px 28px 5px 0;vertical-align:top}
th:last-child,td:last-child{padding-right:0}
.numbers td{white-space:nowrap}.chart svg{min-width:600px}
tr:last-child td{border-bottom:0}.num{text-align:right;white-space:nowrap}
details{background:var(--paper);border:1px solid var(--line);border-radius:12px;padding:10px 16px;margin-top:14px}
summary{cursor:pointer;font-weight:600}pre,code{font:.84rem/1.5 ui-monospace,"DejaVu Sans Mono",Menlo,monospace}
pre{background:var(--page);border:1px solid var(--line);border-radius:8px;padding:12px;overflow:auto;max-height:420px}
footer{color:var(--muted);font-size:.85rem;border-top:1px solid var(--line);padding:18px 0 40px;margin-top:40px}
@media print{nav{display:none}section{break-inside:avoid}}
"""


def styled() -> Any:
    """A context in which figures get the look; nothing outside it changes."""
    return mpl.rc_context(_RC)


def figure(width: float, height: float) -> Figure:
    """An empty figure of so many inches."""
    return Figure(figsize=(width, height), layout="constrained")


def to_svg(fig: Figure, name: str) -> str:
    """A figure as inline SVG whose ink, lines and paper are the page's.

    Parameters
    ----------
    name : of the figure, unique on the page: identifiers inside the drawing start from it.
    """
    buffer = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": name, "svg.fonttype": "none"}):
        FigureCanvasSVG(fig).print_svg(buffer, metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.S)
    # Matplotlib numbers its groups from 1 in each figure; several figures on a page would repeat them.
    text = re.sub(r'<g id="[^"]*"', "<g", text)
    text = text.replace("'DejaVu Sans'", _PAGE_FONTS)
    for color, variable in _THEMED.items():
        text = text.replace(color, f"var({variable})")
    return re.sub(r'^<svg([^>]*?) width="[^"]*"', r"<svg\1", re.sub(r' height="[^"]*pt"', "", text, count=1), count=1)


def to_png(fig: Figure, dpi: int = 150) -> bytes:
    """A figure as PNG on white."""
    fig.set(facecolor="white", dpi=dpi)
    buffer = io.BytesIO()
    FigureCanvasAgg(fig).print_png(buffer, metadata={"Software": None}, pil_kwargs={"optimize": True})
    return buffer.getvalue()
