"""Nearest-neighbour weights and extrapolation: distances are chords of the unit sphere."""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

from pipeline.regrid.esmpy_engine.sphere import Floats, Ints
from pipeline.regrid.esmpy_engine.weights import Triplets

_TIES = 8
"""Neighbours looked at to settle ties: a point of a lattice has at most four equally near, one of a pole row more."""


def nearest(points: Floats, ids: Ints, query: Floats) -> Ints:
    """The id of the nearest point for each query point; among equally near ones the lowest id.

    Parameters
    ----------
    points, ids : candidates, shapes (n, 3) and (n,).
    query : shape (m, 3).
    """
    k = min(_TIES, len(points))
    _, found = cKDTree(points).query(query, k=list(range(1, k + 1)))
    squared = ((points[found] - query[:, None, :]) ** 2).sum(axis=2)
    candidate = np.where(squared == squared.min(axis=1, keepdims=True), ids[found], np.iinfo(np.int64).max)
    return candidate.min(axis=1)


def source_to_target(source: Floats, source_ids: Ints, target: Floats, target_ids: Ints) -> Triplets:
    """Each target takes its nearest source, weight 1."""
    if not len(source_ids) or not len(target_ids):
        return Triplets.empty()
    return Triplets(target_ids, nearest(source, source_ids, target), np.ones(len(target_ids)))


def target_to_source(source: Floats, source_ids: Ints, target: Floats, target_ids: Ints) -> Triplets:
    """Each source goes to its nearest target, weight 1; a target may receive several, which are summed, or none."""
    if not len(source_ids) or not len(target_ids):
        return Triplets.empty()
    return Triplets(nearest(target, target_ids, source), source_ids, np.ones(len(source_ids)))


def inverse_distance(
    source: Floats, source_ids: Ints, target: Floats, target_ids: Ints, exponent: float, neighbours: int
) -> Triplets:
    """Weights d^-exponent of the nearest sources, normalised; a source at the target itself takes all."""
    if not len(source_ids) or not len(target_ids):
        return Triplets.empty()
    k = min(neighbours, len(source_ids))
    distance, found = cKDTree(source).query(target, k=list(range(1, k + 1)))
    with np.errstate(divide="ignore"):
        weight = distance ** (-exponent)
    exact = np.isinf(weight).any(axis=1)
    weight[exact] = np.isinf(weight[exact])
    weight /= weight.sum(axis=1, keepdims=True)
    return Triplets(np.repeat(target_ids, k), source_ids[found].ravel(), weight.ravel())
