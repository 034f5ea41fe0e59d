"""What happens to NOx on its way, and what a satellite calls a column."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pipeline.core.units import GRAVITY, M_AIR, M_CO2, M_NO2

NOX_PER_NO2 = 1.32
"""Molar NOx : NO2 at noon in polluted air (Beirle et al. 2019, as used by ddeq)."""
LIFETIME = 4.0
"""h; prior NOx lifetime near noon."""
_HOUR = 3600.0


def age_weights(edges: ArrayLike, lifetime: ArrayLike) -> NDArray[np.float64]:
    """What is left of an emission of one unit a second, by age class: the integral of exp(-t / tau).

    Parameters
    ----------
    edges : ages in hours, ascending, shape (n + 1,).
    lifetime : tau in hours, any shape; infinite for a passive gas.

    Returns
    -------
    Seconds, shape (n, *lifetime.shape): tau (exp(-t0 / tau) - exp(-t1 / tau)), or t1 - t0 where tau is infinite.
    """
    tau = np.asarray(lifetime, float)
    ages = np.asarray(edges, float).reshape(-1, *([1] * tau.ndim))
    start, end = ages[:-1], ages[1:]
    with np.errstate(invalid="ignore"):
        decayed = tau * np.exp(-start / tau) * -np.expm1(-(end - start) / tau)
    return _HOUR * np.where(np.isinf(tau), end - start, decayed)


def age_weights_slope(edges: ArrayLike, lifetime: ArrayLike) -> NDArray[np.float64]:
    """Derivative of `age_weights` by ln tau, seconds, same shapes.

    d/d ln tau of tau (e0 - e1) with e = exp(-t / tau) is tau (e0 - e1) + t0 e0 - t1 e1.
    """
    tau = np.asarray(lifetime, float)
    ages = np.asarray(edges, float).reshape(-1, *([1] * tau.ndim))
    decay = np.exp(-ages / tau)
    moment = ages * decay
    return _HOUR * (tau * (decay[:-1] - decay[1:]) + moment[:-1] - moment[1:])


def no2_column(nox_mass: ArrayLike) -> NDArray[np.float64]:
    """NO2 column in mol m-2 from a NOx column in kg NO2-equivalent m-2: V / (f M_NO2)."""
    return np.asarray(nox_mass, float) / (NOX_PER_NO2 * M_NO2)


def nox_mass(no2: ArrayLike) -> NDArray[np.float64]:
    """NOx column in kg NO2-equivalent m-2 from an NO2 column in mol m-2: the inverse of `no2_column`."""
    return np.asarray(no2, float) * (NOX_PER_NO2 * M_NO2)


def xco2_mass(pressure: ArrayLike, water: ArrayLike = 0.0) -> NDArray[np.float64]:
    """CO2 column mass per ppm of XCO2, kg m-2 ppm-1: 1e-6 M_CO2 / M_air (p / g - w).

    Parameters
    ----------
    pressure : surface pressure, Pa.
    water : total column water vapour, kg m-2.
    """
    return 1e-6 * M_CO2 / M_AIR * (np.asarray(pressure, float) / GRAVITY - np.asarray(water, float))
