"""The run of satellite columns: files to sums by day in parallel, then each day that changed is put together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from pipeline.core.errors import InputError
from pipeline.ingest.binning import COLUMN_GRID
from pipeline.ingest.books import Books, Request, guarded
from pipeline.ingest.columns import ColumnReader, by_day, cube_of, newest, piece_path, save_piece, write_day
from pipeline.ingest.contract import REJECTED, SKIPPED, USED, Granule, Outcome, check_counts
from pipeline.store.cubes import open_cube
from pipeline.store.ledger import digest
from pipeline.store.location import Store

MapFunction = Callable[[Callable[[Any], Any], Iterable[Any]], Iterator[Any]]


def run_columns(books: Books, reader: ColumnReader, granules: Sequence[Granule], map_function: MapFunction) -> None:
    """Read what is new, then write the days it touches."""
    request = books.request
    books.check_rules(reader.path)
    tasks = [(request, reader, books.rules, g, books.key(g)) for g in books.fresh(granules)]
    for task, outcome in zip(tasks, map_function(_bin_file, tasks), strict=True):
        books.record(task[3], outcome)
    entries, emptied = _current(books, granules)
    if entries:
        _write_days(books, reader, entries, emptied, map_function)


def _bin_file(task: tuple[Request, ColumnReader, dict[str, Any], Granule, str]) -> Outcome:
    """Sums of one file by day, saved as pieces; the outcome names the days."""
    request, reader, rules, granule, key = task

    def read(path: str) -> Outcome:
        observations = reader.read(path, rules)
        years = set((observations.time.astype("M8[Y]").astype(int) + 1970).tolist())
        if request.years and not years & request.years:
            return Outcome(SKIPPED, reason=f"observations of {min(years)}, not of the years asked for")
        _check_scale(request.store, reader, observations.attrs)
        sums, counts = by_day(observations)
        check_counts(counts)
        if not sums:
            return Outcome(REJECTED, counts, "no usable observation lies in the region")
        for day, part in sums.items():
            save_piece(request.store, piece_path(request.product, day, key), part)
        facts = {
            "days": sorted(sums),
            "part": observations.part,
            "rank": observations.rank,
            "attrs": dict(observations.attrs),
        }
        return Outcome(USED, counts, facts=facts)

    result = guarded(granule, request.options, read)
    assert isinstance(result, Outcome)
    return result


def _check_scale(store: Store, reader: ColumnReader, attrs: Mapping[str, Any]) -> None:
    """Observations on another XCO2 scale than the cube's never go into it."""
    if "co2_scale" not in attrs or not store.exists(reader.path, "zarr.json"):
        return
    held = open_cube(store, reader.path, chunks=None).attrs.get("co2_scale")
    if held and held != attrs["co2_scale"]:
        raise InputError(
            f"XCO2 on the scale {attrs['co2_scale']!r}; {reader.path} holds {held!r}",
            "one scale in a cube",
            "choose it with --rule scale=, or remove the cube",
        )


def _current(books: Books, granules: Sequence[Granule]) -> tuple[list[dict[str, Any]], set[str]]:
    """Entries of files that are in the cube: neither changed since nor replaced; and the days of those replaced."""
    entries = [e for e in books.ledger.entries(books.request.product) if e["status"] == USED]
    now = {g.address: books.key(g) for g in granules}
    replaced: dict[str, str] = {}
    parts: dict[str, list[tuple[str, Granule, str]]] = {}
    for e in entries:
        result = e["result"]
        if now.get(result["address"], e["key"]) != e["key"]:
            replaced[e["key"]] = "a newer content of the same file"
            continue
        granule = Granule(result["address"], result["size"], result["tag"])
        parts.setdefault(result["part"] or result["address"], []).append((result["rank"], granule, e["key"]))
    replaced |= newest(parts)
    gone = [e for e in entries if e["key"] in replaced]
    for e in gone:
        books.replace(e, f"superseded by {replaced[e['key']]}")
    return [e for e in entries if e["key"] not in replaced], {day for e in gone for day in e["result"]["days"]}


def _write_days(
    books: Books,
    reader: ColumnReader,
    entries: Sequence[Mapping[str, Any]],
    emptied: set[str],
    map_function: MapFunction,
) -> None:
    store, product = books.request.store, books.request.product
    by: dict[str, list[tuple[str, str]]] = {day: [] for day in emptied}
    for e in entries:
        for day in e["result"]["days"]:
            by.setdefault(day, []).append((e["result"]["address"], e["key"]))
    cube = cube_of(reader)
    years = sorted({int(day[:4]) for day in by})
    cube.create(store, years, COLUMN_GRID.lat, COLUMN_GRID.lon, _attrs(books, entries))
    times = cube.times(store)
    units = {day: (f"slots/{product}/{day}", digest(sorted(pieces), books.rules)) for day, pieces in by.items()}
    todo = [day for day in sorted(by) if books.ledger.find(*units[day]) is None]
    tasks = [
        (
            store,
            reader,
            int(np.searchsorted(times, np.datetime64(day, "ns"))),
            [piece_path(product, day, key) for _, key in sorted(by[day])],
            books.rules,
        )
        for day in todo
    ]
    for day, result in zip(todo, map_function(_write_day, tasks), strict=True):
        books.ledger.record(*units[day], result)
    every = (1 << len(cube.layers)) - 1
    marks = {int(np.searchsorted(times, np.datetime64(day, "ns"))): every if by[day] else 0 for day in by}
    cube.mark(store, marks)
    if todo:
        books.summary.written = [cube.path]


def _write_day(task: tuple[Store, ColumnReader, int, list[str], dict[str, Any]]) -> dict[str, Any]:
    return write_day(*task)


def _attrs(books: Books, entries: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    attrs = dict(entries[0]["result"]["attrs"])
    attrs["merging"] = (
        "files of a day are joined by adding their weights and weighted sums in each cell, kept in work/ingest, "
        "so the result does not depend on their order"
    )
    return {**attrs, **books.attrs()}
