"""Where the work runs: local processes, the workers of a scheduler somebody else started, or Kubernetes."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import threading
import time
import uuid
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import dask
import yaml
from dask.system import CPU_COUNT
from dask.utils import format_bytes, parse_bytes
from distributed import CancelledError, Client, Future, LocalCluster
from distributed.security import Security
from distributed.system import MEMORY_LIMIT

from pipeline.core.errors import InputError, PartialError, StoreError, UsageError
from pipeline.core.options import MEMORY_RESOURCE, ClusterOptions
from pipeline.regrid.plugin import EnginePlugin

_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")
"""One BLAS thread a task: the last bits of a product depend on the number of threads, and workers fill the cores."""
_KEEP_MEMORY = {"MALLOC_MMAP_MAX_": "0", "MALLOC_ARENA_MAX": "1", "MALLOC_TRIM_THRESHOLD_": str(2**30)}
"""glibc: a worker reuses the memory of its large arrays. By Dask's default it gives every one back to the system, and
a third of a solve's time went into getting pages again."""
WORKER_ENVIRON = {**_ONE_THREAD, **_KEEP_MEMORY}
"""Of a process that computes, from its very start."""
_TIMEOUT = "20s"
_LOOK_AFTER = 5.0
"""Seconds between looks at whether local workers are all there, and whether anybody works."""
_AT_WORK = ("executing", "long-running", "cancelled", "resumed")
"""States of tasks on a worker that have one of its threads."""


@contextlib.contextmanager
def connect(
    scheduler: str = "local",
    workers: int | None = None,
    memory_limit: str = "auto",
    *,
    unit_memory: int = 0,
    options: ClusterOptions | None = None,
) -> Iterator[Client]:
    """A Dask client, closed at the end; workers that were started for it end with it.

    Parameters
    ----------
    scheduler : ``local``, ``kubernetes``, or an address ``tcp://host:port`` / ``tls://host:port``.
    workers : processes (or pods) to start; `None` or 0 takes as many as cores and memory allow, or what the manifest
        says.
    memory_limit : of a local worker; ``auto`` shares the memory evenly, ``0`` sets none.
    unit_memory : bytes that one unit of work needs of its worker.
    options : TLS, adaptive scaling, Kubernetes.

    Raises
    ------
    UsageError : no such scheduler, an address that is not safe, or workers too small for a unit.
    StoreError : nothing answers at the address.
    PartialError : tasks waited, and for ``options.wait_for_workers`` nobody worked on any.
    """
    options = options or ClusterOptions()
    if scheduler == "local":
        started = _local(workers, memory_limit, unit_memory, options)
    elif scheduler == "kubernetes":
        started = _kubernetes(workers, options)
    else:
        check_address(scheduler, options.allow_plain)
        started = _elsewhere(scheduler, options)
    with started as client:
        client.register_plugin(EnginePlugin())
        _check_memory(client, unit_memory)
        with _bounded_wait(client, options.wait_for_workers):
            yield client


