"""A tiny world, a driver whose log lines can be waited for, and what must be the same after anything that happened."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.access import open_product
from pipeline.store.location import Store
from pipeline.store.verify import verify

DOMAIN, MONTHS = "115,38,117,40", "6,7"
STAGES = ("prepare", "observe", "first look", "level", "features", "learn", "invert", "product 0.25", "product 1 km")
LIGHT = {
    "CARBONCUBE_INVERSION__MEMBERS": "8",
    "CARBONCUBE_INVERSION__ITERATIONS": "3",
    "CARBONCUBE_TRANSPORT__MARGIN": "4",
    "DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT": "8s",
}
"""Settings that make a build quick; what is tried here does not depend on them."""
PATIENCE = 150

Event = dict[str, Any]
_started: list[Driver] = []


def kill_the_rest() -> None:
    """SIGKILL of drivers that a failed test left."""
    while _started:
        process = _started.pop().process
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@dataclass
class Driver:
    """A build in a process of its own; its log and its workers' as events.

    Parameters
    ----------
    url : of the store.
    flags : more flags of the command line.
    environ : more of the environment.
    prefix : command that runs the build, for example inside a namespace.
    months : of 2022.
    """

    url: str
    flags: Sequence[str] = ("--workers", "2")
    environ: dict[str, str] = field(default_factory=dict)
    prefix: Sequence[str] = ()
    months: str = MONTHS

    def __post_init__(self) -> None:
        command = [*self.prefix, sys.executable, "-u", "-m", "pipeline.build", "--year", "2022"]
        command += ["--months", self.months, "--domain", DOMAIN, "--store", self.url, "--resume", "--json", *self.flags]
        command += ["--log-level", "info", "--log-format", "json"]
        self.events: list[Event] = []
        self.lines: list[str] = []
        self._fresh: queue.Queue[Event] = queue.Queue()
        self.process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **LIGHT, **self.environ},
            start_new_session=True,
        )
        _started.append(self)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        for line in self.process.stderr:
            self.lines.append(line)
            if line.startswith("{"):
                event = json.loads(line)
                self.events.append(event)
                self._fresh.put(event)

    def wait_for(self, wanted: Callable[[Event], bool]) -> Event:
        """The next event that is wanted; fails where the driver ends without it."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            try:
                event = self._fresh.get(timeout=0.2)
            except queue.Empty:
                assert self.process.poll() is None, "the driver ended:\n" + "".join(self.lines[-30:])
                continue
            if wanted(event):
                return event
        raise TimeoutError("".join(self.lines[-30:]))

    def reached(self, stage: str) -> Event:
        """The event of a stage that has units to do."""
        return self.wait_for(lambda e: e["message"].startswith(f"stage {stage}:"))

    def begun(self, stage: str) -> Event:
        """The event of the next unit that begins in a stage, on a worker of this driver's own."""
        return self.wait_for(lambda e: e["message"].startswith(f"begin {stage} ") and e["stage"] == stage)

    def finish(self) -> tuple[int, dict[str, Any], str]:
        """Exit code, summary and standard error."""
        out = self.process.stdout.read()
        code = self.process.wait(timeout=PATIENCE)
        self._reader.join(timeout=30)
        return code, json.loads(out) if out.strip() else {}, "".join(self.lines)

    def kill(self) -> None:
        """SIGKILL of the driver alone; its workers see their parent gone."""
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self._reader.join(timeout=30)

    def begins(self) -> list[tuple[str, str]]:
        """Stage and name of every unit that began."""
        return [(e["stage"], e["unit"]) for e in self.events if e["message"].startswith("begin ")]


def chunk_objects(store: Store, version: str) -> dict[str, str]:
    """Checksum of every chunk of every cube of a version."""
    manifest = store.read_json("products", version, "manifest.json")
    return {k: v["sha256"] for k, v in manifest.items() if "/c/" in k and ".zarr/" in k}


def in_ledger(url: str) -> set[tuple[str, str]]:
    """Stage and name (with key) of every unit of a local store's ledger."""
    found = Path(url).glob("work/ledger/*/*.json")
    return {(path.parent.name, path.stem.rsplit("-", 1)[0]) for path in found}


def check_same(store: Store, version: str, reference: dict[str, str], n_months: int = 2) -> None:
    """Fail unless a version has the chunks of the undisturbed run, every month once, every unit written down once."""
    assert chunk_objects(store, version) == reference
    _, damaged = verify(store, version)
    assert not damaged
    months = open_product(store, "emissions_025", version)["time"].dt.month.values.tolist()
    assert len(months) == n_months
    assert months == sorted(set(months))
    for stage in store.names("work/ledger"):
        # Who is killed while it writes leaves a file of another name, which nobody reads.
        entries = [name for name in store.names("work/ledger", stage) if name.endswith(".json")]
        units = [name.rsplit("-", 1)[0] for name in entries]
        assert len(units) == len(set(units)), (stage, units)
