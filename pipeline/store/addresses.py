"""Addresses of stores: which are allowed, what fsspec needs to open them, and what its errors mean."""

from __future__ import annotations

import atexit
import contextlib
import ipaddress
import weakref
from collections.abc import Callable, Coroutine, Iterator
from typing import Any
from urllib.parse import unquote, urlsplit

from pipeline.core.errors import StoreError
from pipeline.core.options import StorageOptions

PROTOCOLS = ("file", "local", "memory", "s3", "s3a", "gs", "gcs", "az", "abfs", "http", "https")
"""Protocols a store or an input may have; chains (``zip::``, ``reference::``) are refused."""
_CREDENTIALS = "credentials belong in the environment or a profile"
CLOSING = 2.0
"""Seconds that connections have to close at the end of the program."""
_OPENED: weakref.WeakSet[Any] = weakref.WeakSet()
_MEANINGS = {
    "InvalidAccessKeyId": "the server does not know this access key",
    "SignatureDoesNotMatch": "the secret does not belong to the access key",
    "AccessDenied": "access denied",
    "ExpiredToken": "the session token has expired",
    "403": "access denied",
    "NoSuchBucket": "there is no such bucket",
    "SlowDown": "the server asks to slow down",
    "QuotaExceeded": "the quota of the bucket is used up",
}
"""S3 error codes whose messages are empty or long on some servers."""


def check_url(url: str) -> str:
    """Refuse an address whose protocol is not on the allowlist, or that asks the machine's own metadata service.

    Raises
    ------
    StoreError : chained or unknown protocol, link-local host.
    """
    if "::" in url:
        raise StoreError(f"the address {_bare(url)!r} chains file systems", "one plain address", "copy the data first")
    protocol = url.split("://", 1)[0] if "://" in url else "file"
    if protocol not in PROTOCOLS:
        raise StoreError(f"protocol {protocol!r} in {_bare(url)!r}", f"one of {', '.join(PROTOCOLS)}")
    if protocol in ("http", "https") and _link_local(url):
        raise StoreError(f"the address {_bare(url)!r} is link-local", "a server that holds data")
    return url


def check_store_url(url: str) -> str:
    """As `check_url`, and no credentials inside: the address of a store is printed and kept.

    Raises
    ------
    StoreError : as `check_url`, or a user and password in the address.
    """
    check_url(url)
    if "://" in url and "@" in url.split("://", 1)[1].split("/", 1)[0]:
        raise StoreError(f"the address {_bare(url)!r} holds credentials", "an address without", _CREDENTIALS)
    return url


def is_remote(url: str) -> bool:
    """Whether an address is none of this machine's folders."""
    return "://" in url and not url.startswith(("file://", "local://"))


def check_name(relative: str) -> str:
    """Refuse a name that would leave the store, as written or once a server has decoded it.

    Raises
    ------
    StoreError : ``..``, an empty or absolute part, a backslash or a control character.
    """
    decoded = unquote(unquote(relative))
    pieces = {*relative.split("/"), *decoded.split("/")}
    if pieces & {"..", ".", ""} or "\\" in decoded or any(ord(c) < 32 for c in decoded):
        raise StoreError(f"the name {relative!r}", "a path inside the store, without '..'")
    return relative


def fsspec_options(url: str, storage: StorageOptions) -> dict[str, Any]:
    """What fsspec needs to open an address with these settings; it holds no secret."""
    if not url.startswith(("s3://", "s3a://")):
        return {}
    config: dict[str, Any] = {
        "s3": {"addressing_style": "path" if storage.path_style else "auto"},
        "retries": {"max_attempts": storage.retries + 1, "mode": "standard"},
        "connect_timeout": storage.connect_timeout,
        "read_timeout": storage.read_timeout,
        "max_pool_connections": storage.concurrency,
        # Many servers refuse the trailing checksums that botocore adds by default; ours are in the manifest.
        "request_checksum_calculation": "when_required",
        "response_checksum_validation": "when_required",
    }
    client: dict[str, Any] = {"verify": storage.ca_bundle or storage.verify_tls}
    if storage.region:
        client["region_name"] = storage.region
    return {
        **({"endpoint_url": storage.endpoint} if storage.endpoint else {}),
        **({"profile": storage.profile} if storage.profile else {}),
        **({"anon": True} if storage.anonymous else {}),
        "max_concurrency": storage.concurrency,
        "config_kwargs": config,
        "client_kwargs": client,
    }


