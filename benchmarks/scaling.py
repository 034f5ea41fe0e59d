"""How a build scales: two workers against one, and a simulation from measured times of its units to hundreds.

    python -m benchmarks.scaling measure --store ./data --year 2022 --months 1,7
    python -m benchmarks.scaling simulate --year 2019-2023
    python -m benchmarks.sizing

`measure` builds what the store's inputs give, anew with one worker and with two, and keeps what each unit took.
`simulate` hands the units of a larger build to many workers as the build does: stage after stage, first come first
served. The times are those of the measuring machine: ratios and limits carry over, hours only to machines like it.
`benchmarks.sizing` writes what the simulation says into `deploy/README.md`. All three go by `benchmarks/sizing.json`.
"""

from __future__ import annotations

import argparse
import heapq
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from pipeline.preview import unit_counts
from pipeline.settings import Settings, load, load_place
from pipeline.store.ledger import Ledger
from pipeline.store.location import Store
from pipeline.store.publish import product_path

WORKERS = (1, 2, 4, 16, 64, 256)
MEASURED = Path(__file__).with_name("sizing.json")
"""The one place measured times are kept in."""
_POWER = {"level": 2}
"""How a stage of one unit grows with its months where that is not in proportion: it solves all of them together."""


@dataclass(frozen=True)
class Stage:
    """Units that may run at once, once the stage before is done: seconds of each, in the order they are handed out."""

    name: str
    seconds: tuple[float, ...]


@dataclass(frozen=True)
class Outcome:
    """What a simulated run took: seconds of each stage and of the driver alone, and what the workers did in it."""

    workers: int
    stages: dict[str, float]
    serial: float
    work: float
    limits: dict[str, str] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        """Of the whole run."""
        return self.serial + sum(self.stages.values())

    @property
    def efficiency(self) -> float:
        """Share of the paid worker time that is work."""
        return self.work / (self.workers * self.seconds) if self.seconds else 1.0


def simulate(stages: Sequence[Stage], workers: int, overhead: float = 0.0, serial: float = 0.0) -> Outcome:
    """Run stages one after the other on equal workers.

    Parameters
    ----------
    stages : in the order of the build; each waits for the one before.
    workers : one unit at a time each.
    overhead : seconds the driver needs to hand out one unit, one after the other.
    serial : seconds the driver works alone: inputs, weights, templates, report, manifest.
    """
    taken, limits = {}, {}
    for stage in stages:
        taken[stage.name] = _makespan(stage.seconds, workers, overhead)
        limits[stage.name] = _limit(stage.seconds, workers, overhead, taken[stage.name])
    return Outcome(workers, taken, serial, sum(sum(stage.seconds) for stage in stages), limits)


def _makespan(seconds: Sequence[float], workers: int, overhead: float) -> float:
    free = [0.0] * workers
    end = 0.0
    for k, taken in enumerate(seconds, 1):
        start = max(heapq.heappop(free), k * overhead)
        heapq.heappush(free, start + taken)
        end = max(end, start + taken)
    return end


def _limit(seconds: Sequence[float], workers: int, overhead: float, taken: float) -> str:
    """What keeps a stage from being faster: its bound that is nearest to the time it took."""
    bounds = {
        "work": sum(seconds) / workers,
        "its longest unit" if len(seconds) > 1 else "a single unit": max(seconds, default=0.0),
        "the driver handing out units": overhead * len(seconds),
    }
    if len(seconds) <= workers and len(seconds) > 1:
        bounds["no more units than workers"] = bounds.pop("its longest unit")
    return min(bounds, key=lambda name: taken - bounds[name])


@dataclass(frozen=True)
class Costs:
    """What was measured: settings of that run, seconds of each unit by stage, of the driver alone, of handing out one.

    `ratio` is the time of all stages with one worker over that with two, in one run; `product_bytes` and `work_bytes`
    what was left in the store; `clock` and `machine` how it was measured and on what.
    """

    settings: dict[str, Any]
    seconds: dict[str, list[float]]
    serial: float
    overhead: float
    peak_gib: float
    ratio: float | None = None
    product_bytes: int = 0
    work_bytes: int = 0
    clock: str = "seconds"
    machine: str = ""
    synthetic: bool = True

    @property
    def months(self) -> int:
        """Months that the measured run made."""
        settings = load(self.settings, environ={})
        return len(settings.year) * len(settings.months)


