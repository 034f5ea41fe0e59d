"""``python -m pipeline.doctor``: hold a store to the contract and tell what a year still needs."""

from __future__ import annotations

import argparse
import json
import sys
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import xarray as xr

from pipeline.access import input_names, open_points, open_product, open_regions
from pipeline.core.errors import CarbonCubeError, InputError, UsageError
from pipeline.core.schema import INPUTS, PRODUCTS, check, input_schema
from pipeline.settings import load_place
from pipeline.store import publish
from pipeline.store.conditional import faults
from pipeline.store.cubes import open_cube
from pipeline.store.location import MARKER, Store
from pipeline.store.publish import LATEST
from pipeline.store.verify import verify

NEEDED = {
    "observations": ("no2", "xco2"),
    "winds": ("era5",),
    "lights": ("nightlights",),
    "people": ("population",),
}
"""What a year of the product needs, and the families of cubes any of which gives it."""
ANY_YEAR = ("lights", "people")
"""What may come from a year nearby."""


@dataclass(frozen=True)
class Finding:
    """One thing seen: `level` is ``ok``, ``note``, ``missing`` or ``broken``."""

    level: str
    what: str


def examine(store: Store, years: Sequence[int] = ()) -> list[Finding]:
    """Everything there is to say of a store, inputs first."""
    findings = [] if store.exists(MARKER) else [Finding("note", f"no {MARKER}: not made by carboncube, or empty")]
    cubes: dict[str, xr.Dataset] = {}
    findings += [_cube(store, name, cubes) for name in input_names(store)]
    findings += [_tables(store), _regions(store)]
    findings += [_year(cubes, year, what) for year in years for what in NEEDED]
    findings += list(_products(store))
    return findings


def _cube(store: Store, name: str, cubes: dict[str, xr.Dataset]) -> Finding:
    path = f"inputs/{name}.zarr"
    family = name if name in INPUTS else name.split("_", 1)[0]
    try:
        ds = open_cube(store, path, chunks=None)
        if family not in INPUTS:
            return Finding("note", f"{path}: beside the contract, {_filled(ds)}")
        check(ds, input_schema(name), path)
        # Consolidated metadata name an array whether it is there or not.
        version3 = store.exists(path, "zarr.json")
        if gone := [str(v) for v in ds.variables if version3 and not store.exists(path, str(v), "zarr.json")]:
            raise InputError(f"{path} names {', '.join(gone)}, of which nothing is left", remedy="ingest it again")
    except CarbonCubeError as error:
        return Finding("broken", str(error))
    cubes[name] = ds
    return Finding("ok", f"{path}: {_filled(ds)}")


def _filled(ds: xr.Dataset) -> str:
    """How many times each layer has, year by year, for people."""
    return "; ".join(f"{year}: {_coverage(ds, year)}" for year in _years(ds)) or "no time"


def _years(ds: xr.Dataset) -> list[int]:
    return sorted({int(y) for y in ds["time"].dt.year.values}) if "time" in ds.coords else []


def _coverage(ds: xr.Dataset, year: int) -> str:
    times, layers = _ingested(ds, year)
    short = {name: n for name, n in layers.items() if 0 < n < times}
    absent = [name for name, n in layers.items() if n == 0]
    text = f"{max(layers.values(), default=0)} of {times} times"
    if short and len(set(layers.values())) > 1:
        text += f", {', '.join(f'{name} {n}' for name, n in short.items())}"
    return text + (f", without {', '.join(absent)}" if absent else "")


def _ingested(ds: xr.Dataset, year: int) -> tuple[int, dict[str, int]]:
    """Times of a year, and how many of them each layer has; a cube that does not say counts as whole."""
    part = ds["time"].dt.year.values == year
    times = int(part.sum())
    names = [str(v) for v in ds.data_vars if "time" in ds[v].dims and v != "ingested"]
    if "ingested" not in ds:
        return times, dict.fromkeys(names, times)
    bits = np.asarray(ds["ingested"].values)[part]
    order = str(ds["ingested"].attrs.get("flag_meanings", "")).split()
    return times, {n: int(((bits >> order.index(n)) & 1).sum()) for n in names if n in order}


def _year(cubes: dict[str, xr.Dataset], year: int, what: str) -> Finding:
    families = NEEDED[what]
    members = [n for n in cubes if n in families or n.split("_", 1)[0] in families]
    there = [n for n in members if any(_ingested(cubes[n], year)[1].values())]
    if there:
        return Finding("ok", f"{year}: {what} from {', '.join(f'{n} ({_coverage(cubes[n], year)})' for n in there)}")
    held = sorted({y for n in members for y in _years(cubes[n])})
    if held and what in ANY_YEAR:
        return Finding("note", f"{year}: {what} only of {', '.join(map(str, held))}")
    years = f"; there are {', '.join(map(str, held))}" if held else ""
    return Finding("missing", f"{year}: no {what} ({' or '.join(families)}){years}")


