"""Maps: cells on an equal-area projection with province borders, and close-ups at both resolutions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import shapely
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.colors import BoundaryNorm, Colormap, ListedColormap, LogNorm, Normalize
from matplotlib.figure import Figure, FigureBase
from matplotlib.ticker import FuncFormatter
from numpy.typing import ArrayLike, NDArray

from pipeline.core.grid import Grid
from pipeline.core.regions import Regions
from pipeline.report.style import EMISSION, LINE, MUTED

SMALL_ISLAND = 0.02
"""Square degrees; smaller pieces of a region are not drawn on a map of the country."""
_NOTHING = "#8a94a0"
"""Land without a value."""
_CLOSE = 12.0
"""Degrees; a map narrower than this is a close-up and keeps its borders in detail."""


@dataclass(frozen=True)
class Albers:
    """Albers equal-area conic on the sphere, in units of its radius (Snyder 1987, USGS PP 1395, eqs. 14-1 to 14-6)."""

    south: float
    north: float
    meridian: float

    @classmethod
    def over(cls, grid: Grid) -> Albers:
        """Standard parallels a sixth inside the box; 25, 47 N and 105 E, customary for China, when it is large."""
        west, south, east, north = grid.bounds
        if east - west > 40:
            return cls(25.0, 47.0, 105.0)
        sixth = (north - south) / 6
        return cls(south + sixth, north - sixth, (west + east) / 2)

    def __call__(self, lon: ArrayLike, lat: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Map coordinates of points in degrees; shapes broadcast."""
        s, n = np.sin(np.deg2rad([self.south, self.north]))
        cone = (s + n) / 2
        c = 1 - s**2 + 2 * cone * s
        rho = np.sqrt(c - 2 * cone * np.sin(np.deg2rad(lat))) / cone
        theta = cone * np.deg2rad(np.asarray(lon, float) - self.meridian)
        return rho * np.sin(theta), -rho * np.cos(theta)


@dataclass(frozen=True)
class Layer:
    """How a field is shown: the bar's label, scale, colours, the names of flags, ticks, and the colour of borders."""

    label: str
    norm: Normalize
    cmap: Colormap | str = field(default_factory=lambda: EMISSION)
    extend: str = "neither"
    flags: Sequence[str] = ()
    ticks: Sequence[float] = ()
    border: str = "white"


def log_norm(values: NDArray, decades: float = 3.5) -> LogNorm:
    """A logarithmic scale that ends at a round number above the 99.9 % quantile and spans so many decades."""
    good = values[np.isfinite(values) & (values > 0)]
    top = 10 ** (np.ceil(2 * np.log10(np.quantile(good, 0.999))) / 2) if good.size else 1.0
    return LogNorm(top / 10**decades, top, clip=True)


def flag_layer(label: str, colors: Sequence[str], names: Sequence[str]) -> Layer:
    """A layer of flags 1, 2, ... with names."""
    edges = np.arange(len(names) + 1) + 0.5
    return Layer(label, BoundaryNorm(edges, len(names)), ListedColormap(list(colors)), flags=names)


def draw_map(
    fig: FigureBase,
    ax: Axes,
    values: NDArray,
    land: NDArray[np.bool_],
    grid: Grid,
    layer: Layer,
    regions: Regions | None,
) -> None:
    """Draw (lat, lon) values of a grid with borders and a colour bar.

    Parameters
    ----------
    values : NaN on land is drawn in grey.
    land : cells to frame, (lat, lon).
    """
    project = Albers.over(grid)
    x, y = project(grid.lon_edges[None, :], grid.lat_edges[:, None])
    ax.pcolormesh(x, y, np.ma.masked_where(~land, land), cmap=ListedColormap([_NOTHING]), rasterized=True)
    ax.pcolormesh(x, y, np.ma.masked_invalid(values), norm=layer.norm, cmap=layer.cmap, rasterized=True)
    if regions is not None:
        _draw_borders(ax, regions, grid, project, layer.border)
    _frame(ax, land, x, y)
    draw_bar(fig, ax, layer)


