"""The run of gridded products: look every file up, plan which chunks it fills, fill them, account for the files."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.ingest.axes import Axis
from pipeline.ingest.books import Books, Request, guarded
from pipeline.ingest.contract import FAILED, REJECTED, SKIPPED, USED, Granule, Outcome, Rejected
from pipeline.ingest.cubefile import CubeFile
from pipeline.ingest.grids import Contents, GridReader, Share, ShareError, Slot, Target, check_fit, fill
from pipeline.store.ledger import digest

MapFunction = Callable[[Callable[[Any], Any], Iterable[Any]], Iterator[Any]]
SLOTS_A_TASK = 31
"""Chunks of time of one task: a month of hourly fields, so that years are cut in parallel and files opened seldom."""


@dataclass(frozen=True)
class Source:
    """A file and what it holds."""

    granule: Granule
    key: str
    contents: Contents


def run_grids(books: Books, reader: GridReader, granules: Sequence[Granule], map_function: MapFunction) -> None:
    """Look up what is new, then fill the chunks of time it touches."""
    known = _known(books, granules)
    tasks = [(books.request, reader, books.rules, g) for g in books.fresh(granules)]
    new: list[Source] = []
    for task, found in zip(tasks, map_function(_look_up, tasks), strict=True):
        if isinstance(found, Contents):
            new.append(Source(task[3], books.key(task[3]), found))
        else:
            books.record(task[3], found)
    while new:
        unique, twice = _unique(known, new)
        good = _Plan(books, reader, known, unique).run(map_function) if unique else []
        known += good
        # A file that says what another says is left out, unless that other one could not be read after all.
        held = {part: s.granule.address for s in known for part in s.contents.parts}
        new = [s for s in twice if not any(part in held for part in s.contents.parts)]
        for source in (s for s in twice if s not in new):
            part = next(part for part in source.contents.parts if part in held)
            reason = f"{part} is there already, from {held[part]}"
            books.record(source.granule, Outcome(REJECTED, reason=reason))


def _look_up(task: tuple[Request, GridReader, dict[str, Any], Granule]) -> Contents | Outcome:
    request, reader, rules, granule = task

    def contents(path: str) -> Contents | Outcome:
        with reader.open(path, rules) as grid:
            found = grid.contents
        if request.years and not any(int(t[:4]) in request.years for t in found.times):
            return Outcome(SKIPPED, reason=f"fields of {found.times[0][:4]}, not of the years asked for")
        return found

    result = guarded(granule, request.options, contents)
    return result if isinstance(result, Outcome | Contents) else Outcome(FAILED, reason=f"read as {type(result)}")


def _known(books: Books, granules: Sequence[Granule]) -> list[Source]:
    """Files of earlier runs; those whose content has changed since give way."""
    now = {g.address: books.key(g) for g in granules}
    sources = []
    for e in books.ledger.entries(books.request.product):
        result = e["result"]
        if e["status"] != USED:
            continue
        if now.get(result["address"], e["key"]) != e["key"]:
            books.replace(e, "superseded by a newer content of the same file")
            continue
        granule = Granule(result["url"], result["size"], result["tag"], result["member"])
        sources.append(Source(granule, e["key"], Contents.from_facts(result)))
    return sources


def _unique(known: Sequence[Source], new: Sequence[Source]) -> tuple[list[Source], list[Source]]:
    """New files that say something new, and those that say what another one says already."""
    held = {part for s in known for part in s.contents.parts}
    kept: list[Source] = []
    twice: list[Source] = []
    for source in sorted(new, key=lambda s: s.granule.address):
        (twice if held & set(source.contents.parts) else kept).append(source)
        held |= set(source.contents.parts)
    return kept, twice


@dataclass
class _Plan:
    books: Books
    reader: GridReader
    known: list[Source]
    new: list[Source]

    def run(self, map_function: MapFunction) -> list[Source]:
        """Make room in the cube, fill what the new files touch, conclude on each; gives back the files used."""
        store, books = self.books.request.store, self.books
        cube, lat, lon = self.reader.cube([s.contents for s in (*self.known, *self.new)])
        lat, lon = cube.grid(store) or (lat, lon)
        beside = self._keep_fitting(lat, lon)
        if not self.new:
            return []
        books.check_rules(cube.path)
        years = {int(t[:4]) for s in self.new for t in s.contents.times}
        years &= set(books.request.years) or years
        attrs = {**dict(self.new[0].contents.attrs), **books.attrs()}
        cube.create(store, sorted(years), lat.centres, lon.centres, attrs)
        target = Target(store, cube, lat, lon, self.reader.adds)
        failed = self._fill(target, cube.times(store), map_function)
        books.summary.written = [cube.path]
        for source in self.new:
            self._conclude(source, cube.times(store), beside[source.key], failed.get(source.key))
        return [s for s in self.new if s.key not in failed]

    def _keep_fitting(self, lat: Axis, lon: Axis) -> dict[str, dict[str, float]]:
        beside, fitting = {}, []
        for source in self.new:
            try:
                beside[source.key] = check_fit(source.contents, lat, lon, self.reader.tiled)
                fitting.append(source)
            except Rejected as verdict:
                self.books.record(source.granule, Outcome(REJECTED, verdict.counts, verdict.reason))
        self.new = fitting
        return beside

    def _fill(self, target: Target, times: NDArray, map_function: MapFunction) -> dict[str, str]:
        """Fill what the new files touch; gives back why files failed after all."""
        books, ledger = self.books, self.books.ledger
        slots, marks = self._todo(target.cube, times)
        groups = _grouped(slots)
        failed: dict[str, str] = {}
        tasks = [(target, self.reader, group, books.rules, books.request.options) for group in groups]
        for group, (results, failures) in zip(groups, map_function(_fill_group, tasks), strict=True):
            failed |= failures
            for slot, mark in zip(group, results, strict=False):
                for index, bits in mark.items():
                    marks[index] = bits | slot.held.get(index, 0)
                sources = [key for key in slot.sources if key not in failures]
                facts = {"marks": [marks[k] for k in sorted(mark)], "sources": sources}
                ledger.record(_unit(target.cube, times[slot.start]), digest(sources, books.rules), facts)
        target.cube.mark(target.store, marks)
        return failed

    def _todo(self, cube: CubeFile, times: NDArray) -> tuple[list[Slot], dict[int, int]]:
        """The chunks to fill, and what is known of those that are done already."""
        books = self.books
        history: dict[str, list[dict[str, Any]]] = {}
        for e in books.ledger.entries(_unit(cube, None)):
            history.setdefault(e["unit"], []).append(e)
        everything = _by_slot(cube, times, [*self.known, *self.new], frozenset())
        slots: list[Slot] = []
        marks: dict[int, int] = {}
        for start in sorted(_by_slot(cube, times, self.new, books.request.years)):
            past = history.get(_unit(cube, times[start]), [])
            key = digest([s.key for s in everything[start]], books.rules)
            same = next((e for e in past if e["key"] == key), None)
            if same:
                marks |= _marks(same, start)
            else:
                slots.append(self._slot(cube, times, start, everything[start], past))
        return slots, marks

    def _slot(
        self, cube: CubeFile, times: NDArray, start: int, sources: Sequence[Source], past: Sequence[dict[str, Any]]
    ) -> Slot:
        """What a chunk needs: only the new files where all earlier ones are in it already and none gives way.

        Where files are added up it is always made from all of them: adding to a chunk is not safe to repeat.
        """
        steps = min(cube.steps_per_chunk, times.size - start)
        fresh = {s.key for s in self.new}
        old = [s for s in sources if s.key not in fresh]
        settled = next((e for e in past if set(e["result"]["sources"]) == {s.key for s in old}), None)
        yields = max((s.contents.rank for s in old), default=0) > min(
            s.contents.rank for s in sources if s.key in fresh
        )
        keep = bool(old) and settled is not None and not yields and not self.reader.adds
        chosen = [s for s in sources if s.key in fresh] if keep else sources
        shares = tuple(_share(s, times, start, steps, s.key not in fresh) for s in chosen)
        held = _marks(settled, start) if keep and settled else {}
        return Slot(start, steps, shares, tuple(s.key for s in sources), keep, held)

    def _conclude(self, source: Source, times: NDArray, beside: Mapping[str, float], problem: str | None) -> None:
        c = source.contents
        if problem:
            self.books.record(source.granule, Outcome(FAILED, reason=problem))
            return
        years = self.books.request.years
        left = sum(1 for t in c.times if years and int(t[:4]) not in years)
        if c.open_ended:
            self.books.record(source.granule, Outcome(SKIPPED, reason=f"{len(c.times)} times used; it holds more"))
            return
        if left:
            # The other years of the file may be asked for later: it stays open in the ledger.
            reason = f"{left} of {len(c.times)} times are of years that were not asked for; the others are used"
            self.books.record(source.granule, Outcome(SKIPPED, reason=reason))
            return
        fields = len(c.times) * len(c.variables)
        used = len(_time_index(times, c.times)) * len(c.variables)
        counts = {"seen": fields, "used": used} | ({"off_the_time_axis": fields - used} if used < fields else {})
        facts = {**c.to_facts(), "cells_beside": dict(beside)}
        self.books.record(source.granule, Outcome(USED, counts, facts=facts))


def _marks(entry: Mapping[str, Any], start: int) -> dict[int, int]:
    # Kept from the chunk's own start: its place in the cube moves when earlier years come in.
    return {start + k: bits for k, bits in enumerate(entry["result"]["marks"])}


def _by_slot(
    cube: CubeFile, times: NDArray, sources: Sequence[Source], years: frozenset[int]
) -> dict[int, list[Source]]:
    """The sources of each chunk of time, by the chunk's first index; final data first, then by address."""
    found: dict[int, list[Source]] = {}
    for source in sorted(sources, key=lambda s: (s.contents.rank, s.granule.address)):
        place = _time_index(times, source.contents.times)
        for index in sorted({i - i % cube.steps_per_chunk for i in place.values()}):
            if not years or int(str(times[index])[:4]) in years:
                found.setdefault(index, []).append(source)
    return found


