"""Maps of a product at 1 km next to the lights and plants it was made with, to be looked at.

python -m benchmarks.city_maps --store ./data --year 2022 --domain beijing-tianjin-hebei --out maps
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from numpy.typing import NDArray

from pipeline.access import open_input, open_points
from pipeline.core.grid import DOMAINS, domain_grid
from pipeline.core.points import annual_tonnes
from pipeline.store.cubes import open_cube
from pipeline.store.location import Store

BOXES = ("beijing-tianjin-hebei", "yangtze-delta", "pearl-delta", "shanxi")


def year_of(cube: xr.DataArray, bounds: tuple[float, float, float, float], year: int) -> xr.DataArray:
    """The part of a cube inside bounds, summed (months) or averaged (lights) over what it has of the year nearest."""
    west, south, east, north = bounds
    years = cube["time"].dt.year.values
    nearest = years[np.argmin(np.abs(years - year))]
    part = cube.isel(time=np.flatnonzero(years == nearest))
    return part.sel(lat=slice(south, north), lon=slice(west, east))


def draw(store: Store, product: str, domain: str, year: int, path: Path) -> None:
    """Emission, its relative sigma, lights and plants of one domain."""
    bounds = domain_grid(domain).bounds
    fine = open_cube(store, f"{product}/emissions_001.zarr", chunks=None)
    mean = year_of(fine["co2_emission"], bounds, year).sum("time", skipna=False)
    first = year_of(fine["co2_emission_sigma"], bounds, year).isel(time=0)
    relative = first / year_of(fine["co2_emission"], bounds, year).isel(time=0)
    lights = year_of(open_input(store, "nightlights")["radiance"], bounds, year).mean("time")
    figure, axes = plt.subplots(2, 2, figsize=(13, 12), layout="constrained")
    panels = (
        (mean, "CO2, t a year and cell", (1, 6), True),
        (lights, "lights, nW cm-2 sr-1, and plants", (0, 2.3), True),
        (year_of(open_input(store, "population")["population"], bounds, year).mean("time"), "persons", (0, 5), True),
        (relative, "sigma over mean of the first month", (0, 3), False),
    )
    for ax, (field, title, limits, logarithm) in zip(axes.flat, panels, strict=True):
        _panel(ax, field, title, limits, logarithm=logarithm)
    points = open_points(store)
    tonnes = annual_tonnes(points, year)
    axes[0, 1].scatter(points["lon"], points["lat"], s=np.sqrt(tonnes) / 300, c="cyan", lw=0)
    for ax in axes.flat:
        ax.set(xlim=bounds[::2], ylim=bounds[1::2])
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _panel(ax: plt.Axes, field: xr.DataArray, title: str, limits: tuple[float, float], *, logarithm: bool) -> None:
    values: NDArray = field.transpose("lat", "lon").values.astype(float)
    if logarithm:
        values = np.log10(np.maximum(values, 10.0 ** (limits[0] - 1)))
    image = ax.pcolormesh(
        field["lon"], field["lat"], values, vmin=limits[0], vmax=limits[1], cmap="magma", shading="auto"
    )
    ax.set_title(("log10 of " if logarithm else "") + title)
    ax.figure.colorbar(image, ax=ax, shrink=0.7)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", default="./data")
    parser.add_argument("--year", type=int, default=2022)
    parser.add_argument("--product", help="folder of the product; the newest where it is not given")
    parser.add_argument("--domain", nargs="*", default=[b for b in BOXES if b in DOMAINS])
    parser.add_argument("--out", type=Path, default=Path("maps"))
    options = parser.parse_args()
    store = Store(options.store)
    product = options.product or "products/" + sorted(n for n in store.names("products") if n.startswith("2"))[-1]
    for domain in options.domain:
        target = options.out / f"{domain.replace(',', '_')}.png"
        draw(store, product, domain, options.year, target)
        print(target)


if __name__ == "__main__":
    main()
