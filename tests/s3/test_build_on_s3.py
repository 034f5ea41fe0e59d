"""The whole path on a real S3 server, through the command lines; and what happens when the server fails."""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import sys

import pytest
import yaml

from pipeline import doctor
from pipeline.build import build
from pipeline.catalog import open_catalog
from pipeline.core.errors import StoreError
from pipeline.core.options import StorageOptions
from pipeline.ingest import __main__ as ingest
from pipeline.settings import load
from pipeline.store.location import Store
from pipeline.store.publish import PARTIAL, visible
from pipeline.store.verify import verify
from tests.ingest.granules import tropomi, tropomi_name
from tests.s3 import proxy
from tests.s3.conftest import new_store

pytestmark = pytest.mark.s3
DOMAIN = "115,38,117,40"
SMALL = {"domain": DOMAIN, "months": "7", "inversion": {"members": 16}}


def command(*arguments: str, **environ: str) -> subprocess.CompletedProcess:
    """Run ``python -m pipeline.<...>``; everything it says is kept."""
    return subprocess.run(
        [sys.executable, "-m", *arguments], capture_output=True, text=True, timeout=300, env={**os.environ, **environ}
    )


def done(*arguments: str, **environ: str) -> str:
    """The output of a command that must succeed."""
    result = command(*arguments, **environ)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout + result.stderr


@pytest.fixture(scope="module")
def world(ceph) -> tuple[Store, str]:
    """A store with a small world in Ceph, and what the command said."""
    store = new_store(ceph)
    said = done(
        "pipeline.world", "--store", store.url, "--year", "2022", "--months", "7", "--domain", DOMAIN, "--workers", "1"
    )
    return store, said


