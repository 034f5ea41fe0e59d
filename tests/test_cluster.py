"""Where work may run: addresses, memory, adaptive scaling, and no more units at once than fit."""

import os
import threading
import time

import psutil
import pytest
from distributed import Client, LocalCluster, Status

from pipeline import cluster, command
from pipeline.cluster import check_address, connect, fitting_workers
from pipeline.core.errors import PartialError, StoreError, UsageError
from pipeline.core.options import ClusterOptions
from pipeline.learn.distribute import on_cluster
from pipeline.settings import load_cluster
from pipeline.store.ledger import Ledger
from pipeline.store.location import Store
from pipeline.units import RETRIES, Runner, Unit

GIB = 2**30
_running, _most, _lock = 0, 0, threading.Lock()


@pytest.mark.parametrize(
    "address", ["tcp://127.0.0.1:8786", "tcp://localhost:8786", "tcp://[::1]:8786", "tls://far:8786"]
)
def test_safe_addresses_are_taken(address):
    check_address(address, allow_plain=False)


@pytest.mark.parametrize(
    "address", ["tcp://10.0.0.1:8786", "tcp://scheduler:8786", "tcp://localhost.evil.example:8786"]
)
def test_plain_tcp_to_another_machine_needs_a_setting(address):
    with pytest.raises(UsageError, match="ALLOW_PLAIN"):
        check_address(address, allow_plain=False)
    check_address(address, allow_plain=True)


def test_options_come_from_the_environment():
    environ = {"CARBONCUBE_CLUSTER__ALLOW_PLAIN": "true", "CARBONCUBE_CLUSTER__MIN_WORKERS": "2", "PATH": "/bin"}
    assert load_cluster(environ) == ClusterOptions(allow_plain=True, min_workers=2)
    assert load_cluster({}) == ClusterOptions()
    with pytest.raises(UsageError, match="min_workers"):
        load_cluster({"CARBONCUBE_CLUSTER__MIN_WORKERS": "few"})


@pytest.mark.parametrize("address", ["ssh://far", "8786", "", "inproc://1/2/3"])
def test_other_addresses_are_refused(address):
    with pytest.raises(UsageError, match="local, kubernetes, tcp"):
        check_address(address, allow_plain=True)


def test_nobody_answers_is_one_message(monkeypatch):
    monkeypatch.setattr(cluster, "_TIMEOUT", "1s")
    with (
        pytest.raises(StoreError, match=r"no Dask scheduler answers at tcp://127\.0\.0\.1:1 "),
        connect("tcp://127.0.0.1:1"),
    ):
        pass


def test_tls_without_certificates_is_refused(tmp_path):
    with pytest.raises(UsageError, match="without certificates"), connect("tls://127.0.0.1:1"):
        pass
    options = ClusterOptions(tls_ca=str(tmp_path / "none.pem"))
    with pytest.raises(UsageError, match=r"none\.pem is not there"), connect("tls://127.0.0.1:1", options=options):
        pass


def test_as_many_workers_as_cores_and_memory_allow(monkeypatch):
    monkeypatch.setattr(cluster, "CPU_COUNT", 8)
    monkeypatch.setattr(cluster, "MEMORY_LIMIT", 10 * GIB)
    assert fitting_workers(0) == 8
    assert fitting_workers(3 * GIB) == 3
    assert fitting_workers(64 * GIB) == 1


def test_workers_too_small_for_a_unit_are_refused():
    with (
        pytest.raises(UsageError, match="for each unit of work"),
        connect("local", 1, "512MiB", unit_memory=GIB),
    ):
        pass


