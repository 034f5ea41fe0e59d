"""Pixels a second of the overlap binning: five synthetic orbits of TROPOMI's size, one thread."""

from __future__ import annotations

import time

import numpy as np

from pipeline.ingest.binning import COLUMN_GRID, bin_polygons

LINES, PIXELS, ORBITS = 4172, 450, 5


def orbit(number: int) -> tuple[np.ndarray, np.ndarray]:
    """Corners of a sun-synchronous swath of 2600 km, 25.3 degrees west of the one before, (n, 4)."""
    along = np.linspace(-np.pi / 2 + 0.15, np.pi / 2 - 0.15, LINES + 1)
    inclination = np.deg2rad(98.7)
    lat0 = np.arcsin(np.sin(inclination) * np.sin(along))
    lon0 = np.arctan2(np.cos(inclination) * np.sin(along), np.cos(along)) + np.deg2rad(130 - 25.3 * number)
    heading = np.gradient(lon0) * np.cos(lat0), np.gradient(lat0)
    norm = np.hypot(*heading)
    across = np.linspace(-1300e3, 1300e3, PIXELS + 1) / 6.371e6
    lat = lat0[:, None] - across[None, :] * (heading[0] / norm)[:, None]
    lon = lon0[:, None] + across[None, :] * (heading[1] / norm)[:, None] / np.cos(np.clip(lat, -1.55, 1.55))
    lat, lon = np.rad2deg(np.clip(lat, -1.56, 1.56)), (np.rad2deg(lon) + 180) % 360 - 180

    def corners(a: np.ndarray) -> np.ndarray:
        return np.stack([a[:-1, :-1], a[:-1, 1:], a[1:, 1:], a[1:, :-1]], axis=-1).reshape(-1, 4)

    return corners(lat), corners(lon)


def run() -> dict[str, float]:
    """Bin whole orbits, and once the same number of pixels that all lie in the region."""
    swaths = [orbit(k) for k in range(ORBITS)]
    n = LINES * PIXELS
    data = np.stack([np.full(n, 5e-5), np.full(n, 1e-5), np.full(n, 2e4), np.full(n, np.nan)])
    bin_polygons(*[c[:10] for c in swaths[0]], data[:, :10])
    start = time.perf_counter()
    used = sum(int(bin_polygons(lat, lon, data)[1].sum()) for lat, lon in swaths)
    whole = time.perf_counter() - start
    west, south, east, north = COLUMN_GRID.bounds
    lat, lon = swaths[0]
    inside = (lat > south).all(1) & (lat < north).all(1) & (lon > west).all(1) & (lon < east).all(1)
    lat, lon = lat[inside], lon[inside]
    start = time.perf_counter()
    bin_polygons(lat, lon, data[:, : len(lat)])
    region = time.perf_counter() - start
    return {
        "pixels": ORBITS * n,
        "pixels_in_region": used,
        "million_pixels_a_second": ORBITS * n / whole / 1e6,
        "million_pixels_a_second_all_in_region": len(lat) / region / 1e6,
    }


if __name__ == "__main__":
    for name, value in run().items():
        print(f"{name:42s}{value:14.2f}")
