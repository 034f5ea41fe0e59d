"""Where the work runs: local processes, or the workers of a scheduler somebody else started."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from distributed import Client, LocalCluster

from pipeline.core.errors import StoreError, UsageError
from pipeline.regrid.plugin import EnginePlugin

_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")
"""One BLAS thread a task: the last bits of a product depend on the number of threads, and workers fill the cores."""
_TIMEOUT = "20s"


@contextlib.contextmanager
def connect(scheduler: str = "local", workers: int | None = None, memory_limit: str = "auto") -> Iterator[Client]:
    """A Dask client, closed at the end; local workers end with it.

    Parameters
    ----------
    scheduler : ``local``, or an address ``tcp://host:port`` / ``tls://host:port``.
    workers : local worker processes; `None` or 0 takes one a core.
    memory_limit : of a local worker; ``auto`` shares the memory evenly.

    Raises
    ------
    UsageError : not an address.
    StoreError : nothing answers at the address.
    """
    if scheduler == "local":
        with _local(workers or os.cpu_count() or 1, memory_limit) as client:
            yield client
        return
    if not scheduler.startswith(("tcp://", "tls://")):
        raise UsageError(f"scheduler {scheduler!r}", "local, tcp://host:port or tls://host:port")
    try:
        client = Client(scheduler, timeout=_TIMEOUT)
    except (OSError, TimeoutError) as error:
        raise StoreError(
            f"no Dask scheduler answers at {scheduler} ({error})", "a running scheduler", "start one"
        ) from None
    with client:
        client.register_plugin(EnginePlugin())
        yield client


@contextlib.contextmanager
def _local(workers: int, memory_limit: str) -> Iterator[Client]:
    with (
        LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            processes=True,
            memory_limit=memory_limit,
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
            env=_ONE_THREAD,
        ) as cluster,
        Client(cluster) as client,
    ):
        client.register_plugin(EnginePlugin())
        yield client