def test_threads_that_would_not_fit_together_are_refused():
    with LocalCluster(
        n_workers=1, threads_per_worker=4, processes=False, protocol="tcp", host="127.0.0.1", memory_limit=2 * GIB
    ) as local:
        with connect(local.scheduler_address, unit_memory=GIB // 2) as client:
            assert client.status == "running"
        with pytest.raises(UsageError, match=r"2\.00 GiB of memory and 4 threads"):  # noqa: SIM117
            with connect(local.scheduler_address, unit_memory=GIB):
                pass


def test_local_workers_share_the_memory_stay_on_loopback_and_come_and_go():
    options, before = ClusterOptions(min_workers=1), _listening()
    with connect("local", 2, options=options, unit_memory=2**20) as client:
        info = client.scheduler_info()
        # Clusters of other tests may still listen as they please.
        assert {address.ip for address in _listening() - before} == {"127.0.0.1"}
        assert info["address"].startswith("tcp://127.0.0.1:")
        assert client.dashboard_link.startswith("http://127.0.0.1:")
        (worker,) = info["workers"].values()
        assert worker["memory_limit"] == pytest.approx(cluster.MEMORY_LIMIT / 2, rel=0.01)
        assert worker["resources"] == {"memory": worker["memory_limit"]}
        assert client.run(lambda: os.environ["OMP_NUM_THREADS"]) == {next(iter(info["workers"])): "1"}
        done = client.gather([client.submit(_slowly, k, pure=False) for k in range(30)])
        assert done == list(range(30))


def _listening() -> set:
    """Addresses on which this process and its children listen."""
    family = [psutil.Process(), *psutil.Process().children(recursive=True)]
    return {c.laddr for p in family for c in p.net_connections() if c.status == psutil.CONN_LISTEN}


def _slowly(value: int) -> int:
    time.sleep(0.05)
    return value


def _counted(store, _out):
    global _running, _most
    with _lock:
        _running += 1
        _most = max(_most, _running)
    time.sleep(0.1)
    with _lock:
        _running -= 1
    return {"outputs": []}


@pytest.mark.parametrize(("unit_memory", "at_once"), [(int(0.3 * GIB), 3), (int(0.6 * GIB), 1)])
def test_no_more_units_run_on_a_worker_than_fit(tmp_path, unit_memory, at_once):
    global _most
    _most = 0
    with (
        LocalCluster(
            n_workers=1,
            threads_per_worker=4,
            processes=False,
            dashboard_address=None,
            # The worker lives in this process: a limit would pause it for what other tests left in memory.
            memory_limit=0,
            resources={"memory": GIB},
        ) as local,
        Client(local) as client,
    ):
        run = Runner(client, Store(str(tmp_path)), show_progress=False, unit_memory=unit_memory)
        run.run("test", _counted, [Unit(str(k), (k,), ()) for k in range(8)])
    assert _most == at_once


def _fails(store, path, times, _out):
    with open(path, "a") as file:
        file.write("x")
    if os.path.getsize(path) <= times:
        raise OSError("a hiccup")
    return {"outputs": []}


def test_a_unit_that_raises_is_tried_again_then_named(client, tmp_path):
    store = Store(str(tmp_path / "store"))
    run = Runner(client, store, show_progress=False)
    result = run.run("test", _fails, [Unit("lucky", (1,), (str(tmp_path / "lucky"), RETRIES))])
    assert result["lucky"]["seconds"] >= 0
    assert Ledger(store, "test").entries()[0]["result"]["worker_peak_gib"] > 0
    units = [Unit("lucky", (1,), ("", 0)), Unit("poor", (2,), (str(tmp_path / "poor"), 99))]
    with pytest.raises(PartialError, match="1 of 2 units of test failed, first poor: OSError: a hiccup"):
        run.run("test", _fails, units)
    assert os.path.getsize(tmp_path / "poor") == RETRIES + 1


@pytest.fixture
def outside():
    """Somebody else's cluster of workers that live in this process; none at first."""
    with LocalCluster(
        n_workers=0, processes=False, protocol="tcp", host="127.0.0.1", dashboard_address="127.0.0.1:0", memory_limit=0
    ) as made:
        yield made


def _add_workers(outside, number: int) -> None:
    outside.scale(number)
    outside.wait_for_workers(1, timeout=30)


def _noted(store, name, _out):
    time.sleep(0.1)
    return {"outputs": [], "name": name}


def _units(*names: str) -> list[Unit]:
    return [Unit(name, (name,), (name,)) for name in names]


SOON = ClusterOptions(wait_for_workers=2.0)


def _pause(dask_worker) -> None:
    dask_worker.status = Status.paused


def _pause_all(client) -> None:
    client.run(_pause)
    while any(w["status"] != "paused" for w in client.scheduler_info()["workers"].values()):
        time.sleep(0.05)


def _three_units(outside, store, fate: str) -> None:
    """One unit with a worker, then two more without one that works."""
    with connect(outside.scheduler_address, options=SOON) as client:
        run = Runner(client, store, show_progress=False)
        assert set(run.run("test", _noted, _units("a"))) == {"a"}
        if fate == "paused":
            _pause_all(client)
        else:
            outside.scale(0)
        run.run("test", _noted, _units("a", "b", "c"))


@pytest.mark.parametrize(("fate", "seen"), [("gone", "none"), ("paused", "1 paused")])
def test_a_run_that_nobody_works_on_ends_and_goes_on_later(outside, tmp_path, fate, seen):
    store = Store(str(tmp_path))
    _add_workers(outside, 1)
    with pytest.raises(PartialError, match=rf"2 tasks waited for 2 s .*workers: {seen}.*--resume") as caught:
        _three_units(outside, store, fate)
    assert caught.value.exit_code == 5
    assert [e["unit"] for e in Ledger(store, "test").entries()] == ["a"]
    _add_workers(outside, 2)
    with connect(outside.scheduler_address, options=SOON) as client:
        run = Runner(client, store, show_progress=False)
        assert set(run.run("test", _noted, _units("a", "b", "c"))) == {"a", "b", "c"}
    assert (run.stages["test"]["done"], run.stages["test"]["kept"]) == (2, 1)


def test_workers_without_the_memory_a_unit_asks_for_are_not_waited_for_either(outside):
    _add_workers(outside, 1)
    with (
        pytest.raises(PartialError, match=r"1 tasks waited .*workers: 1 running"),
        connect(outside.scheduler_address, options=SOON) as client,
    ):
        client.submit(_slowly, 1, resources={"memory": GIB}).result()


def test_learning_is_not_waited_for_for_ever(outside):
    with (
        pytest.raises(PartialError, match="workers: none"),
        connect(outside.scheduler_address, options=SOON) as client,
    ):
        on_cluster(client)(_slowly, [1, 2])


def _long(value: int) -> int:
    time.sleep(4)
    return value


def test_a_unit_that_takes_longer_than_the_wait_is_let_finish(outside):
    _add_workers(outside, 1)
    with connect(outside.scheduler_address, options=SOON) as client:
        # The second waits all the time that the first is worked on.
        assert client.gather([client.submit(_long, 1), client.submit(_long, 2)]) == [1, 2]
        # Nothing waits while the driver is busy: a cluster without workers is no matter then.
        outside.scale(0)
        time.sleep(3)
        assert client.status == "running"
    assert client.status == "closed"


def test_there_is_no_waiting_for_no_time_at_all():
    with pytest.raises(UsageError, match="wait_for_workers"):
        load_cluster({"CARBONCUBE_CLUSTER__WAIT_FOR_WORKERS": "0"})
    assert load_cluster({"CARBONCUBE_CLUSTER__WAIT_FOR_WORKERS": "60"}).wait_for_workers == 60


def test_memory_is_told_of_the_workers_that_answer(outside):
    _add_workers(outside, 1)
    with Client(outside) as client:
        assert command.peak_memory(client)["workers"] > 0.05
        outside.scale(0)
        assert command.peak_memory(client)["driver"] > 0.05
    with Client(outside) as client:

        def gone(*args, **more):
            raise OSError("the scheduler is gone")

        client.run = gone
        assert command.peak_memory(client)["workers"] == 0
