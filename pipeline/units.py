"""Units of work on a cluster: what the ledger has is not done again, what is done is verified, then written down."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import resource
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dask
from distributed import CancelledError, Client, as_completed, performance_report
from threadpoolctl import threadpool_limits
from tqdm import tqdm

import pipeline
from pipeline.core.errors import CarbonCubeError, PartialError, StoreError
from pipeline.core.options import MEMORY_RESOURCE
from pipeline.store.addresses import explained
from pipeline.store.ledger import Ledger, digest
from pipeline.store.location import Store
from pipeline.telemetry import count_unit

RETRIES = 2
"""Times a unit that raised is tried again. One whose worker died is tried on other workers as often as Dask's
``distributed.scheduler.allowed-failures`` says (3)."""
log = logging.getLogger(__name__)


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
    """Runs units and keeps account of what was done, skipped and how long each stage took.

    Parameters
    ----------
    client : who does the work.
    store : where units read and write.
    fresh : do units again that the ledger has.
    show_progress : show bars.
    unit_memory : bytes a unit needs of its worker; where workers declare their memory, no more units run than fit.
    stages, used : by stage, what was done and how long it took; the ledger's key of each unit.
    """

    client: Client
    store: Store
    fresh: bool = False
    show_progress: bool = True
    unit_memory: int = 0
    stages: dict[str, dict[str, Any]] = field(default_factory=dict)
    used: dict[str, dict[str, str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._performance = performance_report(mode="inline")
        with self.client.as_current():
            self._performance.__enter__()

    def run(
        self, stage: str, function: Callable[..., dict[str, Any]], units: Sequence[Unit], fresh: bool = False
    ) -> dict[str, dict[str, Any]]:
        """Do all units of a stage that the ledger lacks.

        Parameters
        ----------
        stage : name of the stage and of its part of the ledger.
        function : ``function(store, *args, out)`` writes to `out` (``work/<stage>/<unit>-<hash><suffix>``) or to places
            of its own, and gives ``{"outputs": [paths], ...}`` of JSON values.
        units : what to do.
        fresh : do also what the ledger has.

        Returns
        -------
        The result of each unit by name, those of earlier runs included.

        Raises
        ------
        PartialError : some units failed; the others are in the ledger.
        CarbonCubeError : the only kind of failure, as the first unit raised it; a store that failed is one kind.
        """
        started = time.perf_counter()
        ledger, code = Ledger(self.store, stage), code_digest()
        keys = self.used[stage] = {unit.name: digest(stage, code, *unit.inputs) for unit in units}
        results: dict[str, dict[str, Any]] = {}
        waiting = []
        for unit in units:
            kept = None if fresh else self._kept(ledger, unit.name, keys[unit.name])
            if kept is None:
                waiting.append(unit)
            else:
                results[unit.name] = kept
        log.info("stage %s: %d units, %d kept", stage, len(units), len(results), extra={"stage": stage})
        with self._watching(stage):
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
            self.used[stage] = {**self.used.get(stage, {}), **keys}
            entry = self._kept(ledger, unit.name, keys[unit.name])
            log.info("stage %s: 1 unit, %d kept", stage, entry is not None, extra={"stage": stage})
            if entry is None:
                args = (*unit.args, *extra, self._out(ledger, unit, keys))
                with self._watching(stage):
                    entry, done = perform(ledger, unit.name, keys[unit.name], function, args), done + 1
            results[unit.name] = entry
        self._note(stage, started, done, len(units) - done)
        return results

    def keep_performance(self, path: str) -> None:
        """Write Dask's performance report of the run so far, a page of its own, to a path of the store."""
        with tempfile.TemporaryDirectory() as folder, self.client.as_current():
            self._performance.filename = f"{folder}/performance.html"
            try:
                self._performance.__exit__(None, None, None)
                self.store.write_bytes(Path(self._performance.filename).read_bytes(), path)
            except Exception:  # a product is not lost for want of a picture of how it was made
                log.warning("no performance report", exc_info=True)

    @contextlib.contextmanager
    def _watching(self, stage: str) -> Iterator[None]:
        try:
            yield
        except (Exception, CancelledError) as error:
            if not isinstance(error, CancelledError) and self.client.status == "running":
                raise
            where = getattr(self.client.scheduler, "address", "")
            raise PartialError(
                f"the scheduler {where} was lost during {stage} ({type(error).__name__})",
                "a scheduler that lives as long as the run",
                "start one and run again with --resume; what was done is kept",
            ) from error

    def _kept(self, ledger: Ledger, name: str, key: str) -> dict[str, Any] | None:
        """The result of a unit that the ledger has and whose output is still there."""
        entry = None if self.fresh else ledger.find(name, key)
        if entry is None or not all(self.store.exists(path) for path in entry["result"]["outputs"]):
            return None
        return dict(entry["result"])

    def _note(self, stage: str, started: float, done: int, kept: int) -> None:
        self.stages[stage] = {"seconds": round(time.perf_counter() - started, 2), "done": done, "kept": kept}

    def _draws(self) -> dict[str, float]:
        """What a unit takes of its worker: memory, where every worker says how much it has."""
        workers = self.client.scheduler_info()["workers"].values()
        said = bool(workers) and all(MEMORY_RESOURCE in worker["resources"] for worker in workers)
        return {MEMORY_RESOURCE: self.unit_memory} if said and self.unit_memory else {}

    def _perform(
        self,
        ledger: Ledger,
        function: Callable[..., dict[str, Any]],
        units: Sequence[Unit],
        keys: Mapping[str, str],
        results: dict[str, dict[str, Any]],
    ) -> dict[str, BaseException]:
        prefix, draws = ledger.stage.replace(" ", "_"), self._draws() if units else {}
        futures = {
            self.client.submit(
                perform,
                ledger,
                unit.name,
                keys[unit.name],
                function,
                (*unit.args, self._out(ledger, unit, keys)),
                key=f"{prefix}-{unit.name}-{uuid.uuid4().hex}",
                retries=RETRIES,
                resources=draws,
            ): unit
            for unit in units
        }
        failures: dict[str, BaseException] = {}
        progress = tqdm(total=len(units), desc=ledger.stage, disable=not self.show_progress or not units, leave=False)
        with progress:
            for future in as_completed(list(futures)):
                name = futures[future].name
                if future.cancelled():
                    raise CancelledError(name)
                error = future.exception()
                told = {"stage": ledger.stage, "unit": name}
                if error is None:
                    results[name] = future.result()
                    told["seconds"] = results[name]["seconds"]
                    log.info("done %s %s in %s s", ledger.stage, name, told["seconds"], extra=told)
                else:
                    failures[name] = error
                    log.error("failed %s %s: %s", ledger.stage, name, error, extra=told)
                progress.update()
        return failures

    @staticmethod
    def _out(ledger: Ledger, unit: Unit, keys: Mapping[str, str]) -> str:
        return f"work/{ledger.stage}/{unit.name}-{keys[unit.name]}{unit.suffix}"


