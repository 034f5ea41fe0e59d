"""Processes are killed; the product must be the one of an undisturbed run."""

import os
import random
import re
import signal
import threading
import time

import psutil
import pytest
from distributed import Client, LocalCluster

from pipeline.learn.distribute import on_cluster
from pipeline.store.ledger import Ledger
from pipeline.store.location import Store
from pipeline.units import Runner, Unit

from ..dask_processes import processes, start_cluster, start_workers
from .world import STAGES, Driver, check_same, in_ledger

pytestmark = pytest.mark.chaos


def workers_of(driver: Driver) -> list[psutil.Process]:
    children = psutil.Process(driver.process.pid).children()
    return [p for p in children if "spawn_main" in " ".join(p.cmdline()) and p.status() != psutil.STATUS_ZOMBIE]


def test_a_worker_dies_in_each_stage(store, undisturbed):
    driver, killed = Driver(store.url), {}
    for stage in STAGES:
        event = driver.begun(stage)
        # Learning begins in the driver and hands out tasks of its own: any of its workers may hold them.
        victim = event["pid"] if stage != "learn" else random.choice(workers_of(driver)).pid
        assert victim != driver.process.pid
        os.kill(victim, signal.SIGKILL)
        killed[stage] = victim
    code, summary, errors = driver.finish()
    assert code == 0, errors
    assert len(killed) == len(STAGES)
    check_same(store, summary["version"], undisturbed)


def test_the_driver_dies_in_each_stage_and_nothing_is_done_twice(store, undisturbed):
    done: set[tuple[str, str]] = set()
    for stage in STAGES:
        driver = Driver(store.url)
        driver.begun(stage)
        driver.kill()
        assert not done & set(driver.begins()), stage
        done = in_ledger(store.url)
    assert {"observe", "invert"} <= {stage for stage, _ in done}
    driver = Driver(store.url)
    code, summary, errors = driver.finish()
    assert code == 0, errors
    assert not done & set(driver.begins())
    check_same(store, summary["version"], undisturbed)


def check_resumed(store, last, undisturbed):
    """The error told of --resume, and that finishes without doing anything again."""
    assert "--resume" in last
    done = in_ledger(store.url)
    assert "observe" in {stage for stage, _ in done}
    resumed = Driver(store.url)
    code, summary, errors = resumed.finish()
    assert code == 0, errors
    assert not done & set(resumed.begins())
    check_same(store, summary["version"], undisturbed)


def test_the_scheduler_dies_and_the_run_is_resumed(store, undisturbed, tmp_path):
    with processes() as start:
        address, scheduler, _ = start_cluster(start, tmp_path)
        driver = Driver(store.url, ("--scheduler", address))
        driver.reached("invert")
        scheduler.kill()
        code, _, errors = driver.finish()
    assert code == 5, errors
    last = errors.strip().splitlines()[-1]
    # A fast machine may be a stage further before the signal arrives.
    assert last.startswith(f"error: the scheduler {address} was lost during "), errors
    check_resumed(store, last, undisturbed)


def test_driver_and_all_workers_of_an_outside_cluster_die_and_others_take_over(store, undisturbed, tmp_path):
    with processes() as start:
        address, _, workers = start_cluster(start, tmp_path)
        first = Driver(store.url, ("--scheduler", address))
        first.reached("observe")
        time.sleep(0.3)
        first.kill()
        second = Driver(store.url, ("--scheduler", address))
        second.reached("invert")
        for worker in workers:
            os.killpg(worker.pid, signal.SIGKILL)
        start_workers(start, address, tmp_path)
        code, summary, errors = second.finish()
    assert code == 0, errors
    check_same(store, summary["version"], undisturbed)


def test_all_workers_of_an_outside_cluster_die_for_good_and_the_run_is_resumed(store, undisturbed, tmp_path):
    with processes() as start:
        address, _, workers = start_cluster(start, tmp_path)
        driver = Driver(store.url, ("--scheduler", address), {"CARBONCUBE_CLUSTER__WAIT_FOR_WORKERS": "5"})
        driver.reached("invert")
        for worker in workers:
            os.killpg(worker.pid, signal.SIGKILL)
        code, _, errors = driver.finish()
    assert code == 5, errors
    last = errors.strip().splitlines()[-1]
    assert re.match(r"error: \d+ tasks waited for 5 s and no worker worked on any \(workers: none\)", last), errors
    check_resumed(store, last, undisturbed)


def test_workers_that_come_and_go_lose_nothing(store, undisturbed):
    driver = Driver(store.url, environ={"CARBONCUBE_CLUSTER__MIN_WORKERS": "1"})
    code, summary, errors = driver.finish()
    assert code == 0, errors
    check_same(store, summary["version"], undisturbed)


def noted(store, folder, name, _out):
    time.sleep(0.3)
    with open(f"{folder}/{name}", "a") as file:
        file.write("x")
    return {"outputs": []}


def test_scaling_up_and_down_all_the_time_loses_no_unit(tmp_path):
    (tmp_path / "notes").mkdir()
    store, stop = Store(str(tmp_path / "store")), threading.Event()
    with LocalCluster(n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address=None) as cluster:

        def swing() -> None:
            sizes = [1, 3, 2, 1, 2]
            while not stop.is_set():
                sizes.append(sizes.pop(0))
                cluster.scale(sizes[0])
                stop.wait(1.5)

        swinging = threading.Thread(target=swing)
        with Client(cluster) as client:
            swinging.start()
            units = [Unit(f"u{k}", (k,), (str(tmp_path / "notes"), f"u{k}")) for k in range(40)]
            results = Runner(client, store, show_progress=False).run("scaled", noted, units)
            stop.set()
            swinging.join()
    assert sorted(results) == sorted(unit.name for unit in units)
    assert len(Ledger(store, "scaled").entries()) == len(units)


def slow_square(value: int) -> int:
    time.sleep(0.5)
    return value**2


def test_what_a_worker_took_with_it_is_sent_again():
    """Tables for learning are scattered, not in the graph: those that die with a worker are scattered once more."""
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        pids = list(client.run(os.getpid).values())
        killer = threading.Timer(1.2, os.kill, (random.choice(pids), signal.SIGKILL))
        killer.start()
        squares = on_cluster(client)(slow_square, list(range(12)))
        killer.join()
    assert squares == [k**2 for k in range(12)]
