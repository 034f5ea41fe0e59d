"""Makes the tables of docs/inversion.md and docs/comparison.md, all or some, and continues where it was broken off.

    python -m benchmarks.tables FOLDER --processes 2                            # all
    python -m benchmarks.tables FOLDER --only national regional                 # some
    python -m benchmarks.tables FOLDER --show --recall docs/inversion/recall.png        # print and draw what is there

Each seed is a world of its own, made, built and scored in a process of its own; its scores go into a JSON file of
FOLDER as soon as they are there. A seed whose file is there by the same code and settings is kept. A national
seed of four months took 2.1 GiB, a regional one of twelve 0.7.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import os
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pipeline
from benchmarks import comparison, nature_run
from benchmarks.markdown import compared, lockdown, national, regional, sizes, switches
from benchmarks.recall import figure
from pipeline import flow
from pipeline.cluster import WORKER_ENVIRON
from pipeline.core.errors import UsageError
from pipeline.store.ledger import digest
from pipeline.world.physics import Physics

SMALL = "112,30,118,36"
REGION = "111,31,119,39"
WITH_PLANTS = ("national", "regional")
SETS = (*WITH_PLANTS, "lockdown", "comparison", "comparison_gain", "switches")


@dataclass(frozen=True, eq=False)
class Job:
    """One world to make, build and score, for a table.

    `variant` names what of the physics is turned over (`comparison.switched`), where a table has more than one world of
    a seed; `event` is a month to look at by itself.
    """

    table: str
    seed: int
    settings: Mapping[str, Any]
    year: int = nature_run.YEAR
    event: int | None = None
    on: tuple[str, ...] = ()
    variant: str = "as given"

    @property
    def physics(self) -> Physics:
        """Of the world."""
        return comparison.switched(Physics().switched(on=self.on))[self.variant]

    def file(self, folder: Path, code: str) -> Path:
        """Where its scores are kept: another name for other code or settings."""
        key = digest(code, asdict(self), self.physics.as_dict())
        return folder / self.table / f"{self.seed}-{self.variant.replace(' ', '-')}-{key}.json"


def jobs_of(name: str, seeds: Sequence[int] | None = None, changes: Mapping[str, Any] | None = None) -> list[Job]:
    """The worlds of a table as the docs show it; `seeds` and `changes` of settings are for trials."""
    whole, some = {"months": "1-12"}, {"domain": SMALL, "months": "1,7"}
    usual: dict[str, tuple[Iterable[int], Job]] = {
        "national": (range(1, 4), Job(name, 0, {"domain": "china", **whole})),
        "regional": (range(201, 221), Job(name, 0, {"domain": REGION, **whole})),
        "lockdown": (range(231, 241), Job(name, 0, {"domain": REGION, "months": "1-4"}, year=2020, event=2)),
        "comparison": (range(301, 303), Job(name, 0, {"domain": SMALL, "months": "1,4,7,10"})),
        "comparison_gain": (range(301, 303), Job(name, 0, some, on=("gain", "ratio_nation"))),
        "switches": (range(301, 302), Job(name, 0, some)),
    }
    chosen, job = usual[name]
    job = replace(job, settings={**job.settings, **(changes or {})})
    variants = list(comparison.switched(Physics())) if name == "switches" else [job.variant]
    return [replace(job, seed=seed, variant=v) for seed in seeds or chosen for v in variants]


def code() -> str:
    """Digest of what scores depend on: the code that computes, the world, validation and the benchmarks."""
    here, there = Path(__file__).parent, Path(pipeline.__file__).parent
    files = [f for f in sorted(here.glob("*.py")) if f.name in ("nature_run.py", "comparison.py")]
    files += [f for room in ("world", "validate") for f in sorted((there / room).rglob("*.py"))]
    return digest(flow.code(), [(f.name, hashlib.sha256(f.read_bytes()).hexdigest()) for f in files])


def score(job: Job) -> dict[str, Any]:
    """Make, build and score the world of a job, in this process."""
    with nature_run.one_process() as client:
        if job.table in ("comparison", "comparison_gain"):
            return comparison.compare_seed(job.seed, job.settings, job.physics, client)
        if job.table == "switches":
            return {job.variant: comparison.ours_of_seed(job.seed, job.settings, job.physics, client)}
        return nature_run.score_seed(job.seed, job.settings, job.physics, client, job.year, job.event)


def keep(job: Job, file: Path, version: str) -> float:
    """Write the scores of a job with what they were made by, all at once; the seconds it took.

    Raises
    ------
    UsageError : the code is not that of `version`; a process reads it when it starts.
    """
    if code() != version:
        raise UsageError("the code was changed while seeds were scored", "one code for all seeds", "run again")
    started = time.perf_counter()
    scores = score(job)
    seconds = time.perf_counter() - started
    file.parent.mkdir(parents=True, exist_ok=True)
    written = file.with_suffix(".part")
    told = {"code": version, "job": asdict(job), "seconds": round(seconds, 1), "scores": scores}
    written.write_text(json.dumps(told, indent=1))
    written.rename(file)
    return seconds


def new_processes(n: int) -> ProcessPoolExecutor:
    """A pool of `n` processes with the environment of workers; every task has one of its own."""
    # Malloc and BLAS read it when a process starts, so that children must be new ones, not forks.
    os.environ.update(WORKER_ENVIRON)
    return ProcessPoolExecutor(n, mp_context=multiprocessing.get_context("spawn"), max_tasks_per_child=1)


def run(files: Mapping[Job, Path], processes: int, version: str) -> list[str]:
    """Score the jobs whose files are not there, each in a process of its own; what failed and why, a line each."""
    failed = list[str]()
    waiting = [(job, file) for job, file in files.items() if not file.exists()]
    print(f"{len(files)} seeds and worlds, {len(files) - len(waiting)} kept", file=sys.stderr, flush=True)
    if not waiting:
        return failed
    with new_processes(processes) as pool:
        futures = {pool.submit(keep, job, file, version): job for job, file in waiting}
        for future in as_completed(futures):
            job, error = futures[future], future.exception()
            said = f"{job.table} {job.seed} {job.variant}: "
            said += f"{future.result():.0f} s" if error is None else f"{type(error).__name__}: {error}"
            failed += [said] if error is not None else []
            print(said, file=sys.stderr, flush=True)
    return failed


def kept(files: Mapping[Job, Path]) -> dict[int, list[dict[str, Any]]]:
    """Scores that are there of the jobs, by seed."""
    found = dict[int, list[dict[str, Any]]]()
    for job, file in files.items():
        if file.exists():
            found.setdefault(job.seed, []).append(json.loads(file.read_text())["scores"])
    return found


def shown(name: str, scores: Mapping[int, Sequence[Mapping[str, Any]]]) -> str:
    """A table in Markdown from the scores of its seeds."""
    if not scores:
        return "no seed of it is there"
    first = {seed: rows[0] for seed, rows in scores.items()}
    if name == "switches":
        return switches([{k: v for row in rows for k, v in row.items()} for rows in scores.values()])
    if name in ("comparison", "comparison_gain"):
        return compared(list(first.values()))
    made = {"national": national, "regional": regional, "lockdown": lockdown}[name](first)
    return f"{made}\n\n{sizes(first)}" if name in WITH_PLANTS else made


def main(argv: Sequence[str] | None = None) -> int:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("folder", type=Path, metavar="FOLDER", help="where scores are kept")
    p.add_argument("--only", nargs="+", choices=SETS, default=SETS, metavar="TABLE", help=f"of {', '.join(SETS)}")
    p.add_argument("--processes", type=int, default=1, help="seeds at once")
    p.add_argument("--show", action="store_true", help="print the tables of what is there; run nothing")
    p.add_argument("--recall", type=Path, metavar="PNG", help=f"draw recall against size, of {', '.join(WITH_PLANTS)}")
    p.add_argument("--seeds", help="other seeds than those of the docs, a range")
    p.add_argument("--set", dest="changes", action="append", default=[], help="a setting, for example months=1")
    a = p.parse_args(argv)
    seeds = nature_run.parse_seeds(a.seeds) if a.seeds else None
    changes = {k: str(v) if k in ("months", "domain") else v for k, v in nature_run.parse_changes(a.changes).items()}
    jobs = {name: jobs_of(name, seeds, changes) for name in a.only}
    version = code()
    files = {name: {job: job.file(a.folder, version) for job in of} for name, of in jobs.items()}
    failed = [] if a.show else run({j: f for of in files.values() for j, f in of.items()}, a.processes, version)
    there = {name: kept(of) for name, of in files.items()}
    for name, scores in there.items():
        print(f"\n### {name}, {len(scores)} of {len({j.seed for j in jobs[name]})} seeds\n\n{shown(name, scores)}")
    with_plants = {n: {s: rows[0] for s, rows in there[n].items()} for n in WITH_PLANTS if there.get(n)}
    if a.recall and with_plants:
        figure(with_plants, a.recall)
    print("".join(f"\nfailed: {line}" for line in failed), end="\n" if failed else "")
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
