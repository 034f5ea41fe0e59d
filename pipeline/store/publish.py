"""Versions of the product, and the one pointer that makes a version visible."""

from __future__ import annotations

import contextlib
import datetime as dt
import fcntl
import hashlib
import json
import os
import uuid
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from pipeline.core.errors import StoreError
from pipeline.store.location import Store

LATEST = "products/latest.json"
PARTIAL = "products/partial.json"
_TRIES = 20


def new_version() -> str:
    """A version name that is never reused: UTC time and 8 random hex digits."""
    return f"{dt.datetime.now(dt.UTC):%Y%m%dT%H%M%SZ}-{uuid.uuid4().hex[:8]}"


def product_path(version: str) -> str:
    """The folder of a version."""
    return f"products/{version}"


def point_to(store: Store, version: str, years: Sequence[int], keep: int = 3) -> list[str]:
    """Move `latest.json` to a version for some years; gives back the versions nothing points to any more.

    The last `keep` versions of a year stay listed under ``previous`` for readers in flight.
    """
    dropped: list[str] = []

    def change(pointer: dict[str, Any]) -> dict[str, Any]:
        current = dict(pointer.get("years", {}))
        previous = {y: list(v) for y, v in pointer.get("previous", {}).items()}
        for year in map(str, years):
            old = current.get(year)
            if old and old != version:
                previous[year] = [old, *previous.get(year, [])]
                dropped.extend(previous[year][keep:])
                previous[year] = previous[year][:keep]
            current[year] = version
        return {"schema": 1, "years": current, "previous": previous}

    final = _update(store, LATEST, change)
    held = {*final["years"].values(), *(v for vs in final["previous"].values() for v in vs)}
    return sorted(set(dropped) - held)


def note_partial(store: Store, version: str, description: dict[str, Any]) -> None:
    """Name a version that is not a whole national year in `partial.json`."""
    _update(store, PARTIAL, lambda p: {"schema": 1, "versions": {**p.get("versions", {}), version: description}})


def latest(store: Store, year: int) -> str | None:
    """The version that `latest.json` names for a year, or `None`."""
    pointer = store.read_json(LATEST) or {}
    version = pointer.get("years", {}).get(str(year))
    return str(version) if version else None


def manifest(store: Store, version: str) -> dict[str, dict[str, Any]]:
    """Size and SHA-256 of every object of a version, by path inside it."""
    root = store.path(product_path(version))
    return {
        path[len(root) + 1 :]: {
            "bytes": len(data := store.fs.cat_file(path)),
            "sha256": hashlib.sha256(data).hexdigest(),
        }
        for path in sorted(store.fs.find(root))
        if not path.endswith("manifest.json")
    }


def _update(store: Store, name: str, change: Callable[[dict[str, Any]], dict[str, Any]]) -> dict[str, Any]:
    """Read, change and put back a contested JSON; whoever loses the race reads again."""
    if store.is_local:
        with _folder_lock(store.path("products")):
            value = change(store.read_json(name) or {})
            store.write_json(value, name)
            return value
    for _ in range(_TRIES):
        tag, old = _read_tagged(store, name)
        value = change(old)
        if _put_if(store, name, json.dumps(value, indent=1, sort_keys=True).encode(), tag):
            return value
    raise StoreError(f"{name} was changed by others {_TRIES} times in a row", remedy="run again; nothing is recomputed")


@contextlib.contextmanager
def _folder_lock(folder: str) -> Iterator[None]:
    # The kernel drops this lock when its holder dies, so nobody ever waits for a dead process.
    os.makedirs(folder, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _read_tagged(store: Store, name: str) -> tuple[str | None, dict[str, Any]]:
    path = store.path(name)
    try:
        info = store.fs.info(path)
        return str(info.get("ETag", "")).strip('"') or None, store.read_json(name) or {}
    except FileNotFoundError:
        return None, {}


def _put_if(store: Store, name: str, data: bytes, tag: str | None) -> bool:
    """Put an object only if it still has the tag seen (or still is absent); False when somebody was faster."""
    path, protocol = store.path(name), store.fs.protocol
    if "s3" not in (protocol if isinstance(protocol, (tuple, list)) else (protocol,)):
        store.fs.pipe_file(path, data)
        return True
    try:
        if tag is None:
            store.fs.pipe_file(path, data, mode="create")
        else:
            store.fs.pipe_file(path, data, IfMatch=tag)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno == 22 or "PreconditionFailed" in str(error):
            return False
        raise
    return True
