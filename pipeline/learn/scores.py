"""Skill where rows do not weigh the same."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike


def weighted_r2(estimate: ArrayLike, truth: ArrayLike, weight: ArrayLike, reference: float | None = None) -> float:
    """R2 = 1 - sum w (x - t)^2 / sum w (t - r)^2; NaN where nothing varies.

    Parameters
    ----------
    reference : r; the weighted mean of the truth where it is not given.
    """
    x, t, w = (np.asarray(a, float) for a in (estimate, truth, weight))
    total = float(w.sum())
    if total <= 0:
        return float("nan")
    centre = float(np.sum(w * t)) / total if reference is None else reference
    spread = float(np.sum(w * (t - centre) ** 2))
    return 1.0 - float(np.sum(w * (t - x) ** 2)) / spread if spread > 0 else float("nan")
