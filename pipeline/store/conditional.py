"""Writes that win or lose as a whole: what publishing at the same time rests on."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from pipeline.core.errors import StoreError
from pipeline.store.addresses import error_code, explained
from pipeline.store.location import Store

_TRIES = 20
_LOST = {"PreconditionFailed", "ConditionalRequestConflict", "412", "409"}
"""What S3 servers answer to a conditional put that came too late."""
_FINAL = {"AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "NoSuchBucket", "QuotaExceeded", "403"}


def update(store: Store, name: str, change: Callable[[dict[str, Any]], dict[str, Any]]) -> dict[str, Any]:
    """Read, change and put back a contested JSON; whoever loses the race reads again.

    Parameters
    ----------
    change : from the old value (empty where there is none) to the new; applied again after a lost race, so that it must
        give the same when the value is its own already.

    Raises
    ------
    StoreError : the store cannot be written, or others were faster every time.
    """
    if store.is_local:
        with _folder_lock(os.path.dirname(store.path(name))):
            value = change(store.read_json(name) or {})
            store.write_json(value, name)
            return value
    for attempt in range(_TRIES):
        tag, old = read_tagged(store, name)
        value = change(old)
        try:
            if put_if(store, name, json.dumps(value, indent=1, sort_keys=True).encode(), tag):
                return value
        except StoreError as error:
            # An answer that got lost says nothing of what happened: look again.
            if attempt + 1 == _TRIES or error_code(error.__cause__ or error) in _FINAL:
                raise
    raise StoreError(f"{name} was changed by others {_TRIES} times in a row", remedy="run again; nothing is recomputed")


def create_once(store: Store, name: str, value: Any) -> bool:
    """Write a JSON file unless there is one; whether it was us. One of many that try it at once succeeds."""
    data = (json.dumps(value, indent=1, sort_keys=True) + "\n").encode()
    if not store.is_local:
        return put_if(store, name, data, None)
    path = store.path(name)
    temporary = f"{name}.{uuid.uuid4().hex}.tmp"
    store.write_bytes(data, temporary)
    try:
        os.link(store.path(temporary), path)
        return True
    except FileExistsError:
        return False
    finally:
        store.remove(temporary)


def read_tagged(store: Store, name: str) -> tuple[str | None, dict[str, Any]]:
    """A JSON object and the tag it had just before it was read; `None` and empty where there is none."""
    # The tag first: a state that changes before it is read then fails the put, and never passes for another.
    with explained(store.url):
        try:
            tag = _tag(store, name)
        except FileNotFoundError:
            return None, {}
    return tag, store.read_json(name) or {}


def put_if(store: Store, name: str, data: bytes, tag: str | None) -> bool:
    """Put an object only if it still has the tag seen (or still is absent); False when somebody was faster."""
    path = store.path(name)
    with explained(store.url):
        if not is_s3(store):
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
            if error_code(error) in _LOST:
                return False
            raise
    return True


def is_s3(store: Store) -> bool:
    """Whether the store speaks S3."""
    protocol = store.fs.protocol
    return "s3" in (protocol if isinstance(protocol, (tuple, list)) else (protocol,))


def faults(store: Store, clients: int = 6) -> list[str]:
    """What the server does wrong with conditional puts, tried on an object of its own; empty where nothing.

    Several clients at once create the object, then replace the state they all saw: one of them may win, each time.
    """
    if store.is_local:
        return []
    if not is_s3(store):
        return [f"no conditional puts are known for {store.url.split('://', 1)[0]}://"]
    name, found = f"work/.probe-{uuid.uuid4().hex}", []
    try:
        for what in ("create an object that is not there", "replace the state that all had seen"):
            tag, _ = read_tagged(store, name)
            winners = _race(store, name, tag, clients)
            if winners != 1:
                found.append(f"of {clients} that tried at once to {what}, {winners} were told that they did")
        if put_if(store, name, b"{}", None):
            found.append("creating an object that is there was accepted")
        if put_if(store, name, b"{}", "0" * 32):
            found.append("a put with a stale tag was accepted")
    finally:
        with contextlib.suppress(StoreError):
            store.remove(name)
    return found


def _race(store: Store, name: str, tag: str | None, clients: int) -> int:
    """How many of several that put at once were told that they won; who got no answer does not count."""

    def attempt(number: int) -> bool:
        with contextlib.suppress(StoreError):
            return put_if(store, name, json.dumps({"client": number, "tag": tag}).encode(), tag)
        return False

    with ThreadPoolExecutor(clients) as pool:
        return sum(pool.map(attempt, range(clients)))


def require_publishing(store: Store) -> None:
    """Refuse a store in which two that publish at once could lose one another's work.

    Raises
    ------
    StoreError : the server ignores conditional puts and the settings do not say that nobody else publishes.
    """
    if not store.sole_writer and not store.url.startswith("memory://") and (wrong := faults(store)):
        raise StoreError(
            f"{store.url} cannot be published into by several at once: {'; '.join(wrong)}",
            "a server that honours If-Match and If-None-Match",
            "use another server, or set storage.sole_writer where nobody else publishes",
        )


def _tag(store: Store, name: str) -> str:
    return str(store.fs.info(store.path(name)).get("ETag", "")).strip('"')


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
