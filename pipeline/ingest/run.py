"""One ingest: list the files, hand them to the run of their kind, account for every one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from pipeline.ingest.books import Books, Request, Summary, guarded
from pipeline.ingest.columnrun import run_columns
from pipeline.ingest.contract import Granule, Outcome, merged_rules
from pipeline.ingest.documents import Document, outcome_of, write_documents
from pipeline.ingest.gridrun import run_grids
from pipeline.ingest.products import product
from pipeline.ingest.sources import list_granules

MapFunction = Callable[[Callable[[Any], Any], Iterable[Any]], Iterator[Any]]


def run(request: Request, map_function: MapFunction = map) -> Summary:
    """Ingest one product.

    Parameters
    ----------
    map_function : applies a function to each item and yields results in order; the builtin, or a cluster's.
    """
    kind = product(request.product)
    reader = kind.reader(request.store, request.paths)
    listing = list_granules(request.urls, kind.patterns, request.options)
    books = Books(request, merged_rules(reader.rules, request.rules), Summary(request.product, ignored=listing.ignored))
    flow = run_grids if hasattr(reader, "cube") else run_columns if hasattr(reader, "family") else run_documents
    flow(books, reader, listing.granules, map_function)
    return books.summary


def run_documents(books: Books, reader: Any, granules: Sequence[Granule], map_function: MapFunction) -> None:
    """Read files that become one table or file.

    When any is new, all are read again, so that a joined table does not depend on which came first.
    """
    if not books.fresh(granules):
        return
    books.summary.known = 0
    tasks = [(reader, books.rules, g, books.request.options) for g in granules]
    parts: list[tuple[Granule, Document]] = []
    for granule, result in zip(granules, map_function(_read_document, tasks), strict=True):
        if isinstance(result, Document):
            parts.append((granule, result))
        else:
            books.record(granule, result)
    books.summary.written = write_documents(books.request.store, parts, books.check_product)
    for granule, document in parts:
        books.record(granule, outcome_of(document))


def _read_document(task: tuple[Any, dict[str, Any], Granule, Any]) -> Document | Outcome:
    reader, rules, granule, options = task
    result = guarded(granule, options, lambda path: reader.read(path, rules))
    return result if isinstance(result, Document | Outcome) else Outcome("failed", reason=f"read as {type(result)}")
