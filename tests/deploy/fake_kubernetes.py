"""As much of a Kubernetes API, and of the Dask operator behind it, as a driver sees of its cluster."""

from __future__ import annotations

import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlparse

PATH = re.compile(r"/(?:api|apis/[^/]+)/v1/namespaces/[^/]+/(?P<kind>[a-z]+)(?:/(?P<name>[^/]+))?$")
DASK = "kubernetes.dask.org/v1"
KINDS = {
    "v1": ("Pod", "Service"),
    DASK: ("DaskCluster", "DaskWorkerGroup", "DaskAutoscaler"),
}


def _listing(version: str) -> dict:
    kinds = [
        {"name": f"{k.lower()}s", "singularName": k.lower(), "kind": k, "namespaced": True} for k in KINDS[version]
    ]
    return {"kind": "APIResourceList", "groupVersion": version, "resources": kinds}


DISCOVERY: dict[str, dict] = {
    "/version": {"major": "1", "minor": "33", "gitVersion": "v1.33.0"},
    "/api": {"kind": "APIVersions", "versions": ["v1"]},
    "/api/v1": _listing("v1"),
    "/apis": {
        "kind": "APIGroupList",
        "groups": [{"name": DASK.split("/")[0], "versions": [{"groupVersion": DASK, "version": "v1"}]}],
    },
    f"/apis/{DASK}": _listing(DASK),
}
"""What any account may ask."""
READY = {"phase": "Running", "conditions": [{"type": t, "status": "True"} for t in ("Ready", "ContainersReady")]}


class FakeKubernetes:
    """Keeps what is posted, plays the operator for it, and remembers who asked for what: ``asked`` of (kind, verb)."""

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str], dict] = {}
        self.asked: set[tuple[str, str]] = set()
        self.posted: list[dict] = []
        self.unknown: list[str] = []
        fake = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *args) -> None:
                pass

            def _do(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                body = json.loads(self.rfile.read(length)) if length else None
                code, answer = fake.answer(self.command, urlparse(self.path).path, body)
                raw = json.dumps(answer).encode()
                self.send_response(code)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(raw)))
                self.end_headers()
                self.wfile.write(raw)

            do_GET = do_POST = do_PATCH = do_DELETE = do_PUT = _do  # noqa: N815

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def answer(self, method: str, path: str, body: dict | None) -> tuple[int, dict]:
        """Status and body of the answer to a request."""
        if path.rstrip("/") in DISCOVERY:
            return 200, DISCOVERY[path.rstrip("/")]
        match = PATH.match(path)
        if match is None:
            self.unknown.append(f"{method} {path}")
            return 404, {"kind": "Status", "code": 404}
        kind, name = match["kind"], match["name"]
        verb = {"GET": "get" if name else "list", "POST": "create", "PATCH": "patch", "DELETE": "delete"}[method]
        self.asked.add((kind, verb))
        if verb == "create":
            self._create(kind, body or {})
            return 201, body or {}
        if verb == "list":
            return 200, {"kind": "List", "items": [o for (k, _), o in self.objects.items() if k == kind]}
        if (kind, name) not in self.objects:
            return 404, {"kind": "Status", "code": 404, "reason": "NotFound", "message": f"{kind} {name} not found"}
        if verb == "delete":
            return 200, self.objects.pop((kind, name))
        if verb == "patch":
            self.objects[kind, name].update(body or {})
        return 200, self.objects[kind, name]

    def _create(self, kind: str, body: dict) -> None:
        self.posted.append(json.loads(json.dumps(body)))
        name = body["metadata"]["name"]
        body["metadata"].setdefault("namespace", "carboncube")
        self.objects[kind, name] = body
        if kind != "daskclusters":
            return
        body["status"] = {"phase": "Running"}
        labels = {"dask.org/cluster-name": name, "dask.org/component": "scheduler"}
        common = {"name": f"{name}-scheduler", "namespace": "carboncube", "labels": labels}
        self.objects["pods", common["name"]] = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": common,
            "spec": body["spec"]["scheduler"]["spec"],
            "status": READY,
        }
        self.objects["services", common["name"]] = {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": common,
            "spec": body["spec"]["scheduler"]["service"],
            "status": {},
        }
        group = f"{name}-default"
        self.objects["daskworkergroups", group] = {
            "apiVersion": "kubernetes.dask.org/v1",
            "kind": "DaskWorkerGroup",
            "metadata": {"name": group, "namespace": "carboncube"},
            "spec": {"cluster": name, "worker": body["spec"]["worker"]},
        }

    def kubeconfig(self) -> str:
        """A kubeconfig of this server, as YAML."""
        context = {"cluster": "fake", "user": "fake", "namespace": "carboncube"}
        return json.dumps(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "current-context": "fake",
                "clusters": [{"name": "fake", "cluster": {"server": self.url}}],
                "users": [{"name": "fake", "user": {"token": "none"}}],
                "contexts": [{"name": "fake", "context": context}],
            }
        )
