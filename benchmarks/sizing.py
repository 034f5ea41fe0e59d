"""Writes what five years at 1 km take and cost into `deploy/README.md`, from `benchmarks/sizing.json`.

    python -m benchmarks.scaling measure --store s3://bucket/sizing --year 2022 --months 1,7
    python -m benchmarks.sizing

Everything between the marks of that file is written here, from one measured run; prices are assumptions.
"""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Sequence
from pathlib import Path

from benchmarks.scaling import MEASURED, WORKERS, Costs, Outcome, simulated, stops
from pipeline.preview import unit_counts, unit_memory
from pipeline.settings import load

README = Path(__file__).parents[1] / "deploy" / "README.md"
MARKS = (
    "<!-- sizing: written by `python -m benchmarks.sizing` from benchmarks/sizing.json -->",
    "<!-- end of sizing -->",
)
PLANNED = {"year": "2019-2023"}
PRICES = {
    "worker": (0.02, "an hour"),
    "driver": (0.08, "an hour"),
    "storage": (0.025, "a GB and month"),
    "requests": (0.005, "a thousand"),
}
"""Assumed, not anybody's price list."""
PAYING, REQUESTS = 16, 100
"""Workers of the run that is reckoned, and thousands of requests to the store."""


def block(costs: Costs) -> str:
    """The section between the marks, as Markdown."""
    planned = load(PLANNED, environ={})
    outcomes = {o.workers: o for o in simulated(costs, planned, sorted({*WORKERS, PAYING}))}
    growth = len(planned.year) * len(planned.months) / costs.months
    product, work = costs.product_bytes / 1e9, costs.work_bytes / 1e9
    clock = "processor seconds" if costs.clock == "cpu_seconds" else "seconds"
    world = "a synthetic world" if costs.synthetic else "real inputs"
    asked, compared = unit_memory(planned) / 2**30, ""
    if costs.ratio:
        compared = f" Two workers did the stages {costs.ratio:.2f} times as fast as one, in one run."
    paragraphs = [
        f"{sum(unit_counts(planned).values())} units of work, simulated from what each unit of a build of "
        f"{costs.months} months of {world} took with one worker ({costs.machine}; {clock}; the driver alone "
        f"{costs.serial:.1f} s):",
        _table(outcomes),
        f"It {stops([outcomes[w] for w in WORKERS])}.",
        f"Measured: a worker peaked at {costs.peak_gib:.1f} GiB, for which `--preview` says {asked:.1f}. "
        f"{costs.months} months left {product:.2f} GB of product and {work:.2f} GB of intermediate results in "
        f"`work/`: about {growth * product:.0f} and {growth * work:.0f} GB for five years.{compared}",
        "**Cost, from assumed unit prices.** Put in your own; these are assumptions, not anybody's price list:",
        _prices(outcomes[PAYING], growth * (product + work)),
    ]
    return "\n\n".join(p if p.startswith("|") else textwrap.fill(p, 120) for p in paragraphs)


def _table(outcomes: dict[int, Outcome]) -> str:
    lines = ["| workers | hours | times as fast as one | of the paid worker time at work | worker-hours |"]
    lines.append("|---|---|---|---|---|")
    for workers, o in sorted(outcomes.items()):
        hours, faster = o.seconds / 3600, outcomes[1].seconds / o.seconds
        lines.append(f"| {workers} | {hours:.2g} | {faster:.2g} | {100 * o.efficiency:.0f} % | {workers * hours:.1f} |")
    return "\n".join(lines)


def _prices(run: Outcome, gigabytes: float) -> str:
    hours = 2 * run.seconds / 3600
    paid = PAYING * hours
    much = {
        "worker": ("workers, 1 core and 4 GiB, on spot nodes", f"{paid:.1f} worker-hours, {PAYING} workers", paid),
        "driver": ("driver and scheduler, 1.5 cores and 5 GiB", f"{hours:.1f} hours", hours),
        "storage": ("product and intermediate results in object storage", f"{gigabytes:.0f} GB for a month", gigabytes),
        "requests": ("requests, a generous guess", f"{REQUESTS} thousand", REQUESTS),
    }
    lines = ["| what (hours doubled for what waits and starts) | how much | at | costs |", "|---|---|---|---|"]
    for name, (what, said, number) in much.items():
        price, unit = PRICES[name]
        lines.append(f"| {what} | {said} | {price} {unit} | {number * price:.2f} |")
    total = sum(number * PRICES[name][0] for name, (_, _, number) in much.items())
    return "\n".join([*lines, f"| **together** | | | **about {total:.1f}** (of the currency you pay in) |"])


def between(text: str) -> str:
    """What stands between the marks of a text; an error where they are not there once."""
    (found,) = re.findall(f"{re.escape(MARKS[0])}\n(.*?)\n{re.escape(MARKS[1])}", text, re.S)
    return found


def read(path: Path = MEASURED) -> Costs:
    """What was measured."""
    return Costs(**json.loads(path.read_text()))


def main(arguments: Sequence[str] = ()) -> None:
    """Write the section anew."""
    costs, text = read(*map(Path, arguments)), README.read_text()
    README.write_text(text.replace(between(text), block(costs)))


if __name__ == "__main__":
    main()