def check_address(scheduler: str, allow_plain: bool) -> None:
    """Refuse what is no address, and plain TCP to another machine unless that was allowed by name.

    Raises
    ------
    UsageError : says which.
    """
    if not scheduler.startswith(("tcp://", "tls://")):
        raise UsageError(f"scheduler {scheduler!r}", "local, kubernetes, tcp://host:port or tls://host:port")
    host = scheduler.split("://", 1)[1].rsplit(":", 1)[0].strip("[]")
    if scheduler.startswith("tcp://") and not allow_plain and not _loopback(host):
        raise UsageError(
            f"scheduler {scheduler} is on another machine and not encrypted: whoever reaches it can run code there",
            "tls://",
            "inside a network that nobody else reaches, set CARBONCUBE_CLUSTER__ALLOW_PLAIN=true",
        )


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def fitting_workers(unit_memory: int) -> int:
    """Local processes that cores and memory allow, one unit of work each; at least one."""
    return max(1, min(CPU_COUNT, int(MEMORY_LIMIT // unit_memory) if unit_memory else CPU_COUNT))


@contextlib.contextmanager
def _local(workers: int | None, memory_limit: str, unit_memory: int, options: ClusterOptions) -> Iterator[Client]:
    most = workers or fitting_workers(unit_memory)
    each = MEMORY_LIMIT // most if memory_limit == "auto" else parse_bytes(memory_limit)
    least = options.min_workers
    with (
        dask.config.set({"distributed.nanny.pre-spawn-environ": WORKER_ENVIRON}),
        LocalCluster(
            n_workers=most if least is None else min(max(least, 1), most),
            threads_per_worker=1,
            processes=True,
            memory_limit=each,
            resources={MEMORY_RESOURCE: each} if each else None,
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
        ) as cluster,
        Client(cluster) as client,
        _kept_alive(cluster),
    ):
        if least is not None:
            cluster.adapt(minimum=max(least, 1), maximum=most)
        yield client


@contextlib.contextmanager
def _kept_alive(cluster: LocalCluster) -> Iterator[None]:
    """Start workers again that Dask gave up: killed while they were starting, or too slow to come back."""
    stop = threading.Event()

    def keep() -> None:
        while not stop.wait(_LOOK_AFTER):
            cluster.scale(len(cluster.worker_spec))

    keeper = threading.Thread(target=keep, name="keep workers", daemon=True)
    keeper.start()
    try:
        yield
    finally:
        stop.set()
        keeper.join()


@contextlib.contextmanager
def _bounded_wait(client: Client, patience: float) -> Iterator[None]:
    """Give up tasks on which nobody has worked for so long, and say so.

    Dask itself waits for ever where no worker is left, all are paused, or none has what a task asks for.
    """
    stop, given_up = threading.Event(), list[PartialError]()

    def look() -> None:
        since, before = time.monotonic(), frozenset[str]()
        while not stop.wait(min(_LOOK_AFTER, patience / 10)):
            waiting = frozenset(key for key, state in list(client.futures.items()) if state.status == "pending")
            try:
                workers = client.scheduler_info()["workers"].values() if waiting else ()
                if not waiting or waiting != before or any(map(_at_work, workers)):
                    since, before = time.monotonic(), waiting
                elif given_up or time.monotonic() - since >= patience:
                    given_up.append(_in_vain(len(waiting), workers, patience))
                    client.cancel([Future(key, client) for key in waiting])
            except Exception:
                # Who waits for the tasks hears of a scheduler that is lost.
                continue

    looking = threading.Thread(target=look, name="look for workers", daemon=True)
    looking.start()
    try:
        yield
    except (Exception, CancelledError) as error:
        if given_up:
            raise given_up[0] from error
        raise
    finally:
        stop.set()
        looking.join(_LOOK_AFTER)


def _at_work(worker: Mapping[str, Any]) -> bool:
    counts = worker["metrics"].get("task_counts", {})
    return any(counts.get(state) for state in _AT_WORK)


def _in_vain(waiting: int, workers: Collection[Mapping[str, Any]], patience: float) -> PartialError:
    states = [str(worker["status"]) for worker in workers]
    there = ", ".join(f"{states.count(state)} {state}" for state in sorted(set(states)))
    return PartialError(
        f"{waiting} tasks waited for {patience:g} s and no worker worked on any (workers: {there or 'none'})",
        "workers that run and have the memory a task asks for",
        "start some, or give those that are paused more memory, then run again (--resume is the default); what was "
        "done is kept. cluster.wait_for_workers says how long to wait",
    )


@contextlib.contextmanager
def _elsewhere(scheduler: str, options: ClusterOptions) -> Iterator[Client]:
    security = _security(options) if scheduler.startswith("tls://") else None
    try:
        client = Client(scheduler, timeout=_TIMEOUT, security=security)
    except (OSError, TimeoutError) as error:
        raise StoreError(
            f"no Dask scheduler answers at {scheduler} ({error})", "a running scheduler", "start one"
        ) from None
    with client:
        yield client


def _security(options: ClusterOptions) -> Security:
    """Certificates from the settings, else from Dask's configuration; encryption either way."""
    given = {
        "tls_ca_file": options.tls_ca,
        "tls_client_cert": options.tls_cert,
        "tls_client_key": options.tls_key,
    }
    for what, path in given.items():
        if path and not os.path.isfile(path):
            raise UsageError(f"{what.removesuffix('_file')} {path} is not there", "a PEM file")
    security = Security(require_encryption=True, **{name: path for name, path in given.items() if path})
    used = security.get_tls_config_for_role("client")
    if not (used["ca_file"] and used["cert"]):
        raise UsageError(
            "a tls:// scheduler without certificates",
            "cluster.tls_ca, tls_cert and tls_key, or distributed.comm.tls in Dask's configuration",
        )
    return security


def cluster_manifest(options: ClusterOptions, workers: int | None, name: str) -> dict[str, Any]:
    """The DaskCluster resource that a run creates: the manifest under a name of its own, with this many workers.

    Parameters
    ----------
    workers : replicas; `None` or 0 keeps the manifest's.
    name : of the cluster; its service selects pods by it.

    Raises
    ------
    InputError : no manifest, or not one of a DaskCluster.
    """
    path = Path(options.manifest) if options.manifest else _packaged_manifest()
    try:
        manifest = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise InputError(f"the manifest {path} cannot be read ({error})", "a DaskCluster in YAML") from None
    if not isinstance(manifest, dict) or manifest.get("kind") != "DaskCluster":
        raise InputError(f"the manifest {path} is no DaskCluster", "kind: DaskCluster, as in deploy/")
    manifest["metadata"] = {**manifest.get("metadata", {}), "name": name}
    if options.namespace:
        manifest["metadata"]["namespace"] = options.namespace
    manifest["spec"]["scheduler"]["service"]["selector"]["dask.org/cluster-name"] = name
    if workers:
        manifest["spec"]["worker"]["replicas"] = workers if options.min_workers is None else max(options.min_workers, 1)
    return dict(manifest)


def _packaged_manifest() -> Path:
    """The DaskCluster manifest beside this package: in the wheel, or in `deploy/` of a clone."""
    here = Path(__file__).parent
    packaged = here / "dask-cluster.yaml"
    return packaged if packaged.exists() else here.parent / "deploy" / "kubernetes" / "dask-cluster.yaml"


@contextlib.contextmanager
def _kubernetes(workers: int | None, options: ClusterOptions) -> Iterator[Client]:
    """A cluster of pods made by the Dask operator, removed at the end.

    Inside the cluster Dask speaks plain TCP (the operator knows no certificates): the NetworkPolicy of `deploy/` closes
    it to all but this run's pods and the operator.
    """
    manifest = cluster_manifest(options, workers, f"carboncube-{uuid.uuid4().hex[:8]}")
    try:
        from dask_kubernetes.operator import KubeCluster
    except ImportError:
        raise UsageError(
            "--scheduler kubernetes without dask-kubernetes", remedy="pip install 'carboncube[kubernetes]'"
        ) from None
    with (
        KubeCluster(custom_cluster_spec=manifest, namespace=options.namespace or None, quiet=True) as cluster,
        Client(cluster, timeout=_TIMEOUT) as client,
    ):
        if options.min_workers is not None:
            cluster.adapt(
                minimum=max(options.min_workers, 1), maximum=workers or manifest["spec"]["worker"]["replicas"]
            )
        yield client


def _check_memory(client: Client, unit_memory: int) -> None:
    """Refuse workers that would run more units at once than fit into them."""
    for address, worker in client.scheduler_info()["workers"].items():
        limit, threads = worker["memory_limit"], worker["nthreads"]
        # Units draw on declared memory, so that threads without any stay idle; else every thread may hold a unit.
        at_once = 1 if MEMORY_RESOURCE in worker["resources"] else threads
        if limit and limit < at_once * unit_memory:
            raise UsageError(
                f"worker {address} has {format_bytes(limit)} of memory and {threads} threads",
                f"{format_bytes(unit_memory)} for each unit of work",
                "start fewer or larger workers, with --nthreads 1 or --resources memory=BYTES, or without memory limit",
            )