@contextlib.contextmanager
def explained(url: str) -> Iterator[None]:
    """Turn what file systems raise into one message that names the store and the remedy; absent files pass.

    Raises
    ------
    StoreError : the store cannot be used.
    """
    try:
        yield
    except (FileNotFoundError, FileExistsError, IsADirectoryError, NotADirectoryError):
        raise
    except OSError as error:
        # Readers of file formats raise plain OSErrors without a number: no fault of the store.
        if type(error) is OSError and error.errno is None:
            raise
        raise _explanation(url, error) from error
    except Exception as error:
        # What lies below s3fs raises errors of its own kinds when no answer comes.
        if type(error).__module__.split(".")[0] not in ("botocore", "aiobotocore", "aiohttp"):
            raise
        raise _explanation(url, error) from error


def close_at_exit(fs: Any, run: Callable[[Coroutine[Any, Any, Any]], Any]) -> None:
    """Close the connections of an S3 file system when the program ends, once; nothing happens for others.

    s3fs gives its own a tenth of a second and forgets those of other event loops; a busy machine then complains of
    connections left open.

    Parameters
    ----------
    run : runs a coroutine on the event loop of the file system.
    """
    if not hasattr(fs, "close_session") or fs in _OPENED:
        return
    _OPENED.add(fs)

    def close() -> None:
        with contextlib.suppress(Exception):
            run(fs.s3.__aexit__(None, None, None))

    atexit.register(close)


def error_code(error: BaseException) -> str:
    """The S3 code behind an error of s3fs (``PreconditionFailed``), or its HTTP status; empty where there is none."""
    response = getattr(error.__cause__, "response", None) or getattr(error, "response", None)
    if not isinstance(response, dict):
        return ""
    code = str(response.get("Error", {}).get("Code", ""))
    status = str(response.get("ResponseMetadata", {}).get("HTTPStatusCode", ""))
    return status if code in ("", "UnknownError", "Unknown") else code


def _explanation(url: str, error: Exception) -> StoreError:
    code, expected = error_code(error), "a store that can be read and written"
    said = _MEANINGS.get(code) or f"{type(error).__name__}: {error}{f' ({code})' if code else ''}"
    if isinstance(error, PermissionError) or code == "403":
        said = said if code in _MEANINGS else str(error)
        return StoreError(f"no permission at {url} ({said})", expected, "check rights or credentials")
    if "Credentials" in type(error).__name__ or "Profile" in type(error).__name__:
        return StoreError(f"no credentials for {url} ({error})", "a key and secret or a profile", _CREDENTIALS)
    if getattr(error, "errno", None) in (28, 122) or code == "QuotaExceeded":
        return StoreError(f"no space left at {url} ({said})", expected, "free space or name another place with --store")
    return StoreError(f"cannot use {url} ({said})", expected, "check the address and the server, then run again")


def _bare(url: str) -> str:
    """An address without user and password, to be printed."""
    head, mark, rest = url.partition("://")
    host, slash, path = rest.partition("/")
    return f"{head}{mark}{host.rpartition('@')[2]}{slash}{path}" if mark else url


def _link_local(url: str) -> bool:
    host = (urlsplit(url).hostname or "").rstrip(".").lower()
    if host in ("metadata", "metadata.google.internal", "instance-data"):
        return True
    try:
        # Some resolvers read 0xA9FEA9FE and 2852039166 as 169.254.169.254.
        address = ipaddress.ip_address(int(host, 0) if host[:1].isdigit() and host.isalnum() else host)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_link_local or str(address) == "fd00:ec2::254"
