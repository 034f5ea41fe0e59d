"""What several rooms' tests share: what a test needs of its machine, a small world, a product built from it."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import pytest

DOMAIN = "115,38,118,41"


def _commands(*names: str) -> Callable[[], bool]:
    return lambda: all(shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin") for name in names)


def _packages(*names: str) -> Callable[[], bool]:
    return lambda: all(importlib.util.find_spec(name) for name in names)


CAPABILITIES: dict[str, tuple[Callable[[], bool], str]] = {
    "root": (lambda: os.geteuid() == 0, "run as root"),
    "mounts": (lambda: subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode == 0, "run as root"),
    "ceph": (_commands("radosgw", "ceph-mon", "ceph-osd"), "apt-get install radosgw ceph-mon ceph-osd ceph-common"),
    "netns": (lambda: os.geteuid() == 0 and _commands("ip", "unshare")(), "run as root; apt-get install iproute2"),
    "schemas": (
        _packages("dask_kubernetes", "jsonschema", "kubernetes_validate"),
        "pip install -c constraints.txt -e '.[cluster-test]'",
    ),
    "certificates": (_packages("trustme"), "pip install -c constraints.txt -e '.[cluster-test]'"),
}
"""What a test may need of the machine: whether it is there, and what to do where it is not."""
_SKIPPED: set[str] = set()


def need(capability: str) -> None:
    """Fail the test where a capability is missing; skip it where CARBONCUBE_ALLOW_SKIP names the capability."""
    there, remedy = CAPABILITIES[capability]
    if there():
        return
    said = f"this test needs {capability}: {remedy}"
    if capability in os.environ.get("CARBONCUBE_ALLOW_SKIP", "").replace(",", " ").split():
        _SKIPPED.add(said)
        pytest.skip(said)
    pytest.fail(f"{said}, or name it in CARBONCUBE_ALLOW_SKIP", pytrace=False)


def pytest_terminal_summary(terminalreporter) -> None:
    for said in sorted(_SKIPPED):
        terminalreporter.write_line(f"SKIPPED by CARBONCUBE_ALLOW_SKIP: {said}", yellow=True)


@dataclass(frozen=True)
class Built:
    """A store with a regional world of one month, and the product built from it in this process."""

    url: str
    version: str
    stages: dict
    domain: str = DOMAIN


def settings_for(url: str, **more):
    from pipeline.settings import load

    flags = {"year": 2022, "months": "7", "domain": DOMAIN, "store": url, **more}
    return load(flags, environ={})


def make_small_world(url: str, seed: int = 3) -> None:
    from pipeline.core.grid import domain_grid
    from pipeline.store.location import Store
    from pipeline.world.make import make_world

    make_world(Store(url), [2022], seed=seed, domain=domain_grid(DOMAIN), months=[7])


@pytest.fixture(scope="session")
def client():
    """A Dask client whose one worker is this process: quick to start, compiled kernels shared."""
    from distributed import Client, LocalCluster

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with (
            LocalCluster(n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None) as cluster,
            Client(cluster) as connected,
        ):
            yield connected


@pytest.fixture(scope="session")
def world(tmp_path_factory) -> str:
    """A store with a small synthetic world."""
    url = str(tmp_path_factory.mktemp("world"))
    make_small_world(url)
    return url


@pytest.fixture(scope="session")
def built(world, client) -> Built:
    """The product of the small world."""
    from pipeline.build import build
    from pipeline.store.location import Store

    result = build(settings_for(world), Store(world), client, progress=False)
    return Built(world, result.version, result.stages)


@pytest.fixture(scope="module")
def moto():
    """Address of an S3 server that takes any key: for quick tests."""
    from moto.server import ThreadedMotoServer

    made = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    made.start()
    yield "http://{}:{}".format(*made.get_host_and_port())
    made.stop()
