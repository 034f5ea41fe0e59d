"""What the world does that the pipeline may not know: switches and constants. Never imported by `invert` or `learn`."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields

from pipeline.core.errors import UsageError

NOX_RATIO = (1.0, 2.0, 10.0, 1.3)
"""r_s, kg NO2-equivalent of NOx per tonne of CO2, in the order of `SECTORS`; about what inventories have."""
RATIO_SIGMA_PROVINCE = 0.15
"""Spread of ln r_s between provinces."""
RATIO_SIGMA_NATION = 0.15
"""Spread of the national ln r_s where `Physics.ratio_nation` is on."""
NOX_PER_NO2 = 1.32
"""NOx over NO2, mole per mole, in the afternoon (Beirle et al. 2019, ESSD 11, 1047)."""
GAIN = 0.80
"""What a retrieval that reads low shows of the boundary layer's NO2, where `Physics.gain` is on."""
LIFETIME = 4.0
"""hours; everywhere and always where `Physics.lifetime` is off."""
LIFETIME_RANGE = (2.4, 6.0)
"""hours; shortest and longest daily lifetime (Lange et al. 2022, ACP 22, 2745 give 1-8 h by latitude)."""
DIFFUSION = 5.0e3
"""Horizontal eddy diffusion of the nature run, m2 s-1, on top of what its scheme adds."""
PLANT_SIGMA = 0.4
"""Spread of a plant's ln emission around capacity x factor."""
UNLISTED = 0.12
"""Share of plants that no table lists."""
STACK_SHARE = (1.0, 0.6, 0.0, 0.0)
"""Share of a sector's emission that leaves through high stacks."""
SOIL_NOX = 1.3e9
"""kg NO2-equivalent a year from the soils of China, most of it in June and July."""
SHIP_NOX = 1.2e9
"""kg NO2-equivalent a year from the ship lanes around China."""
FOREIGN_NOX_PER_PERSON = 9.0
"""kg NO2-equivalent per person and year in cities around China."""
FOREIGN_CO2_PER_PERSON = 4.0
"""t per person and year in cities around China."""
WIND_ERROR = 1.0
"""m s-1 per component; correlated over 300 km and 12 h."""
WIND_ERROR_MONTH = 0.3
"""m s-1 per component; the same all month, correlated over 300 km."""
PRIOR_SIGMA_NATION = 0.07
PRIOR_SIGMA_SECTOR = (0.15, 0.18, 0.20, 0.20)
"""How far off the totals a user believes are: the national one, and by province and sector."""


@dataclass(frozen=True)
class Physics:
    """Switches, one for each piece of reality the pipeline may lack.

    The demonstration world has all on except `gain`, `ratio_nation` and `common_belief`; `biosphere`
    is small.

    Parameters
    ----------
    gain : NO2 retrievals read low (x 0.8).
    soil : NOx from soils in summer.
    foreign : NOx and CO2 from neighbours and ships.
    no2_background : NO2 of the free troposphere in the column.
    xco2_background : offset of the day, trend, season and north-south slope of XCO2; off: 410 ppm.
    biosphere : smooth biosphere field in XCO2.
    wind_error : the wind cubes are off by 1 m/s a component and 0.3 m/s in the monthly mean.
    lifetime : the lifetime of NOx varies by day, latitude and season; off: 4 h.
    ratio_error : NOx:CO2 ratios differ between provinces (15 %).
    ratio_nation : the national ratios are off too (15 %).
    unlisted : 12 % of the plants are in no table.
    retrieval_scale : part of the NO2 error grows with the column (20-25 %), correlated over 60 km.
    noise : retrieval noise; off: satellites are perfect where they see.
    clouds : off: every day is clear.
    stack_height : tall stacks feel the wind higher up.
    common_belief : the believed totals by province and sector share the national one's error; else each errs on its
        own, and together they know the nation better than its own row does.
    """

    gain: bool = False
    soil: bool = True
    foreign: bool = True
    no2_background: bool = True
    xco2_background: bool = True
    biosphere: bool = True
    wind_error: bool = True
    lifetime: bool = True
    ratio_error: bool = True
    ratio_nation: bool = False
    unlisted: bool = True
    retrieval_scale: bool = True
    noise: bool = True
    clouds: bool = True
    stack_height: bool = True
    common_belief: bool = False

    def switched(self, off: tuple[str, ...] = (), on: tuple[str, ...] = ()) -> Physics:
        """A copy with some switches turned.

        Raises
        ------
        UsageError : no switch of this name.
        """
        known = [f.name for f in fields(self)]
        for name in (*off, *on):
            if name not in known:
                raise UsageError(f"switch {name!r}", f"one of {', '.join(known)}")
        return Physics(**{**self.as_dict(), **dict.fromkeys(off, False), **dict.fromkeys(on, True)})

    def as_dict(self) -> dict[str, bool]:
        """All switches by name."""
        return asdict(self)


def ideal() -> Physics:
    """A world without any missing physics, clouds or noise: only transport and geography are left."""
    return Physics(**dict.fromkeys((f.name for f in fields(Physics)), False))
