"""Where the files are: listing, fetching and unpacking, within bounds."""

from __future__ import annotations

import contextlib
import fnmatch
import os
import re
import tempfile
import time
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import fsspec
from aiohttp import ClientError
from botocore.exceptions import BotoCoreError

from pipeline.core.errors import InputError
from pipeline.ingest.contract import Granule
from pipeline.store.addresses import check_url

MAX_EXPANDED = 64 * 2**30
"""Bytes one archive may expand to."""
MAX_RATIO = 500
"""Expanded over packed size of an archive; deflate cannot exceed about 1000 and real data stay below 100."""
MAX_MEMBERS = 100_000
ZARR = re.compile(r"\.zarr(-v[23])?/?$")
"""A Zarr store is one thing to read, not a folder of files."""
CLIENT_ERRORS = (ClientError, BotoCoreError, TimeoutError)
"""What file systems over the net raise beside `OSError`."""
_BLOCK = 8 * 2**20
_TRIES = 5


@dataclass(frozen=True)
class Listing:
    """What an address holds: the files to ingest, and the names of files that are not of the product."""

    granules: tuple[Granule, ...]
    ignored: tuple[str, ...] = field(default=())


def list_granules(urls: Sequence[str], patterns: Sequence[str], options: Mapping[str, Any] | None = None) -> Listing:
    """Files behind addresses: a file, a folder (searched whole), a glob or a zip archive; sorted by address.

    A Zarr store (an address that ends in ``.zarr``) is one granule. A file that is named itself is
    always taken; in folders, globs and archives only names that match `patterns` are.

    Raises
    ------
    InputError : an address that holds nothing.
    StoreError : a protocol that is not allowed.
    """
    found: dict[str, Granule] = {}
    ignored: list[str] = []
    for url in urls:
        taken = list(_expand(check_url(url), options or {}))
        if not taken:
            raise InputError(f"nothing at {url}", "a file, a folder, a glob or a zip archive", "check --from")
        zarr = len(taken) == 1 and taken[0].tag == "zarr"
        named = zarr or (
            len(taken) == 1 and not taken[0].member and taken[0].url.rstrip("/").endswith(url.split("://")[-1])
        )
        for granule in taken:
            if named or any(fnmatch.fnmatchcase(granule.name.lower(), p.lower()) for p in patterns):
                found[granule.address] = granule
            else:
                ignored.append(granule.address)
    return Listing(tuple(found[address] for address in sorted(found)), tuple(sorted(ignored)))


def _expand(url: str, options: Mapping[str, Any]) -> Iterator[Granule]:
    if ZARR.search(url):
        yield Granule(url.rstrip("/"), 0, "zarr")
        return
    fs, path = _file_system(url, options)
    try:
        for each, info in sorted(_files(fs, path, url).items()):
            yield from _members(_granule(fs, each, info), options)
    except FileNotFoundError:
        return
    except (OSError, *CLIENT_ERRORS) as error:
        raise InputError(f"{url} cannot be listed ({error})", "a readable address", "check --from") from error


def _files(fs: fsspec.AbstractFileSystem, path: str, url: str) -> dict[str, dict[str, Any]]:
    """Files behind a path with what is known of each, in one listing where the file system can."""
    web = url.startswith(("http://", "https://"))
    if any(c in path for c in "*[") and (web or not fs.exists(path)):
        return {p: info for p, info in fs.glob(path, detail=True).items() if info["type"] == "file"}
    # Whether a web address is a folder can only be told by fetching it, so it is one when it ends like one.
    if path.endswith("/") if web else fs.isdir(path) and not fs.isfile(path):
        return dict(fs.find(path, detail=True))
    return {path: fs.info(path)}


def _file_system(url: str, options: Mapping[str, Any]) -> tuple[fsspec.AbstractFileSystem, str]:
    try:
        return fsspec.core.url_to_fs(url, **_fresh(url, options))
    except ImportError as error:
        raise InputError(f"{url} cannot be opened here ({error})", remedy="install what it names") from error


def _fresh(url: str, options: Mapping[str, Any]) -> dict[str, Any]:
    # A cached listing hides files that arrived since.
    options = dict(options)
    if options.pop("anon", False):
        # Each file system has its own word for it; files and web servers have none.
        word = {"token": "anon"} if url.startswith(("gs://", "gcs://")) else {"anon": True}
        options |= word if url.startswith(("s3://", "gs://", "gcs://", "az://", "abfs://")) else {}
    remote = url.startswith(("s3", "gs", "gcs", "az", "abfs", "http"))
    return {"use_listings_cache": False, **options} if remote else options


def _granule(fs: fsspec.AbstractFileSystem, path: str, info: Mapping[str, Any]) -> Granule:
    tags = ("ETag", "etag", "md5Hash", "mtime", "LastModified", "Last-Modified")
    tag = next((str(info[k]) for k in tags if info.get(k)), "")
    local = "file" in ((fs.protocol,) if isinstance(fs.protocol, str) else fs.protocol)
    return Granule(path if local else fs.unstrip_protocol(path), int(info.get("size") or 0), tag.strip('"'))


def _members(granule: Granule, options: Mapping[str, Any]) -> Iterator[Granule]:
    if not granule.name.lower().endswith(".zip"):
        yield granule
        return
    with fsspec.open(granule.url, "rb", **_fresh(granule.url, options)) as file:
        try:
            infos = checked_archive(file, granule.address)
        except InputError:
            # It stays one granule, so that reading it puts the reason into the ledger.
            yield granule
            return
    for info in infos:
        yield Granule(granule.url, info.file_size, f"{granule.tag}:{info.CRC:08x}", info.filename)


