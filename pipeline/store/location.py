"""Where a store is, and the few file operations everything else is built from."""

from __future__ import annotations

import contextlib
import errno
import filecmp
import json
import os
import shutil
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem

from pipeline.core.errors import StoreError
from pipeline.core.options import StorageOptions
from pipeline.store.addresses import CLOSING, check_name, check_store_url, close_at_exit, explained, fsspec_options

MARKER = "carboncube.json"


@dataclass(frozen=True)
class Store:
    """A store: a root address and the options to open it. Cheap to pickle; opens its file system when used.

    Parameters
    ----------
    url : any fsspec address of the allowlist, or a local path.
    options : storage options for fsspec; never written anywhere.
    sole_writer : nobody else publishes here (`pipeline.core.options.StorageOptions`).
    """

    url: str
    options: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)
    sole_writer: bool = field(default=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_store_url(self.url)

    @classmethod
    def at(cls, url: str, storage: StorageOptions) -> Store:
        """The store at an address, reached as the settings say."""
        return cls(url, fsspec_options(url, storage), storage.sole_writer)

    @property
    def fs(self) -> fsspec.AbstractFileSystem:
        """The file system (cached by fsspec per process)."""
        fs = fsspec.core.url_to_fs(self.url, **self._options)[0]
        close_at_exit(fs, lambda closing: fsspec.asyn.sync(fs.loop, lambda: closing, timeout=CLOSING))
        return fs

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
        return f"{self.root}/{check_name('/'.join(part.rstrip('/') for part in parts))}"

    def address(self, *parts: str) -> str:
        """The full address of something in the store, for a message or another tool."""
        return self.path(*parts) if self.is_local else self.fs.unstrip_protocol(self.path(*parts))

    def exists(self, *parts: str) -> bool:
        """Whether there is a file or folder of this name."""
        with explained(self.url):
            return bool(self.fs.exists(self.path(*parts)))

    def names(self, *parts: str) -> list[str]:
        """Names inside a folder, sorted; empty where there is none."""
        with explained(self.url):
            folder = self.path(*parts) if parts else self.root
            try:
                entries = self.fs.ls(folder, detail=False)
            except FileNotFoundError:
                return []
            return sorted({entry.rstrip("/").rsplit("/", 1)[-1] for entry in entries if entry.rstrip("/") != folder})

    def read_bytes(self, *parts: str) -> bytes:
        """The bytes of a file."""
        with explained(self.url):
            return bytes(self.fs.cat_file(self.path(*parts)))

    def write_bytes(self, data: bytes, *parts: str) -> None:
        """Write a file so that readers see all of it or nothing."""
        with explained(self.url):
            path = self.path(*parts)
            if not self.is_local:
                try:
                    self.fs.pipe_file(path, data)
                except FileNotFoundError as error:
                    raise StoreError(
                        f"cannot write to {self.url}: there is no such bucket", "one that exists"
                    ) from error
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
        with explained(self.url), contextlib.suppress(FileNotFoundError):
            self.fs.rm(self.path(*parts), recursive=True)

    def remove_files(self, names: Sequence[str]) -> None:
        """Remove files, many with one request where the server can."""
        with explained(self.url), contextlib.suppress(FileNotFoundError):
            if names:
                self.fs.rm([self.path(name) for name in names])

    def files(self, *parts: str) -> dict[str, dict[str, Any]]:
        """What the file system knows of every file in a folder, by path inside it, sorted; empty where there is none.

        A path that is itself a file has the name ``""``.
        """
        with explained(self.url):
            root = self.path(*parts)
            found = self.fs.find(root, detail=True)
            return {path[len(root) + 1 :]: info for path, info in sorted(found.items())}

    def move_tree(self, source: str, target: str) -> None:
        """Put a finished folder in place of another.

        Locally that is a rename. Elsewhere objects are copied, the root's metadata last; objects that were there before
        go only then, so that a repeat with the same bytes disturbs no reader.
        """
        with explained(self.url):
            src, dst = self.path(source), self.path(target)
            if self.is_local:
                _rename(src, dst)
                return
            names = list(self.files(source))
            left = set(self.files(target)) - set(names)
            # A Zarr group is there once its root metadata is: that object goes last.
            data = [name for name in names if name != "zarr.json"]
            for part in (data, [name for name in names if name == "zarr.json"]):
                if part:
                    self.fs.copy([f"{src}/{name}" for name in part], [f"{dst}/{name}" for name in part])
            for name in left:
                self.remove(target, name)
            self.remove(source)

    def place_tree(self, source: str, target: str) -> None:
        """Put a finished folder where there is none; where somebody was faster, theirs stays.

        Elsewhere than locally both must hold the same bytes: objects are copied over what is there.
        """
        with explained(self.url):
            if not self.is_local:
                names = list(self.files(source))
                self.fs.copy([self.path(source, n) for n in names], [self.path(target, n) for n in names])
            else:
                with contextlib.suppress(FileExistsError):
                    _rename(self.path(source), self.path(target), replace=False)
            self.remove(source)

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


def _rename(src: str, dst: str, replace: bool = True) -> None:
    """Rename a folder; with `replace`, over another one unless that holds the same bytes already.

    Raises
    ------
    FileExistsError : there is one, and it is not to be replaced.
    """
    os.makedirs(os.path.dirname(dst), exist_ok=True)
    while True:
        try:
            os.rename(src, dst)
            return
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                raise
            if not replace:
                raise FileExistsError(dst) from None
        if _same_files(src, dst):
            shutil.rmtree(src)
            return
        old = f"{dst}.{uuid.uuid4().hex}.old"
        with contextlib.suppress(FileNotFoundError):
            os.rename(dst, old)
            shutil.rmtree(old)


def _same_files(one: str, other: str) -> bool:
    names = [sorted(str(f.relative_to(d)) for f in Path(d).rglob("*") if f.is_file()) for d in (one, other)]
    try:
        return names[0] == names[1] and filecmp.cmpfiles(one, other, names[0], shallow=False)[0] == names[0]
    except FileNotFoundError:
        return False
