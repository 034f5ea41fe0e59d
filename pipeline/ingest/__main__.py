"""``python -m pipeline.ingest``: files of a product into a store; ``report`` prints what became of every file."""

from __future__ import annotations

import argparse
import json
import logging
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from tqdm import tqdm

from pipeline import __version__
from pipeline.core.errors import CarbonCubeError, UsageError
from pipeline.ingest.books import Request, Summary
from pipeline.ingest.products import PRODUCTS, product
from pipeline.ingest.remote import PREFIX, resolve
from pipeline.ingest.report import report
from pipeline.ingest.run import MapFunction, run
from pipeline.ingest.sources import list_granules
from pipeline.settings import load_place
from pipeline.store.location import Store


def parser() -> argparse.ArgumentParser:
    """The command line."""
    listed = "\n".join(f"  {p.name:16s}{p.about}" for p in PRODUCTS.values())
    p = argparse.ArgumentParser(
        prog="python -m pipeline.ingest",
        description="Bring files of a product into the store, once each; or print what became of them (report).",
        epilog=f"products:\n{listed}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("product", metavar="PRODUCT", help="one of the products below, or 'report'")
    p.add_argument(
        "--from", dest="urls", nargs="+", default=[], metavar="URL", help="files, folders, globs, zip, or catalog:NAME"
    )
    p.add_argument("--store", metavar="URL", help="the store (default: CARBONCUBE_STORE, else ./data)")
    p.add_argument("--config", metavar="FILE", help="YAML file of settings, for how the store is reached")
    p.add_argument("--year", default="", metavar="Y", help="keep these years only: 2022, 2019,2021 or 2019-2023")
    p.add_argument("--rule", action="append", default=[], metavar="NAME=VALUE", help="change a quality rule")
    p.add_argument("--regions", metavar="FILE", help="gpw: provinces, if not those of the store")
    p.add_argument("--provincial-totals", metavar="FILE", help="gpw: population table, if not that of the store")
    p.add_argument("--anonymous", action="store_true", help="read --from without credentials (public buckets)")
    p.add_argument("--scheduler", metavar="ADDRESS", help="'local' for processes of this machine, or a scheduler")
    p.add_argument("--workers", type=int, metavar="N", help="number of local processes")
    p.add_argument("--dry-run", action="store_true", help="list the files and the rules, read nothing")
    p.add_argument("--json", action="store_true", help="print the result as JSON")
    p.add_argument("--log-level", default="warning", metavar="LEVEL")
    return p


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; gives back the exit code."""
    args = parser().parse_args(arguments)
    logging.basicConfig(level=args.log_level.upper(), format="%(levelname)s %(name)s: %(message)s")
    # Both are about how others write and read files; the store's own are checked when they are opened.
    warnings.filterwarnings("ignore", message="Consolidated metadata is currently not part")
    warnings.filterwarnings("ignore", message="Unknown extension is not supported")
    try:
        store = Store.at(*load_place(args.store, args.config))
        if args.product == "report":
            return _print(report(store), args.json)
        if not args.urls:
            raise UsageError(f"{args.product} without --from", "where its files are", "add --from URL...")
        _resolve_names(args)
        options = {"anon": True} if args.anonymous else {}
        if args.dry_run:
            return _dry_run(args, options)
        store.claim(default=False, version=__version__)
        years = frozenset(_years(args.year))
        request = Request(args.product, tuple(args.urls), store, years, _rules(args.rule), _paths(args, years), options)
        return _finish(_run(request, args), args.json)
    except CarbonCubeError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code


def _resolve_names(args: argparse.Namespace) -> None:
    if not any(url.startswith(PREFIX) for url in args.urls):
        return
    from pipeline.catalog import remote_sources

    args.urls, free = resolve(args.urls, _years(args.year), args.product, remote_sources())
    args.anonymous = args.anonymous or free


_DOING = {
    "_bin_file": "reading files",
    "_write_day": "writing days",
    "_look_up": "looking into files",
    "_fill_group": "filling the cube",
    "_read_document": "reading files",
}


def _with_progress(mapped: MapFunction) -> MapFunction:
    """A map function that shows how far it is, where somebody watches."""

    def shown(function: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
        todo = list(items)
        label = _DOING.get(function.__name__, function.__name__)
        return iter(tqdm(mapped(function, todo), total=len(todo), desc=label, disable=None, leave=False))

    return shown


def _run(request: Request, args: argparse.Namespace) -> Summary:
    if args.scheduler is None:
        return run(request, _with_progress(map))
    from pipeline.cluster import connect
    from pipeline.ingest.lift import client_map
    from pipeline.settings import load_cluster

    with connect(args.scheduler, args.workers, options=load_cluster()) as client:
        return run(request, _with_progress(client_map(client)))


def _paths(args: argparse.Namespace, years: frozenset[int]) -> dict[str, str]:
    named = {"regions": args.regions, "provincial_totals": args.provincial_totals}
    named |= {"years": ",".join(map(str, sorted(years))), "anonymous": "yes" if args.anonymous else ""}
    return {name: path for name, path in named.items() if path}


def _years(text: str) -> list[int]:
    years: list[int] = []
    try:
        for part in filter(None, text.split(",")):
            first, _, last = part.partition("-")
            years += range(int(first), int(last or first) + 1)
    except ValueError:
        raise UsageError(f"--year {text!r}", "2022, 2019,2021 or 2019-2023") from None
    return years


def _rules(given: Sequence[str]) -> dict[str, str]:
    for rule in given:
        if "=" not in rule:
            raise UsageError(f"--rule {rule!r}", "NAME=VALUE")
    return dict(rule.split("=", 1) for rule in given)


def _dry_run(args: argparse.Namespace, options: dict[str, bool]) -> int:
    listing = list_granules(args.urls, product(args.product).patterns, options)
    total = sum(g.size for g in listing.granules)
    lines = [f"{g.size:>14,d}  {g.address}" for g in listing.granules]
    lines += [f"{'ignored':>14s}  {name}" for name in listing.ignored]
    lines.append(f"{len(listing.granules)} files, {total:,d} bytes, would be read as {args.product}")
    return _print({"files": [g.address for g in listing.granules], "bytes": total, "lines": lines}, args.json)


def _finish(summary: Summary, as_json: bool) -> int:
    counts = ", ".join(f"{n} {status}" for status, n in sorted(summary.statuses.items())) or "nothing new"
    lines = [f"{summary.product}: {counts}; {summary.known} known before, {len(summary.ignored)} ignored by name"]
    lines += [f"  {problem}" for problem in summary.problems]
    lines += [f"  written: {path}" for path in summary.written]
    _print({**vars(summary), "lines": lines}, as_json)
    if summary.statuses.get("failed"):
        return 5
    nothing = not summary.statuses.get("used") and not summary.known and not summary.written
    return 3 if nothing else 0


def _print(result: dict, as_json: bool) -> int:
    if as_json:
        sys.stdout.write(json.dumps({k: v for k, v in result.items() if k != "lines"}, indent=1, sort_keys=True) + "\n")
    else:
        sys.stdout.write("\n".join(result["lines"]) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
