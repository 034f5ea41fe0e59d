"""A proxy before an S3 server that does to requests what networks and busy servers do."""

from __future__ import annotations

import contextlib
import http.client
import random
import socket
import ssl
import struct
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

FAULTS = ("500", "503", "timeout", "reset", "lost answer", "truncated")
"""Server error; SlowDown; no answer; connection reset before the server, and after it; half of the answer's body."""
_SLOW_DOWN = (
    b"<?xml version='1.0'?><Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
)
_INTERNAL = b"<?xml version='1.0'?><Error><Code>InternalError</Code><Message>Try again.</Message></Error>"
_HOP = {"connection", "transfer-encoding", "content-length", "expect", "keep-alive"}


@dataclass
class Proxy:
    """A running proxy: where it is, how often it does what, and what it has seen.

    Parameters
    ----------
    rate : share of requests that a fault of `kinds` happens to.
    healthy : requests that nothing happens to before the first fault.
    silence : seconds that a request without answer is held.
    dropped_headers : headers (lower case) that are not passed on.
    """

    upstream: str
    rate: float = 0.0
    kinds: tuple[str, ...] = FAULTS
    healthy: int = 0
    silence: float = 3.0
    dropped_headers: frozenset[str] = frozenset()
    seed: int = 0
    requests: int = 0
    done: Counter[str] = field(default_factory=Counter)
    endpoint: str = ""

    def __post_init__(self) -> None:
        self._random, self._lock = random.Random(self.seed), threading.Lock()

    def fault(self) -> str:
        """What happens to the next request; empty: nothing."""
        with self._lock:
            self.requests += 1
            if self.requests <= self.healthy or self._random.random() >= self.rate:
                return ""
            kind = self._random.choice(self.kinds)
            self.done[kind] += 1
            return kind


@contextlib.contextmanager
def running(upstream: str, certificate: tuple[str, str] | None = None, **options) -> Iterator[Proxy]:
    """Start a proxy before a server on this machine's loopback; with a certificate and its key it speaks TLS."""
    proxy = Proxy(upstream, **options)
    handler = type("Handler", (_Handler,), {"proxy": proxy})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    proxy.endpoint = f"http{'s' if certificate else ''}://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    proxy: Proxy
    protocol_version = "HTTP/1.1"
    # Headers and body go out apart; waiting for the first to be acknowledged would cost 40 ms a request.
    disable_nagle_algorithm = True

    def handle(self) -> None:
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            super().handle()

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        fault = self.proxy.fault()
        if fault == "timeout":
            time.sleep(self.proxy.silence)
        if fault in ("timeout", "reset"):
            self._reset()
        elif fault in ("500", "503"):
            self._answer(int(fault), [("Content-Type", "application/xml")], _INTERNAL if fault == "500" else _SLOW_DOWN)
        else:
            status, headers, answer = self._forward(body)
            if fault == "lost answer":
                self._reset()
            elif fault == "truncated" and len(answer) > 1:
                self._answer(status, headers, answer, sent=len(answer) // 2)
                self._reset()
            else:
                self._answer(status, headers, answer)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _serve  # noqa: N815

    def _forward(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        host = self.proxy.upstream.removeprefix("http://")
        link = http.client.HTTPConnection(host, timeout=60)
        dropped = _HOP | self.proxy.dropped_headers
        try:
            link.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                if name.lower() not in dropped:
                    link.putheader(name, value)
            link.putheader("Content-Length", str(len(body)))
            link.endheaders(body)
            answer = link.getresponse()
            headers = [(n, v) for n, v in answer.getheaders() if n.lower() not in _HOP - {"content-length"}]
            return answer.status, headers, answer.read()
        finally:
            link.close()

    def _answer(self, status: int, headers: list[tuple[str, str]], body: bytes, sent: int | None = None) -> None:
        self.send_response_only(status)
        length = {n.lower(): v for n, v in headers}.get("content-length", "0")
        for name, value in headers:
            if name.lower() != "content-length":
                self.send_header(name, value)
        if status != 204:
            self.send_header("Content-Length", length if self.command == "HEAD" else str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[:sent])

    def _reset(self) -> None:
        # Closing with a linger of zero sends RST instead of FIN.
        self.wfile.flush()
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
        self.close_connection = True

    def finish(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            super().finish()

    def log_message(self, *_: object) -> None:
        pass
