"""The artificial poles of a periodic grid."""

from __future__ import annotations

import numpy as np

from pipeline.regrid.esmpy_engine.bilinear import INSIDE
from pipeline.regrid.esmpy_engine.sphere import Floats, Ints, box_pairs, boxes, cross, dot
from pipeline.regrid.esmpy_engine.weights import Triplets


def pole_fan(
    row: Ints, node_lon: Floats, node_lat: Floats, node_xyz: Floats, target: tuple[Floats, Floats, Floats]
) -> Triplets:
    """Weights of points between the outermost row of a periodic grid and the pole, the pole being the row's mean.

    ESMF closes each end of a periodic grid with triangles from the row to a pole point and gives that point the mean
    of the row's values (pole method ALLAVG). In the triangle (A, B, P) a direction p has t p = a A + b B + c P.

    Parameters
    ----------
    row : nodes of the outermost row, in order, shape (nx,).
    node_lon, node_lat, node_xyz : all nodes.
    target : longitude, latitude (n,) and unit vectors (n, 3) of the points.
    """
    lon, lat, xyz = target
    pole = node_xyz[row].mean(axis=0)
    length = np.sqrt(dot(pole, pole))
    if length < 1e-12:
        return Triplets.empty()
    pole = pole / length
    following = np.roll(row, -1)
    pole_lat = np.rad2deg(np.arcsin(np.clip(pole[2], -1, 1)))
    fan_lon = np.stack([node_lon[row], node_lon[following]], axis=1)
    fan_lat = np.stack([node_lat[row], node_lat[following], np.full(len(row), pole_lat)], axis=1)
    box, owner = boxes(fan_lon, fan_lat[:, :2])
    box[:, 1], box[:, 3] = np.minimum(box[:, 1], pole_lat), np.maximum(box[:, 3], pole_lat)
    point, cell = box_pairs(boxes(lon[:, None], lat[:, None]), (box, owner))
    a, b, p = node_xyz[row[cell]], node_xyz[following[cell]], xyz[point]
    whole = dot(cross(a, b), pole[None])
    with np.errstate(all="ignore"):
        parts = np.stack([dot(cross(p, b), pole[None]), dot(cross(a, p), pole[None]), dot(cross(a, b), p)], axis=1)
        weight = parts / np.where(np.abs(whole) > 1e-15, whole, np.nan)[:, None]
        weight /= weight.sum(axis=1, keepdims=True)
        ahead = dot(a + b + pole[None], p) > 0
        depth = np.where(np.isfinite(weight).all(axis=1) & ahead, weight.min(axis=1), -1.0)
    inside = np.flatnonzero(depth >= -INSIDE)
    order = inside[np.lexsort((cell[inside], -depth[inside], point[inside]))]
    first = np.ones(len(order), bool)
    first[1:] = point[order][1:] != point[order][:-1]
    k = order[first]
    sides = Triplets(
        np.concatenate([point[k], point[k]]),
        np.concatenate([row[cell[k]], following[cell[k]]]),
        np.concatenate([weight[k, 0], weight[k, 1]]),
    )
    mean = Triplets(np.repeat(point[k], len(row)), np.tile(row, len(k)), np.repeat(weight[k, 2] / len(row), len(row)))
    return sides.join(mean)
