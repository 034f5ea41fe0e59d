"""What a product's module offers and what becomes of a file: the whole contract of ingest."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from pipeline.core.errors import UsageError
from pipeline.store.ledger import digest

Rules = Mapping[str, Any]
"""Quality rules of a product by name; recorded in the cube's attributes and part of every ledger key."""

USED, REJECTED, FAILED, SKIPPED = "used", "rejected", "failed", "skipped"
"""What becomes of a file: it is in the cube; it is sound but holds nothing for it; it cannot be read; it is of a year
that was not asked for (which the ledger does not note, so that it can be taken later)."""


class Rejected(Exception):  # noqa: N818 - not an error of the run: a verdict on one file
    """A file that is not the product, or holds nothing usable, with how much was seen and why it was left out."""

    def __init__(self, reason: str, counts: Mapping[str, int] | None = None) -> None:
        self.reason, self.counts = reason, dict(counts or {})
        super().__init__(reason)

    def __reduce__(self) -> tuple[type, tuple[str, dict[str, int]]]:
        # Verdicts cross process borders; the default reduction would lose the counts.
        return type(self), (self.reason, self.counts)


class Skipped(Rejected):
    """A file that holds nothing of the years asked for: the ledger does not note it, so that it can be taken later."""


@dataclass(frozen=True)
class Granule:
    """One file to ingest.

    Parameters
    ----------
    url : its address.
    size : bytes.
    tag : what changes when the content does: an ETag or the time of the last change.
    member : its path inside a zip archive, or empty.
    """

    url: str
    size: int
    tag: str = ""
    member: str = ""

    @property
    def name(self) -> str:
        """The file's own name."""
        return (self.member or self.url.split("?", 1)[0]).rstrip("/").rsplit("/", 1)[-1]

    @property
    def address(self) -> str:
        """Address for people and the ledger: the member of an archive is named too, signatures and keys are not."""
        url = public(self.url)
        return f"{url}!{self.member}" if self.member else url

    def key(self, product: str, version: int, rules: Rules) -> str:
        """Hash of the file's identity, the reader's version and the rules: what a ledger entry is keyed by."""
        return digest(product, version, dict(rules), self.address, self.size, self.tag)


@dataclass(frozen=True)
class Outcome:
    """What became of one file.

    Parameters
    ----------
    status : `USED`, `REJECTED` or `FAILED`.
    counts : how many records were ``seen``, ``used`` and left out by reason; ``seen`` is the sum of the others.
    reason : why it is not used.
    facts : what later steps need to know of it (JSON values).
    """

    status: str
    counts: Mapping[str, int] = field(default_factory=dict)
    reason: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)


_SECRET = re.compile(
    r"^(x-amz-.*|x-goog-.*|awsaccesskeyid|signature|expires|key-pair-id|policy|sig|se|sp|sv|sr|st|sks|skt|ske|skv|skoid|"
    r"sktid|.*token.*|.*key|.*secret.*|.*password.*)$",
    re.IGNORECASE,
)


def public(url: str) -> str:
    """An address without what only proves who asks: signatures, tokens, keys, user and password.

    They change from day to day, and what changes must not make a file a new one; nor may they be written anywhere.
    """
    if "://" not in url or not url.startswith("http"):
        return url
    parts = urlsplit(url)
    query = [(k, v) for k, v in parse_qsl(parts.query, keep_blank_values=True) if not _SECRET.match(k)]
    return urlunsplit((parts.scheme, parts.netloc.rsplit("@", 1)[-1], parts.path, urlencode(query), ""))


def merged_rules(defaults: Rules, given: Mapping[str, str]) -> dict[str, Any]:
    """The product's rules with the user's values, each converted to the type of its default.

    Raises
    ------
    UsageError : a rule the product does not have, or a value of the wrong type.
    """
    rules = dict(defaults)
    for name, text in given.items():
        if name not in rules:
            raise UsageError(f"rule {name!r}", f"one of {', '.join(sorted(rules)) or 'none: it has no rules'}")
        kind = type(rules[name])
        try:
            rules[name] = text.lower() in ("1", "true", "yes") if kind is bool else kind(text)
        except ValueError:
            raise UsageError(f"rule {name}={text!r}", f"a value of type {kind.__name__}") from None
    return rules


def check_counts(counts: Mapping[str, int]) -> Mapping[str, int]:
    """Hold the counts of a file to their law: seen = used + everything left out.

    Raises
    ------
    ValueError : records were lost or counted twice; a fault of the reader, never of the file.
    """
    rest = sum(n for name, n in counts.items() if name != "seen")
    if counts.get("seen", 0) != rest:
        raise ValueError(f"a reader counted {dict(counts)}: {counts.get('seen', 0)} seen but {rest} accounted for")
    return counts
