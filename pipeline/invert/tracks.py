"""XCO2: what contrasts along a satellite's track say of the CO2 of training groups.

A scene is what one overpass saw in one piece. Averaged to bins of 1 degree of latitude,

    X(bin) = offset + slope + bend + sum_g s_g X_g(bin) + error,

with X_g what the emission of group g, as the first look has it, adds along the track, s_g the factor that is sought,
and an error of the retrieval, of the retrieval along the track (correlated over 150 km), and of transport (relative to
the modelled signal, correlated over 300 km). Offset, slope and bend hold inflow, season and biosphere and are free.
Absolute XCO2 is never used.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, sparse

from pipeline.core.grid import Grid
from pipeline.core.options import InversionOptions, TransportOptions

BIN_DEGREES = 1.0
_LEAST_BINS = 5
"""A scene shorter than this cannot tell an enhancement from its own offset, slope and bend."""
_KM_PER_DEGREE = 111.2
_TRACK_KM, _WIND_KM = 150.0, 300.0
_FREE = 1e2
"""ppm; spread of offset, slope and bend, in effect free."""
_FOREIGN_SIGMA = 0.7
_JOIN = 1
"""Cells by which what was seen is widened on all sides before it is cut into scenes: a gap of two is bridged."""


def passive(transport: TransportOptions) -> TransportOptions:
    """Transport of CO2: the same air, two days of it, nothing lost, on blocks of one degree."""
    return TransportOptions(
        ages=(0, 1, 2, 3, 4, 6, 8, 10, 12, 15, 18, 21, 24, 28, 32, 36, 40, 44, 48),
        classes=(0, 48),
        coarsen=(4,),
        diffusion=transport.diffusion,
        wind_error=transport.wind_error,
        lifetime=float("inf"),
        margin=transport.margin,
    )


@dataclass(frozen=True)
class Soundings:
    """XCO2 of a month on the grid.

    `matrix` (n_obs, blocks) in ppm per kg s-1 emitted in a block, the averaging kernel of the boundary layer in it;
    `cell` of each value; `day`, a number for each day of each instrument; `value` and `sigma` ppm.
    """

    matrix: sparse.csr_matrix
    cell: NDArray[np.int64]
    value: NDArray[np.float64]
    sigma: NDArray[np.float64]
    day: NDArray[np.int64]


def scenes(grid: Grid, soundings: Soundings) -> NDArray[np.int64]:
    """Number of the scene of each value, (n_obs,): what one instrument saw on a day in one piece but for small gaps."""
    label = np.zeros(soundings.cell.size, np.int64)
    last = 0
    for day in np.unique(soundings.day):
        of_day = np.flatnonzero(soundings.day == day)
        mask = np.zeros(grid.shape, bool)
        mask.ravel()[soundings.cell[of_day]] = True
        joined = ndimage.binary_dilation(mask, np.ones((3, 3)), iterations=_JOIN)
        pieces, count = ndimage.label(joined, np.ones((3, 3)))
        label[of_day] = last + pieces.ravel()[soundings.cell[of_day]]
        last += count
    return label


def group_factors(
    grid: Grid,
    soundings: Soundings,
    groups: NDArray[np.float64],
    abroad: NDArray[np.float64],
    options: InversionOptions,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Likelihood of the factors s of the groups' emission.

    Parameters
    ----------
    groups : emission of each group by block, kg s-1, (block, group); abroad : of what lies outside, (block,), whose
        factor is 1 +- 0.7 and is integrated over.

    Returns
    -------
    Best factors (group,) and their precision (group, group); no precision where nothing was seen.
    """
    n = groups.shape[1]
    information, pull = np.zeros((n + 1, n + 1)), np.zeros(n + 1)
    information[n, n] = pull[n] = _FOREIGN_SIGMA**-2
    if soundings.cell.size:
        signal = soundings.matrix @ np.column_stack([groups, abroad])
        lat = grid.lat[soundings.cell // grid.n_lon]
        which = scenes(grid, soundings)
        for scene in np.unique(which):
            of_scene = np.flatnonzero(which == scene)
            binned = _bins(lat[of_scene], soundings.value[of_scene], soundings.sigma[of_scene], signal[of_scene])
            if len(binned[0]) >= _LEAST_BINS:
                more, along = _scene(*binned, options)
                information, pull = information + more, pull + along
    joint = information[:n, :n] - np.outer(information[:n, n], information[n, :n]) / information[n, n]
    joint = (joint + joint.T) / 2
    pulled = pull[:n] - information[:n, n] * pull[n] / information[n, n]
    return np.asarray(np.linalg.lstsq(joint, pulled, rcond=1e-9)[0]), joint


def _bins(
    lat: NDArray[np.float64], value: NDArray[np.float64], sigma: NDArray[np.float64], signal: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Means over bins, weighted by precision: latitude, value, sigma of the mean, signal."""
    _, place = np.unique(np.floor(lat / BIN_DEGREES), return_inverse=True)
    weight = sigma**-2.0
    total = np.bincount(place, weight)

    def mean(x: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(np.bincount(place, weight * x) / total)

    means = np.stack([mean(column) for column in signal.T], axis=1)
    return mean(lat), mean(value), np.asarray(total**-0.5), means


def _scene(
    lat: NDArray[np.float64],
    value: NDArray[np.float64],
    sigma: NDArray[np.float64],
    signal: NDArray[np.float64],
    options: InversionOptions,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Information X^T R^-1 X and pull X^T R^-1 y of one scene."""
    apart = _KM_PER_DEGREE * np.abs(lat[:, None] - lat[None])
    expected = signal.sum(axis=1)
    along = np.stack([np.ones_like(lat), (lat - lat.mean()) / 10.0, ((lat - lat.mean()) / 10.0) ** 2], axis=1)
    error = (
        np.diag(sigma**2)
        + options.xco2_track_error**2 * np.exp(-apart / _TRACK_KM)
        + options.xco2_wind_error**2 * np.outer(expected, expected) * np.exp(-apart / _WIND_KM)
    ) * options.xco2_inflation + _FREE**2 * along @ along.T
    weighted = np.linalg.solve(error, np.column_stack([signal, value - value.mean()]))
    return signal.T @ weighted[:, :-1], signal.T @ weighted[:, -1]
