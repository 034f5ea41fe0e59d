"""Regridding 30 arc-seconds to 0.01 degree over 10 x 10 degrees, 24 float32 steps, side by side with its peers.

    python -m benchmarks.regrid table --peer-python PATH --repeat 5
    python -m benchmarks.regrid china

PATH is a Python with xarray-regrid and dask but without `sparse`. Every run is a process of its own; the clock starts
after the imports and with the input in memory. cdo reads and writes netCDF files; `cdo copy` of the same file is given
beside it. Peers take part where they are installed. `china` puts a year of 15 arc-second lights on the whole of G001.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

WEST, SOUTH, DEGREES = 105, 25, 10
STEPS = 24


def axes(per_degree: int) -> tuple[np.ndarray, np.ndarray]:
    """Cell centres (lat, lon) of the box."""
    inside = (np.arange(DEGREES * per_degree) + 0.5) / per_degree
    return SOUTH + inside, WEST + inside


def field() -> np.ndarray:
    """A smooth field; odd steps carry noise."""
    lat, lon = (np.deg2rad(a) for a in axes(120))
    smooth = 1.8 + 0.6 * np.cos(lat)[:, None] ** 2 * np.cos(2 * lon)
    rng = np.random.default_rng(0)
    return np.stack([(smooth + (k % 2) * rng.random(smooth.shape)).astype(np.float32) for k in range(STEPS)])


def peak() -> float:
    """Peak resident memory of this process, MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def difference(folder: Path, result: np.ndarray) -> float:
    """Largest difference from this project's result."""
    return float(np.abs(result - np.load(folder / "result.npy")).max())


def ours(folder: Path) -> dict[str, float]:
    """The lazy path of this project: weights through xESMF, then Dask."""
    import dask.array
    import xarray as xr

    from pipeline.core.grid import Grid
    from pipeline.regrid import regrid

    import_module("xesmf")
    lat, lon = axes(120)
    values = np.load(folder / "in.npy")
    dask.array.zeros(1).compute()  # Dask imports more at its first computation; imports are not timed
    target = Grid.from_bounds(WEST, SOUTH, WEST + DEGREES, SOUTH + DEGREES, 100)
    with dask.config.set(scheduler="threads", num_workers=2):
        array = xr.DataArray(values, {"lat": lat, "lon": lon}, ("time", "lat", "lon")).chunk(time=1)
        start = time.perf_counter()
        lazy = regrid(array, target, "conservative")
        built = time.perf_counter()
        result = lazy.values
        end = time.perf_counter()
    np.save(folder / "result.npy", result)
    return {"weights_and_graph": built - start, "apply": end - built, "total": end - start, "peak_mb": peak()}


def xarray_regrid(folder: Path, skipna: bool, lazy: bool) -> dict[str, float]:
    """xarray-regrid's conservative method."""
    import dask.array
    import xarray as xr
    import xarray_regrid  # noqa: F401  adds the accessor

    lat, lon = axes(120)
    values = np.load(folder / "in.npy")
    dask.array.zeros(1).compute()
    to_lat, to_lon = axes(100)
    with dask.config.set(scheduler="threads", num_workers=2):
        source = xr.DataArray(values, {"lat": lat, "lon": lon}, ("time", "lat", "lon"))
        source = source.chunk(time=1) if lazy else source
        start = time.perf_counter()
        target = xr.Dataset(coords={"lat": to_lat, "lon": to_lon})
        result = source.regrid.conservative(target, latitude_coord="lat", skipna=skipna).values
        end = time.perf_counter()
    return {"total": end - start, "peak_mb": peak(), "difference": difference(folder, result)}


def cdo(folder: Path, threads: int, operator: str) -> dict[str, float]:
    """cdo on netCDF files, in its own process."""
    arguments = ["copy"] if operator == "copy" else [f"remapcon,{folder / 'target.txt'}"]
    command = ["cdo", "-s", "-O", "-P", str(threads), *arguments, str(folder / "in.nc"), str(folder / "cdo.nc")]
    start = time.perf_counter()
    subprocess.run(command, check=True)
    total = time.perf_counter() - start
    row = {"total": total, "peak_mb": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024}
    if operator == "copy":
        return row
    import xarray as xr

    with xr.open_dataset(folder / "cdo.nc", engine="h5netcdf") as result:
        return row | {"difference": difference(folder, result["f"].values)}


CONTENDERS: dict[str, list[str]] = {
    "this project, lazy": ["ours"],
    "xarray-regrid, skipna=False, eager": ["xarray-regrid", "--eager"],
    "xarray-regrid, skipna=False, lazy": ["xarray-regrid"],
    "xarray-regrid, skipna=True, lazy": ["xarray-regrid", "--skipna"],
    "cdo remapcon -P 1": ["cdo", "--threads", "1"],
    "cdo remapcon -P 2": ["cdo", "--threads", "2"],
    "cdo copy (reading and writing alone)": ["cdo", "--operator", "copy"],
}


