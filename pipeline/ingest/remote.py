"""Public data that need no copy of their own first: names in `catalog.yaml` and what they stand for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from pipeline.core.errors import UsageError

PREFIX = "catalog:"
ANONYMOUS = "anonymous"
"""What `access` says where anybody may read."""


def resolve(
    urls: Sequence[str], years: Iterable[int], product: str, sources: Mapping[str, Mapping[str, Any]]
) -> tuple[list[str], bool]:
    """Addresses with each ``catalog:NAME`` replaced by its own, and whether all of those may be read by anybody.

    Parameters
    ----------
    years : what ``{year}`` in an address stands for; one address a year.
    sources : `remote_sources` of the catalog: by name `url`, `product` and `access`.

    Raises
    ------
    UsageError : no such name, of another product, one that cannot be read directly, or no year where it needs one.
    """
    found: list[str] = []
    named = [url.removeprefix(PREFIX) for url in urls if url.startswith(PREFIX)]
    for url in urls:
        found += [url] if not url.startswith(PREFIX) else _of(url.removeprefix(PREFIX), sorted(years), product, sources)
    return found, bool(named) and all(sources[name]["access"] == ANONYMOUS for name in named)


def _of(name: str, years: Sequence[int], product: str, sources: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    entry = sources.get(name)
    if entry is None or entry["product"] != product:
        known = ", ".join(n for n, e in sources.items() if e["product"] == product) or "none"
        raise UsageError(f"{PREFIX}{name} for {product}", f"one of its sources in the catalog: {known}")
    if not entry.get("direct", True):
        raise UsageError(f"{PREFIX}{name} cannot be read directly", str(entry["access"]), "fetch the files first")
    url = str(entry["url"])
    if "{year}" in url and not years:
        raise UsageError(f"{PREFIX}{name} without years", f"the years of {url}", "add --year 2022")
    return iter(dict.fromkeys(url.replace("{year}", str(year)) for year in years or (0,)))
