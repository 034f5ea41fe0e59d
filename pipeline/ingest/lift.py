"""The one module of ingest that knows Dask: files are read in parallel, results come back in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from distributed import Client

AHEAD = 4
"""Tasks under way for each thread of the cluster; the rest wait here, so that no graph grows with the folder."""


def client_map(client: Client) -> Callable[[Callable[[Any], Any], Iterable[Any]], Iterator[Any]]:
    """A map function whose calls run on a cluster's workers.

    Parameters
    ----------
    client : connected; it stays the caller's to close.
    """

    def mapped(function: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
        limit = AHEAD * max(1, sum(client.nthreads().values()))
        waiting: deque[Any] = deque()
        for item in items:
            # A reader's failure is a result here; a lost worker's task is repeated, since writing twice is harmless.
            waiting.append(client.submit(function, item, pure=False, retries=2))
            if len(waiting) >= limit:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()

    return mapped
