"""A cluster whose parts have an address each and speak TLS, on object storage; and one of them is cut off for 30 s."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline.store.location import Store

from ..chaos.world import DOMAIN, Driver, check_same
from ..conftest import need
from .conftest import YEAR
from .network import Network
from .remote import BUCKET

pytestmark = pytest.mark.netns
WORKERS = ("w1", "w2", "w3")
CUT_OFF = 30


@pytest.fixture
def machines(tmp_path):
    need("netns")
    need("certificates")
    with Network(("scheduler", "s3", *WORKERS, "driver")) as network:
        yield network


class Cluster:
    """S3 server, scheduler and workers, each on its machine, with certificates of one authority."""

    def __init__(self, network: Network, folder: Path) -> None:
        import trustme

        self.network, self.folder = network, folder
        authority = trustme.CA()
        authority.cert_pem.write_to_path(folder / "ca.pem")
        issued = authority.issue_cert(*(network.address(name) for name in network.names))
        issued.private_key_pem.write_to_path(folder / "key.pem")
        for k, blob in enumerate(issued.cert_chain_pems):
            blob.write_to_path(folder / "cert.pem", append=k > 0)
        self.scheduler = f"tls://{network.address('scheduler')}:8786"
        self.environ = {
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_ENDPOINT_URL": f"http://{network.address('s3')}:5000",
            "AWS_DEFAULT_REGION": "us-east-1",
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
            # A worker that is cut off is given up well before it comes back: its unit is done elsewhere meanwhile.
            "DASK_DISTRIBUTED__COMM__TIMEOUTS__TCP": "12s",
            "DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT": "8s",
            "DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL": "15s",
        }

    def _start(self, name: str, *command: str) -> None:
        python = [sys.executable, "-m", *command]
        self.network.start(name, *python, log=self.folder / f"{name}.log", environ=self.environ)

    def _certificates(self) -> list[str]:
        words = ["--tls-ca-file", str(self.folder / "ca.pem")]
        return [*words, "--tls-cert", str(self.folder / "cert.pem"), "--tls-key", str(self.folder / "key.pem")]

    def start(self, world: str) -> None:
        """Everything up, the world in the bucket."""
        address = self.network.address
        self._start("s3", "moto.server", "-H", address("s3"), "-p", "5000")
        self._start(
            "scheduler",
            "distributed.cli.dask_scheduler",
            *("--host", self.scheduler, "--no-dashboard", *self._certificates()),
        )
        for name in WORKERS:
            self._start(
                name,
                "distributed.cli.dask_worker",
                self.scheduler,
                *("--host", address(name), "--nthreads", "1", "--no-dashboard"),
                *("--local-directory", str(self.folder / name), *self._certificates()),
            )
        self.remote("put", world)

    def remote(self, what: str, folder: str) -> None:
        """Run `remote.py` on the driver's machine, again while the server is not up yet."""
        command = [*self.network.on("driver"), sys.executable, "-m", "tests.netns.remote", what, folder]
        for _ in range(20):
            done = subprocess.run(command, env={**os.environ, **self.environ}, capture_output=True, text=True)
            if done.returncode == 0:
                return
            time.sleep(1)
        raise RuntimeError(done.stderr)

    def driver(self) -> Driver:
        """A build from the driver's machine."""
        tls = {
            "CARBONCUBE_CLUSTER__TLS_CA": str(self.folder / "ca.pem"),
            "CARBONCUBE_CLUSTER__TLS_CERT": str(self.folder / "cert.pem"),
            "CARBONCUBE_CLUSTER__TLS_KEY": str(self.folder / "key.pem"),
        }
        flags = ("--scheduler", self.scheduler)
        return Driver(f"s3://{BUCKET}/store", flags, {**self.environ, **tls}, self.network.on("driver"), YEAR)

    def working_on(self, stage: str) -> str:
        """The machine of a worker that has just begun a unit of a stage."""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            for name in WORKERS:
                if f'"message": "begin {stage} ' in (self.folder / f"{name}.log").read_text():
                    return name
            time.sleep(0.05)
        raise TimeoutError(stage)


def test_a_small_year_is_built_and_a_cut_off_worker_leaves_no_trace(machines, small_year, year_undisturbed, tmp_path):
    cluster = Cluster(machines, tmp_path)
    cluster.start(small_year)
    driver = cluster.driver()
    driver.wait_for(lambda e: e["message"].startswith("stage invert"))
    name = cluster.working_on("invert")
    machines.pull(name)
    cut = time.monotonic()
    time.sleep(CUT_OFF)
    machines.plug(name)
    assert time.monotonic() - cut >= CUT_OFF
    code, summary, errors = driver.finish()
    assert code == 0, errors
    time.sleep(5)  # what the worker still had in hand when it came back
    cluster.remote("get", str(tmp_path / "result"))
    store = Store(str(tmp_path / "result"))
    check_same(store, summary["version"], year_undisturbed, 12)


def test_plain_tcp_between_machines_is_refused(machines, tmp_path):
    address = f"tcp://{machines.address('scheduler')}:8786"
    flags = ["--year", "2022", "--domain", DOMAIN, "--store", str(tmp_path / "s"), "--scheduler", address]
    command = [*machines.on("driver"), sys.executable, "-m", "pipeline.build", *flags]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert "not encrypted" in done.stderr