def prepare(folder: Path) -> None:
    """The input as .npy and netCDF, and cdo's description of the target."""
    import xarray as xr

    values = field()
    np.save(folder / "in.npy", values)
    lat, lon = axes(120)
    coords = {"lat": ("lat", lat, {"units": "degrees_north"}), "lon": ("lon", lon, {"units": "degrees_east"})}
    ds = xr.Dataset({"f": (("time", "lat", "lon"), values)}, {"time": np.arange(STEPS), **coords})
    ds.time.attrs["units"] = "days since 2022-01-01"
    ds.to_netcdf(folder / "in.nc", engine="h5netcdf")
    n = DEGREES * 100
    first = f"xfirst = {WEST + 0.005}\nyfirst = {SOUTH + 0.005}\nxinc = 0.01\nyinc = 0.01\n"
    (folder / "target.txt").write_text(f"gridtype = lonlat\nxsize = {n}\nysize = {n}\n{first}")


def runs(peer_python: str | None, repeat: int, folder: Path) -> Iterator[dict[str, Any]]:
    """Run the contenders in turn, `repeat` times over, so that a busy moment hits all of them."""
    seen: dict[str, list[dict[str, float]]] = {}
    for _ in range(repeat):
        for name, arguments in CONTENDERS.items():
            python = peer_python if arguments[0] == "xarray-regrid" else sys.executable
            if python is None or (arguments[0] == "cdo" and shutil.which("cdo") is None):
                continue
            command = [python, str(Path(__file__)), "one", *arguments, "--folder", str(folder)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                raise SystemExit(f"{name} failed:\n{done.stderr}")
            seen.setdefault(name, []).append(json.loads(done.stdout.splitlines()[-1]))
    for name, results in seen.items():
        row = {key: [r[key] for r in results] for key in results[0]}
        yield {"name": name, **row}


def table(peer_python: str | None, repeat: int) -> None:
    """Print the comparison as a Markdown table: median (least-most) of the runs."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder)
        print("| | seconds | of which weights | peak MB | largest difference |\n|---|---|---|---|---|")
        for row in runs(peer_python, repeat, folder):
            total, weights = row["total"], row.get("weights_and_graph")
            part = f"{median(weights):.2f}" if weights else "-"
            spread = f"{median(total):.2f} ({min(total):.2f}-{max(total):.2f})"
            off = f"{max(row['difference']):.1e}" if "difference" in row else "-"
            print(f"| {row['name']} | {spread} | {part} | {median(row['peak_mb']):.0f} | {off} |", flush=True)


def china(months: int = 12) -> dict[str, float]:
    """A year of 15 arc-second lights, stored as 8-bit Zarr, to G001, stored as float32 Zarr, streaming."""
    import dask
    import dask.array as da
    import xarray as xr

    from pipeline.core.grid import G001
    from pipeline.regrid import regrid

    n_lat, n_lon, step = 11072, 13713, 0.0044916
    coords = {"lat": 53.56 - step * np.arange(n_lat), "lon": 73.496 + step * np.arange(n_lon)}

    def block(block_info: Any = None) -> np.ndarray:
        rng = np.random.default_rng(block_info[None]["chunk-location"])
        return (rng.gamma(0.3, 5, block_info[None]["chunk-shape"]) % 250).astype(np.uint8)

    chunks = ((1,) * months, *da.core.normalize_chunks((2048, 2048), (n_lat, n_lon)))
    with tempfile.TemporaryDirectory() as name, dask.config.set(scheduler="threads", num_workers=2):
        source = xr.DataArray(
            da.map_blocks(block, dtype="u1", chunks=chunks), coords, ("time", "lat", "lon"), name="dn"
        )
        source.to_dataset().to_zarr(f"{name}/in.zarr")
        stored = xr.open_zarr(f"{name}/in.zarr")["dn"]
        before = peak()
        start = time.perf_counter()
        result = regrid(stored, G001, "conservative")
        built = time.perf_counter()
        result.to_dataset().drop_encoding().to_zarr(f"{name}/out.zarr")
        end = time.perf_counter()
    return {
        "tasks": len(result.__dask_graph__()),
        "build_s": built - start,
        "regrid_and_write_s": end - built,
        "peak_mb": peak(),
        "peak_mb_before": before,
    }


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["table", "china", "one"])
    parser.add_argument("contender", nargs="?", choices=["ours", "xarray-regrid", "cdo"])
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--peer-python")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--months", type=int, default=12)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--operator", default="remapcon")
    parser.add_argument("--skipna", action="store_true")
    parser.add_argument("--eager", action="store_true")
    args = parser.parse_args()
    if args.what == "table":
        table(args.peer_python, args.repeat)
    elif args.what == "china":
        print(json.dumps(china(args.months)))
    elif args.contender == "ours":
        print(json.dumps(ours(args.folder)))
    elif args.contender == "cdo":
        print(json.dumps(cdo(args.folder, args.threads, args.operator)))
    else:
        print(json.dumps(xarray_regrid(args.folder, args.skipna, not args.eager)))


if __name__ == "__main__":
    main()