def _tables(store: Store) -> Finding:
    try:
        points = open_points(store)
        kinds = points.groupby("source")["kind"].agg(lambda k: ", ".join(sorted(set(k))))
        text = "; ".join(f"{source}: {kind}" for source, kind in kinds.items())
        return Finding("ok", f"{len(points)} point sources ({text})")
    except CarbonCubeError as error:
        level = "missing" if not store.names("inputs", "point_sources") else "broken"
        return Finding(level, str(error))


def _regions(store: Store) -> Finding:
    try:
        regions = open_regions(store)
        return Finding("ok", f"{len(regions.codes)} regions in {len(regions.group_names)} groups")
    except CarbonCubeError as error:
        return Finding("broken" if store.exists("inputs/regions.geojson") else "missing", str(error))


def _products(store: Store) -> Iterator[Finding]:
    for year, version in sorted((store.read_json(LATEST) or {}).get("years", {}).items()):
        broken = []
        for name in PRODUCTS:
            try:
                open_product(store, name, int(year))
            except CarbonCubeError as error:
                broken.append(str(error))
        yield Finding("broken", "; ".join(broken)) if broken else Finding("ok", f"product of {year}: {version}")


def probe(store: Store) -> Finding:
    """Whether the store can be written, and honours the conditional puts that publishing at the same time rests on."""
    name = f"work/.probe-{uuid.uuid4().hex}"
    store.write_bytes(b"1", name)
    store.remove(name)
    if store.is_local:
        return Finding("ok", "the folder can be written; publishing is guarded by a lock of the file system")
    if wrong := faults(store):
        what = f"publish from one place at a time only, with storage.sole_writer: {'; '.join(wrong)}"
        return Finding("note" if store.sole_writer else "broken", what)
    return Finding("ok", "the store can be written; the server honours conditional puts")


def verified(store: Store, version: str = "") -> list[Finding]:
    """Every object of a version read again and held to its manifest; of all that the pointers name where none is given.

    Raises
    ------
    InputError : nothing to verify.
    """
    versions = [version] if version else publish.visible(store)
    if not versions:
        raise InputError(f"{store.url} has no product", "a published version", "python -m pipeline.build")
    findings = []
    for name in versions:
        try:
            count, damaged = verify(store, name)
        except InputError as error:
            findings.append(Finding("broken", str(error)))
            continue
        findings += [Finding("broken", f"{publish.product_path(name)}/{d.name} is {d.kind}") for d in damaged]
        if not damaged:
            findings.append(Finding("ok", f"{publish.product_path(name)}: {count} objects are as the manifest says"))
    return findings


def _parse_years(text: str) -> list[int]:
    try:
        return [int(y) for y in text.split(",") if y]
    except ValueError:
        raise UsageError(f"--year {text!r}", "2022 or 2021,2022") from None


def parser() -> argparse.ArgumentParser:
    """The flags."""
    p = argparse.ArgumentParser(prog="python -m pipeline.doctor", description=__doc__)
    p.add_argument("--store", metavar="URL", help="the store (default: CARBONCUBE_STORE, else ./data)")
    p.add_argument("--config", metavar="FILE", help="YAML file of settings, for how the store is reached")
    p.add_argument("--year", default="", metavar="Y", help="say what these years need: 2022 or 2021,2022")
    p.add_argument("--probe", action="store_true", help="also try whether it can be written safely")
    p.add_argument(
        "--verify",
        nargs="?",
        const="",
        metavar="VERSION",
        help="instead, read every object of a version again (default: all that are published) and check it",
    )
    p.add_argument("--json", action="store_true", help="print the findings as JSON")
    return p


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; gives back the exit code: 3 when something is missing or broken."""
    args = parser().parse_args(arguments)
    try:
        store = Store.at(*load_place(args.store, args.config))
        if not store.names():
            raise InputError(f"nothing at {store.url}", "a store", "check --store")
        years = _parse_years(args.year)
        findings = examine(store, years) if args.verify is None else verified(store, args.verify)
        findings += [probe(store)] if args.probe else []
    except CarbonCubeError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    sys.stdout.write(_printed(findings, args.json))
    return 3 if any(f.level in ("missing", "broken") for f in findings) else 0


def _printed(findings: Sequence[Finding], as_json: bool) -> str:
    if as_json:
        found: list[dict[str, Any]] = [asdict(f) for f in findings]
        return json.dumps(found, indent=1) + "\n"
    return "".join(f"{f.level:8s} {f.what}\n" for f in findings)


if __name__ == "__main__":
    raise SystemExit(main())
