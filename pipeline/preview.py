"""What a run will cost and learn, said before it starts from what is known then, and held to what was seen.

`COSTS` holds everything that was measured. `python -m benchmarks.costs STORE ...` compares it with the runs whose
products a store holds and says by how much each number is off; do that on a machine that does nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from pipeline.access import input_names, open_input, open_regions
from pipeline.cluster import fitting_workers
from pipeline.core.chunks import tiles
from pipeline.core.grid import FINE_PER_COARSE, G025, Grid
from pipeline.coverage import look_ahead
from pipeline.flow import solved_grid
from pipeline.settings import Settings
from pipeline.store.location import Store
from pipeline.tasks import whole_grid


@dataclass(frozen=True)
class Costs:
    """What was measured. Pairs are seconds of one core for a unit, and for each piece of what it works on.

    Attributes
    ----------
    start : s of a run before its first unit.
    prepare : pieces are cells of the grid that holds all regions.
    observe, first_look, invert : NO2 columns of the month; `member` is added to the last for each member.
    level : s per month squared.
    features, learn, coarse : cells of the domain; of all months for `learn`.
    fine : fine cells of a tile in all its months.
    driver, worker : GiB that are taken before anything is done.
    column_bytes, member_bytes : of a worker, per column of its month, per cell and member.
    unit_base, unit_month : GiB that a worker must have: imports, and a month of the whole country at its largest.
    fine_bytes : of one national month at 1 km, packed.
    coverage : share of cells and days with a column where no cube is there to be looked at.
    reduced : share of the time of first look and invert that a reduced state takes (`InversionOptions.leaves`): at
        least, and for each leaf over a cell of the domain.
    merged : leaves over cells of the domain at which little more than half of the information is left.
    sharpness : how well a column of signal to noise 1 tells the cell below it (`pipeline.coverage.expected_dofs`).
    """

    start: float = 1.0
    prepare: tuple[float, float] = (0.1, 5e-5)
    observe: tuple[float, float] = (1.0, 4.7e-5)
    first_look: tuple[float, float] = (1.0, 5.9e-5)
    level: float = 8e-3
    features: tuple[float, float] = (0.05, 1e-5)
    learn: tuple[float, float] = (0.4, 2.3e-5)
    invert: tuple[float, float] = (1.0, 1.2e-5)
    member: float = 4e-7
    coarse: tuple[float, float] = (0.03, 1.7e-5)
    fine: tuple[float, float] = (0.2, 1.7e-7)
    driver: float = 0.6
    worker: float = 0.45
    column_bytes: float = 5400.0
    member_bytes: float = 190.0
    unit_base: float = 0.5
    unit_month: float = 2.5
    fine_bytes: float = 60e6
    coverage: float = 0.4
    reduced: tuple[float, float] = (0.2, 1.6)
    merged: float = 0.09
    sharpness: float = 0.025


COSTS = Costs()
"""Times from a national year and two national months on two cores that did nothing else, and two months of 10 x 10
degrees (272 000 and 11 000 to 14 000 columns a month, 50 members); memory from runs of one month of 4 x 4 degrees, four
of 12 x 12 and four of all of China on a shared machine. `sharpness` from these and a national year, whose DOFS came out
at 0.90 times what it says, single months at 0.56 (January) to 1.38 (May), regions at 0.7 to 1.1; columns at 0.95 to
1.09 for the nation, up to 1.6 for a box of 2 x 2 degrees; all before the inversion counted that columns vary under the
posterior, since when a national year came out at 0.57 of the DOFS. `reduced` from a national July with 2000 to 8000
leaves, `merged` from a national year with 3000."""


@dataclass(frozen=True)
class Prediction:
    """What is expected of a run, and from what.

    Attributes
    ----------
    dofs, columns : of a month, mean over the months.
    stages, seconds : of computing, by stage and together: from the first look at the inputs to the last unit, without
        the start of workers and the report.
    driver_gib, workers_gib : peak memory, of all workers together.
    workers, looked : workers counted on, and days of NO2 that were looked at.
    """

    dofs: float | None
    columns: float
    stages: dict[str, float]
    driver_gib: float
    workers_gib: float
    workers: int
    looked: int

    @property
    def seconds(self) -> float:
        """All stages together."""
        return sum(self.stages.values())

    def judged(
        self,
        stages: Mapping[str, Mapping[str, Any]],
        diagnostics: Sequence[Mapping[str, Any]],
        memory: Mapping[str, float],
        seconds: float,
    ) -> list[dict[str, Any]]:
        """Every prediction beside what was seen: `quantity`, `predicted`, `seen`, `ratio` (seen over predicted).

        Time and memory of a run that took finished units over from an earlier one say nothing: there `seen` is `None`.

        Parameters
        ----------
        stages : of the run, `done` and `kept` units each; diagnostics : by month, `dofs` and `n_obs`.
        memory : `driver` and `workers`, GiB; seconds : of the run.
        """
        whole = not any(stage["kept"] for stage in stages.values())
        rows = [
            ("degrees of freedom a month", self.dofs, float(np.mean([d["dofs"] for d in diagnostics]))),
            ("NO2 columns a month", self.columns, float(np.mean([d["n_obs"] for d in diagnostics]))),
            ("seconds of computing", self.seconds, seconds if whole else None),
            ("GiB of the driver", self.driver_gib, memory["driver"] if whole else None),
            ("GiB of the workers", self.workers_gib, memory["workers"] if whole else None),
        ]
        return [
            {
                "quantity": name,
                "predicted": None if predicted is None else _three_digits(predicted),
                "seen": None if seen is None else _three_digits(seen),
                "ratio": _three_digits(seen / predicted) if seen is not None and predicted else None,
            }
            for name, predicted, seen in rows
        ]


def _three_digits(value: float) -> float:
    return float(f"{value:.3g}")


def predict(settings: Settings, store: Store, grid: Grid | None = None, workers: int = 0) -> Prediction:
    """What a run of these settings on these inputs will take.

    Parameters
    ----------
    grid : the inversion solves; found from the inputs by default.
    workers : that there are; by default those that would be started here.
    """
    grid = grid or solved(settings, store)
    workers = (
        workers or settings.workers or (fitting_workers(unit_memory(settings)) if settings.scheduler == "local" else 1)
    )
    seen = look_ahead(store, settings, grid, COSTS.coverage, COSTS.sharpness)
    stages = stage_seconds(settings, prepared_cells(store, grid), seen.columns, workers)
    cells = grid.n_lat * grid.n_lon
    busy = min(workers, len(settings.year) * len(settings.months))
    work = seen.columns * COSTS.column_bytes + cells * settings.inversion.members * COSTS.member_bytes
    share = _leaves(settings)
    return Prediction(
        None if seen.dofs is None else seen.dofs * share * (1 + COSTS.merged) / (share + COSTS.merged),
        seen.columns,
        stages,
        COSTS.driver,
        workers * COSTS.worker + busy * work / 2**30,
        workers,
        seen.looked,
    )


def stage_seconds(
    settings: Settings, prepared_cells: int, columns: float, workers: int, costs: Costs = COSTS
) -> dict[str, float]:
    """Seconds of each stage, in the order of the build, after ``start``.

    Parameters
    ----------
    prepared_cells : of the grid that holds all regions; columns : of a month; workers : that share the units.
    """
    months = len(settings.year) * len(settings.months)
    cells = settings.grid.n_lat * settings.grid.n_lon
    fine = cells * FINE_PER_COARSE**2 / len(list(tiles(settings.grid)))

    def of(cost: tuple[float, float], pieces: float) -> float:
        return cost[0] + pieces * cost[1]

    given = columns * settings.inversion.members * costs.member
    reduced = min(1.0, of(costs.reduced, _leaves(settings))) if settings.inversion.leaves else 1.0
    unit = {
        "prepare": of(costs.prepare, prepared_cells),
        "observe": of(costs.observe, columns),
        "first look": of(costs.first_look, columns) * reduced,
        "level": costs.level * months**2,
        "features": of(costs.features, cells),
        "learn": of(costs.learn, cells * months),
        "invert": (of(costs.invert, columns) + given) * reduced,
        "product 0.25": of(costs.coarse, cells),
        "product 1 km": of(costs.fine, fine * len(settings.months)),
    }
    counts = unit_counts(settings)
    seconds = {name: unit[name] * -(-count // workers) for name, count in counts.items()}
    return {"start": costs.start, **seconds}


def _leaves(settings: Settings) -> float:
    """Leaves of the state over cells of the domain, at most 1."""
    cells = settings.grid.n_lat * settings.grid.n_lon
    return min(1.0, (settings.inversion.leaves or cells) / cells)


def prepared_cells(store: Store, grid: Grid) -> int:
    """Cells of the grid that holds all regions; of the solved one where there are no regions yet."""
    if not store.exists("inputs/regions.geojson"):
        return grid.n_lat * grid.n_lon
    whole = whole_grid(open_regions(store), grid)
    return whole.n_lat * whole.n_lon


def solved(settings: Settings, store: Store) -> Grid:
    """The grid that will be solved; the domain with its whole margin where there is no weather yet."""
    if "era5" in input_names(store):
        return solved_grid(open_input(store, "era5"), settings)
    return settings.grid.expand(settings.transport.margin)


def unit_memory(settings: Settings) -> int:
    """Bytes that one unit of work needs of its worker at most: a month of the domain."""
    cells = settings.grid.n_lat * settings.grid.n_lon
    return int((COSTS.unit_base + COSTS.unit_month * cells / (G025.n_lat * G025.n_lon)) * 2**30)


def unit_counts(settings: Settings) -> dict[str, int]:
    """Units of work of each stage, in the order of the build."""
    n_month = len(settings.year) * len(settings.months)
    n_tile = len(list(tiles(settings.grid))) * len(settings.year)
    return {
        "prepare": len(settings.year),
        "observe": n_month,
        "first look": n_month,
        "level": 1,
        **({"features": len(settings.year), "learn": 1} if settings.learn else {}),
        "invert": n_month,
        "product 0.25": n_month,
        **({"product 1 km": n_tile} if settings.fine else {}),
    }


def product_bytes(settings: Settings) -> int:
    """Size of the product: members of the coarse cells, and the fine cells."""
    n_month = len(settings.year) * len(settings.months)
    cells = settings.grid.n_lat * settings.grid.n_lon
    fine = COSTS.fine_bytes * cells / (G025.n_lat * G025.n_lon) * n_month if settings.fine else 0.0
    return int(fine + n_month * cells * (settings.inversion.members * 4 + 224))


def preview(settings: Settings, store: Store) -> tuple[list[str], dict[str, Any]]:
    """What a run would do and take, without doing it: lines for people, values for `--json`."""
    counts, memory, size = unit_counts(settings), unit_memory(settings) / 2**30, product_bytes(settings)
    expected = predict(settings, store)
    values = {
        "tasks": counts,
        "task_count": sum(counts.values()),
        "memory_per_worker_gib": round(memory, 2),
        "product_bytes": size,
        "inputs": input_names(store),
        "prediction": {**asdict(expected), "seconds": expected.seconds},
    }
    dofs = "unknown before there is any NO2" if expected.dofs is None else f"about {expected.dofs:.0f}"
    from_what = f"from {expected.looked} days of NO2" if expected.looked else "as usual"
    lines = [f"{name:14s}{count:6d} tasks{expected.stages[name]:10.0f} s" for name, count in counts.items()]
    lines += [
        f"{'together':14s}{values['task_count']:6d} tasks{expected.seconds:10.0f} s with {expected.workers} worker(s)",
        f"about {expected.columns:.0f} NO2 columns a month ({from_what}), degrees of freedom {dofs}",
        f"peak memory about {expected.driver_gib:.1f} GiB driver + {expected.workers_gib:.1f} GiB workers",
        f"a worker needs {memory:.1f} GiB to itself",
        f"about {size / 1e9:.2f} GB of product",
        f"inputs in {store.url}: {', '.join(input_names(store)) or 'none yet'}",
    ]
    return lines, values