def _time_index(times: NDArray, own: Sequence[str]) -> dict[int, int]:
    """Index in the cube of each of a file's times that lies on the cube's axis."""
    wanted = np.array(own, "datetime64[ns]")
    place = np.searchsorted(times, wanted)
    hit = (place < times.size) & (times[np.minimum(place, times.size - 1)] == wanted)
    return {int(k): int(place[k]) for k in np.flatnonzero(hit)}


def _share(source: Source, times: NDArray, start: int, steps: int, known: bool) -> Share:
    c = source.contents
    fields = {k: i for k, i in _time_index(times, c.times).items() if start <= i < start + steps}
    return Share(source.granule, source.key, c.variables, c.lat, c.lon, c.inner, fields, known)


def _grouped(slots: Sequence[Slot]) -> list[list[Slot]]:
    """Neighbouring chunks with the same sources as one task; far files are fetched once, so their group is long."""
    groups: list[list[Slot]] = []
    for slot in slots:
        names = [share.key for share in slot.shares]
        near = all("://" not in x.granule.url or x.granule.tag == "zarr" for x in slot.shares)
        last = groups[-1] if groups else None
        fits = last and [s.key for s in last[0].shares] == names and (not near or len(last) < SLOTS_A_TASK)
        if last and fits:
            last.append(slot)
        else:
            groups.append([slot])
    return groups


def _fill_group(
    task: tuple[Target, GridReader, list[Slot], dict[str, Any], Mapping[str, Any]],
) -> tuple[list[dict[int, int]], dict[str, str]]:
    """Fill chunks; a new file that cannot be read is left out, and the others are used without it.

    Where one of an earlier run is needed and gone, what it gave must not be lost: the chunks stay as they are.
    """
    target, reader, slots, rules, options = task
    failures: dict[str, str] = {}
    while slots[0].shares:
        try:
            return fill(target, reader, slots, rules, options), failures
        except ShareError as error:
            failures[error.key] = error.reason
            lost = next((x for x in slots[0].shares if x.key == error.key and x.known), None)
            if lost:
                reason = f"{lost.granule.address} is needed again and cannot be read ({error.reason}); bring it back"
                return [], {x.key: reason for x in slots[0].shares if not x.known}
            slots = [replace(s, shares=tuple(x for x in s.shares if x.key != error.key)) for s in slots]
    return [], failures


def _unit(cube: CubeFile, time: Any) -> str:
    name = cube.path.rsplit("/", 1)[-1].removesuffix(".zarr")
    return f"slots/{name}" if time is None else f"slots/{name}/{str(time)[:13]}"
