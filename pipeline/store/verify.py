"""Checksums of every object of a version, and whether they still hold."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal

from pipeline.core.errors import InputError
from pipeline.core.grid import domain_grid
from pipeline.store.addresses import explained
from pipeline.store.location import Store
from pipeline.store.publish import point_to, product_path

MANIFEST = "manifest.json"
_READERS = 8
LEFTOVERS = (".partial", ".tmp")
"""What a writer that was killed leaves beside its objects; no reader looks at it."""


@dataclass(frozen=True)
class Damage:
    """One object that is not what the manifest says."""

    name: str
    kind: Literal["changed", "missing", "extra"]


def manifest(store: Store, version: str) -> dict[str, dict[str, Any]]:
    """Size and SHA-256 of every object of a version, by path inside it."""
    return dict(_sums(store, version, _objects(store, version)))


def verify(store: Store, version: str) -> tuple[int, list[Damage]]:
    """Read a version again; the number of objects its manifest names, and all that is not as it says.

    Raises
    ------
    InputError : no such version, or one without a manifest: it was never finished.
    """
    expected = store.read_json(product_path(version), MANIFEST)
    if not isinstance(expected, dict) or not expected:
        raise InputError(
            f"{store.address(product_path(version))} has no {MANIFEST}",
            "a finished version of the product",
            "build it again",
        )
    there = set(_objects(store, version))
    found = dict(_sums(store, version, [name for name in expected if name in there]))
    damaged = [Damage(n, "missing" if n not in found else "changed") for n in expected if found.get(n) != expected[n]]
    return len(expected), damaged + [Damage(n, "extra") for n in sorted(there - set(expected))]


def publish_again(store: Store, version: str, years: Sequence[int]) -> None:
    """Let `latest.json` name an older version again, once every object of it was read and is as its manifest says.

    Raises
    ------
    InputError : damaged, never finished, or not whole national years that hold these.
    """
    where = store.address(product_path(version))
    _, damaged = verify(store, version)
    if damaged:
        raise InputError(
            f"{where}: {damaged[0].name} is {damaged[0].kind}", "a version that verifies", "restore it first"
        )
    made = (store.read_json(product_path(version), "provenance.json") or {}).get("settings", {})
    whole = len(made.get("months", ())) == 12 and domain_grid(made.get("domain", "china")) == domain_grid("china")
    if not whole or not set(years) <= set(made.get("year", ())):
        raise InputError(f"{where} is no version of whole national years {', '.join(map(str, years))}", "one that is")
    point_to(store, version, years)


def _objects(store: Store, version: str) -> list[str]:
    return [n for n in store.files(product_path(version)) if n != MANIFEST and not n.endswith(LEFTOVERS)]


def _sums(store: Store, version: str, names: list[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    def read(name: str) -> tuple[str, dict[str, Any]]:
        data = store.read_bytes(product_path(version), name)
        return name, {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}

    with ThreadPoolExecutor(_READERS) as pool, explained(store.url):
        yield from pool.map(read, names)
