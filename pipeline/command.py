"""The command line of `python -m pipeline.build`: flags, messages, summary, exit codes."""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import resource
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import yaml
from distributed import Client

from pipeline import __version__ as VERSION  # noqa: N812
from pipeline.access import open_product
from pipeline.core.errors import CarbonCubeError
from pipeline.core.labels import labels
from pipeline.settings import DEFAULT_STORE, PREFIX, Settings, load
from pipeline.store import publish
from pipeline.store.location import Store
from pipeline.telemetry import FORMATS, Telemetry, TelemetryPlugin, new_run_id

log = logging.getLogger(__name__)
EPILOG = """
examples:
  python -m pipeline.build --year 2022
      the demonstration world in ./data, then the national product of 2022 from it
  python -m pipeline.build --year 2019-2023 --store s3://bucket/carboncube --scheduler tcp://scheduler:8786
  python -m pipeline.build --year 2022 --months 1,2 --domain beijing-tianjin-hebei --preview

exit codes: 0 done, 2 usage, 3 input, 4 store, 5 partly done (run again to resume)
"""


@dataclass(frozen=True)
class Request:
    """What the command line asked for."""

    settings: Settings
    default_store: bool
    fresh: bool
    preview: bool
    progress: bool
    telemetry: Telemetry


@dataclass
class Summary:
    """What to tell at the end: lines for people, values for `--json`."""

    lines: list[str] = field(default_factory=list)
    values: dict[str, Any] = field(default_factory=dict)


def parser() -> argparse.ArgumentParser:
    """The flags of a build."""
    p = argparse.ArgumentParser(
        prog="python -m pipeline.build",
        description="Make gridded monthly CO2 emissions of China, with uncertainty, from satellites and proxies.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    what = p.add_argument_group("what to make")
    what.add_argument("--year", help="year(s): 2022, 2019,2021 or 2019-2023")
    what.add_argument("--months", help="months of each year, for example 1,2 or 6-8 (default: all)")
    what.add_argument(
        "--domain", help="a name (china, beijing-tianjin-hebei, ...) or W,S,E,N in degrees (default: china)"
    )
    what.add_argument("--no-fine", dest="fine", action="store_const", const=False, help="0.25 degree only, no 1 km")
    what.add_argument("--no-learn", dest="learn", action="store_const", const=False, help="no learning per region")
    what.add_argument(
        "--independent-of",
        metavar="NAMES",
        help="inventories that no input may descend from, or none (default: meic)",
    )
    where = p.add_argument_group("where")
    where.add_argument(
        "--store", help=f"folder or s3://bucket/prefix (default: {DEFAULT_STORE} with a demonstration world)"
    )
    where.add_argument("--scheduler", help="local (default), kubernetes, or an address tls://host:port, tcp://...")
    where.add_argument("--workers", type=int, help="worker processes (default: as many as cores and memory allow)")
    how = p.add_argument_group("how")
    resume = how.add_mutually_exclusive_group()
    resume.add_argument("--resume", action="store_true", help="keep what an earlier run finished (default)")
    resume.add_argument("--fresh", action="store_true", help="do everything again")
    how.add_argument(
        "--preview", action="store_true", help="say what would be done, what it would take and learn, and stop"
    )
    how.add_argument("--config", help="YAML file of settings")
    how.add_argument("--print-config", action="store_true", help="print all settings as YAML and stop")
    how.add_argument(
        "--log-level", default="warning", choices=("debug", "info", "warning", "error"), help="(default: warning)"
    )
    how.add_argument("--log-format", default="text", choices=FORMATS, help="json: one object a line (default: text)")
    how.add_argument("--json", action="store_true", help="print the summary as JSON and nothing else")
    p.add_argument("--version", action="version", version=f"carboncube {VERSION}")
    return p


def run(argv: list[str] | None, work: Callable[[Request], Summary]) -> int:
    """Parse, do the work, print its summary; errors become one line and an exit code."""
    arguments = parser().parse_args(argv)
    telemetry = Telemetry(new_run_id(), arguments.log_level, arguments.log_format)
    telemetry.configure()
    try:
        names = ("year", "months", "domain", "fine", "learn", "store", "scheduler", "workers", "independent_of")
        settings = load({n: getattr(arguments, n) for n in names}, arguments.config)
        if arguments.print_config:
            print(yaml.safe_dump(settings.shown(), sort_keys=False), end="")  # noqa: T201
            return 0
        given = arguments.store is not None or f"{PREFIX}STORE" in os.environ or settings.store != DEFAULT_STORE
        quiet = arguments.json or arguments.log_format == "json" or not sys.stderr.isatty()
        summary = work(Request(settings, not given, arguments.fresh, arguments.preview, not quiet, telemetry))
    except CarbonCubeError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return error.exit_code
    except KeyboardInterrupt:
        print("interrupted; run again to resume", file=sys.stderr)  # noqa: T201
        return 130
    if arguments.json:
        print(json.dumps(summary.values, indent=1, sort_keys=True))  # noqa: T201
    else:
        print("\n".join(summary.lines))  # noqa: T201
    return 0


def watch(client: Client, request: Request) -> None:
    """Let the workers log as this process does, and say where the work can be watched."""
    client.register_plugin(TelemetryPlugin(request.telemetry))
    workers = len(client.scheduler_info()["workers"])
    log.info(
        "run %s: %d workers, dashboard %s",
        request.telemetry.run,
        workers,
        client.dashboard_link,
        extra={"workers": workers, "dashboard": client.dashboard_link},
    )
    if request.telemetry.form == "text" and request.progress:
        print(f"watch    {client.dashboard_link}", file=sys.stderr)  # noqa: T201


def workers_of(client: Client) -> int:
    """Workers that there are; at least the one that is to come."""
    return max(1, len(client.scheduler_info(n_workers=-1)["workers"]))


def peak_memory(client: Client) -> dict[str, float]:
    """Highest resident memory of the driver and of all workers together that answer, GiB."""
    workers: dict[str, int] = {}
    with contextlib.suppress(OSError):  # a product is not lost for want of this figure
        workers = client.run(lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, on_error="ignore")
    driver = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"driver": round(driver / 2**20, 2), "workers": round(sum(workers.values()) / 2**20, 2)}