def draw_zoom(ax: Axes, values: NDArray, grid: Grid, layer: Layer, regions: Regions | None) -> None:
    """Draw a close-up in plain degrees, each cell as it is."""
    west, south, east, north = grid.bounds
    ax.imshow(
        np.ma.masked_invalid(values),
        extent=(west, east, south, north),
        origin="lower",
        norm=layer.norm,
        cmap=layer.cmap,
        interpolation="none",
        aspect=1 / np.cos(np.deg2rad((south + north) / 2)),
    )
    if regions is not None:
        _draw_borders(ax, regions, grid, lambda lon, lat: (lon, lat), layer.border)
    ax.set(xlim=(west, east), ylim=(south, north), xticks=[], yticks=[], facecolor=LINE)
    ax.grid(visible=False)


def _draw_borders(ax: Axes, regions: Regions, grid: Grid, project: Any, color: str) -> None:
    west, south, east, north = grid.bounds
    close = east - west < _CLOSE
    box = shapely.box(west - 1, south - 1, east + 1, north + 1)
    lines = []
    for polygon in regions.polygons:
        parts = shapely.get_parts(shapely.intersection(shapely.simplify(polygon, 0.01 if close else 0.04), box))
        for part in parts:
            if part.geom_type == "Polygon" and (close or part.area > SMALL_ISLAND):
                lon, lat = shapely.get_coordinates(part.exterior).T
                lines.append(np.column_stack(project(lon, lat)))
    ax.add_collection(LineCollection(lines, colors=color, linewidths=0.6 if close else 0.5, alpha=0.6))


def _frame(ax: Axes, land: NDArray[np.bool_], x: NDArray, y: NDArray) -> None:
    """Cut the map to its land."""
    if land.any():
        xs, ys = x[:-1, :-1][land], y[:-1, :-1][land]
        pad = 0.02 * max(np.ptp(xs), np.ptp(ys))
        ax.set(xlim=(xs.min() - pad, xs.max() + pad), ylim=(ys.min() - pad, ys.max() + pad))
    ax.set_aspect("equal")
    ax.set_axis_off()


def draw_bar(fig: FigureBase, axes: Axes | Sequence[Axes], layer: Layer, shrink: float = 0.62) -> None:
    """Draw the colour bar of a layer under the axes it belongs to."""
    bar = fig.colorbar(
        ScalarMappable(layer.norm, layer.cmap),
        ax=axes,
        orientation="horizontal",
        shrink=shrink,
        aspect=55 * shrink,
        pad=0.02,
        extend=layer.extend,
    )
    bar.outline.set_visible(False)  # type: ignore[operator]
    bar.ax.tick_params(labelsize=8.5, colors=MUTED, length=0)
    bar.ax.minorticks_off()
    bar.set_label(layer.label, size=9, color=MUTED)
    if layer.flags:
        bar.set_ticks(list(range(1, len(layer.flags) + 1)), labels=list(layer.flags))
    elif layer.ticks:
        bar.set_ticks(list(layer.ticks), labels=[f"{t:g}" for t in layer.ticks])
    elif isinstance(layer.norm, LogNorm):
        bar.ax.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:,.0f}" if v >= 1 else f"{v:g}"))


def zoom_figure(
    fig: Figure, panels: Sequence[tuple[str, NDArray, Grid]], layer: Layer, regions: Regions | None
) -> None:
    """Close-ups of one place side by side on one colour scale: (title, values, grid)."""
    axes = fig.subplots(1, len(panels), squeeze=False)[0]
    for ax, (title, values, grid) in zip(axes, panels, strict=True):
        draw_zoom(ax, values, grid, layer, regions)
        ax.set_title(title)
        for spine in ax.spines.values():
            spine.set(visible=True, color=LINE)
    draw_bar(fig, list(axes), layer, 0.5)
