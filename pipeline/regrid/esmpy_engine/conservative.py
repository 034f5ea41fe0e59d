"""First-order conservative weights: areas of overlap of great-circle polygons."""

from __future__ import annotations

import numpy as np

from pipeline.regrid.esmpy_engine.sphere import Floats, Ints, box_pairs, boxes, cross, dot, polygon_area
from pipeline.regrid.esmpy_engine.weights import Triplets

_VERTICES = 1_000_000
"""Polygon vertices clipped at a time: bounds the memory of a call to some 200 MB."""
_SLIVER = 1e-13
"""Overlaps below this share of the smaller cell are rounding."""


def clip(subject: Floats, window: Floats) -> Floats:
    """Cut polygons by convex polygons (Sutherland and Hodgman 1974) on the sphere.

    Each side of a window is a great circle; what lies to its left stays.

    Parameters
    ----------
    subject : polygons, shape (n, m, 3); may be concave, then bridges of no area may join the pieces.
    window : convex polygons, counter-clockwise, shape (n, k, 3).

    Returns
    -------
    Polygons of shape (n, m', 3), padded by repeating their first vertex; all equal vertices where nothing is left.
    """
    side = cross(window, np.roll(window, -1, axis=1) - window)
    for k in range(window.shape[1]):
        subject = _cut(subject, side[:, k])
    return subject


def _cut(polygon: Floats, normal: Floats) -> Floats:
    height = dot(polygon, normal[:, None, :])
    following = np.roll(polygon, -1, axis=1)
    height_next = np.roll(height, -1, axis=1)
    inside = height >= 0
    crossing = inside != (height_next >= 0)
    difference = np.where(crossing, height_next - height, 1.0)
    point = (polygon * height_next[..., None] - following * height[..., None]) / difference[..., None]
    # Between two unit vectors the chord's point is short: back to the sphere.
    length = np.sqrt(dot(point, point))
    point /= np.where(length > 0, length, 1.0)[..., None]
    n, m = height.shape
    emitted = np.stack([inside, crossing], axis=2).reshape(n, 2 * m)
    vertex = np.stack([polygon, point], axis=2).reshape(n, 2 * m, 3)
    place = np.cumsum(emitted, axis=1) - 1
    width = max(int(place[:, -1].max(initial=0)) + 1, 3)
    first = vertex[np.arange(n), emitted.argmax(axis=1)]
    result = np.repeat(first[:, None, :], width, axis=1)
    rows, cols = np.nonzero(emitted)
    result[rows, place[rows, cols]] = vertex[rows, cols]
    return result


def convex_parts(vertices: Floats) -> tuple[Floats, Ints]:
    """Quadrilaterals as counter-clockwise convex ones, concave ones as two triangles (the last vertex repeated).

    Parameters
    ----------
    vertices : shape (n, 4, 3).

    Returns
    -------
    Parts, shape (k, 4, 3), and the cell each belongs to, shape (k,).
    """
    vertices = counter_clockwise(vertices)
    turn = dot(
        cross(vertices - np.roll(vertices, 1, axis=1), np.roll(vertices, -1, axis=1) - vertices),
        vertices,
    )
    size = np.abs(turn).max(axis=1)
    concave = turn.min(axis=1) < -1e-9 * size
    parts, owner = vertices[~concave], np.flatnonzero(~concave)
    bad = np.flatnonzero(concave)
    if len(bad):
        # From the re-entrant corner both triangles lie inside.
        start = turn[bad].argmin(axis=1)
        around = vertices[bad[:, None], (start[:, None] + np.arange(4)) % 4]
        parts = np.concatenate([parts, around[:, [0, 1, 2, 2]], around[:, [0, 2, 3, 3]]])
        owner = np.concatenate([owner, bad, bad])
    return parts, owner


def counter_clockwise(vertices: Floats) -> Floats:
    """Polygons turned round where they run clockwise, shape (n, m, 3)."""
    clockwise = polygon_area(vertices) < 0
    return np.where(clockwise[:, None, None], vertices[:, ::-1], vertices)


def overlaps(
    source: Floats, source_box: tuple[Floats, Ints], target: Floats, target_box: tuple[Floats, Ints]
) -> Triplets:
    """Area of overlap, steradians, of every target polygon with every source quadrilateral that it meets.

    Parameters
    ----------
    source : quadrilaterals, shape (n, 4, 3); source_box their boxes.
    target : polygons of m vertices, shape (k, m, 3); target_box their boxes.
    """
    parts, owner = convex_parts(source)
    row, col = box_pairs(target_box, source_box)
    # Concave cells have two parts: pairs are over parts, their areas are summed.
    count = np.bincount(owner, minlength=len(source))
    if (count > 1).any():
        order = np.argsort(owner, kind="stable")
        start = np.cumsum(count) - count
        repeat = count[col]
        within = np.arange(repeat.sum()) - np.repeat(np.cumsum(repeat) - repeat, repeat)
        row, part = np.repeat(row, repeat), order[np.repeat(start[col], repeat) + within]
    else:
        part = np.argsort(owner)[col]
    target = counter_clockwise(target)
    area = np.empty(len(row))
    step = max(1, _VERTICES // (target.shape[1] + 4))
    for begin in range(0, len(row), step):
        piece = slice(begin, begin + step)
        area[piece] = polygon_area(clip(target[row[piece]], parts[part[piece]]))
    smaller = np.minimum(np.abs(polygon_area(target))[row], np.abs(polygon_area(parts))[part])
    return Triplets(row, owner[part], area).where(area > _SLIVER * smaller)


def polygon_boxes(lon: Floats, lat: Floats) -> tuple[Floats, Ints]:
    """Boxes of polygons in degrees, see `sphere.boxes`."""
    return boxes(lon, lat)


def normalise(overlap: Triplets, target_area: Floats, by_fraction: bool) -> Triplets:
    """Weights from overlaps: area over the target cell's whole area, or over the part that the source covers."""
    if by_fraction:
        covered = np.bincount(overlap.row, overlap.weight, minlength=len(target_area))
        return Triplets(overlap.row, overlap.col, overlap.weight / covered[overlap.row])
    return Triplets(overlap.row, overlap.col, overlap.weight / target_area[overlap.row])
