"""The books of an ingest: what was asked, what the ledger knows, what became of each file."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pipeline.core.errors import CarbonCubeError, InputError
from pipeline.ingest.contract import FAILED, REJECTED, SKIPPED, USED, Granule, Outcome, Rejected, Skipped, public
from pipeline.ingest.preflight import check_structure
from pipeline.ingest.sources import local_file
from pipeline.store.cubes import open_cube
from pipeline.store.ledger import Ledger, digest
from pipeline.store.location import Store

READER_VERSION = 2
"""Raised when readers change what they make of a file, so that files are read again."""
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Request:
    """What the user asked for; plain values, so that it travels to workers.

    Parameters
    ----------
    product : name.
    urls : addresses of files, folders, globs or archives.
    store : where cubes go.
    years : keep only these; empty is all.
    rules : the user's quality rules, as text.
    paths : other files the product needs (``regions``, ``provincial_totals``).
    options : storage options for reading `urls`.
    """

    product: str
    urls: tuple[str, ...]
    store: Store
    years: frozenset[int] = frozenset()
    rules: Mapping[str, str] = field(default_factory=dict)
    paths: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)


@dataclass
class Summary:
    """What an ingest did: files by status, names ignored, paths written."""

    product: str
    statuses: dict[str, int] = field(default_factory=dict)
    known: int = 0
    ignored: tuple[str, ...] = ()
    written: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


@dataclass
class Books:
    """One run's view of the ledger."""

    request: Request
    rules: dict[str, Any]
    summary: Summary

    @property
    def ledger(self) -> Ledger:
        """The ledger of ingest."""
        return Ledger(self.request.store, "ingest")

    def key(self, granule: Granule) -> str:
        """What an entry of this file under these rules is called."""
        return granule.key(self.request.product, READER_VERSION, self.rules)

    def unit(self, granule: Granule) -> str:
        """The file's unit of work."""
        return f"{self.request.product}/{_slug(granule)}"

    def fresh(self, granules: Sequence[Granule]) -> list[Granule]:
        """The files without an entry; files that failed are tried again."""
        entries = self.ledger.entries(self.request.product)
        done = {(e["unit"], e["key"]) for e in entries if e["status"] != FAILED}
        new = [g for g in granules if (self.unit(g), self.key(g)) not in done]
        self.summary.known += len(granules) - len(new)
        return new

    def record(self, granule: Granule, outcome: Outcome) -> None:
        """Write down what became of a file; one that was skipped is only counted, so that it can be taken later."""
        statuses = self.summary.statuses
        statuses[outcome.status] = statuses.get(outcome.status, 0) + 1
        if outcome.status != USED:
            self.summary.problems.append(f"{granule.address}: {outcome.status}: {outcome.reason}")
        if outcome.status == SKIPPED:
            return
        result = {
            "address": granule.address,
            "url": public(granule.url),
            "member": granule.member,
            "size": granule.size,
            "tag": granule.tag,
            "counts": dict(outcome.counts),
            "reason": outcome.reason,
            **outcome.facts,
        }
        self.ledger.record(self.unit(granule), self.key(granule), result, outcome.status)

    def replace(self, entry: Mapping[str, Any], reason: str) -> None:
        """Note that a file that was used gave way to another."""
        counts = dict(entry["result"]["counts"])
        counts["superseded"] = counts.pop("used", 0)
        result = {**entry["result"], "reason": reason, "counts": counts}
        self.ledger.record(entry["unit"], entry["key"], result, REJECTED)
        self.summary.problems.append(f"{entry['result']['address']}: {REJECTED}: {reason}")

    def attrs(self) -> dict[str, Any]:
        """What every cube says of its making."""
        return {"product": self.request.product, "quality_rules": json.dumps(self.rules, sort_keys=True)}

    def check_product(self, path: str) -> None:
        """Refuse to replace a cube that another product made.

        Raises
        ------
        InputError : there is one.
        """
        if not path.endswith(".zarr") or not self.request.store.exists(path, "zarr.json"):
            return
        held = open_cube(self.request.store, path, chunks=None).attrs.get("product")
        if held != self.request.product:
            raise InputError(
                f"{path} was made by {held!r}, this is {self.request.product!r}",
                "one product in a cube",
                "remove the cube, or use another store",
            )

    def check_rules(self, path: str) -> None:
        """Refuse to put files read under other rules into a cube, or into one whose books are gone.

        Raises
        ------
        InputError : the cube was made by another product, under other rules, or from files that nobody knows any more.
        """
        store = self.request.store
        if not store.exists(path, "zarr.json"):
            return
        held = open_cube(store, path, chunks=None)
        if "ingested" in held and held["ingested"].values.any() and not store.names("work/ledger/ingest/slots"):
            raise InputError(
                f"{path} is filled, but work/ledger/ingest does not know from which files",
                "what ingest kept of them: a day that gets a later file is put together again from all of its files",
                "bring work/ingest and work/ledger/ingest back, or remove the cube and ingest all its files again",
            )
        for name, ours in self.attrs().items():
            if held.attrs.get(name) != ours:
                raise InputError(
                    f"{path} was made with {name} {held.attrs.get(name)!r}, this run has {ours!r}",
                    "one product and one set of rules in a cube",
                    "use the same rules, remove the cube, or use another store",
                )


def guarded(granule: Granule, options: Mapping[str, Any], work: Callable[[str], Any]) -> Any:
    """Run a reader on one file; what a damaged file makes it raise is that file's outcome, not the run's end."""
    try:
        with local_file(granule, options) as path:
            if granule.tag != "zarr":
                check_structure(path)
            return work(path)
    except Skipped as verdict:
        return Outcome(SKIPPED, verdict.counts, verdict.reason)
    except Rejected as verdict:
        return Outcome(REJECTED, verdict.counts, verdict.reason)
    except CarbonCubeError as error:
        return Outcome(FAILED, reason=str(error))
    except Exception as error:
        log.debug("reading %s", granule.address, exc_info=True)
        return Outcome(FAILED, reason=f"{type(error).__name__}: {error}")


def _slug(granule: Granule) -> str:
    plain = "".join(c if c.isalnum() or c in "-_." else "_" for c in granule.name)[-80:].strip(".") or "file"
    return f"{plain}-{digest(granule.address)[:8]}"
