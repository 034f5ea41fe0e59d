"""Builders and readers at the same time, on any store; used by the tests on folders, on moto and on Ceph."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import xarray as xr

from pipeline.store.cubes import open_cube, write_cube
from pipeline.store.location import Store
from pipeline.store.publish import LATEST, latest, new_version, point_to, product_path
from pipeline.store.verify import MANIFEST, manifest, verify

YEAR = 2022


def publish_one(store: Store, number: int, keep: int = 3) -> str:
    """A version whose two cubes hold nothing but its number, with manifest, made visible."""
    version = new_version()
    for cube in ("one", "other"):
        ds = xr.Dataset({"x": (("y",), np.full(40, number, "i4"))})
        write_cube(store, f"{product_path(version)}/{cube}.zarr", ds, {"y": 10})
    store.write_json(manifest(store, version), product_path(version), MANIFEST)
    point_to(store, version, [YEAR], keep=keep)
    return version


def seen_by_a_reader(store: Store) -> set[int]:
    """The numbers in the cubes of the version that the pointer names now; more than one would be a mixture."""
    version = latest(store, YEAR)
    assert version is not None
    cubes = [open_cube(store, f"{product_path(version)}/{c}.zarr", chunks=None) for c in ("one", "other")]
    return {int(v) for ds in cubes for v in ds["x"].values}


def ten_publishes_and_a_reader(store: Store) -> tuple[list[set[int]], list[str]]:
    """What a reader saw, look by look, while ten versions were published; and their names."""
    versions = [publish_one(store, 0)]
    done, looks = threading.Event(), []

    def read() -> None:
        while not done.is_set():
            looks.append(seen_by_a_reader(store))

    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(read)
        try:
            versions += [publish_one(store, number) for number in range(1, 11)]
        finally:
            done.set()
        reading.result(timeout=60)
    return looks, versions


def builders_at_once(store: Store, builders: int = 4) -> list[str]:
    """Versions that several builders published for the same year at the same moment; each is checked to be whole."""
    start = threading.Barrier(builders)

    def build(number: int) -> str:
        start.wait()
        return publish_one(store, number, keep=builders)

    with ThreadPoolExecutor(builders) as pool:
        versions = list(pool.map(build, range(builders)))
    pointer = store.read_json(LATEST)
    named = [pointer["years"][str(YEAR)], *pointer["previous"][str(YEAR)]]
    assert sorted(named) == sorted(versions), "a publish was lost, or is named twice"
    for version in versions:
        assert verify(store, version)[1] == []
    return versions
