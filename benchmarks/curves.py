"""Cost of one month against cells, columns and members: first look and solve, in one process with one thread.

    python -m benchmarks.curves --store STORE --figure docs/inversion/costs.png

STORE holds inputs of the whole country and is only read: what is prepared goes to `--work`. Every point is measured in
a process of its own, in which everything has been compiled before; its seconds are the less of two runs from what was
observed to members in memory (no reading or writing), its memory the most the process ever had. Prints a table with the
machine's load and the slopes of a line through the logarithms, and draws three panels.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.markdown import markdown
from benchmarks.tables import new_processes
from pipeline import flow, tasks
from pipeline.core.seeds import generator
from pipeline.invert.level import solve_level
from pipeline.invert.model import Observations
from pipeline.invert.month import Month, look_month, solve_month
from pipeline.invert.state import total_root
from pipeline.settings import Settings, load
from pipeline.store.cubes import open_cube
from pipeline.store.location import Store

YEAR, MONTH = 2022, 7
CENTRE = (114, 34)
"""Degrees east and north, of the domains that are cut."""
DEGREES = (4, 6, 8, 12, 16)
NATION = "china"
SHARES = (1 / 8, 1 / 4, 1 / 2, 1.0)
MEMBERS = (10, 25, 50, 100, 200)
SAME = 12
"""Degrees of the domain in which columns and members are varied."""
_WARM = 0.02
PANELS = {"cells": "cells solved", "columns": "NO2 columns", "members": "members"}


@dataclass(frozen=True)
class Point:
    """What is measured: in which `panel`, and the domain, share of its columns and members."""

    panel: str
    domain: str
    share: float = 1.0
    members: int = 50


@dataclass(frozen=True)
class Cost:
    """What was measured of a point: sizes, seconds of first look and solve, GiB, and the machine's load before."""

    panel: str
    domain: str
    cells: int
    unknowns: int
    columns: int
    members: int
    look: float
    solve: float
    gib: float
    load: float

    @property
    def seconds(self) -> float:
        """Of both."""
        return self.look + self.solve


def domain(degrees: int) -> str:
    """A square around `CENTRE`."""
    east, north = CENTRE
    half = degrees / 2
    return f"{east - half:g},{north - half:g},{east + half:g},{north + half:g}"


def points() -> list[Point]:
    """All that is measured."""
    same = domain(SAME)
    domains = [Point("cells", d) for d in (*map(domain, DEGREES), NATION)]
    return [
        *domains,
        *(Point("columns", same, share=share) for share in SHARES),
        *(Point("members", same, members=n) for n in MEMBERS),
    ]


def thinned(seen: Observations, share: float) -> Observations:
    """A random share of the columns, the same for the same share."""
    kept = np.flatnonzero(generator("thinned", share).random(seen.cell.size) < share)
    parts = {name: getattr(seen, name)[kept] for name in ("matrix", "cell", "column", "sigma", "day")}
    return Observations(**parts)


def prepare(work: str, where: str) -> None:
    """Prepare and observe a domain, in a process of its own."""
    store, settings = opened(work, where)
    if not store.exists(paths(where)["observed"]):
        grid = flow.inspect_inputs(store, settings).grid
        flow.build_weights(store, grid)
        tasks.prepare_year(store, settings, grid, YEAR, paths(where)["prepared"])
        tasks.observe(store, settings, grid, YEAR, MONTH, paths(where)["observed"])


def opened(work: str, where: str) -> tuple[Store, Settings]:
    """The store of the measurement and the settings of a domain."""
    given = {"year": YEAR, "months": str(MONTH), "domain": where, "store": work}
    return Store(work), load(given, environ={})


def paths(where: str) -> dict[str, str]:
    """What a domain has in the store."""
    start = f"work/curves/{where.replace(',', '_')}"
    return {"prepared": f"{start}-prepared.zarr", "observed": f"{start}-observed.npz"}


def measure(work: str, point: Point) -> Cost:
    """Solve a month twice, as a build does, in this process."""
    load_before = os.getloadavg()[0]
    store, settings = opened(work, point.domain)
    grid = flow.inspect_inputs(store, settings).grid
    month = tasks.open_month(store, settings, grid, YEAR, MONTH, paths(point.domain)).month
    month = replace(month, options=replace(month.options, members=point.members))
    root = total_root(open_cube(store, paths(point.domain)["prepared"], chunks=None)["log_covariance"].values)
    solved(replace(month, observations=thinned(month.observations, _WARM)), root, settings)
    month = replace(month, observations=thinned(month.observations, point.share))
    times = [solved(month, root, settings) for _ in range(2)]
    look, solve = min(times, key=sum)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    sizes = (grid.n_lat * grid.n_lon, month.state.size, month.observations.cell.size, point.members)
    return Cost(point.panel, point.domain, *sizes, look, solve, peak, load_before)


def solved(month: Month, root: Any, settings: Settings) -> tuple[float, float]:
    """Seconds of the first look and of the solve that is given its level."""
    started = time.perf_counter()
    quick = replace(month, options=replace(month.options, **tasks.FIRST_LOOK))
    _, evidence, known = look_month(quick)
    looked = time.perf_counter()
    name = str(month.key[1])
    (level,) = solve_level([evidence], [root], [name], month.options, settings.prior, settings.seed)
    begun = time.perf_counter()
    solve_month(replace(month, state=replace(month.state, **known)), level)
    return looked - started, time.perf_counter() - begun