def checked_archive(file: Any, where: str) -> list[zipfile.ZipInfo]:
    """The files of a zip archive (xlsx is one) after holding it to the bounds.

    Raises
    ------
    InputError : no zip, a name that leaves the archive, a link, encryption, or more bytes than the bounds allow.
    """
    try:
        infos = [i for i in zipfile.ZipFile(file).infolist() if not i.is_dir()]
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise InputError(f"{where} is not a zip archive ({error})", remedy="fetch the file again") from error
    expanded, packed = sum(i.file_size for i in infos), sum(i.compress_size for i in infos)
    if len(infos) > MAX_MEMBERS or expanded > MAX_EXPANDED or (expanded > 2**24 and expanded > MAX_RATIO * packed):
        raise InputError(
            f"{where} expands from {packed} to {expanded} bytes in {len(infos)} files",
            f"at most {MAX_EXPANDED} bytes, {MAX_RATIO} times its size and {MAX_MEMBERS} files",
            "unpack it by hand if you trust it",
        )
    for info in infos:
        link = (info.external_attr >> 28) == 0o12
        if info.filename.startswith(("/", "\\")) or ".." in info.filename.split("/") or link or info.flag_bits & 1:
            raise InputError(
                f"{where} holds {info.filename!r}", "plain files inside the archive, no links, no password"
            )
    return infos


@contextlib.contextmanager
def local_file(granule: Granule, options: Mapping[str, Any] | None = None) -> Iterator[str]:
    """A path of this machine with the granule's content; what had to be fetched or unpacked is removed afterwards.

    Raises
    ------
    InputError : the file cannot be fetched whole.
    """
    options = options or {}
    if granule.tag == "zarr":
        yield granule.url
        return
    fs, path = _file_system(check_url(granule.url), options)
    local = "file" in ((fs.protocol,) if isinstance(fs.protocol, str) else fs.protocol)
    if local and not granule.member and not granule.name.lower().endswith(".zip"):
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="carboncube-") as folder:
        whole = path if local else os.path.join(folder, "fetched-" + granule.url.rsplit("/", 1)[-1].split("?")[0])
        if not local:
            _fetch(fs, path, whole, granule)
            if not granule.member:
                _fetch_companions(fs, path, whole)
        yield _unpack(whole, granule, folder) if granule.name.lower().endswith(".zip") or granule.member else whole


COMPANIONS = (".dbf", ".shx", ".prj", ".cpg", ".CPG")
"""Files a shapefile is incomplete without."""


def _fetch_companions(fs: fsspec.AbstractFileSystem, path: str, whole: str) -> None:
    if not path.lower().endswith(".shp"):
        return
    for suffix in COMPANIONS:
        with contextlib.suppress(FileNotFoundError):
            fs.get_file(path[:-4] + suffix, whole[:-4] + suffix)


def _fetch(fs: fsspec.AbstractFileSystem, path: str, target: str, granule: Granule) -> None:
    """Copy in blocks; after an error the copy goes on where it stopped."""
    done, problem = 0, None
    with open(target, "wb") as out:
        for attempt in range(_TRIES):
            try:
                done = _copy_from(fs, path, out, done, granule.size)
                break
            except (FileNotFoundError, PermissionError) as error:
                raise InputError(f"{granule.address} could not be fetched ({error!r})", "a readable file") from error
            except (OSError, *CLIENT_ERRORS) as error:
                problem, done = error, out.tell()
                time.sleep(min(0.2 * 2**attempt, 5.0))
        else:
            raise InputError(
                f"{granule.address} could not be fetched ({problem!r})", "a readable file", "run again"
            ) from problem
    if granule.size and done != granule.size:
        raise InputError(f"{granule.address} came as {done} bytes", f"{granule.size}", "run again")


def _copy_from(fs: fsspec.AbstractFileSystem, path: str, out: Any, start: int, size: int) -> int:
    if not size:
        return _replace(out, fs.cat_file(path))
    while start < size:
        stop = min(start + _BLOCK, size)
        block = fs.cat_file(path, start=start, end=stop)
        if len(block) == size > stop - start:
            # A server that knows no ranges sends everything.
            return _replace(out, block)
        if len(block) != stop - start:
            raise OSError(f"{len(block)} bytes for the range {start}..{stop}")
        out.write(block)
        start = stop
    return start


def _replace(out: Any, data: bytes) -> int:
    out.seek(0)
    out.truncate()
    out.write(data)
    return len(data)


def _unpack(archive: str, granule: Granule, folder: str) -> str:
    with open(archive, "rb") as file:
        infos = {i.filename: i for i in checked_archive(file, granule.address)}
        if granule.member not in infos:
            raise InputError(f"{granule.url} has no {granule.member!r}", "a file of the archive")
        stem = granule.member.rsplit(".", 1)[0]
        wanted = [granule.member]
        if granule.member.lower().endswith(".shp"):
            wanted += [stem + suffix for suffix in COMPANIONS if stem + suffix in infos]
        with zipfile.ZipFile(file) as opened:
            for name in wanted:
                _extract(opened, infos[name], os.path.join(folder, name.rsplit("/", 1)[-1]), granule)
    return os.path.join(folder, granule.name)


def _extract(opened: zipfile.ZipFile, info: zipfile.ZipInfo, target: str, granule: Granule) -> None:
    written = 0
    try:
        with opened.open(info) as source, open(target, "wb") as out:
            while block := source.read(_BLOCK):
                written += len(block)
                if written > info.file_size:
                    raise InputError(f"{granule.address} grows beyond {info.file_size} bytes", "the size it declares")
                out.write(block)
    except (zipfile.BadZipFile, NotImplementedError, OSError, EOFError, zlib.error) as error:
        raise InputError(f"{granule.address} cannot be unpacked ({error})", remedy="fetch the archive again") from error
