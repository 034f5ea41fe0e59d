"""Where inside a 0.25 degree cell each sector emits: 1 km weights of one year."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import ndimage

from pipeline.core.chunks import Tile
from pipeline.core.grid import FINE_PER_COARSE, Grid, block_repeat, block_sum
from pipeline.core.points import annual_tonnes, grid_points
from pipeline.core.regions import Regions
from pipeline.core.schema import SECTORS


@dataclass(frozen=True)
class Mixture:
    """How a sector's emission outside known point sources is spread: a sum of additive proxies.

    Parameters
    ----------
    lights, dim, people : weight of radiance L, of sqrt(10 L) (which dim places have more of), both nW cm-2 sr-1, and of
        persons, of a fine cell. Only their ratios matter inside a coarse cell.
    smooth : share that does not follow the proxies but what surrounds them, so that no cell depends on one lit pixel.
    tolerance : how many times its listed emission a known source is believed to emit before the rest of its cell
        counts as somebody else's.
    sigma : of ln(weight) of what is placed at a point source, of what follows the proxies, of what is smooth.
    """

    lights: float
    dim: float
    people: float
    smooth: float
    tolerance: float
    sigma: tuple[float, float, float]


MIXTURES: dict[str, Mixture] = {
    "power": Mixture(1.0, 0.0, 0.0, smooth=0.05, tolerance=2.0, sigma=(0.2, 1.5, 1.5)),
    "industry": Mixture(0.5, 0.5, 0.0, smooth=0.05, tolerance=1.5, sigma=(0.3, 1.3, 1.5)),
    "transport": Mixture(0.7, 0.3, 0.0, smooth=0.1, tolerance=1.0, sigma=(0.3, 0.9, 1.5)),
    "residential": Mixture(0.0, 0.0, 1.0, smooth=0.02, tolerance=1.0, sigma=(0.3, 0.7, 1.5)),
}
"""Stated mixtures: factories and lit roads are what lights show, homes are where people live. Chosen among sums and
products of powers of both proxies on simulated worlds of other seeds than those of the tests (docs/learning.md)."""
COARSE_GRAIN = 5
"""Width in fine cells from which population pixels are too wide to be taken as they are."""
AROUND = 11
"""Width in fine cells of the box that is run twice over a proxy for what surrounds it."""
POINT_SECTORS = ("power", "industry")
POOLED_TOLERANCE = 1.5
"""`Mixture.tolerance` of all listed plants together."""


@dataclass(frozen=True)
class TileWeights:
    """Weights of one tile and year.

    Attributes
    ----------
    share : share of the coarse cell's emission in each fine cell, (sector, lat, lon) float32; the shares of a coarse
        cell's 25 x 25 children sum to 1 within rounding, or are all 0 outside China.
    variance : variance of the share relative to its square, (sector, lat, lon) float32.
    land : fine cells inside the regions, (lat, lon).
    """

    share: NDArray[np.float32]
    variance: NDArray[np.float32]
    land: NDArray[np.bool_]


def tile_weights(
    tile: Tile,
    coarse: Grid,
    proxies: Mapping[str, NDArray[np.floating]],
    points: pd.DataFrame,
    year: int,
    emission: NDArray[np.floating],
    regions: Regions,
    china_fraction: NDArray[np.floating],
) -> TileWeights:
    """Sector weights of a tile: known point sources in their fine cell, the rest by proxies.

        w = p P / sum P + (1 - p) q,    p = placed share of the cell,    q = spread share by the sector's mixture

    NO2 hardly tells power from industry, so for these two P and p are half the sector's own and half those of all
    listed plants against both sectors' emission.

    Parameters
    ----------
    tile : the tile.
    coarse : the coarse grid.
    proxies : `radiance` (nW cm-2 sr-1) and `population` (persons) of the year on the tile's fine cells, (lat, lon).
    points : table of point sources; year : whose sources run.
    emission : tonnes of the year on the whole coarse grid, (sector, lat, lon); NaN counts as 0.
    regions : what is land of ours; china_fraction : share of each coarse cell inside them, (lat, lon).
    """
    grid = fine_grid(coarse, tile)
    inside = china_fraction[tile.coarse] > 0
    land = land_mask(regions, grid, inside)
    tonnes = annual_tonnes(points, year)
    year_total = np.nan_to_num(np.asarray(emission, float))
    radiance, people = (np.nan_to_num(np.asarray(proxies[n], np.float32)) for n in ("radiance", "population"))
    people = settled(people, radiance)
    share = np.zeros((len(SECTORS), *grid.shape), np.float32)
    variance = np.zeros_like(share)
    listed = np.stack([grid_points(points, tonnes, grid, s).astype(np.float32) for s in SECTORS]) * land
    together = [k for k, sector in enumerate(SECTORS) if sector in POINT_SECTORS]
    everyone = _placed(listed[together].sum(axis=0), year_total[together].sum(axis=0)[tile.coarse], POOLED_TOLERANCE)
    for k, sector in enumerate(SECTORS):
        mixture = MIXTURES[sector]
        proxy = _additive(mixture, radiance, people, land)
        smooth = surroundings(proxy, smooth_density(year_total[k], coarse, tile, land))
        spread = spread_shares(proxy, smooth, land, mixture.smooth)
        placed = _placed(listed[k], year_total[k][tile.coarse], mixture.tolerance)
        if k in together:
            placed = np.float32(0.5) * (placed + everyone)
        share[k], variance[k] = _combine(placed, spread, mixture)
    return TileWeights(share, variance, land)


def fine_grid(coarse: Grid, tile: Tile) -> Grid:
    """The fine cells of a tile as a grid."""
    lat, lon = tile.coarse
    window = Grid(
        coarse.per_degree,
        coarse.west_index + lon.start,
        coarse.south_index + lat.start,
        lon.stop - lon.start,
        lat.stop - lat.start,
    )
    return window.refine()


def land_mask(regions: Regions, fine: Grid, inside: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Fine cells whose centre is in a region; where a coarse cell of ours has none, those that a region touches.

    Parameters
    ----------
    inside : coarse cells that count to China, (lat, lon).
    """
    land = (regions.index(fine) >= 0) & block_repeat(inside)
    f = FINE_PER_COARSE
    for j, i in np.argwhere(inside & (block_sum(land) == 0)):
        block = Grid(fine.per_degree, fine.west_index + i * f, fine.south_index + j * f, f, f)
        touched = regions.fractions(block).sum(axis=0) > 0
        # A sliver thinner than the polygon's rounding touches nothing: the whole cell then, so that no mass is lost.
        land[j * f : (j + 1) * f, i * f : (i + 1) * f] = touched | ~touched.any()
    return land


