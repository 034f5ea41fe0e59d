"""A real S3 server for tests: a monitor, an object store daemon and a gateway of Ceph, on this machine's loopback."""

from __future__ import annotations

import contextlib
import glob
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

KEY, SECRET = "TESTKEYTESTKEY00", "secretOfTheTests/neverPrinted+1234567890"
_CONF = """
[global]
fsid = {fsid}
mon initial members = a
mon host = {mon}
keyring = {folder}/keyring
run dir = {folder}
admin socket = {folder}/$cluster-$name.asok
log file = {folder}/$name.log
pid file = {folder}/$name.pid
auth allow insecure global id reclaim = false
osd class dir = {classes}
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 4
osd pool default pgp num = 4
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
mon allow pool size one = true
mon data = {folder}/mon
osd data = {folder}/osd
osd objectstore = memstore
memstore device bytes = 4294967296
osd memory target = 939524096
rgw data = {folder}/rgw
rgw frontends = beast endpoint={host}:{port}
rgw enable usage log = false
rgw run sync thread = false
rgw gc max objs = 7
"""


@dataclass(frozen=True)
class Ceph:
    """A running server: its address, and a user's key and secret."""

    endpoint: str
    conf: Path
    key: str = KEY
    secret: str = SECRET

    def admin(self, *arguments: str) -> None:
        """Run ``radosgw-admin``."""
        _run(self.conf, "radosgw-admin", *arguments)

    @property
    def environment(self) -> dict[str, str]:
        """What a program needs in its environment to reach it."""
        return {
            "AWS_ACCESS_KEY_ID": self.key,
            "AWS_SECRET_ACCESS_KEY": self.secret,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "CARBONCUBE_STORAGE__ENDPOINT": self.endpoint,
        }


@contextlib.contextmanager
def running(host: str = "127.0.0.1") -> Iterator[Ceph]:
    """Start the three daemons in a folder of their own; they and the folder are gone at the end."""
    folder = Path(tempfile.mkdtemp(prefix="ceph-"))
    daemons: list[subprocess.Popen] = []
    try:
        port, mon_port = _free_port(host), _free_port(host)
        conf = folder / "ceph.conf"
        mon = f"[v2:{host}:{mon_port}]"
        (classes, *_) = (*glob.glob("/usr/lib/*/rados-classes"), "/usr/lib/rados-classes")
        text = _CONF.format(fsid=uuid.uuid4(), mon=mon, folder=folder, classes=classes, host=host, port=port)
        conf.write_text(text)
        for name in ("mon", "osd", "rgw"):
            (folder / name).mkdir()
        _make_keys(conf, folder)
        _run(conf, "monmaptool", "--create", "--fsid", _fsid(text), "--addv", "a", mon, f"{folder}/monmap")
        _run(conf, "ceph-mon", "--mkfs", "-i", "a", "--monmap", f"{folder}/monmap")
        daemons.append(_start(conf, "ceph-mon", "-i", "a"))
        _ceph(conf, "osd", "new", osd := str(uuid.uuid4()))
        _run(conf, "ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", osd)
        daemons.append(_start(conf, "ceph-osd", "-i", "0"))
        daemons.append(_start(conf, "radosgw", "-n", "client.admin"))
        server = Ceph(f"http://{host}:{port}", conf)
        _wait(server, daemons, folder)
        user = ("--uid", "tests", "--display-name", "tests", "--access-key", KEY, "--secret", SECRET)
        server.admin("user", "create", *user)
        yield server
    finally:
        for daemon in reversed(daemons):
            daemon.send_signal(signal.SIGKILL)
            daemon.wait()
        shutil.rmtree(folder, ignore_errors=True)


def _make_keys(conf: Path, folder: Path) -> None:
    ring = f"{folder}/keyring"
    every = ("--cap", "mon", "allow *", "--cap", "osd", "allow *", "--cap", "mgr", "allow *", "--cap", "mds", "allow *")
    _run(conf, "ceph-authtool", "--create-keyring", ring, "--gen-key", "-n", "mon.", "--cap", "mon", "allow *")
    _run(conf, "ceph-authtool", ring, "--gen-key", "-n", "client.admin", *every)
    _run(conf, "ceph-authtool", ring, "--gen-key", "-n", "osd.0", "--cap", "mon", "allow *", "--cap", "osd", "allow *")


def _fsid(text: str) -> str:
    return text.split("fsid = ", 1)[1].split()[0]


def _free_port(host: str) -> int:
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def _run(conf: Path, program: str, *arguments: str) -> None:
    done = subprocess.run([program, "-c", str(conf), *arguments], capture_output=True, text=True, timeout=60)
    if done.returncode:
        raise RuntimeError(f"{program} {' '.join(arguments)}: {done.stdout[-500:]}{done.stderr[-1500:]}")


def _ceph(conf: Path, *arguments: str) -> None:
    _run(conf, "ceph", "--connect-timeout", "30", *arguments)


def _start(conf: Path, program: str, *arguments: str) -> subprocess.Popen:
    return subprocess.Popen(
        [program, "-c", str(conf), "-f", *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


def _wait(server: Ceph, daemons: list[subprocess.Popen], folder: Path, seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if any(daemon.poll() is not None for daemon in daemons):
            break
        try:
            urllib.request.urlopen(server.endpoint, timeout=5).close()
            return
        except urllib.error.HTTPError:
            return
        except OSError:
            time.sleep(0.3)
    logs = "\n".join(f"{log.name}: {log.read_text()[-1500:]}" for log in sorted(folder.glob("*.log")))
    raise RuntimeError(f"Ceph did not start within {seconds:.0f} s\n{logs}")
