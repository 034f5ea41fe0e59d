"""Versions of the product, and the one pointer that makes a version visible."""

from __future__ import annotations

import datetime as dt
import re
import uuid
from collections.abc import Collection, Sequence
from typing import Any

from pipeline.store.conditional import update
from pipeline.store.location import Store

LATEST = "products/latest.json"
PARTIAL = "products/partial.json"
VERSION = re.compile(r"\d{8}T\d{6}Z-[0-9a-f]{8}")


def new_version() -> str:
    """A version name that is never reused: UTC time and 8 random hex digits."""
    return f"{dt.datetime.now(dt.UTC):%Y%m%dT%H%M%SZ}-{uuid.uuid4().hex[:8]}"


def product_path(version: str) -> str:
    """The folder of a version."""
    return f"products/{version}"


def point_to(store: Store, version: str, years: Sequence[int], keep: int = 3) -> list[str]:
    """Move `latest.json` to a version for some years; gives back the versions nothing points to any more.

    The last `keep` versions of a year stay listed under ``previous`` for readers in flight; ``replaced`` says since
    when a version is no year's any more, whether it is listed or not (`pipeline.store.prune`).
    """
    dropped: list[str] = []
    now = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")

    def change(pointer: dict[str, Any]) -> dict[str, Any]:
        current = dict(pointer.get("years", {}))
        previous = {y: list(v) for y, v in pointer.get("previous", {}).items()}
        replaced = dict(pointer.get("replaced", {}))
        for year in map(str, years):
            old = current.get(year)
            if old and old != version:
                replaced[old] = now
                previous[year] = [old, *(v for v in previous.get(year, []) if v not in (old, version))]
                dropped.extend(previous[year][keep:])
                previous[year] = previous[year][:keep]
            current[year] = version
        replaced = {v: since for v, since in replaced.items() if v not in current.values()}
        return {"schema": 1, "years": current, "previous": previous, "replaced": replaced}

    final = update(store, LATEST, change)
    held = {*final["years"].values(), *(v for vs in final["previous"].values() for v in vs)}
    return sorted(set(dropped) - held)


def note_partial(store: Store, version: str, description: dict[str, Any]) -> None:
    """Name a version that is not a whole national year in `partial.json`."""
    update(store, PARTIAL, lambda p: {"schema": 1, "versions": {**p.get("versions", {}), version: description}})


def unname(store: Store, versions: Collection[str]) -> set[str]:
    """Take versions out of both pointers, but never one that a year has; those that no pointer names now."""

    def without(named: dict[str, Any]) -> dict[str, Any]:
        return {v: what for v, what in named.items() if v not in versions}

    def older(pointer: dict[str, Any]) -> dict[str, Any]:
        previous = {y: [v for v in vs if v not in versions] for y, vs in pointer.get("previous", {}).items()}
        return {**pointer, "previous": previous, "replaced": without(pointer.get("replaced", {}))}

    def partial(pointer: dict[str, Any]) -> dict[str, Any]:
        return {**pointer, "versions": without(pointer.get("versions", {}))}

    for name, change in ((LATEST, older), (PARTIAL, partial)):
        if (pointer := store.read_json(name)) and change(pointer) != pointer:
            update(store, name, change)
    return set(versions) - set(visible(store))


def latest(store: Store, year: int) -> str | None:
    """The version that `latest.json` names for a year, or `None`."""
    pointer = store.read_json(LATEST) or {}
    version = pointer.get("years", {}).get(str(year))
    return str(version) if version else None


def visible(store: Store) -> list[str]:
    """Every version that a pointer names, older ones kept for readers in flight included, sorted."""
    pointer, partial = store.read_json(LATEST) or {}, store.read_json(PARTIAL) or {}
    older = (v for versions in pointer.get("previous", {}).values() for v in versions)
    return sorted({*pointer.get("years", {}).values(), *older, *partial.get("versions", {})})
