"""One ingest: list the files, read what the ledger does not have, write cubes and tables, account for every file."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pipeline.core.errors import CarbonCubeError, InputError
from pipeline.ingest.contract import FAILED, REJECTED, USED, Granule, Outcome, Rejected, merged_rules
from pipeline.ingest.documents import Document, outcome_of, write_documents
from pipeline.ingest.grids import Contents, GridReader, Source, check_fit, fill_slot, one_cube, slots
from pipeline.ingest.products import product
from pipeline.ingest.sources import list_granules, local_file
from pipeline.store.ledger import Ledger, digest
from pipeline.store.location import Store

READER_VERSION = 1
"""Raised when readers change what they make of a file, so that files are read again."""
log = logging.getLogger(__name__)
MapFunction = Callable[[Callable[[Any], Any], Iterable[Any]], Iterator[Any]]


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

    def count(self, granule: Granule, outcome: Outcome) -> None:
        """Add one file's outcome."""
        self.statuses[outcome.status] = self.statuses.get(outcome.status, 0) + 1
        if outcome.status != USED:
            self.problems.append(f"{granule.address}: {outcome.status}: {outcome.reason}")


def run(request: Request, map_function: MapFunction = map) -> Summary:  # type: ignore[assignment]
    """Ingest one product.

    Parameters
    ----------
    map_function : applies a function to each item and yields results in order; the builtin, or a cluster's.
    """
    kind = product(request.product)
    reader = kind.reader(request.store, request.paths)
    listing = list_granules(request.urls, kind.patterns, request.options)
    summary = Summary(request.product, ignored=listing.ignored)
    rules = merged_rules(reader.rules, request.rules)
    work = _Work(request, reader, rules, summary)
    flow = work.grids if hasattr(reader, "cube") else work.documents
    flow(listing.granules, map_function)
    return summary


