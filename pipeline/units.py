"""Units of work on a cluster: what the ledger has is not done again, what is done is verified, then written down."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dask
from distributed import Client, as_completed
from threadpoolctl import threadpool_limits
from tqdm import tqdm

import pipeline
from pipeline.core.errors import CarbonCubeError, PartialError
from pipeline.store.ledger import Ledger, digest
from pipeline.store.location import Store

RETRIES = 2
"""Times a unit is tried again after its worker died."""


@dataclass(frozen=True)
class Unit:
    """One piece of work: a name, what it is computed from and the arguments of its function.

    `inputs` are JSON values (fingerprints, settings, outputs of earlier units); equal inputs mean equal output.
    """

    name: str
    inputs: tuple[Any, ...]
    args: tuple[Any, ...]
    suffix: str = ".zarr"


@dataclass
class Runner:
    """Runs units and keeps account of what was done, skipped and how long each stage took."""

    client: Client
    store: Store
    fresh: bool = False
    show_progress: bool = True
    stages: dict[str, dict[str, Any]] = field(default_factory=dict)

    def run(
        self, stage: str, function: Callable[..., dict[str, Any]], units: Sequence[Unit]
    ) -> dict[str, dict[str, Any]]:
        """Do all units of a stage that the ledger lacks.

        Parameters
        ----------
        stage : name of the stage and of its part of the ledger.
        function : ``function(store, *args, out)`` writes to `out` (``work/<stage>/<unit>-<hash><suffix>``) or to places
            of its own, and gives ``{"outputs": [paths], ...}`` of JSON values.
        units : what to do.

        Returns
        -------
        The result of each unit by name, those of earlier runs included.

        Raises
        ------
        PartialError : some units failed; the others are in the ledger.
        CarbonCubeError : the only failure, as the unit raised it.
        """
        started = time.perf_counter()
        ledger, code = Ledger(self.store, stage), code_digest()
        keys = {unit.name: digest(stage, code, *unit.inputs) for unit in units}
        results: dict[str, dict[str, Any]] = {}
        waiting = []
        for unit in units:
            kept = self._kept(ledger, unit.name, keys[unit.name])
            if kept is None:
                waiting.append(unit)
            else:
                results[unit.name] = kept
        failures = self._perform(ledger, function, waiting, keys, results)
        self._note(stage, started, len(waiting) - len(failures), len(units) - len(waiting))
        if failures:
            _raise(stage, failures, len(units))
        return results

    def run_here(
        self, stage: str, function: Callable[..., dict[str, Any]], units: Sequence[Unit], *extra: Any
    ) -> dict[str, dict[str, Any]]:
        """As `run`, in this process, for a stage that hands out tasks of its own; `extra` goes before `out`."""
        started = time.perf_counter()
        ledger, results, done = Ledger(self.store, stage), {}, 0
        for unit in units:
            keys = {unit.name: digest(stage, code_digest(), *unit.inputs)}
            entry = self._kept(ledger, unit.name, keys[unit.name])
            if entry is None:
                args = (*unit.args, *extra, self._out(ledger, unit, keys))
                entry, done = perform(ledger, unit.name, keys[unit.name], function, args), done + 1
            results[unit.name] = entry
        self._note(stage, started, done, len(units) - done)
        return results

    def _kept(self, ledger: Ledger, name: str, key: str) -> dict[str, Any] | None:
        """The result of a unit that the ledger has and whose output is still there."""
        entry = None if self.fresh else ledger.find(name, key)
        if entry is None or not all(self.store.exists(path) for path in entry["result"]["outputs"]):
            return None
        return dict(entry["result"])

    def _note(self, stage: str, started: float, done: int, kept: int) -> None:
        self.stages[stage] = {"seconds": round(time.perf_counter() - started, 2), "done": done, "kept": kept}

    def _perform(
        self,
        ledger: Ledger,
        function: Callable[..., dict[str, Any]],
        units: Sequence[Unit],
        keys: Mapping[str, str],
        results: dict[str, dict[str, Any]],
    ) -> dict[str, BaseException]:
        futures = {
            self.client.submit(
                perform,
                ledger,
                unit.name,
                keys[unit.name],
                function,
                (*unit.args, self._out(ledger, unit, keys)),
                pure=False,
                retries=RETRIES,
            ): unit
            for unit in units
        }
        failures: dict[str, BaseException] = {}
        progress = tqdm(total=len(units), desc=ledger.stage, disable=not self.show_progress or not units, leave=False)
        with progress:
            for future in as_completed(list(futures)):
                name = futures[future].name
                error = future.exception()
                if error is None:
                    results[name] = future.result()
                else:
                    failures[name] = error
                progress.update()
        return failures

    @staticmethod
    def _out(ledger: Ledger, unit: Unit, keys: Mapping[str, str]) -> str:
        return f"work/{ledger.stage}/{unit.name}-{keys[unit.name]}{unit.suffix}"


def perform(
    ledger: Ledger, name: str, key: str, function: Callable[..., dict[str, Any]], args: tuple[Any, ...]
) -> dict[str, Any]:
    """Do one unit on a worker: compute, read back what was written, then write it down."""
    # A unit is one task: lazy arrays inside it are computed here, not handed back to the scheduler it came from.
    # One BLAS thread, wherever it runs: the last bits of a product depend on their number.
    with dask.config.set(scheduler="synchronous"), threadpool_limits(1):
        result = function(ledger.store, *args)
    checked = {path: tree_digest(ledger.store, path) for path in result["outputs"]}
    result = {**result, "outputs": checked}
    ledger.record(name, key, result)
    return result


def tree_digest(store: Store, path: str) -> str:
    """SHA-256 over all that was written under a path, read back: names and bytes."""
    root = store.path(path)
    total = hashlib.sha256()
    for file in sorted(store.fs.find(root)):
        total.update(file[len(root) :].encode())
        total.update(hashlib.sha256(store.fs.cat_file(file)).digest())
    return total.hexdigest()[:16]


def fingerprint(store: Store, path: str) -> str:
    """What an input is, without reading it: names, sizes and tags or times of its objects."""
    root = store.path(path)
    entries = store.fs.find(root, detail=True)
    marks = [
        (name[len(root) :], info.get("size"), str(info.get("ETag") or info.get("mtime") or info.get("created") or ""))
        for name, info in sorted(entries.items())
    ]
    return digest(marks)


def code_digest() -> str:
    """Digest of the code that computes: another version of it must not resume this one's work."""
    root = Path(pipeline.__file__).parent
    rooms = ("core", "store", "regrid", "transport", "invert", "learn", "product")
    files = [f for room in rooms for f in sorted((root / room).rglob("*.py"))] + [root / "tasks.py"]
    return digest([(str(f.relative_to(root)), hashlib.sha256(f.read_bytes()).hexdigest()) for f in files])


def _raise(stage: str, failures: Mapping[str, BaseException], n_units: int) -> None:
    name, error = sorted(failures.items())[0]
    if isinstance(error, CarbonCubeError) and len(failures) == n_units:
        raise error
    raise PartialError(
        f"{len(failures)} of {n_units} units of {stage} failed, first {name}: {type(error).__name__}: {error}",
        remedy="mend the cause and run again; what was done is kept",
    ) from error
