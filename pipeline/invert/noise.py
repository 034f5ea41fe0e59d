"""Errors of columns: what a retrieval states, and what the model gets wrong in proportion to the signal."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter

from pipeline.core.grid import Grid
from pipeline.core.options import InversionOptions
from pipeline.invert.model import Observations

_NEIGHBOURS = 3
_LEAST_SEEN = 5
"""Other columns around a place from which their mean tells its usual signal."""


def column_errors(
    grid: Grid, observations: Observations, modelled: NDArray[np.float64], options: InversionOptions
) -> NDArray[np.float64]:
    """Sigma of each column, mol m-2: retrieval, and what the model gets wrong in proportion to the signal.

    The signal is what is usually seen there: the month's mean of all other columns of a cell and its neighbours, or
    the prior's `modelled` column where there are few. The column itself would give low values more weight and so a low
    result; the modelled one alone would give a source that the prior lacks an error that nothing fits.
    """
    if not observations.column.size:
        return np.zeros(0)
    noise, relative = separate_error(observations.column, observations.sigma)
    size = grid.n_lat * grid.n_lon
    weights = [None, observations.column]
    count, total = (
        uniform_filter(np.bincount(observations.cell, w, size).astype(float).reshape(grid.shape), _NEIGHBOURS).ravel()
        for w in weights
    )
    others = _NEIGHBOURS**2 * count[observations.cell] - 1.0
    mean = (_NEIGHBOURS**2 * total[observations.cell] - observations.column) / np.maximum(others, 1.0)
    usual = np.where(others >= _LEAST_SEEN - 0.5, mean, modelled)
    signal = np.maximum(usual - options.background, 0.0)
    return np.sqrt(options.error_inflation * (noise**2 + (relative**2 + options.model_error**2) * signal**2))


def separate_error(column: NDArray, sigma: NDArray) -> tuple[NDArray[np.float64], float]:
    """Split stated errors into noise (mol m-2, per observation) and a part relative to the column.

    Retrievals state errors that grow with the column they saw; taken as they are, low columns would count more and
    the result would be low. With a the 10 % quantile of the stated errors, the relative part is the median of
    sqrt(sigma^2 - a^2) / y over columns above 5 a; what it does not explain is noise, at least a.
    """
    if not column.size:
        return sigma, 0.0
    least = float(np.quantile(sigma, 0.1))
    high = column > 5 * least
    grown = np.sqrt(np.maximum(sigma[high] ** 2 - least**2, 0.0)) / column[high]
    relative = float(np.median(grown)) if grown.size else 0.0
    return np.sqrt(np.maximum(sigma**2 - (relative * column) ** 2, least**2)), relative