@dataclass
class _Work:
    request: Request
    reader: Any
    rules: dict[str, Any]
    summary: Summary

    @property
    def ledger(self) -> Ledger:
        return Ledger(self.request.store, "ingest")

    def key(self, granule: Granule) -> str:
        return granule.key(self.request.product, READER_VERSION, {**self.rules, "years": sorted(self.request.years)})

    def unit(self, granule: Granule) -> str:
        return f"{self.request.product}/{_slug(granule)}"

    def fresh(self, granules: Sequence[Granule]) -> list[Granule]:
        """The files without an entry; files that failed are tried again."""
        new = []
        for granule in granules:
            entry = self.ledger.find(self.unit(granule), self.key(granule))
            if entry is None or entry["status"] == FAILED:
                new.append(granule)
            else:
                self.summary.known += 1
        return new

    def record(self, granule: Granule, outcome: Outcome) -> None:
        result = {
            "address": granule.address,
            "size": granule.size,
            "tag": granule.tag,
            "counts": dict(outcome.counts),
            "reason": outcome.reason,
            **outcome.facts,
        }
        self.ledger.record(self.unit(granule), self.key(granule), result, outcome.status)
        self.summary.count(granule, outcome)

    def documents(self, granules: Sequence[Granule], map_function: MapFunction) -> None:
        fresh = self.fresh(granules)
        if not fresh:
            return
        # Files that join into one table are read together, so that the table does not depend on who came first.
        wanted = list(granules) if len(fresh) < len(granules) else fresh
        self.summary.known -= len(wanted) - len(fresh)
        tasks = [(self.reader, self.rules, g, self.request.options) for g in wanted]
        parts: list[tuple[Granule, Document]] = []
        for granule, result in zip(wanted, map_function(_read_document, tasks), strict=True):
            if isinstance(result, Document):
                parts.append((granule, result))
            else:
                self.record(granule, result)
        self.summary.written = write_documents(self.request.store, parts)
        for granule, document in parts:
            self.record(granule, outcome_of(document))

    def grids(self, granules: Sequence[Granule], map_function: MapFunction) -> None:
        known, fresh = self._known_sources(), self.fresh(granules)
        tasks = [(self.reader, self.rules, g, self.request.options, self.request.years) for g in fresh]
        new: list[Source] = []
        for granule, result in zip(fresh, map_function(_look_up, tasks), strict=True):
            if isinstance(result, Contents):
                new.append(Source(granule, self.key(granule), result))
            else:
                self.record(granule, result)
        if new:
            self._fill(known, new, map_function)

    def _known_sources(self) -> list[Source]:
        entries = self.ledger.entries(self.request.product)
        return [
            Source(
                Granule(e["result"]["url"], e["result"]["size"], e["result"]["tag"], e["result"]["member"]),
                e["key"],
                Contents.from_facts(e["result"]),
            )
            for e in entries
            if e["status"] == USED
        ]

    def _fill(self, known: list[Source], new: list[Source], map_function: MapFunction) -> None:
        store = self.request.store
        cube, lat, lon = one_cube(store, self.reader, [*known, *new])
        fitting = []
        for source in new:
            try:
                beside = check_fit(source.contents, lat, lon, whole=not self.reader.adds)
                fitting.append((source, beside))
            except Rejected as verdict:
                self.record(source.granule, Outcome(REJECTED, verdict.counts, verdict.reason))
        if not fitting:
            return
        sources = [source for source, _ in fitting]
        years = sorted({int(t[:4]) for s in sources for t in s.contents.times})
        cube.create(store, years, lat.centres, lon.centres, self._attrs(sources[0]))
        times = cube.times(store)
        everything = slots(cube, times, [*known, *sources])
        touched = set(slots(cube, times, sources))
        plan = {start: everything[start] for start in sorted(touched)}
        done = [s for s in plan if self.ledger.find(*self._slot(cube.path, times[s], plan[s]))]
        todo = [s for s in plan if s not in done]
        tasks = [(store, self.reader, s, plan[s], self.rules, self.request.options) for s in todo]
        marks: dict[int, int] = {}
        failed: dict[str, str] = {}
        for start, result in zip(todo, map_function(_fill_slot, tasks), strict=True):
            if isinstance(result, Outcome):
                failed |= {source.key: result.reason for source in plan[start]}
                continue
            marks |= {int(k): v for k, v in result["marks"].items()}
            self.ledger.record(*self._slot(cube.path, times[start], plan[start]), result)
        for start in done:
            entry = self.ledger.find(*self._slot(cube.path, times[start], plan[start]))
            marks |= {int(k): v for k, v in (entry or {})["result"]["marks"].items()}
        cube.mark(store, marks)
        self.summary.written = [cube.path]
        for source, beside in fitting:
            self._conclude(source, beside, failed.get(source.key))

    def _conclude(self, source: Source, beside: Mapping[str, float], problem: str | None) -> None:
        if problem:
            self.record(source.granule, Outcome(FAILED, reason=problem))
            return
        fields = len(source.contents.times) * len(source.contents.variables)
        facts = {
            **source.contents.to_facts(),
            "url": source.granule.url,
            "member": source.granule.member,
            "cells_beside": dict(beside),
        }
        self.record(source.granule, Outcome(USED, {"seen": fields, "used": fields}, facts=facts))

    def _slot(self, path: str, time: Any, sources: Sequence[Source]) -> tuple[str, str]:
        name = path.rsplit("/", 1)[-1].removesuffix(".zarr")
        return f"slots/{name}/{str(time)[:13]}", digest([s.key for s in sources], self.rules)

    def _attrs(self, source: Source) -> dict[str, Any]:
        return {**dict(source.contents.attrs), "quality_rules": str(self.rules), "product": self.request.product}


def _read_document(task: tuple[Any, dict[str, Any], Granule, Mapping[str, Any]]) -> Document | Outcome:
    reader, rules, granule, options = task
    return _guarded(granule, options, lambda path: reader.read(path, rules))


def _look_up(
    task: tuple[GridReader, dict[str, Any], Granule, Mapping[str, Any], frozenset[int]],
) -> Contents | Outcome:
    reader, rules, granule, options, years = task

    def contents(path: str) -> Contents:
        with reader.open(path, rules) as grid:
            found = grid.contents
        if years and not any(int(t[:4]) in years for t in found.times):
            raise Rejected(f"holds {found.times[0][:4]}..{found.times[-1][:4]}, none of the years asked for")
        return found

    return _guarded(granule, options, contents)


def _fill_slot(task: tuple[Store, GridReader, int, list[Source], dict[str, Any], Mapping[str, Any]]) -> Any:
    store, reader, start, sources, rules, options = task
    try:
        return fill_slot(store, reader, start, sources, rules, options)
    except (InputError, Rejected) as error:
        return Outcome(FAILED, reason=str(error))


def _guarded(granule: Granule, options: Mapping[str, Any], work: Callable[[str], Any]) -> Any:
    """Run a reader on one file; what a damaged file makes it raise is that file's outcome, not the run's end."""
    try:
        with local_file(granule, options) as path:
            return work(path)
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