def run(store: str, work: Path, chosen: Sequence[Point]) -> Iterator[Cost]:
    """Measure points one after another, each in a new process."""
    work.mkdir(parents=True, exist_ok=True)
    if not (work / "inputs").exists():
        (work / "inputs").symlink_to(Path(store).resolve() / "inputs")
    with new_processes(1) as pool:
        for where in dict.fromkeys(point.domain for point in chosen):
            pool.submit(prepare, str(work), where).result()
        for point in chosen:
            yield pool.submit(measure, str(work), point).result()


def slope(costs: Sequence[Cost], x: str, y: str) -> float:
    """Exponent b of y ~ x^b, by least squares of the logarithms."""
    return float(np.polyfit(*(np.log([getattr(c, name) for c in costs]) for name in (x, y)), 1)[0])


def panels(costs: Sequence[Cost]) -> dict[str, list[Cost]]:
    """Costs by panel, those that were measured."""
    found = {panel: [c for c in costs if c.panel == panel] for panel in PANELS}
    return {panel: of for panel, of in found.items() if of}


def table(costs: Sequence[Cost]) -> str:
    """All points in Markdown, then the slopes."""
    head = ["against", "cells", "unknowns", "columns", "members", "first look, s", "solve, s", "GiB", "load before"]
    rows = [
        [
            PANELS[c.panel],
            *(f"{n:,}".replace(",", " ") for n in (c.cells, c.unknowns, c.columns, c.members)),
            *(f"{v:.2f}" for v in (c.look, c.solve, c.gib, c.load)),
        ]
        for c in costs
    ]
    lines = [
        f"{PANELS[panel]}: seconds ~ x^{slope(of, panel, 'seconds'):.2f} (first look {slope(of, panel, 'look'):.2f}, "
        f"solve {slope(of, panel, 'solve'):.2f}), GiB ~ x^{slope(of, panel, 'gib'):.2f}"
        for panel, of in panels(costs).items()
    ]
    return "\n".join([markdown(head, rows), "", *lines])


def figure(costs: Sequence[Cost], path: Path) -> None:
    """Seconds on the left axis and memory on the right, a panel each for cells, columns and members."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    drawn = panels(costs)
    seconds = [bound(v for c in costs for v in (c.look, c.solve)) for bound in (min, max)]
    memory = [bound(c.gib for c in costs) for bound in (min, max)]
    fig, axes = plt.subplots(1, len(drawn), figsize=(3.9 * len(drawn), 3.6), layout="constrained", squeeze=False)
    for ax, (panel, of) in zip(axes[0], drawn.items(), strict=True):
        x = [getattr(c, panel) for c in of]
        beside = ax.twinx()
        lines = [
            *ax.loglog(x, [c.look for c in of], "o-", color="#33658a", label="first look, s"),
            *ax.loglog(x, [c.solve for c in of], "s-", color="#86bbd8", label="solve with members, s"),
            *beside.loglog(x, [c.gib for c in of], "^--", color="#c1440e", label="most memory, GiB"),
        ]
        ax.set(xlabel=PANELS[panel], title=f"seconds ~ x^{slope(of, panel, 'seconds'):.2f}")
        for side, title, low, high in ((ax, "seconds", *seconds), (beside, "GiB", *memory)):
            side.set_ylim(low / 1.3, high * 1.3)
            side.set_ylabel(title, fontsize=8)
        for axis in (ax.xaxis, ax.yaxis, beside.yaxis):
            axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axis.set_major_formatter(StrMethodFormatter("{x:g}"))
            axis.set_minor_formatter(NullFormatter())
        ax.tick_params(axis="x", labelsize=8, rotation=30)
    fig.legend(handles=lines, loc="outside lower center", ncols=3, fontsize=9)
    path.parent.mkdir(parents=True, exist_ok=True)
    fig.savefig(path, dpi=130)
    plt.close(fig)


def main(argv: Sequence[str] | None = None) -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--store", metavar="STORE", help="a folder with inputs of all of China, July 2022")
    p.add_argument("--work", type=Path, default=Path("cost-curves"), help="where domains are prepared and costs kept")
    p.add_argument("--figure", type=Path, metavar="PNG", help="draw it")
    p.add_argument("--panels", nargs="+", choices=PANELS, default=list(PANELS))
    a = p.parse_args(argv)
    kept = a.work / "costs.json"
    if a.store:
        costs = []
        for cost in run(a.store, a.work, [point for point in points() if point.panel in a.panels]):
            costs.append(cost)
            print(cost, file=sys.stderr, flush=True)
            kept.write_text(json.dumps([asdict(c) for c in costs], indent=1))
    elif kept.exists():
        costs = [Cost(**c) for c in json.loads(kept.read_text())]
    else:
        p.error(f"no {kept} of an earlier run; name a --store")
    print(table(costs))
    if a.figure:
        figure(costs, a.figure)


if __name__ == "__main__":
    main()