def smooth_density(
    emission: NDArray[np.float64], coarse: Grid, tile: Tile, land: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """A field without steps between coarse cells: the coarse emission, interpolated linearly between cell centres.

    Parameters
    ----------
    emission : tonnes on the whole coarse grid, so that neighbouring tiles meet without a seam.

    Returns
    -------
    (lat, lon) of the tile's fine cells, at least a small positive number on land, 0 elsewhere.
    """
    grid = fine_grid(coarse, tile)
    rows, cols = _linear(grid.lat, coarse.lat), _linear(grid.lon, coarse.lon)
    field = (rows @ np.asarray(emission, np.float32)) @ cols.T
    return np.where(land, np.maximum(field, np.float32(1e-3)), np.float32(0.0))


def grain(field: NDArray[np.floating]) -> int:
    """Width in cells of the pixels a field was made of: mean length of the runs of one value, zeros left out."""
    some = field > 0
    starts = some.copy()
    starts[:, 1:] &= field[:, 1:] != field[:, :-1]
    runs = max(1, int(np.count_nonzero(starts)))
    return max(1, round(int(np.count_nonzero(some)) / runs))


def settled(people: NDArray[np.float32], radiance: NDArray[np.float32]) -> NDArray[np.float32]:
    """Persons where they live, if the input counts them in pixels much wider than ours; else as they are.

    Within and around a pixel people are put where it is lit:  P' = mean(P) d / mean(d),  d = 2 + sqrt(10 L), means over
    the width of a pixel. 2 stands for the dark countryside, against about 10 in a town.
    """
    width = grain(people)
    if width < COARSE_GRAIN:
        return people
    dwelling = 2.0 + np.sqrt(10.0 * radiance)
    around = ndimage.uniform_filter(dwelling, width, mode="nearest")
    return (ndimage.uniform_filter(people, width, mode="nearest") * dwelling / around).astype(np.float32)


def surroundings(proxy: NDArray[np.float32], smooth: NDArray[np.float32]) -> NDArray[np.float32]:
    """What is dark but near to what is lit: the proxy blurred over some 10 km, and a tenth of the smooth field.

    Both are scaled to the proxy's mass in each coarse cell; where there is no proxy near, the smooth field stays.
    """
    blurred = proxy
    for _ in range(2):
        blurred = ndimage.uniform_filter(blurred, AROUND, mode="nearest")
    mass = block_sum(blurred)
    even, _ = _shares(smooth)
    mixed = blurred + np.float32(0.1) * even * block_repeat(mass.astype(np.float32))
    return np.where(block_repeat(mass > 0), mixed, smooth)


def spread_shares(
    proxy: NDArray[np.floating], smooth: NDArray[np.floating], land: NDArray[np.bool_], part: float
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Spread share of each fine cell in two parts, which sum to 1 over a coarse cell.

    Returns
    -------
    What follows the proxy, and what follows the smooth field: a `part`, or everything where there is no proxy.
    """
    by_proxy, known = _shares(np.where(land, proxy, 0.0))
    by_smooth, _ = _shares(np.where(land, smooth, 0.0))
    of_smooth = np.where(known, np.float32(part), np.float32(1.0))
    return by_proxy * block_repeat(1 - of_smooth), by_smooth * block_repeat(of_smooth)


def placed_share(listed: NDArray[np.floating], emission: NDArray[np.floating], tolerance: float) -> NDArray[np.float64]:
    """Share of a coarse cell's sector emission that known point sources are taken to emit:  p = min(1, t P / E).

    Against the posterior E stand P tonnes that capacities promise. A plant that runs more or less than promised is more
    likely than an unlisted one beside it, up to a factor t; what lies beyond is unlisted.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(listed > 0, np.minimum(1.0, tolerance * listed / np.maximum(emission, 1e-9)), 0.0)


def _additive(
    mixture: Mixture, radiance: NDArray[np.floating], people: NDArray[np.floating], land: NDArray[np.bool_]
) -> NDArray[np.float32]:
    field = mixture.lights * radiance + mixture.dim * np.sqrt(10 * radiance) + mixture.people * people
    return np.where(land, field, 0.0).astype(np.float32)


def _placed(listed: NDArray[np.float32], emission: NDArray[np.float64], tolerance: float) -> NDArray[np.float32]:
    at_points, _ = _shares(listed)
    return at_points * block_repeat(placed_share(block_sum(listed), emission, tolerance).astype(np.float32))


def _combine(
    placed: NDArray[np.float32], spread: tuple[NDArray[np.float32], NDArray[np.float32]], mixture: Mixture
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    rest = block_repeat((1.0 - block_sum(placed)).astype(np.float32))
    share, variance = np.zeros_like(placed), np.zeros_like(placed)
    for part, sigma in zip((placed, rest * spread[0], rest * spread[1]), mixture.sigma, strict=True):
        share += part
        variance += part**2 * np.float32(np.expm1(sigma**2))
    return share, np.divide(variance, share**2, out=np.zeros_like(share), where=share > 0)


def _shares(field: NDArray[np.floating]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    total = block_sum(field)
    known = total > 0
    scale = np.divide(1.0, total, out=np.zeros_like(total), where=known)
    return (field * block_repeat(scale.astype(np.float32))).astype(np.float32), known


def _linear(points: NDArray[np.float64], centres: NDArray[np.float64]) -> NDArray[np.float32]:
    """Matrix (point, centre) of linear interpolation, constant beyond the outer centres."""
    matrix = np.zeros((points.size, centres.size), np.float32)
    place = np.interp(points, centres, np.arange(centres.size))
    low = np.minimum(place.astype(int), max(centres.size - 2, 0))
    high = np.minimum(low + 1, centres.size - 1)
    rows = np.arange(points.size)
    np.add.at(matrix, (rows, low), (1 - (place - low)).astype(np.float32))
    np.add.at(matrix, (rows, high), (place - low).astype(np.float32))
    return matrix
