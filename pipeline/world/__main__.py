"""``python -m pipeline.world``: make a demonstration world, or add satellites and winds to real proxies."""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import fields
from functools import partial
from typing import Any

from pipeline.core.errors import CarbonCubeError, UsageError
from pipeline.core.grid import domain_grid
from pipeline.settings import load_place
from pipeline.store.location import Store
from pipeline.world.make import make_on, make_world
from pipeline.world.physics import Physics


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = argparse.ArgumentParser(
        prog="python -m pipeline.world",
        description="Make a synthetic world with known truth; or add satellites and winds to real proxies (--on).",
        epilog="switches: " + ", ".join(f"{f.name} ({'on' if f.default else 'off'})" for f in fields(Physics)),
    )
    p.add_argument("--store", metavar="URL", help="where the world goes (default: CARBONCUBE_STORE, else ./data)")
    p.add_argument("--config", metavar="FILE", help="YAML file of settings, for how the store is reached")
    p.add_argument("--on", metavar="STORE", help="a store with real proxies and inventory_meic_table.parquet")
    p.add_argument("--year", default="2022", help="2022, 2019,2021 or 2019-2023 (default %(default)s)")
    p.add_argument("--months", default="1-12", help="1,2 or 3-5 (default %(default)s)")
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--domain", default="china", metavar="W,S,E,N", help="or a name (default %(default)s)")
    p.add_argument("--switch-off", action="append", default=[], metavar="NAME", help="a piece of physics to leave out")
    p.add_argument("--switch-on", action="append", default=[], metavar="NAME", help="one that is off by default")
    p.add_argument("--workers", type=int, default=2, metavar="N", help="processes (default %(default)s)")
    return p


def numbers(text: str) -> list[int]:
    """``2019-2021,2023`` as a list.

    Raises
    ------
    UsageError : not numbers and ranges.
    """
    try:
        result: list[int] = []
        for part in text.split(","):
            first, _, last = part.partition("-")
            result += range(int(first), int(last or first) + 1)
        if not result:
            raise ValueError
        return result
    except ValueError:
        raise UsageError(f"{text!r}", "numbers and ranges like 2019-2021,2023") from None


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; gives back the exit code."""
    args = parser().parse_args(arguments)
    # About other libraries' readers of the files, and said once for every cube.
    warnings.filterwarnings("ignore", message="Consolidated metadata is currently not part")
    started = time.perf_counter()
    try:
        store = Store.at(*load_place(args.on or args.store, args.config))
        physics = Physics().switched(tuple(args.switch_off), tuple(args.switch_on))
        years, months = numbers(args.year), numbers(args.months)
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(args.workers, mp_context=context) as pool:
            units = partial(_run, pool.map if args.workers > 1 else map)
            if args.on:
                if args.domain != "china":
                    raise UsageError("--domain with --on", "all of China", "leave --domain out")
                make_on(store, years, args.seed, physics, units, months=months)
            else:
                make_world(store, years, seed=args.seed, domain=domain_grid(args.domain), months=months,
                           physics=physics, map_units=units)  # fmt: skip
    except CarbonCubeError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return error.exit_code
    made = "satellites and winds (synthetic) on the proxies of" if args.on else "a demonstration world (synthetic) in"
    print(f"made {made} {store.url}: {args.year}, {time.perf_counter() - started:.0f} s")  # noqa: T201
    return 0


def _run(mapper: Callable[..., Iterable[Any]], fn: Callable[[Any], Any], args: list[Any]) -> list[Any]:
    started = time.perf_counter()
    done = list(mapper(fn, args))
    print(f"{fn.__name__}: {len(args)} in {time.perf_counter() - started:.1f} s", file=sys.stderr)  # noqa: T201
    return done


if __name__ == "__main__":
    sys.exit(main())
