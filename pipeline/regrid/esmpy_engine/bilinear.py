"""Bilinear weights: where in which source cell a target point lies."""

from __future__ import annotations

import numpy as np

from pipeline.regrid.esmpy_engine.cells import Cells
from pipeline.regrid.esmpy_engine.sphere import Floats, Ints, box_pairs, boxes, cross, dot
from pipeline.regrid.esmpy_engine.weights import Triplets

INSIDE = 1e-8
"""How far outside a cell, in units of the cell, a point still counts as inside: ESMF maps points 1e-9 out, not 1e-6."""
_BATCH = 400_000


def locate(cells: Cells, lon: Floats, lat: Floats, xyz: Floats) -> tuple[Ints, Ints, Floats, Floats]:
    """The cell that holds each target point, and where in it.

    Returns
    -------
    point, cell : indices, shape (n,), one entry per point that is inside some cell.
    xi, eta : position in the cell, 0..1.
    """
    box = boxes(cells.lon[cells.corner], cells.lat[cells.corner])
    point, cell = box_pairs(boxes(lon[:, None], lat[:, None]), box)
    xi, eta, depth = np.empty(len(point)), np.empty(len(point)), np.empty(len(point))
    for start in range(0, len(point), _BATCH):
        part = slice(start, start + _BATCH)
        xi[part], eta[part], depth[part] = _invert(cells.xyz[cells.corner[cell[part]]], xyz[point[part]])
    inside = np.flatnonzero(depth >= -INSIDE)
    # A point on a shared edge lies in several cells: the deepest holds it, among equals the first.
    order = inside[np.lexsort((cell[inside], -depth[inside], point[inside]))]
    first = np.ones(len(order), bool)
    first[1:] = point[order][1:] != point[order][:-1]
    chosen = order[first]
    return point[chosen], cell[chosen], xi[chosen], eta[chosen]


def shape_functions(xi: Floats, eta: Floats) -> Floats:
    """N_i of the four corners in order around the cell, shape (n, 4)."""
    return np.stack([(1 - xi) * (1 - eta), xi * (1 - eta), xi * eta, (1 - xi) * eta], axis=1)


def bilinear(cells: Cells, lon: Floats, lat: Floats, xyz: Floats) -> Triplets:
    """Bilinear weights as ESMF defines them for Cartesian lines.

    A cell is the bilinear patch through its corners' unit vectors X_i; a target direction p meets it at

        t p = sum_i N_i(xi, eta) X_i

    and the weights are the N_i.

    Parameters
    ----------
    cells : source cells; columns of the result are their nodes.
    lon, lat, xyz : target points, shapes (n,), (n,), (n, 3).
    """
    point, cell, xi, eta = locate(cells, lon, lat, xyz)
    weight = shape_functions(xi, eta)
    return Triplets(np.repeat(point, 4), cells.corner[cell].ravel(), weight.ravel())


def _invert(corner: Floats, p: Floats) -> tuple[Floats, Floats, Floats]:
    """Solve t p = sum N_i X_i for (xi, eta) by Newton's method in the plane across p.

    Parameters
    ----------
    corner, p : shapes (n, 4, 3) and (n, 3).

    Returns
    -------
    xi, eta, and the depth inside the cell: the least of xi, 1 - xi, eta, 1 - eta; -1 where the solution is not on
    the side of p or does not exist.
    """
    # Two directions across p; the axis least along p keeps them well conditioned.
    axis = np.eye(3)[np.abs(p).argmin(axis=1)]
    e1 = cross(p, axis)
    e1 /= np.sqrt(dot(e1, e1))[:, None]
    e2 = cross(p, e1)
    offset = corner - p[:, None, :]
    a = np.stack([dot(offset, e1[:, None, :]), dot(offset, e2[:, None, :])], axis=-1)
    c0, cx, cy = a[:, 0], a[:, 1] - a[:, 0], a[:, 3] - a[:, 0]
    cxy = a[:, 0] - a[:, 1] + a[:, 2] - a[:, 3]
    xi, eta = np.full(len(p), 0.5), np.full(len(p), 0.5)
    with np.errstate(all="ignore"):
        for _ in range(12):
            f = c0 + xi[:, None] * cx + eta[:, None] * cy + (xi * eta)[:, None] * cxy
            fx, fy = cx + eta[:, None] * cxy, cy + xi[:, None] * cxy
            det = fx[:, 0] * fy[:, 1] - fx[:, 1] * fy[:, 0]
            dx = (f[:, 0] * fy[:, 1] - f[:, 1] * fy[:, 0]) / det
            dy = (f[:, 1] * fx[:, 0] - f[:, 0] * fx[:, 1]) / det
            # A point at the collapsed side of a triangle leaves one coordinate free: stay where it is.
            free = det == 0
            xi, eta = np.where(free, xi, np.clip(xi - dx, -3, 4)), np.where(free, eta, np.clip(eta - dy, -3, 4))
        f = c0 + xi[:, None] * cx + eta[:, None] * cy + (xi * eta)[:, None] * cxy
        size = np.abs(a).max(axis=(1, 2))
        depth = np.minimum(np.minimum(xi, 1 - xi), np.minimum(eta, 1 - eta))
        front = dot(corner.sum(axis=1), p) > 0
        good = np.isfinite(depth) & front & (np.abs(f).max(axis=1) <= 1e-9 * size)
    return xi, eta, np.where(good, depth, -1.0)