def planned(costs: Costs, settings: Settings) -> list[Stage]:
    """The stages of a build, its units as long as measured ones.

    A unit that holds more months than the measured one (a year's, the learning's) is taken to last longer in
    proportion, the level as the square: too long rather than too short, since part of it does not grow. Learning hands
    out tasks of its own; here it is one unit.

    Raises
    ------
    ValueError : a stage of today's build was not measured.
    """
    if missing := set(unit_counts(settings)) - set(costs.seconds):
        raise ValueError(
            f"no times of {', '.join(sorted(missing))}; expected those of a build as it is now: measure again"
        )
    measured = load(costs.settings, environ={})
    before, after = unit_counts(measured), unit_counts(settings)
    months = (costs.months, len(settings.year) * len(settings.months))
    stages = []
    for name, count in after.items():
        growth = ((months[1] / count) / (months[0] / before[name])) ** _POWER.get(name, 1)
        known = costs.seconds[name]
        stages.append(Stage(name, tuple(known[k % len(known)] * growth for k in range(count))))
    return stages


def unit_seconds(
    store: Store,
    names: Sequence[str],
    clock: str = "seconds",
    earlier: Mapping[tuple[str, str, str], Any] | None = None,
) -> tuple[dict[str, list[float]], float]:
    """Seconds of each unit of some stages, from the ledger, and the largest memory a worker had, GiB.

    `clock` is ``seconds``, or ``cpu_seconds`` where the measuring machine was busy with other things; learning has its
    work done by others, so its own processor time says nothing. `earlier` are results as they stood before
    (`ledger_results`): a stage that has others since then is told by these alone.
    """
    seconds: dict[str, list[float]] = {}
    peak = 0.0
    for name in names:
        entries = [entry for entry in Ledger(store, name).entries() if clock in entry["result"]]
        since = [e["result"] for e in entries if (earlier or {}).get((name, e["unit"], e["key"])) != e["result"]]
        used = since or [e["result"] for e in entries]
        seconds[name] = [result["seconds" if name == "learn" else clock] for result in used]
        peak = max([peak, *(result["worker_peak_gib"] for result in used)])
    return seconds, peak


def ledger_results(store: Store) -> dict[tuple[str, str, str], Any]:
    """Result of every entry there is, by stage, unit and key."""
    stages = store.names("work/ledger")
    return {(stage, e["unit"], e["key"]): e["result"] for stage in stages for e in Ledger(store, stage).entries()}


def left_bytes(store: Store, version: str) -> tuple[int, int]:
    """Bytes of a version, and of the work it was made from."""

    def size(path: str) -> int:
        return sum(int(info["size"]) for info in store.files(path).values())

    units = store.read_json(product_path(version), "provenance.json")["units"]
    entries = [Ledger(store, stage).find(unit, key) for stage, keys in units.items() for unit, key in keys.items()]
    return size(product_path(version)), sum(size(path) for e in entries if e for path in e["result"]["outputs"])


def nothing(_store: Store, _out: str) -> dict[str, Any]:
    """A unit of work that is none."""
    return {"outputs": []}


def handing_out(store: Store, n_units: int = 100) -> float:
    """Seconds to hand out, do and write down one unit that does nothing, one after the other."""
    from pipeline.cluster import connect
    from pipeline.units import Runner, Unit

    with connect("local", 1) as client:
        run = Runner(client, store, fresh=True, show_progress=False)
        run.run("nothing", nothing, [Unit(str(k), (k,), ()) for k in range(n_units)])
    return float(run.stages["nothing"]["seconds"]) / n_units


