"""A scheduler and workers as processes of their own, as `dask scheduler` and `dask worker` start them."""

import contextlib
import os
import signal
import socket
import subprocess
import sys

from distributed import Client


@contextlib.contextmanager
def processes():
    """Starts processes that are gone at the end, whatever happened."""
    started = []

    def start(*command: str) -> subprocess.Popen:
        environ = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        process = subprocess.Popen(
            [sys.executable, "-m", *command], start_new_session=True, env=environ, stderr=subprocess.DEVNULL
        )
        started.append(process)
        return process

    try:
        yield start
    finally:
        for process in started:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def start_workers(start, address: str, folder, number: int = 2) -> list[subprocess.Popen]:
    """Workers of one thread, there when this returns."""
    words = ("--host", "127.0.0.1", "--nthreads", "1", "--no-dashboard", "--local-directory", str(folder))
    workers = [start("distributed.cli.dask_worker", address, *words) for _ in range(number)]
    with Client(address, timeout="30s") as client:
        client.wait_for_workers(number, timeout=60)
    return workers


def start_cluster(start, folder) -> tuple[str, subprocess.Popen, list[subprocess.Popen]]:
    """Address and process of a scheduler, and two workers."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    address = f"tcp://127.0.0.1:{port}"
    scheduler = start("distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", str(port), "--no-dashboard")
    return address, scheduler, start_workers(start, address, folder)