def perform(
    ledger: Ledger, name: str, key: str, function: Callable[..., dict[str, Any]], args: tuple[Any, ...]
) -> dict[str, Any]:
    """Do one unit on a worker: compute, read back what was written, then write it down with what it cost."""
    started, busy, told = time.perf_counter(), time.process_time(), {"stage": ledger.stage, "unit": name}
    log.info("begin %s %s", ledger.stage, name, extra=told)
    try:
        # A unit is one task: lazy arrays inside it are computed here, not handed back to the scheduler it came from.
        # One BLAS thread, wherever it runs: the last bits of a product depend on their number.
        with dask.config.set(scheduler="synchronous"), threadpool_limits(1), explained(ledger.store.url):
            result = function(ledger.store, *args)
            checked = {path: tree_digest(ledger.store, path) for path in result["outputs"]}
    except Exception:
        count_unit(ledger.stage, "failed", time.perf_counter() - started)
        raise
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    cost = {"seconds": round(seconds, 3), "cpu_seconds": round(time.process_time() - busy, 3)}
    result = {**result, "outputs": checked, **cost, "worker_peak_gib": round(peak, 2)}
    ledger.record(name, key, result)
    count_unit(ledger.stage, "done", seconds)
    return result


def tree_digest(store: Store, path: str) -> str:
    """SHA-256 over all that was written under a path, read back: names and bytes."""
    root, total = store.path(path), hashlib.sha256()
    for name in store.files(path):
        file = f"{root}/{name}".rstrip("/")
        total.update(file[len(root) :].encode())
        total.update(hashlib.sha256(store.fs.cat_file(file)).digest())
    return total.hexdigest()[:16]


def fingerprint(store: Store, path: str) -> str:
    """What an input is, without reading it: names, sizes and tags or times of its objects."""
    marks = [
        (name, info.get("size"), str(info.get("ETag") or info.get("mtime") or info.get("created") or ""))
        for name, info in store.files(path).items()
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
    alike = len(failures) == n_units or all(isinstance(e, StoreError) for e in failures.values())
    if isinstance(error, CarbonCubeError) and alike:
        raise error
    raise PartialError(
        f"{len(failures)} of {n_units} units of {stage} failed, first {name}: {type(error).__name__}: {error}",
        remedy="mend the cause and run again; what was done is kept",
    ) from error
