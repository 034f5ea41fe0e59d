"""Whole granules: five TROPOMI orbits from HDF5 into a cube, and a year of ERA5 cut to China with its peak memory."""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from pathlib import Path

import h5py
import numpy as np

from benchmarks.ingest_binning import LINES, ORBITS, PIXELS, orbit
from pipeline.ingest.books import Request
from pipeline.ingest.run import run
from pipeline.store.location import Store


def write_orbit(path: Path, number: int) -> None:
    """A granule of full size in the layout of the product."""
    lat, lon = (c.reshape(1, LINES, PIXELS, 4).astype("f4") for c in orbit(number))
    rng = np.random.default_rng(number)
    shape = (1, LINES, PIXELS)
    with h5py.File(path, "w") as file:
        product = file.create_group("PRODUCT")
        layers = {
            "latitude": lat.mean(-1),
            "longitude": lon[..., 0],
            "nitrogendioxide_tropospheric_column": rng.normal(5e-5, 2e-5, shape).astype("f4"),
            "nitrogendioxide_tropospheric_column_precision": np.full(shape, 1e-5, "f4"),
            "qa_value": rng.integers(0, 101, shape).astype("u1"),
        }
        for name, data in layers.items():
            variable = product.create_dataset(name, data=data, compression="gzip", compression_opts=1)
            variable.attrs["units"] = "mol m-2" if "column" in name else "1"
        product["qa_value"].attrs["scale_factor"] = np.float32(0.01)
        product["delta_time"] = (1.8e7 + 840 * np.arange(LINES)).astype("i4")[None]
        product["delta_time"].attrs["units"] = "milliseconds since 2022-01-15"
        place = file.create_group("PRODUCT/SUPPORT_DATA/GEOLOCATIONS")
        for name, data in (("latitude", lat), ("longitude", lon)):
            place.create_dataset(f"{name}_bounds", data=data, compression="gzip", compression_opts=1)


def tropomi(folder: Path) -> dict[str, float]:
    """Seconds for the orbits of a day, read, binned and written, on one process."""
    source = folder / "in"
    source.mkdir()
    for k in range(ORBITS):
        name = f"S5P_OFFL_L2__NO2____20220115T0{k}3000_20220115T0{k}4000_{22000 + k}_03_020400_20220116T000000.nc"
        write_orbit(source / name, k)
    start = time.perf_counter()
    summary = run(Request("tropomi_no2", (str(source),), Store(str(folder / "store"))))
    seconds = time.perf_counter() - start
    return {
        "orbits_used": summary.statuses.get("used", 0),
        "orbits_outside_the_region": summary.statuses.get("rejected", 0),
        "seconds": seconds,
        "million_pixels_a_second": ORBITS * LINES * PIXELS / seconds / 1e6,
    }


def write_era5(path: Path, days: int) -> None:
    """An hourly netCDF of one variable over Asia at 0.25 degree, written day by day."""
    lat, lon = np.arange(75, 0.1, -0.25), np.arange(50, 160.1, 0.25)
    rng = np.random.default_rng(0)
    with h5py.File(path, "w") as file:
        for name, values, units in (("latitude", lat, "degrees_north"), ("longitude", lon, "degrees_east")):
            file[name] = values
            file[name].make_scale(name)
            file[name].attrs["units"] = units
        hours = 24 * days
        file["valid_time"] = (np.datetime64("2022-01-01", "s").astype(int) + 3600 * np.arange(hours)).astype("i8")
        file["valid_time"].make_scale("valid_time")
        file["valid_time"].attrs["units"] = "seconds since 1970-01-01"
        wind = file.create_dataset(
            "u10", (hours, lat.size, lon.size), "f4", chunks=(12, 64, 128), compression="gzip", compression_opts=1
        )
        wind.attrs["units"] = "m s**-1"
        for dim, name in enumerate(("valid_time", "latitude", "longitude")):
            wind.dims[dim].attach_scale(file[name])
        smooth = rng.normal(0, 5, (lat.size, lon.size)).round(1).astype("f4")
        for day in range(days):
            wind[24 * day : 24 * day + 24] = smooth + day % 7


def era5(folder: Path, days: int) -> dict[str, float]:
    """Seconds and memory for so many days of hourly fields."""
    path = folder / "era5.nc"
    write_era5(path, days)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    run(Request("era5", (str(path),), Store(str(folder / "era5-store"))))
    seconds = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    size = days * 24 * 300 * 441 * 4
    return {
        "era5_days": days,
        "era5_file_MB_unpacked": size / 1e6,
        "era5_seconds": seconds,
        "era5_peak_MB_before": before / 1e3,
        "era5_peak_MB_after": after / 1e3,
    }


def main() -> None:
    """Run both; ``--days`` shortens the year."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--days", type=int, default=365)
    days = parser.parse_args().days
    with tempfile.TemporaryDirectory() as name:
        for key, value in {**era5(Path(name), days), **tropomi(Path(name))}.items():
            print(f"{key:42s}{value:14.2f}")


if __name__ == "__main__":
    main()