@pytest.fixture(scope="module")
def config(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("config") / "small.yaml"
    path.write_text(yaml.safe_dump(SMALL))
    return str(path)


def copy_of(world: Store, ceph, endpoint: str | None = None, **storage) -> Store:
    """The inputs of the world in a bucket of their own."""
    copy = new_store(ceph, **storage)
    names = ["carboncube.json", *(f"inputs/{name}" for name in world.files("inputs"))]
    world.fs.copy([world.path(n) for n in names], [copy.path(n) for n in names])
    return Store.at(copy.url, StorageOptions(endpoint=endpoint or ceph.endpoint, **storage))


def in_process(store: Store, client, **more):
    """A quick build in this process: 0.25 degree, no learning."""
    flags = {"year": 2022, "store": store.url, "fine": False, "learn": False, **SMALL, **more}
    return build(load(flags, environ={}), store, client, progress=False)


def spellings(secret: str) -> list[bytes]:
    return [secret.encode(), base64.b64encode(secret.encode()), secret.replace("/", "%2F").replace("+", "%2B").encode()]


def test_world_ingest_build_verify_and_catalog(ceph, world, config, tmp_path, capfd):
    store, said = world
    granule = tropomi(tmp_path / tropomi_name(), 5e-5)
    built = done("pipeline.build", "--year", "2022", "--store", store.url, "--config", config, "--log-level", "info")
    assert " ERROR " not in built
    (version,) = visible(store)
    assert ingest.main(["tropomi_no2", "--from", str(granule), "--store", f"{store.url}-ingested"]) == 0
    assert doctor.main(["--store", store.url, "--year", "2022", "--probe"]) == 0
    assert doctor.main(["--store", store.url, "--verify"]) == 0
    told = [said, built, "".join(capfd.readouterr())]
    assert "honours conditional puts" in told[-1]
    assert re.search(rf"{version}: \d+ objects are as the manifest says", told[-1])
    flags = ("--year", "2022", "--store", store.url, "--config", config, "--log-level", "debug", "--preview")
    told.append(done("pipeline.build", *flags))
    assert "degrees of freedom about" in told[-1]
    assert "botocore" in told[-1]

    emission = open_catalog(store).emissions_025(product_version=version).to_dask()["co2_emission"]
    assert emission.chunks is not None
    assert float(emission.sum()) > 0
    catalog = open_catalog(f"{store.url}-ingested")
    assert float(catalog.no2(year=2022).to_dask()["no2_column"].max()) == pytest.approx(5e-5)

    for name in ("provenance.json", "report/index.html"):
        assert ceph.key not in store.read_bytes("products", version, name).decode()
    everything = [text.encode() for text in told]
    everything += store.fs.cat(list(store.fs.find(store.path("products")))).values()
    everything += [store.fs.cat_file(path) for path in store.fs.find(store.path("work")) if path.endswith(".json")]
    assert len(everything) > 100
    for secret in spellings(ceph.secret):
        assert not any(secret in text for text in everything)


def test_faults_at_five_percent_do_no_harm(ceph, world, client):
    with proxy.running(ceph.endpoint, rate=0.05, silence=0.9, seed=11) as faulty:
        store = copy_of(world[0], ceph, faulty.endpoint, read_timeout=0.6)
        version = in_process(store, client).version
        count, damaged = verify(store, version)
    assert damaged == []
    assert count > 50
    assert faulty.done.total() > 20
    assert set(faulty.done) == set(proxy.FAULTS)
    assert visible(Store.at(store.url, StorageOptions(endpoint=ceph.endpoint))) == [version]


def test_a_server_that_stops_answering_leaves_nothing_visible(ceph, world, client):
    with proxy.running(ceph.endpoint, rate=1.0, kinds=("500", "503", "reset"), healthy=200) as broken:
        store = copy_of(world[0], ceph, broken.endpoint, retries=0)
        with pytest.raises(StoreError):
            in_process(store, client)
    whole = Store.at(store.url, StorageOptions(endpoint=ceph.endpoint))
    assert broken.done.total() > 0
    assert visible(whole) == []
    # What was done before is in the ledger: the same build goes on where it stopped.
    assert verify(whole, in_process(whole, client).version)[1] == []
    assert len(whole.read_json(PARTIAL)["versions"]) == 1


@pytest.mark.parametrize("kind", ["500", "reset"])
def test_a_server_that_never_answers_is_refused_at_the_start(ceph, world, config, kind):
    with proxy.running(ceph.endpoint, rate=1.0, kinds=(kind,)) as broken:
        result = command(
            "pipeline.build", "--year", "2022", "--store", world[0].url, "--config", config,
            CARBONCUBE_STORAGE__ENDPOINT=broken.endpoint, CARBONCUBE_STORAGE__RETRIES="0",
        )  # fmt: skip
    assert result.returncode == 4
    assert result.stderr.startswith("error: cannot use s3://")
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({"AWS_SECRET_ACCESS_KEY": "wrong/Secret"}, "secret does not belong"),
        ({"AWS_ACCESS_KEY_ID": "NOBODY"}, "does not know this access key"),
    ],
)
def test_wrong_keys_are_refused_at_the_start_in_one_line(ceph, world, config, environ, said):
    store = world[0]
    before = store.files("products") if store.exists("products") else {}
    for words in (("doctor", "--probe"), ("build", "--year", "2022", "--config", config), ("prune", "--yes")):
        result = command(f"pipeline.{words[0]}", *words[1:], "--store", store.url, **environ)
        assert result.returncode == 4
        assert said in result.stderr
        assert result.stderr.count("\n") == 1
        assert not any(v in result.stdout + result.stderr for v in (ceph.secret, "wrong/Secret"))
    assert (store.files("products") if store.exists("products") else {}) == before


def test_two_builders_at_once_publish_whole_versions(ceph, world, config):
    store = copy_of(world[0], ceph)
    run = [sys.executable, "-m", "pipeline.build", "--year", "2022", "--store", store.url, "--config", config]
    run += ["--no-fine", "--no-learn", "--workers", "1", "--json"]
    both = [subprocess.Popen(run, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    results = [process.communicate(timeout=300) for process in both]
    assert [process.returncode for process in both] == [0, 0], results
    versions = {json.loads(out)["version"] for out, _ in results}
    assert set(visible(store)) == versions
    for version in versions:
        assert verify(store, version)[1] == []
    chunks = [
        {
            n: e["sha256"]
            for n, e in store.read_json("products", v, "manifest.json").items()
            if ".zarr/" in n and "/c/" in n
        }
        for v in sorted(versions)
    ]
    assert len(chunks[0]) > 20
    assert chunks[0] == chunks[-1]
