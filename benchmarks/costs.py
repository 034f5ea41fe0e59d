"""Holds the constants of `pipeline.preview.COSTS` to runs that were made. `python -m benchmarks.costs STORE ...`.

For every version in the stores whose run took nothing over from an earlier one: seconds of each stage as seen, as the
constants say for the columns that were seen, and their ratio; then memory and degrees of freedom as predicted and seen.
A constant that is off everywhere by the same factor is to be multiplied by it. To measure all of them anew, on a
machine that does nothing else:

    python -m pipeline.build --store STORE --year 2022 --months 7 --domain 112,32,116,36 --workers 1 --fresh
    python -m pipeline.build --store STORE --year 2022 --months 1,4,7,10 --domain 110,30,122,42 --workers 2 --fresh
    python -m pipeline.build --store STORE --year 2022 --months 1,4,7,10 --workers 2 --fresh
    python -m benchmarks.costs STORE
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.preview import prepared_cells, solved, stage_seconds
from pipeline.settings import Settings
from pipeline.store.location import Store
from pipeline.store.publish import product_path


@dataclass(frozen=True)
class Row:
    """One number of one run: as the constants have it, and as it was seen."""

    version: str
    name: str
    predicted: float
    seen: float

    @property
    def ratio(self) -> float:
        return self.seen / self.predicted if self.predicted else np.nan


def rows_of(store: Store) -> Iterator[Row]:
    """All numbers of all runs of a store that did all of their work themselves."""
    for version in store.names("products"):
        record = store.read_json(product_path(version), "provenance.json") if version[:1].isdigit() else None
        if record and "workers" in record and not any(stage["kept"] for stage in record["stages"].values()):
            yield from _rows(store, version, record)


def _rows(store: Store, version: str, record: dict[str, Any]) -> Iterator[Row]:
    settings = Settings(**record["settings"] | {"store": store.url})
    columns = float(np.mean([month["n_obs"] for month in record["diagnostics"]]))
    cells = prepared_cells(store, solved(settings, store))
    expected = stage_seconds(settings, cells, columns, record["workers"])
    for stage, told in record["stages"].items():
        yield Row(version, f"{stage}, s", expected[stage], told["seconds"])
    for told in record["predictions"]:
        if told["ratio"] is not None:
            yield Row(version, told["quantity"], told["predicted"], told["seen"])


def table(rows: list[Row]) -> list[str]:
    """By run, then the median ratio of each number over all runs."""
    lines = []
    for version in dict.fromkeys(row.version for row in rows):
        lines += ["", version, f"{'':32s}{'predicted':>12s}{'seen':>12s}{'ratio':>8s}"]
        lines += [f"{r.name:32s}{r.predicted:12.2f}{r.seen:12.2f}{r.ratio:8.2f}" for r in rows if r.version == version]
    lines += ["", f"{'all runs':32s}{'median ratio':>32s}"]
    for name in dict.fromkeys(row.name for row in rows):
        lines.append(f"{name:32s}{np.nanmedian([r.ratio for r in rows if r.name == name]):32.2f}")
    return lines


def main(argv: list[str] | None = None) -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("stores", nargs="+", metavar="STORE")
    args = p.parse_args(argv)
    rows = [row for url in args.stores for row in rows_of(Store(url))]
    print("\n".join(table(rows)) if rows else "no run in these stores did all of its work itself")


if __name__ == "__main__":
    main()
