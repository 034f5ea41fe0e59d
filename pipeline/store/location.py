"""Where a store is, and the few file operations everything else is built from."""

from __future__ import annotations

import contextlib
import json
import os
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem

from pipeline.core.errors import StoreError

MARKER = "carboncube.json"
PROTOCOLS = ("file", "local", "memory", "s3", "s3a", "gs", "gcs", "az", "abfs", "http", "https")
"""Protocols a store or an input may have; chains (``zip::``, ``reference::``) are refused."""


def check_url(url: str) -> str:
    """Refuse an address whose protocol is not on the allowlist.

    Raises
    ------
    StoreError : chained or unknown protocol.
    """
    if "::" in url:
        raise StoreError(f"the address {url!r} chains file systems", "one plain address", "copy the data first")
    protocol = url.split("://", 1)[0] if "://" in url else "file"
    if protocol not in PROTOCOLS:
        raise StoreError(f"protocol {protocol!r} in {url!r}", f"one of {', '.join(PROTOCOLS)}")
    return url


@dataclass(frozen=True)
class Store:
    """A store: a root address and the options to open it. Cheap to pickle; opens its file system when used.

    Parameters
    ----------
    url : any fsspec address of the allowlist, or a local path.
    options : storage options for fsspec; never written anywhere.
    """

    url: str
    options: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_url(self.url)

    @property
    def fs(self) -> fsspec.AbstractFileSystem:
        """The file system (cached by fsspec per process)."""
        return fsspec.core.url_to_fs(self.url, **self._options)[0]

    @property
    def root(self) -> str:
        """The root as the file system spells it."""
        return fsspec.core.url_to_fs(self.url, **self._options)[1].rstrip("/")

    @property
    def _options(self) -> dict[str, Any]:
        # A listing cached before another process wrote is a wrong answer here.
        return (
            {"use_listings_cache": False, **self.options} if self.url.startswith(("s3", "gs", "gcs")) else self.options
        )

    @property
    def is_local(self) -> bool:
        """Whether the store is a folder of this machine."""
        return isinstance(self.fs, LocalFileSystem)

    def path(self, *parts: str) -> str:
        """The path of something in the store, as the file system spells it.

        Raises
        ------
        StoreError : the parts would leave the store.
        """
        relative = "/".join(part.strip("/") for part in parts)
        if any(piece in ("..", ".", "") for piece in relative.split("/")) or "\\" in relative:
            raise StoreError(f"the name {relative!r}", "a path inside the store, without '..'")
        return f"{self.root}/{relative}"

    def address(self, *parts: str) -> str:
        """The full address of something in the store, for a message or another tool."""
        return self.path(*parts) if self.is_local else self.fs.unstrip_protocol(self.path(*parts))

    def exists(self, *parts: str) -> bool:
        """Whether there is a file or folder of this name."""
        with _explained(self):
            return bool(self.fs.exists(self.path(*parts)))

    def names(self, *parts: str) -> list[str]:
        """Names inside a folder, sorted; empty where there is none."""
        with _explained(self):
            folder = self.path(*parts) if parts else self.root
            try:
                entries = self.fs.ls(folder, detail=False)
            except FileNotFoundError:
                return []
            return sorted({entry.rstrip("/").rsplit("/", 1)[-1] for entry in entries if entry.rstrip("/") != folder})

    def read_bytes(self, *parts: str) -> bytes:
        """The bytes of a file."""
        with _explained(self):
            return bytes(self.fs.cat_file(self.path(*parts)))

    def write_bytes(self, data: bytes, *parts: str) -> None:
        """Write a file so that readers see all of it or nothing."""
        with _explained(self):
            path = self.path(*parts)
            if not self.is_local:
                self.fs.pipe_file(path, data)
                return
            os.makedirs(os.path.dirname(path), exist_ok=True)
            temporary = f"{path}.{uuid.uuid4().hex}.tmp"
            try:
                with open(temporary, "wb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
                os.replace(temporary, path)
            finally:
                with contextlib.suppress(FileNotFoundError):
                    os.remove(temporary)

    def read_json(self, *parts: str) -> Any:
        """A JSON file, decoded; `None` where there is no file.

        Raises
        ------
        StoreError : the file is not JSON.
        """
        try:
            raw = self.read_bytes(*parts)
        except FileNotFoundError:
            return None
        try:
            return json.loads(raw)
        except ValueError as error:
            raise StoreError(
                f"{self.address(*parts)} is not JSON ({error})", remedy="remove it, then build again"
            ) from None

    def write_json(self, value: Any, *parts: str) -> None:
        """Write a JSON file whole; keys sorted, so the same value is the same bytes."""
        self.write_bytes((json.dumps(value, indent=1, sort_keys=True) + "\n").encode(), *parts)

    def remove(self, *parts: str) -> None:
        """Remove a file or a folder with all it holds; nothing happens where there is none."""
        with _explained(self), contextlib.suppress(FileNotFoundError):
            self.fs.rm(self.path(*parts), recursive=True)

    def move_tree(self, source: str, target: str) -> None:
        """Put a finished folder in place of another: a rename locally, a copy with metadata last elsewhere."""
        with _explained(self):
            src, dst = self.path(source), self.path(target)
            if self.is_local:
                os.makedirs(os.path.dirname(dst), exist_ok=True)
                old = f"{dst}.{uuid.uuid4().hex}.old"
                if os.path.exists(dst):
                    os.replace(dst, old)
                os.replace(src, dst)
                if os.path.exists(old):
                    self.fs.rm(old, recursive=True)
                return
            if self.fs.exists(dst):
                self.fs.rm(dst, recursive=True)
            files = self.fs.find(src)
            # A Zarr group is there once its root metadata is: that object goes last.
            for file in sorted(files, key=lambda f: f == f"{src}/zarr.json"):
                self.fs.copy(file, dst + file[len(src) :])
            self.fs.rm(src, recursive=True)

    def claim(self, default: bool, version: str) -> None:
        """Make sure the store is ours to write into, and mark it.

        An empty or absent folder is taken. A folder with our marker is ours. A folder the user named that holds
        `inputs/` is taken too; anything else is refused.

        Parameters
        ----------
        default : whether the user did not name the store (then a marker is required).
        version : of the program, for the marker.

        Raises
        ------
        StoreError : foreign content, or a store that cannot be written.
        """
        names = self.names()
        if MARKER in names:
            self._probe()
            return
        if names and (default or "inputs" not in names):
            raise StoreError(
                f"{self.url} holds {', '.join(names[:4])}{', ...' if len(names) > 4 else ''} but no {MARKER}",
                "an empty folder or a store made by carboncube",
                "name another place with --store",
            )
        self.write_json({"carboncube": 1, "created_by": version}, MARKER)

    def _probe(self) -> None:
        name = f"work/.probe-{uuid.uuid4().hex}"
        self.write_bytes(b"probe", name)
        self.remove(name)


@contextlib.contextmanager
def _explained(store: Store) -> Iterator[None]:
    """Turn what file systems raise into one message that names the store and the remedy."""
    try:
        yield
    except FileNotFoundError:
        raise
    except PermissionError as error:
        raise StoreError(
            f"no permission at {store.url} ({error})",
            "a store that can be read and written",
            "check rights or credentials",
        ) from error
    except OSError as error:
        full = error.errno in (28, 122)
        raise StoreError(
            f"{'no space left at' if full else 'cannot use'} {store.url} ({error})",
            "a store that can be read and written",
            "free space or name another place with --store" if full else "check the address, then run again",
        ) from error
