"""``python -m pipeline.validate``: a product against the truth of a synthetic store, or beside an inventory."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.core.errors import CarbonCubeError
from pipeline.settings import load
from pipeline.store.location import Store
from pipeline.validate.inventory import compare
from pipeline.validate.truth import score_year
from pipeline.validate.version import Version


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = argparse.ArgumentParser(
        prog="python -m pipeline.validate",
        description="Scores of a product against the truth of a synthetic store, or beside an inventory.",
    )
    p.add_argument("--store", metavar="URL", help="the store (default: CARBONCUBE_STORE, else ./data)")
    p.add_argument("--year", required=True, type=int, metavar="Y")
    p.add_argument("--version", metavar="NAME", help="a version of the product (default: the year's latest)")
    p.add_argument("--against", default="truth", metavar="NAME", help="truth (default), meic or another inventory")
    p.add_argument(
        "--allow-dependent", action="store_true", help="compare also what descends from the inventory, and say so"
    )
    p.add_argument("--config", metavar="FILE", help="YAML file of settings, for the store's options")
    p.add_argument("--json", action="store_true", help="print the result as JSON and nothing else")
    return p


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; gives back the exit code."""
    args = parser().parse_args(arguments)
    try:
        settings = load({"year": args.year, "store": args.store}, args.config)
        store = Store.at(settings.store, settings.storage)
        product = Version(store, args.version) if args.version else Version.of_year(store, args.year)
        if args.against == "truth":
            result: dict[str, Any] = {"version": product.name, "year": args.year, **score_year(product, args.year)}
            lines = [f"{key:34s}{value:14.4f}" for key, value in result.items() if isinstance(value, float)]
        else:
            result = compare(store, product.name, args.against, args.year, allow_dependent=args.allow_dependent)
            lines = _lines(result)
    except CarbonCubeError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    head = f"version {product.name}, {args.year}, against {args.against}"
    sys.stdout.write(json.dumps(result, indent=1) + "\n" if args.json else "\n".join([head, *lines]) + "\n")
    return 0


def _lines(result: Mapping[str, Any]) -> list[str]:
    lines = [
        result["verdict"],
        "",
        f"{'Mt CO2':22s}{'product':>10s}{'90 % range':>22s}{'inventory':>12s}{'differs':>10s}",
    ]
    lines.append(_line("31 provinces", result["national"]))
    for key, name in (("sectors", "sector"), ("months", "month"), ("provinces", "name")):
        lines += ["", *(_line(row[name], row) for row in result[key])]
    return [*lines, "", *(f"{k:34s}{v:10.3f}" for k, v in result.items() if isinstance(v, float))]


def _line(name: str, row: Mapping[str, Any]) -> str:
    differs = "" if row["difference"] is None else f"{100 * row['difference']:+.1f} %"
    low_high = f"{row['p05'] / 1e6:,.1f} - {row['p95'] / 1e6:,.1f}"
    mark = "" if row["inside_90"] else "  outside"
    return f"{name:22s}{row['product'] / 1e6:10,.1f}{low_high:>22s}{row['inventory'] / 1e6:12,.1f}{differs:>10s}{mark}"


if __name__ == "__main__":
    raise SystemExit(main())
