"""What docs/operations.md tells an operator to do after damage, loss or a full store, done as it is written there."""

import shutil

import pytest

from pipeline import flow
from pipeline.build import build
from pipeline.store.location import Store
from pipeline.store.publish import new_version, point_to, product_path
from pipeline.store.verify import verify

from .conftest import settings_for

QUICK = {"fine": False, "report": False, "learn": False}


def chunks(store: Store, version: str) -> dict[str, str]:
    """Checksum of every chunk of every cube of a version."""
    manifest = store.read_json("products", version, "manifest.json")
    return {k: v["sha256"] for k, v in manifest.items() if "/c/" in k and ".zarr/" in k}


@pytest.fixture(scope="module")
def finished(built, client, tmp_path_factory):
    """A store with finished work and one version of the product, and its chunks."""
    store = Store(str(tmp_path_factory.mktemp("finished") / "store"))
    shutil.copytree(built.url, store.url, ignore=shutil.ignore_patterns("products", "runs"))
    version = build(settings_for(store.url, **QUICK), store, client, progress=False).version
    return store, version, chunks(store, version)


@pytest.fixture
def store(finished, tmp_path) -> Store:
    """A copy of the finished store, to be damaged."""
    shutil.copytree(finished[0].url, tmp_path / "store")
    return Store(str(tmp_path / "store"))


def again(store: Store, client, **more) -> str:
    return build(settings_for(store.url, **QUICK), store, client, progress=False, **more).version


def test_a_version_that_was_removed_is_made_again(store, finished, client):
    _, version, reference = finished
    store.remove("products", version)
    made = again(store, client)
    assert made != version
    assert chunks(store, made) == reference
    assert verify(store, made)[1] == []


def test_an_unfinished_version_that_was_removed_is_not_published_empty(store, finished, client, monkeypatch):
    _, version, reference = finished
    store.remove("work/runs")

    def dying(*_):
        raise SystemExit

    with monkeypatch.context() as patch:
        patch.setattr("pipeline.flow.claim_publication", dying)
        with pytest.raises(SystemExit):
            again(store, client)
    (torn,) = set(store.names("products")) - {version, "partial.json"}
    store.remove("products", torn)
    made = again(store, client)
    assert chunks(store, made) == reference


def test_going_back_to_earlier_settings_publishes_a_version_of_them_again(tmp_path):
    """The pointer names what others made since: the old version is neither "nothing to do" nor described twice."""
    store, settings = Store(str(tmp_path)), settings_for(str(tmp_path), domain="china", months="1-12")
    first, published = flow.version_of(store, "key", settings, fresh=False)
    assert not published
    assert flow.version_of(store, "key", settings, fresh=False) == (first, False)
    assert flow.claim_publication(store, "key", first)
    store.write_json({}, product_path(first), "manifest.json")
    point_to(store, first, [2022])
    store.write_json({"version": first, "published": True}, "work/runs/key.json")
    assert flow.version_of(store, "key", settings, fresh=False) == (first, True)
    point_to(store, new_version(), [2022])
    second, published = flow.version_of(store, "key", settings, fresh=False)
    assert (second != first, published) == (True, False)
    assert flow.claim_publication(store, "key", second)
