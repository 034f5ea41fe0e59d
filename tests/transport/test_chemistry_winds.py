"""Lifetimes, columns and winds against their equations."""

import numpy as np
import pytest
import xarray as xr
from scipy.integrate import quad

from pipeline.transport.chemistry import age_weights, age_weights_slope, no2_column, xco2_mass
from pipeline.transport.winds import column_wind, overpass_hour


def test_age_weights_are_the_integral_of_decay():
    for start, end, tau in ((0, 1, 4), (2, 5, 2.4), (0, 0.5, 8)):
        expected, _ = quad(lambda t, tau=tau: np.exp(-t / tau), start, end)
        assert age_weights((start, end), tau)[0] == pytest.approx(expected * 3600)


def test_a_passive_gas_keeps_all():
    assert age_weights((0, 2, 5), np.inf) == pytest.approx([7200, 10800])


def test_slope_is_the_derivative_by_log_lifetime():
    edges, tau, h = (0, 1.5, 4, 14), np.array([2.4, 4.0, 6.0]), 1e-5
    numeric = (age_weights(edges, tau * np.exp(h)) - age_weights(edges, tau * np.exp(-h))) / (2 * h)
    assert age_weights_slope(edges, tau) == pytest.approx(numeric, rel=1e-6)


def test_columns_have_the_units_of_the_satellite():
    # 1 mol of NO2 weighs 46.0055 g; 1.32 mol of NOx show as one of NO2.
    assert no2_column(1.32 * 0.0460055) == pytest.approx(1.0)
    # 15.7 g m-2 of CO2 per ppm at sea level, methods of plume inversions.
    assert xco2_mass(101325.0) == pytest.approx(0.0157, rel=0.01)


def weather(u10: float, u100: float, blh: float, **more: float) -> xr.Dataset:
    values = {"u10": u10, "v10": 0.0, "u100": u100, "v100": 0.0, "blh": blh, **more}
    return xr.Dataset({k: (("time", "lat", "lon"), np.full((1, 2, 2), v)) for k, v in values.items()})


def test_wind_of_a_uniform_layer_is_the_wind():
    wind = column_wind(weather(6.0, 6.0, 800.0))
    assert wind["u"].values == pytest.approx(6.0)
    assert wind["v"].values == pytest.approx(0.0)


def test_wind_of_a_sheared_layer_is_the_mean_of_its_power_law():
    p = np.log(6 / 4) / np.log(10)
    expected, _ = quad(lambda z: 6 * (z / 100) ** p, 0, 300)
    assert column_wind(weather(4.0, 6.0, 300.0))["u"].values == pytest.approx(expected / 300)


def test_exponent_and_height_are_bounded():
    strong = column_wind(weather(0.5, 6.0, 3000.0))["u"].values
    assert strong == pytest.approx(6 * 5**0.25 / 1.25)


def test_a_level_in_the_boundary_layer_counts_half():
    wind = column_wind(weather(6.0, 6.0, 800.0, u950=10.0, v950=2.0))
    assert wind["u"].values == pytest.approx(8.0)
    assert wind["v"].values == pytest.approx(1.0)


def test_overpass_is_half_past_one_local_solar_time():
    assert overpass_hour([0.0, 120.0]) == pytest.approx([13.5, 5.5])