def summary(
    settings: Settings, store: Store, version: str, run: dict[str, Any], world: str | None, seconds: float
) -> Summary:
    """What to say of a finished run.

    Parameters
    ----------
    run : ``nothing_to_do``, ``stages``, ``predictions`` and ``memory`` of the run.
    world : the line about a demonstration world that was made.
    """
    product = publish.product_path(version)
    totals = national_totals(store, version)
    report = store.address(product, "report", "index.html") if settings.report else ""
    synthetic = open_product(store, "emissions_025", version).attrs.get("synthetic") == "true"
    lines = [world] if world else []
    if run["nothing_to_do"]:
        lines.append("nothing to do: this product is published already")
    lines += [
        f"{t['period']}: {t['mean'] / 1e9:.3f} Gt CO2 ({t['p05'] / 1e9:.3f}-{t['p95'] / 1e9:.3f}, 90 %) {t['region']}"
        + (", synthetic" if synthetic else "")
        + (", reduced state" if settings.inversion.leaves else "")
        for t in totals
    ]
    lines += [f"product  {store.address(product)}", *([f"report   {report}"] if report else [])]
    lines += [
        f"  {stage:14s}{s['seconds']:8.1f} s   {s['done']} done, {s['kept']} kept" for stage, s in run["stages"].items()
    ]
    lines += [_beside(row) for row in run["predictions"] if row["ratio"] is not None]
    memory = run["memory"]
    lines.append(
        f"{seconds:.0f} s, peak memory {memory['driver']:.1f} GiB driver + {memory['workers']:.1f} GiB workers"
    )
    values = {
        "version": version,
        "product": store.address(product),
        "report": report,
        "synthetic": synthetic,
        "totals": totals,
        "seconds": round(seconds, 1),
        "world": world,
        **run,
    }
    return Summary(lines, values)


def _beside(row: dict[str, Any]) -> str:
    """A prediction beside what came."""
    return f"  {row['quantity']:28s}{row['predicted']:10g} predicted, {row['seen']:g} seen ({row['ratio']:.2f} times)"


def national_totals(store: Store, version: str) -> list[dict[str, Any]]:
    """Total of each year of a version with its 90 % range, tonnes: of `CN`, or of the domain's part of it."""
    # Small, and read here: a worker that opens it for us alone would leave its connections open.
    members = open_product(store, "region_samples", version)["co2_emission"].load(scheduler="synchronous")
    regions, sectors = labels(members["region"]), labels(members["sector"])
    nation = members.isel(region=regions.index("CN"), sector=sectors.index("total"))
    result = []
    for year, part in nation.groupby("time.year"):
        draws = part.sum("time").values
        low, high = np.quantile(draws, (0.05, 0.95), method="weibull")
        months = part.sizes["time"]
        period = str(year) if months == 12 else f"{year} ({months} month{'s' if months > 1 else ''})"
        result.append(
            {"period": period, "region": "CN", "mean": float(draws.mean()), "p05": float(low), "p95": float(high)}
        )
    return result
