"""What a run tells while it works: log lines that carry the run's id, and counters for Prometheus."""

from __future__ import annotations

import datetime as dt
import functools
import json
import logging
import threading
import uuid
from dataclasses import dataclass
from typing import Any

from distributed import WorkerPlugin

FORMATS = ("text", "json")
"""How log lines look: for people, or one JSON object a line for a log collector."""
_one_at_a_time = threading.Lock()
_STANDARD = {*logging.makeLogRecord({}).__dict__, "message", "asctime", "taskName"}


def new_run_id() -> str:
    """The id of a run: UTC time and 6 random hex digits; the same on every line of driver and workers."""
    return f"{dt.datetime.now(dt.UTC):%Y%m%dT%H%M%SZ}-{uuid.uuid4().hex[:6]}"


class JsonLines(logging.Formatter):
    """One JSON object a line: time, level, logger, run, process, message, and what the record carries as `extra`."""

    def __init__(self, run: str) -> None:
        super().__init__()
        self.run = run

    def format(self, record: logging.LogRecord) -> str:
        """The record as one line of JSON."""
        line = {
            "time": dt.datetime.fromtimestamp(record.created, dt.UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "run": self.run,
            "pid": record.process,
            "message": record.getMessage(),
            **{key: value for key, value in record.__dict__.items() if key not in _STANDARD},
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


@dataclass(frozen=True)
class Telemetry:
    """How a run logs.

    Parameters
    ----------
    run : id of the run.
    level : name of the lowest level that is written.
    form : one of `FORMATS`.
    """

    run: str
    level: str = "warning"
    form: str = "text"

    def configure(self) -> None:
        """Let this process log to standard error so; a program that has set up logging already keeps its own."""
        handler = logging.StreamHandler()
        text = logging.Formatter(f"%(asctime)s {self.run} %(name)s %(levelname)s %(message)s")
        handler.setFormatter(JsonLines(self.run) if self.form == "json" else text)
        logging.basicConfig(level=self.level.upper(), handlers=[handler])
        logging.getLogger("distributed").setLevel(max(logging.getLogger().level, logging.ERROR))


class TelemetryPlugin(WorkerPlugin):
    """Lets every present and future worker log as the driver does."""

    name = "carboncube-telemetry"

    def __init__(self, telemetry: Telemetry) -> None:
        self.telemetry = telemetry

    def setup(self, worker: Any) -> None:  # noqa: ARG002
        """Called by Dask on each worker."""
        self.telemetry.configure()


def count_unit(stage: str, outcome: str, seconds: float) -> None:
    """Count a unit of work where ``/metrics`` of this worker shows it; nothing happens without `prometheus_client`.

    Adds to ``carboncube_units_total{stage, outcome}`` and ``carboncube_unit_seconds{stage}``.
    """
    with _one_at_a_time:  # a counter may be registered once, and a worker may have several threads
        metrics = _metrics()
    if metrics is not None:
        units, times = metrics
        units.labels(stage=stage, outcome=outcome).inc()
        times.labels(stage=stage).observe(seconds)


@functools.cache
def _metrics() -> tuple[Any, Any] | None:
    try:
        import prometheus_client
    except ImportError:
        return None
    buckets = (0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000, 3000)
    return (
        prometheus_client.Counter("carboncube_units", "Units of work by what became of them", ("stage", "outcome")),
        prometheus_client.Histogram("carboncube_unit_seconds", "Time of a unit of work", ("stage",), buckets=buckets),
    )
