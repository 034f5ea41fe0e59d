"""``python -m pipeline.prune``: show, or with ``--yes`` remove, what of a store nobody needs any more."""

from __future__ import annotations

import argparse
import datetime as dt
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict

from dask.utils import format_bytes

from pipeline.core.errors import CarbonCubeError, InputError, UsageError
from pipeline.settings import load_place
from pipeline.store.location import MARKER, Store
from pipeline.store.prune import AGE, KEEP, Item, Plan, carry_out, plan

EPILOG = """
A replaced version goes once it has been replaced for --older-than days, and --keep newer ones are kept besides the
published one. Whoever opens products through the pointer and reads for no longer than that is never disturbed; who
reads longer must open the product again. What latest.json names for a year never goes, nor does what a build wrote, or
marked as under way, within that time.
"""


def parser() -> argparse.ArgumentParser:
    """The flags."""
    p = argparse.ArgumentParser(prog="python -m pipeline.prune", description=__doc__, epilog=EPILOG)
    p.add_argument("--store", metavar="URL", help="the store (default: CARBONCUBE_STORE, else ./data)")
    p.add_argument("--config", metavar="FILE", help="YAML file of settings, for how the store is reached")
    p.add_argument("--keep", type=int, default=KEEP, metavar="N", help=f"replaced versions to keep (default: {KEEP})")
    age = f"days since it was replaced or written, at least 1 (default: {AGE.days})"
    p.add_argument("--older-than", type=float, default=AGE.days, metavar="DAYS", help=age)
    p.add_argument("--yes", action="store_true", help="remove it; without this nothing is")
    p.add_argument("--json", action="store_true", help="print what goes and what stays as JSON")
    return p


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; gives back the exit code."""
    args = parser().parse_args(arguments)
    try:
        store = Store.at(*load_place(args.store, args.config))
        if MARKER not in store.names():
            raise InputError(f"no {MARKER} at {store.url}", "a store made by carboncube", "check --store")
        made = plan(store, args.keep, _days(args.older_than))
        removed = list(carry_out(store, made)) if args.yes else []
    except CarbonCubeError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    if args.json:
        values = {**asdict(made), "marks": sorted(made.marks), "removed": [asdict(item) for item in removed]}
        sys.stdout.write(json.dumps(values, indent=1) + "\n")
    else:
        sys.stdout.write("".join(f"{line}\n" for line in _lines(made, removed, args.yes)))
    return 0


def _days(number: float) -> dt.timedelta:
    try:
        return dt.timedelta(days=number)
    except (OverflowError, ValueError):
        raise UsageError(f"--older-than {number}", "a number of days") from None


def _lines(made: Plan, removed: Sequence[Item], done: bool) -> Iterator[str]:
    """Versions one by one, the rest by what it is; then the sum."""
    gone = removed if done else made.items
    word = "removed" if done else "goes"
    for version, why in sorted(made.kept.items()):
        yield f"stays    products/{version}: {why}"
    groups: dict[str, list[Item]] = {}
    for item in gone:
        groups.setdefault(item.names[0] if item.kind == "version" else f"{item.kind}", []).append(item)
    for name, items in groups.items():
        reasons = ", ".join(sorted({item.why for item in items}))
        yield f"{word:8s} {name}: {reasons} ({_size(items)})"
    yield from (f"note     {note}" for note in made.notes)
    if done and len(removed) < len(made.items):
        yield f"note     {len(made.items) - len(removed)} things stay that a build or a pointer took up meanwhile"
    yield f"{word:8s} {_size(gone)} together" + ("" if done or not gone else "; --yes removes it")


def _size(items: Sequence[Item]) -> str:
    return f"{sum(item.objects for item in items)} objects, {format_bytes(sum(item.bytes for item in items))}"


if __name__ == "__main__":
    raise SystemExit(main())
