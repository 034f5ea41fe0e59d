"""What a real S3 server does with our credentials, conditions, publishes and faults."""

import datetime as dt

import pytest

from pipeline.core.errors import StoreError
from pipeline.core.options import StorageOptions
from pipeline.store.conditional import faults, require_publishing
from pipeline.store.location import Store
from pipeline.store.prune import carry_out, plan
from pipeline.store.publish import LATEST, latest, visible
from pipeline.store.verify import verify
from tests.s3 import proxy
from tests.s3.conftest import new_store
from tests.store.publishing import YEAR, builders_at_once, publish_one, ten_publishes_and_a_reader

pytestmark = pytest.mark.s3


def test_conditions_hold_when_many_come_at_once(store):
    assert faults(store, clients=8) == []
    require_publishing(store)


def test_a_reader_never_sees_a_mixture(store):
    looks, versions = ten_publishes_and_a_reader(store)
    assert all(len(look) == 1 for look in looks)
    assert [min(look) for look in looks] == sorted(min(look) for look in looks)
    assert latest(store, YEAR) == versions[-1]
    assert store.read_json(LATEST)["previous"][str(YEAR)] == versions[-2:-5:-1]


def test_builders_at_once_lose_nothing(store):
    builders_at_once(store)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"key": "NOBODY", "secret": "x"}, "does not know this access key"),
        ({"secret": "wrong"}, "secret does not belong"),
        ({"anon": True}, "no permission"),
    ],
)
def test_wrong_credentials_are_refused(ceph, store, options, said):
    keys = {} if "anon" in options else {"key": ceph.key, "secret": ceph.secret}
    wrong = Store(store.url, {**store.options, **keys, **options})
    with pytest.raises(StoreError, match=said) as caught:
        wrong.claim(default=False, version="0")
    assert ceph.secret not in str(caught.value)
    for use in (
        wrong.names,
        lambda: wrong.read_bytes("a"),
        lambda: wrong.write_bytes(b"a", "a"),
        lambda: faults(wrong),
    ):
        with pytest.raises(StoreError, match="no permission"):
            use()


def test_a_bucket_that_is_not_there(ceph):
    absent = Store.at("s3://not-there/x", StorageOptions(endpoint=ceph.endpoint))
    with pytest.raises(StoreError, match="no such bucket"):
        absent.claim(default=False, version="0")


def test_a_full_bucket_shows_only_what_was_whole(ceph, store):
    bucket = ("--bucket", store.url.split("/")[2], "--quota-scope", "bucket")
    versions = [publish_one(store, 0)]
    ceph.admin("quota", "set", *bucket, "--max-objects", str(len(store.fs.find(store.root)) + 30))
    ceph.admin("quota", "enable", *bucket)

    def fill() -> None:
        while len(versions) < 20:
            versions.append(publish_one(store, len(versions)))

    with pytest.raises(StoreError, match="no space left") as caught:
        fill()
    assert caught.value.exit_code == 4
    assert store.read_json(LATEST)["years"] == {str(YEAR): versions[-1]}
    assert all(verify(store, version)[1] == [] for version in versions)
    # What pruning removes makes the room that it and the next version need.
    list(carry_out(store, plan(store, 0, now=dt.datetime.now(dt.UTC) + dt.timedelta(days=30))))
    assert visible(store) == versions[-1:]
    assert verify(store, versions[-1])[1] == []
    ceph.admin("quota", "disable", *bucket)
    assert latest(store, YEAR) == versions[-1] != publish_one(store, 21)


def test_publishing_survives_every_kind_of_fault(ceph):
    with proxy.running(ceph.endpoint, rate=0.1, silence=0.8, seed=5) as faulty:
        store = new_store(ceph, faulty.endpoint, read_timeout=0.5)
        versions = [publish_one(store, number) for number in range(3)]
        assert set(faulty.done) == set(proxy.FAULTS)
        assert all(verify(store, version)[1] == [] for version in versions)
    plain = Store.at(store.url, StorageOptions(endpoint=ceph.endpoint))
    assert plain.read_json(LATEST)["years"] == {str(YEAR): versions[-1]}
    assert plain.read_json(LATEST)["previous"] == {str(YEAR): versions[-2::-1]}


@pytest.mark.parametrize("kind", ["503", "timeout", "truncated"])
def test_nothing_but_faults_is_a_clear_error(ceph, kind):
    with proxy.running(ceph.endpoint, rate=1.0, kinds=(kind,), silence=0.3) as broken:
        store = new_store(ceph, broken.endpoint, read_timeout=0.2, connect_timeout=0.4, retries=0)
        with pytest.raises(StoreError, match=r"cannot use s3://|slow down"):
            publish_one(store, 1)
    assert Store.at(store.url, StorageOptions(endpoint=ceph.endpoint)).read_json(LATEST) is None
