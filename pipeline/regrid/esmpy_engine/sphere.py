"""Points, polygons and boxes on the unit sphere."""

from __future__ import annotations

import numpy as np
import shapely
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def to_xyz(lon: Floats, lat: Floats) -> Floats:
    """Unit vectors of points in degrees: (sin t cos lon, sin t sin lon, cos t) with colatitude t, shape (..., 3).

    The colatitude, not the latitude, because its rounding decides ties between equally near points as ESMF does.
    """
    lam, t = lon * (np.pi / 180.0), (90.0 - lat) * (np.pi / 180.0)
    return np.stack([np.cos(lam) * np.sin(t), np.sin(lam) * np.sin(t), np.cos(t)], axis=-1)


def cross(a: Floats, b: Floats) -> Floats:
    """Cross product over the last axis (three times as fast as `numpy.cross` on many small vectors)."""
    return np.stack(
        [
            a[..., 1] * b[..., 2] - a[..., 2] * b[..., 1],
            a[..., 2] * b[..., 0] - a[..., 0] * b[..., 2],
            a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0],
        ],
        axis=-1,
    )


def dot(a: Floats, b: Floats) -> Floats:
    """Scalar product over the last axis."""
    return a[..., 0] * b[..., 0] + a[..., 1] * b[..., 1] + a[..., 2] * b[..., 2]


def polygon_area(vertices: Floats) -> Floats:
    """Signed area in steradians of spherical polygons with great-circle edges, counter-clockwise positive.

    Sum over the fan of triangles from the first vertex of the spherical excess E of Van Oosterom and Strackee (1983),

        tan(E / 2) = a . (b x c) / (1 + a . b + b . c + c . a),

    with the triple product taken of differences so that small cells keep their digits. Repeated vertices add nothing;
    concave polygons are right because triangles outside count negative.

    Parameters
    ----------
    vertices : unit vectors, shape (n, m, 3).
    """
    a, b, c = vertices[:, :1], vertices[:, 1:-1], vertices[:, 2:]
    triple = dot(a, cross(b - a, c - a))
    return 2.0 * np.arctan2(triple, 1.0 + dot(a, b) + dot(b, c) + dot(c, a)).sum(axis=1)


def boxes(lon: Floats, lat: Floats) -> tuple[Floats, Ints]:
    """Longitude-latitude boxes in degrees that hold great-circle polygons.

    A polygon around a pole, or with a side longer than 90 degrees of longitude, gets every longitude. Boxes are
    padded for the poleward bulge of great circles, start in [0, 360) and appear a second time, 360 degrees to the
    west, where they reach past 360.

    Parameters
    ----------
    lon, lat : vertices, shape (n, m).

    Returns
    -------
    west, south, east, north, shape (k, 4), and the polygon of each box, shape (k,).
    """
    step = np.remainder(np.diff(lon, axis=1, append=lon[:, :1]) + 180.0, 360.0) - 180.0
    path = np.concatenate([np.zeros((len(lon), 1)), np.cumsum(step[:, :-1], axis=1)], axis=1)
    low, high = path.min(axis=1), path.max(axis=1)
    around = np.abs(step.sum(axis=1)) > 180.0
    wide = around | (np.abs(step).max(axis=1) > 90.0)
    bulge = np.rad2deg(np.deg2rad(np.minimum(high - low, 180.0)) ** 2 / 8.0) + 1e-9
    south, north = lat.min(axis=1) - bulge, lat.max(axis=1) + bulge
    south[around & (lat.mean(axis=1) < 0)] = -90.0
    north[around & (lat.mean(axis=1) >= 0)] = 90.0
    west = np.remainder(lon[:, 0] + low, 360.0) - 1e-9
    east = west + (high - low) + 2e-9
    west[wide], east[wide] = -1.0, 361.0
    box = np.stack([west, south, east, north], axis=1)
    again = np.flatnonzero(east >= 360.0 - 1e-9)
    owner = np.concatenate([np.arange(len(box)), again])
    return np.concatenate([box, box[again] - [360.0, 0.0, 360.0, 0.0]]), owner


def box_pairs(first: tuple[Floats, Ints], second: tuple[Floats, Ints]) -> tuple[Ints, Ints]:
    """Pairs of polygons whose boxes meet: indices into the first and into the second, each pair once, sorted."""
    (a, owner_a), (b, owner_b) = first, second
    if not len(a) or not len(b):
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    hits = shapely.STRtree(shapely.box(*b.T)).query(shapely.box(*a.T))
    n = int(owner_b.max()) + 1
    pair = np.unique(owner_a[hits[0]].astype(np.int64) * n + owner_b[hits[1]])
    return pair // n, pair % n
