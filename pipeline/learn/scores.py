"""Measures of skill."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def r2(
    truth: NDArray[np.floating],
    estimate: NDArray[np.floating],
    weight: NDArray[np.floating] | None = None,
    reference: float | None = None,
) -> float:
    """R2 = 1 - SSE / SST, weighted; NaN where nothing varies.

    Parameters
    ----------
    reference : SST is about this value; the (weighted) mean of the truth where it is not given.
    """
    w = np.ones(np.shape(truth)) if weight is None else np.asarray(weight, float)
    total = float(w.sum())
    if total <= 0:
        return float("nan")
    centre = float(np.sum(w * truth)) / total if reference is None else reference
    spread = float(np.sum(w * (truth - centre) ** 2))
    return 1.0 - float(np.sum(w * (truth - estimate) ** 2)) / spread if spread > 0 else float("nan")
