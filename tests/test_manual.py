"""The commands and settings that the manuals name are those that there are, and those for operators do what is said."""

import re
import shlex
import socket
from pathlib import Path

import pytest

import benchmarks.scaling
from pipeline import command, doctor, prune
from pipeline.core.errors import InputError
from pipeline.core.options import StorageOptions
from pipeline.ingest import __main__ as ingest
from pipeline.settings import load
from pipeline.store.location import Store
from pipeline.store.publish import latest, point_to, product_path
from pipeline.store.verify import MANIFEST, manifest
from pipeline.world import __main__ as world

from .conftest import need
from .dask_processes import processes

ROOT = Path(__file__).parents[1]
MANUALS = ("README.md", "docs/operations.md", "deploy/README.md", "docs/ingest.md")
PARSERS = {
    "pipeline.build": command.parser,
    "pipeline.doctor": doctor.parser,
    "pipeline.prune": prune.parser,
    "pipeline.ingest": ingest.parser,
    "pipeline.world": world.parser,
}
OPERATIONS = (ROOT / "docs/operations.md").read_text()


def commands() -> list[str]:
    """Every `python -m pipeline...` of the manuals that stands in a block of commands."""
    blocks = [b for name in MANUALS for b in re.findall(r"```sh\n(.*?)```", (ROOT / name).read_text(), re.S)]
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    return sorted({found.group() for line in lines if (found := re.search(r"python3? -m pipeline\.\w+.*", line))})


@pytest.mark.parametrize("line", commands())
def test_commands_of_the_manuals_are_taken(line):
    words = shlex.split(line.replace("<", "").replace(">", ""), comments=True)
    module, arguments = words[2], words[3:]
    arguments = arguments[: arguments.index("|")] if "|" in arguments else arguments
    assert PARSERS[module]().parse_args(arguments)


def test_there_are_commands_of_every_kind():
    assert {line.split()[2] for line in commands()} == set(PARSERS)


def test_settings_of_the_manuals_are_there():
    named = {
        n for manual in MANUALS for n in re.findall(r"CARBONCUBE_([A-Z]+)__([A-Z_]+)", (ROOT / manual).read_text())
    }
    assert len(named) >= 5
    settings = load({"year": 2022}, environ={})
    for room, name in named:
        assert hasattr(getattr(settings, room.lower()), name.lower()), (room, name)
    for row in re.findall(
        r"^\| `(\w+)`(?:, `(\w+)`)? \|", OPERATIONS.partition("### Settings")[2].partition("###")[0], re.M
    ):
        assert all(hasattr(StorageOptions(), name) for name in row if name), row


def test_going_back_is_done_as_it_is_written(tmp_path):
    store = Store(str(tmp_path))
    old, new, part = (f"2026010{k}T000000Z-0123abcd" for k in (1, 2, 3))
    for version, months in ((old, 12), (new, 12), (part, 11)):
        settings = {"year": [2022], "months": list(range(1, months + 1)), "domain": "china"}
        store.write_json({"settings": settings}, product_path(version), "provenance.json")
        store.write_json(manifest(store, version), product_path(version), MANIFEST)
        if version != part:
            point_to(store, version, [2022])
    (snippet,) = re.findall(r"```python\n(.*?publish_again.*?)```", OPERATIONS, re.S)
    snippet = snippet.replace("s3://bucket/carboncube", store.url)
    assert latest(store, 2022) == new
    exec(snippet.replace("20260101T000000Z-0123abcd", old))
    assert latest(store, 2022) == old
    for wrong, years, said in ((part, "2022", "no version of whole"), (new, "2023", "no version of whole")):
        with pytest.raises(InputError, match=said):
            exec(snippet.replace("20260101T000000Z-0123abcd", wrong).replace("[2022]", f"[{years}]"))
    store.write_bytes(b"{}", product_path(new), "provenance.json")
    with pytest.raises(InputError, match=r"provenance\.json is changed"):
        exec(snippet.replace("20260101T000000Z-0123abcd", new))
    assert latest(store, 2022) == old


@pytest.mark.deploy
def test_a_cluster_with_certificates_starts_as_it_is_written(tmp_path, monkeypatch):
    """The two lines of the manual, with addresses of this machine."""
    need("certificates")
    import trustme

    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    issued = authority.issue_cert("127.0.0.1")
    issued.private_key_pem.write_to_path(tmp_path / "key.pem")
    for k, blob in enumerate(issued.cert_chain_pems):
        blob.write_to_path(tmp_path / "cert.pem", append=k > 0)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    lines = re.findall(r"^dask (?:scheduler|worker) .*$", OPERATIONS, re.M)
    assert len(lines) == 2
    monkeypatch.chdir(tmp_path)
    for name in ("ca", "cert", "key"):
        monkeypatch.setenv(f"CARBONCUBE_CLUSTER__TLS_{name.upper()}", str(tmp_path / f"{name}.pem"))
    with processes() as start:
        for line in lines:
            here = re.sub(r"10\.0\.0\.[56]", "127.0.0.1", line).replace(":8786", f":{port}").replace(":8787", ":0")
            start(*shlex.split(here))
        from pipeline.cluster import connect
        from pipeline.settings import load_cluster

        with connect(f"tls://127.0.0.1:{port}", options=load_cluster()) as client:
            client.wait_for_workers(1, timeout=60)
            assert client.submit(sum, [1, 2]).result() == 3
            (worker,) = client.scheduler_info()["workers"].values()
    assert worker["nthreads"] == 1


def test_measuring_for_the_sizing_is_called_as_it_is_written(monkeypatch, tmp_path):
    """Arguments alone: what it measures takes a machine of its own."""
    lines = re.findall(r"^python -m benchmarks\.scaling measure (.*)$", (ROOT / "deploy/README.md").read_text(), re.M)
    asked = []

    def measure(*given):
        asked.append(given)
        return benchmarks.scaling.Costs({}, {}, 1.0, 0.01, 1.0, 1.0)

    monkeypatch.setattr(benchmarks.scaling, "measure", measure)
    for line in lines:
        benchmarks.scaling.main(["measure", *shlex.split(line), "--costs", str(tmp_path / "costs.json")])
    assert asked == [("s3://bucket/sizing", {"year": "2022", "months": "1,7"}, "seconds")]
