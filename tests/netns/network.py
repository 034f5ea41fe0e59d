"""Machines that are network namespaces: an address each, one switch between them, links that can be pulled."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SUBNET = "10.77.0"


def ip(*words: str) -> None:
    """Run `ip` (iproute2)."""
    done = subprocess.run(["ip", *words], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"ip {' '.join(words)}: {done.stderr}")


@dataclass
class Network:
    """Named machines on one subnet; everything started on them ends with the network.

    Parameters
    ----------
    names : of the machines; the k-th has the address ``10.77.0.<k + 1>``.
    """

    names: Sequence[str]
    tag: str = field(default_factory=lambda: f"cc{uuid.uuid4().hex[:6]}")
    _processes: list[subprocess.Popen] = field(default_factory=list)

    def __enter__(self) -> Network:
        ip("netns", "add", self._space("switch"))
        try:
            ip("-n", self._space("switch"), "link", "add", "br0", "type", "bridge")
            ip("-n", self._space("switch"), "link", "set", "br0", "up")
            for name in self.names:
                self._plug_in(name)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *error: Any) -> None:
        for process in self._processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        for name in ("switch", *self.names):
            subprocess.run(["ip", "netns", "delete", self._space(name)], capture_output=True)

    def _space(self, name: str) -> str:
        return f"{self.tag}-{name}"

    def _plug_in(self, name: str) -> None:
        space, switch, port = self._space(name), self._space("switch"), f"p-{name}"
        ip("netns", "add", space)
        ip("-n", switch, "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", space)
        ip("-n", switch, "link", "set", port, "master", "br0")
        ip("-n", switch, "link", "set", port, "up")
        ip("-n", space, "address", "add", f"{self.address(name)}/24", "dev", "eth0")
        ip("-n", space, "link", "set", "lo", "up")
        ip("-n", space, "link", "set", "eth0", "up")

    def address(self, name: str) -> str:
        """The IP address of a machine."""
        return f"{SUBNET}.{self.names.index(name) + 1}"

    def on(self, name: str) -> list[str]:
        """What to put before a command so that it runs on a machine."""
        return ["ip", "netns", "exec", self._space(name)]

    def start(self, name: str, *command: str, log: Path, environ: dict[str, str]) -> subprocess.Popen:
        """Start a process on a machine, its output in a file."""
        with open(log, "w") as file:
            process = subprocess.Popen(
                [*self.on(name), *command],
                stdout=file,
                stderr=subprocess.STDOUT,
                env={**os.environ, **environ},
                start_new_session=True,
            )
        self._processes.append(process)
        return process

    def pull(self, name: str) -> None:
        """Cut a machine off: no packet gets through, no connection is closed."""
        ip("-n", self._space("switch"), "link", "set", f"p-{name}", "down")

    def plug(self, name: str) -> None:
        """Let a machine back in."""
        ip("-n", self._space("switch"), "link", "set", f"p-{name}", "up")
