"""Physical constants and unit spellings, each with its source."""

from __future__ import annotations

import re

EARTH_RADIUS = 6_371_007.2
"""m; radius of the sphere with the area of the WGS84 ellipsoid (authalic)."""
GRAVITY = 9.80665
"""m s-2; standard gravity, CGPM 1901."""
M_AIR = 0.0289647
"""kg mol-1; dry air, U.S. Standard Atmosphere 1976."""
M_CO2 = 0.0440095
"""kg mol-1; IUPAC atomic weights."""
M_NO2 = 0.0460055
"""kg mol-1; IUPAC atomic weights."""
KG_PER_TONNE = 1000.0
DAY = 86_400.0
"""s."""


def canonical(unit: str) -> str:
    """One spelling for the spellings of a unit: ``m/s``, ``m s**-1`` and ``m.s^-1`` become ``m s-1``."""
    text = unit.strip().replace("**", "").replace("^", "").replace("µ", "u")
    text = re.sub(r"(?<=[A-Za-z])\.(?=[A-Za-z])", " ", text).replace("*", " ")
    if "/" in text:
        head, *tail = (part.strip() for part in text.split("/"))
        text = " ".join([head, *(f"{part}-1" if not re.search(r"\d$", part) else _negate(part) for part in tail)])
    text = re.sub(r"\s+", " ", text).strip()
    if text.startswith("1 "):
        text = text[2:]
    return {"dimensionless": "1", "": "1", "Kelvin": "K", "meter": "m", "persons": "persons"}.get(text, text)


def _negate(part: str) -> str:
    return re.sub(r"(\d+)$", r"-\1", part)