def measure(store: str, flags: Mapping[str, str], clock: str = "seconds") -> Costs:
    """Build with two workers, then with one; the costs are those of the run with one."""
    totals, serial = {}, 0.0
    place = Store.at(*load_place(store))
    earlier: dict[tuple[str, str, str], Any] = {}
    for workers in (2, 1):
        earlier = ledger_results(place)
        command = [sys.executable, "-m", "pipeline.build", "--store", store, "--workers", str(workers), "--json"]
        command += [word for name, value in flags.items() for word in (f"--{name}", value)]
        done = subprocess.run([*command, "--fresh"], capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(done.stderr)
        summary = json.loads(done.stdout)
        totals[workers] = sum(s["seconds"] for s in summary["stages"].values())
        serial = summary["seconds"] - totals[workers]
        print(f"{workers} workers: stages {totals[workers]:.1f} s, driver alone {serial:.1f} s", file=sys.stderr)
    seconds, peak = unit_seconds(place, list(summary["stages"]), clock, earlier)
    times = (round(serial, 2), handing_out(place), peak, totals[1] / totals[2])
    left = left_bytes(place, summary["version"])
    machine = f"{os.cpu_count()} cores, {'local disk' if place.is_local else 'object storage'}"
    return Costs(dict(flags), seconds, *times, *left, clock, machine, bool(summary["synthetic"]))


def simulated(costs: Costs, settings: Settings, workers: Sequence[int] = WORKERS) -> list[Outcome]:
    """A larger build on each number of workers; the driver's own time is taken to grow with the months."""
    serial = costs.serial * len(settings.year) * len(settings.months) / costs.months
    stages = planned(costs, settings)
    return [simulate(stages, w, costs.overhead, serial) for w in workers]


def table(costs: Costs, settings: Settings, workers: Sequence[int] = WORKERS) -> list[str]:
    """What the simulation says, as lines: hours, speed-up, efficiency, and what limits each size most."""
    outcomes = simulated(costs, settings, workers)
    one = simulated(costs, settings, (1,))[0].seconds
    lines = ["workers    hours  speed-up  efficiency  worker-hours  most time goes to"]
    for o in outcomes:
        parts = {**{f"{n} ({o.limits[n]})": t for n, t in o.stages.items()}, "the driver alone": o.serial}
        most = max(parts, key=lambda name: parts[name])
        lines.append(
            f"{o.workers:7d} {o.seconds / 3600:8.2f} {one / o.seconds:9.1f} {o.efficiency:11.0%}"
            f" {o.workers * o.seconds / 3600:13.1f}  {most}, {parts[most] / o.seconds:.0%}"
        )
    return [*lines, stops(outcomes)]


def stops(outcomes: Sequence[Outcome]) -> str:
    """The first size from which more workers hardly help (less than 1.2 times for at least twice as many), and why."""
    for fewer, more in pairwise(outcomes):
        if fewer.seconds / more.seconds < 1.2:
            left = {**{f"{n}: {more.limits[n]}": t for n, t in more.stages.items()}, "the driver alone": more.serial}
            reasons = sorted(left.items(), key=lambda item: -item[1])[:3]
            said = "; ".join(f"{name}, {100 * seconds / more.seconds:.0f} %" for name, seconds in reasons)
            return f"stops scaling at {fewer.workers} workers: of what is left, {said}"
    return f"still scales at {outcomes[-1].workers} workers"


def main(argv: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("measure", "simulate"))
    parser.add_argument("--store", default="./data")
    parser.add_argument("--costs", default=str(MEASURED), help="file of measured costs, written or read")
    parser.add_argument("--clock", choices=("seconds", "cpu_seconds"), default="seconds")
    parser.add_argument("--year", default="2022")
    parser.add_argument("--months")
    parser.add_argument("--domain")
    parser.add_argument("--workers", type=int, nargs="+", default=WORKERS)
    args = parser.parse_args(argv)
    flags = {name: value for name in ("year", "months", "domain") if (value := getattr(args, name))}
    if args.what == "measure":
        costs = measure(args.store, flags, args.clock)
        Path(args.costs).write_text(json.dumps(costs.__dict__, indent=1) + "\n")
        print(f"1 -> 2 workers: {costs.ratio:.2f} times as fast (stages, one run)")
    else:
        costs = Costs(**json.loads(Path(args.costs).read_text()))
        print("\n".join(table(costs, load(flags, environ={}), args.workers)))


if __name__ == "__main__":
    main()
