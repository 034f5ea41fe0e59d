import numpy as np
import pytest

from pipeline.core.units import EARTH_RADIUS
from pipeline.world.weather import VARIABLES, Weather

WEATHER = Weather(3, tuple(np.arange(25.0, 46)), tuple(np.arange(100.0, 126)))
TIMES = np.arange("2022-01-03", "2022-01-13", np.timedelta64(3, "h"), dtype="datetime64[h]")


def test_variables_and_types():
    fields = WEATHER.at(TIMES)
    assert set(fields) == set(VARIABLES)
    for name, values in fields.items():
        assert values.dtype == np.float32, name
        assert values.shape == (TIMES.size, 21, 26)
        assert np.isfinite(values).all()


def test_plausible_ranges():
    fields = WEATHER.at(TIMES)
    speed = np.hypot(fields["u100"], fields["v100"])
    assert 3 < speed.mean() < 8
    assert speed.max() < 40
    assert np.hypot(fields["u10"], fields["v10"]).mean() < speed.mean()
    assert fields["blh"].min() > 50
    assert 240 < fields["t2m"].mean() < 290
    assert fields["sp"].max() < 104000
    assert (fields["tcwv"] > 0).all()


def test_the_boundary_layer_is_deep_by_day():
    night, day = (WEATHER.at(np.array([f"2022-07-01T{h}"], "datetime64[h]"))["blh"].mean() for h in ("18", "05"))
    assert day > 3 * night


def test_wind_has_no_divergence():
    lat, lon = np.arange(30.0, 31, 0.02), np.arange(110.0, 111, 0.02)
    fields = Weather(3, tuple(lat), tuple(lon)).at(TIMES[:1])
    u, v = fields["u100"][0].astype(float), fields["v100"][0].astype(float)
    cos = np.cos(np.deg2rad(lat))[:, None]
    du = np.gradient(u, np.deg2rad(lon), axis=1) / (EARTH_RADIUS * cos)
    dv = np.gradient(v * cos, np.deg2rad(lat), axis=0) / (EARTH_RADIUS * cos)
    # The wind's own gradients are some 1e-5 s-1.
    assert np.abs(du + dv)[5:-5, 5:-5].mean() < 0.05 * np.abs(du)[5:-5, 5:-5].mean() + 2e-7


def test_weather_does_not_depend_on_the_window_or_the_span():
    part = Weather(3, WEATHER.lat[4:9], WEATHER.lon[5:12]).at(TIMES[10:12])
    whole = WEATHER.at(TIMES)
    for name in VARIABLES:
        np.testing.assert_allclose(part[name], whole[name][10:12, 4:9, 5:12], rtol=2e-4, atol=2e-3, err_msg=name)


def test_seen_errors_have_the_stated_size_and_memory():
    times = np.arange("2022-03-01", "2022-05-30", np.timedelta64(6, "h"), dtype="datetime64[h]")
    error = WEATHER.seen(times)["u100"] - WEATHER.at(times)["u100"]
    assert error.std() == pytest.approx(np.hypot(1.0, 0.3), rel=0.08)
    hourly = error - error.mean(axis=0)
    correlation = (hourly[2:] * hourly[:-2]).mean() / (hourly**2).mean()
    assert correlation == pytest.approx(np.exp(-0.5), abs=0.08)


def test_seasons():
    winter, summer = (WEATHER.at(np.array([f"2022-{m}-15T05"], "datetime64[h]")) for m in ("01", "07"))
    assert summer["t2m"].mean() - winter["t2m"].mean() > 12


def test_monsoon_turns():
    east = Weather(3, tuple(np.arange(25.0, 40)), tuple(np.arange(112.0, 122)))
    months = {
        m: np.arange(f"2022-{m}-01", f"2022-{m}-28", np.timedelta64(6, "h"), dtype="datetime64[h]")
        for m in ("01", "07")
    }
    assert east.at(months["01"])["v100"].mean() < east.at(months["07"])["v100"].mean() - 1.5
