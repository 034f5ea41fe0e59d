"""What a run tells: JSON lines with the run's id from driver and workers, counters, the performance page."""

import json
import logging
import subprocess
import sys
import urllib.request

from distributed import Client, LocalCluster

from pipeline.store.location import Store
from pipeline.telemetry import JsonLines, Telemetry, TelemetryPlugin, count_unit, new_run_id
from pipeline.units import Runner, Unit


def test_a_line_is_json_with_the_run_and_the_extras():
    record = logging.makeLogRecord({"msg": "done %s", "args": ("x",), "levelname": "INFO", "name": "a.b", "unit": "x"})
    line = json.loads(JsonLines("run-1").format(record))
    assert {"run": "run-1", "message": "done x", "level": "info", "logger": "a.b", "unit": "x"}.items() <= line.items()
    assert "traceback" not in line


def test_a_traceback_stays_on_its_line():
    try:
        1 / 0  # noqa: B018
    except ZeroDivisionError:
        record = logging.makeLogRecord({"msg": "no", "exc_info": sys.exc_info()})
    text = JsonLines("r").format(record)
    assert "\n" not in text
    assert "ZeroDivisionError" in json.loads(text)["traceback"]


def test_run_ids_differ():
    assert len({new_run_id() for _ in range(50)}) == 50


def test_bad_format_is_a_usage_error():
    done = subprocess.run(
        [sys.executable, "-m", "pipeline.build", "--log-format", "xml"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 2
    assert "invalid choice: 'xml'" in done.stderr


def _nothing(store, _out):
    return {"outputs": []}


def test_workers_log_as_the_driver_does(tmp_path):
    """Driver and worker are processes of their own; both write lines of the same run."""
    script = (
        "from pipeline.cluster import connect\n"
        "from pipeline.store.location import Store\n"
        "from pipeline.telemetry import Telemetry, TelemetryPlugin\n"
        "from pipeline.units import Runner, Unit\n"
        "from tests.test_telemetry import _nothing\n"
        "if __name__ == '__main__':\n"
        "    telemetry = Telemetry('run-7', 'info', 'json')\n"
        "    telemetry.configure()\n"
        "    with connect('local', 1) as client:\n"
        "        client.register_plugin(TelemetryPlugin(telemetry))\n"
        f"        run = Runner(client, Store({str(tmp_path)!r}), show_progress=False)\n"
        "        run.run('test', _nothing, [Unit('u', (), ())])\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stderr.splitlines() if line.startswith("{")]
    assert {line["run"] for line in lines} == {"run-7"}
    said = {line["message"].split(" in ")[0]: line["pid"] for line in lines}
    assert {"begin test u", "done test u"} <= set(said)
    assert said["begin test u"] != said["done test u"]


def test_metrics_count_units_by_stage(tmp_path):
    with (
        LocalCluster(
            n_workers=1, processes=False, protocol="tcp", host="127.0.0.1", dashboard_address="127.0.0.1:0"
        ) as local,
        Client(local) as client,
    ):
        run = Runner(client, Store(str(tmp_path)), show_progress=False)
        run.run("counted", _nothing, [Unit(str(k), (k,), ()) for k in range(3)])
        page = urllib.request.urlopen(client.dashboard_link.replace("/status", "/metrics")).read().decode()
        run.keep_performance("report/performance.html")
    assert 'carboncube_units_total{outcome="done",stage="counted"} 3.0' in page
    assert 'carboncube_unit_seconds_count{stage="counted"} 3.0' in page
    assert "dask_scheduler_workers" in page
    performance = Store(str(tmp_path)).read_bytes("report/performance.html").decode()
    assert "counted-" in performance
    assert "cdn.bokeh.org" not in performance


def test_counting_without_prometheus_does_nothing(monkeypatch):
    from pipeline import telemetry

    monkeypatch.setattr(telemetry, "_metrics", telemetry._metrics.__wrapped__)
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    count_unit("s", "done", 1.0)
    assert telemetry._metrics() is None


def test_plugin_carries_the_run():
    assert TelemetryPlugin(Telemetry("r")).telemetry.run == "r"
