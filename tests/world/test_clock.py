import numpy as np
import pytest

from pipeline.core.schema import SECTORS
from pipeline.world.clock import LUNAR_NEW_YEAR, daily_factors, days_of, hour_factor, week_and_holiday
from pipeline.world.geography import annual_totals, national_regions

REGIONS = national_regions()


def monthly(year):
    """National CO2 by sector and month, over the mean month."""
    daily = np.einsum("ps,psd->sd", annual_totals(), daily_factors(REGIONS, year))
    month = days_of(year).astype("datetime64[M]").astype(int) % 12
    sums = np.stack([np.bincount(month, row) / np.bincount(month) for row in daily])
    return sums / sums.mean(axis=1, keepdims=True)


def test_hours_keep_the_daily_mean():
    mean = np.mean([hour_factor(h) for h in range(24)], axis=0)
    np.testing.assert_allclose(mean, 1.0, rtol=1e-12)


def test_transport_is_above_its_mean_before_the_overpass():
    before = np.mean([hour_factor(h) for h in range(1, 6)], axis=0)
    assert before[SECTORS.index("transport")] > 1.15
    assert 0.9 < before[SECTORS.index("residential")] < 1.15


@pytest.mark.parametrize("year", [2019, 2021])
def test_heating_in_winter(year):
    season = monthly(year)[SECTORS.index("residential")]
    assert season[0] > 1.5 * season[6]


def test_transport_falls_most_in_february_2020():
    change = monthly(2020)[:, 1] / monthly(2019)[:, 1]
    assert SECTORS[int(change.argmin())] == "transport"
    assert change[SECTORS.index("transport")] < 0.7
    assert change[SECTORS.index("power")] < 0.97


def test_spring_2022_falls_in_the_east():
    factors = {y: daily_factors(REGIONS, y)[:, SECTORS.index("transport"), 95:115].mean(axis=1) for y in (2021, 2022)}
    fall = dict(zip(REGIONS.names, factors[2022] / factors[2021], strict=True))
    assert fall["Shanghai"] < 0.6
    assert fall["Shanghai"] < fall["Jiangsu"] < fall["Sichuan"]


@pytest.mark.parametrize("year", sorted(LUNAR_NEW_YEAR))
def test_the_new_year_dip_moves(year):
    days = days_of(year)
    industry = week_and_holiday(days)[1]
    week = np.convolve(industry, np.ones(7) / 7, "same")
    lowest = days[7:80][week[7:80].argmin()]
    since = (lowest - np.datetime64(LUNAR_NEW_YEAR[year])).astype(int)
    assert -3 <= since <= 8


def test_trend():
    grown = daily_factors(REGIONS, 2023)[:, 0].mean() / daily_factors(REGIONS, 2021)[:, 0].mean()
    assert grown == pytest.approx(1.02**2, abs=0.01)
