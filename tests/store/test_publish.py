"""One pointer, versions that never change, checksums that notice what does; on a folder and on a quick S3 server."""

import json
import multiprocessing
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import pytest

from pipeline import doctor
from pipeline.core.errors import InputError, StoreError
from pipeline.core.options import StorageOptions
from pipeline.store import conditional
from pipeline.store.conditional import create_once, faults, put_if, read_tagged, require_publishing
from pipeline.store.location import Store
from pipeline.store.publish import LATEST, latest, note_partial, point_to, product_path, visible
from pipeline.store.verify import MANIFEST, verify
from tests.s3 import proxy
from tests.store.conftest import next_moto
from tests.store.publishing import YEAR, builders_at_once, publish_one, ten_publishes_and_a_reader


def test_a_reader_never_sees_a_mixture(store):
    looks, versions = ten_publishes_and_a_reader(store)
    assert all(len(look) == 1 for look in looks)
    assert [min(look) for look in looks] == sorted(min(look) for look in looks)
    assert latest(store, YEAR) == versions[-1]
    assert store.read_json(LATEST)["previous"][str(YEAR)] == versions[-2:-5:-1]


def test_builders_at_once_lose_nothing(store):
    assert len(set(builders_at_once(store))) == 4


def test_builders_in_processes_lose_nothing(tmp_path):
    store = Store(str(tmp_path / "store"))
    with ProcessPoolExecutor(3, mp_context=multiprocessing.get_context("spawn")) as pool:
        versions = list(pool.map(publish_one, [store] * 3, range(3)))
    assert set(visible(store)) == set(versions)


def test_older_versions_are_kept_and_the_dropped_named(store):
    dropped = [point_to(store, v, [2021, 2022], keep=2) for v in "abcde"]
    assert dropped == [[], [], [], ["a"], ["b"]]
    assert store.read_json(LATEST)["previous"] == {"2021": ["d", "c"], "2022": ["d", "c"]}
    assert point_to(store, "c", [2022], keep=2) == []
    assert store.read_json(LATEST)["previous"]["2022"] == ["e", "d"]
    note_partial(store, "p", {"months": [1]})
    assert visible(store) == ["c", "d", "e", "p"]


def test_one_of_many_creates(store):
    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(lambda n: create_once(store, "work/runs/claim.json", {"n": n}), range(8)))
    assert sum(won) == 1
    assert store.read_json("work/runs/claim.json") == {"n": won.index(True)}
    assert store.names("work", "runs") == ["claim.json"]


def test_conditional_puts_are_honoured(store):
    assert faults(store) == []
    require_publishing(store)
    assert doctor.probe(store).level == "ok"
    assert store.names("work") == []


def test_a_stale_tag_loses(request, monkeypatch):
    store = next_moto(request, monkeypatch)
    assert put_if(store, "a.json", b'{"v": 1}', None)
    tag, value = read_tagged(store, "a.json")
    assert value == {"v": 1}
    assert put_if(store, "a.json", b'{"v": 2}', tag)
    assert not put_if(store, "a.json", b'{"v": 3}', tag)
    assert not put_if(store, "a.json", b'{"v": 3}', None)
    assert store.read_json("a.json") == {"v": 2}


@pytest.fixture
def careless(request, monkeypatch):
    """A server that ignores the conditions of a put."""
    near = next_moto(request, monkeypatch)
    with proxy.running(request.getfixturevalue("moto"), dropped_headers={"if-match", "if-none-match"}) as far:
        yield Store.at(near.url, StorageOptions(endpoint=far.endpoint, retries=1))


def test_a_server_that_ignores_conditions_is_refused_unless_nobody_else_publishes(careless):
    assert any("6 were told" in fault for fault in faults(careless))
    with pytest.raises(StoreError, match=r"several at once.*sole_writer"):
        require_publishing(careless)
    found = doctor.probe(careless)
    assert found.level == "broken"
    assert "stale tag was accepted" in found.what
    alone = Store(careless.url, careless.options, sole_writer=True)
    require_publishing(alone)
    assert doctor.probe(alone).level == "note"


def test_an_answer_that_got_lost_is_no_lost_publish(request, monkeypatch):
    """The put took place, its answer did not arrive: the sender looks again and finds its own work."""
    store = next_moto(request, monkeypatch)
    publish_one(store, 1)
    put, lost = conditional.put_if, []

    def forgetful(*args):
        won = put(*args)
        if not lost:
            lost.append(won)
            raise StoreError("no answer")
        return won

    monkeypatch.setattr(conditional, "put_if", forgetful)
    version = publish_one(store, 2)
    assert lost == [True]
    assert latest(store, YEAR) == version
    assert len(store.read_json(LATEST)["previous"][str(YEAR)]) == 1


def damage(store, name, data):
    path = store.path(name)
    if data is None:
        store.remove(name)
    elif store.is_local:
        with open(path, "wb") as file:
            file.write(data)
    else:
        store.fs.pipe_file(path, data)


def test_every_kind_of_damage_is_found(store):
    version = publish_one(store, 7)
    product = product_path(version)
    count, damaged = verify(store, version)
    assert (count, damaged) == (len(store.read_json(product, MANIFEST)), [])
    whole = store.read_bytes(product, "one.zarr/x/c/2")
    flipped = bytes([whole[0] ^ 1, *whole[1:]])
    for name, data, kind in (
        ("one.zarr/x/c/2", flipped, "changed"),
        ("other.zarr/x/c/0", None, "missing"),
        ("other.zarr/x/c/9", b"stranger", "extra"),
        ("one.zarr/zarr.json", whole, "changed"),
    ):
        before = store.read_bytes(product, name) if kind != "extra" else None
        damage(store, f"{product}/{name}", data)
        assert [(d.name, d.kind) for d in verify(store, version)[1]] == [(name, kind)]
        assert [f.what for f in doctor.verified(store)] == [f"{product}/{name} is {kind}"]
        damage(store, f"{product}/{name}", before)
    assert verify(store, version)[1] == []


def test_the_doctor_verifies_from_the_command_line(tmp_path, capsys):
    store = Store(str(tmp_path / "store"))
    first, second = publish_one(store, 1), publish_one(store, 2)
    assert doctor.main(["--store", store.url, "--verify"]) == 0
    assert capsys.readouterr().out.count("objects are as the manifest says") == 2
    damage(store, f"{product_path(first)}/one.zarr/x/c/1", b"x")
    assert doctor.main(["--store", store.url, "--verify", "--json"]) == 3
    found = json.loads(capsys.readouterr().out)
    assert [f["level"] for f in found if first in f["what"]] == ["broken"]
    assert doctor.main(["--store", store.url, "--verify", second]) == 0
    assert doctor.main(["--store", store.url, "--verify", "20220101T000000Z-00000000"]) == 3
    assert doctor.main(["--store", store.url, "--verify", "../../etc"]) == 4


def test_nothing_to_verify_is_an_error(tmp_path):
    with pytest.raises(InputError, match="no product"):
        doctor.verified(Store(str(tmp_path)))


def test_what_a_killed_writer_left_beside_is_no_object(tmp_path):
    store = Store(str(tmp_path / "store"))
    version = publish_one(store, 1)
    store.write_bytes(b"half", product_path(version), "one.zarr/x/c/1.0123abcd.partial")
    assert verify(store, version)[1] == []


def test_trees_are_put_in_place_whole(store):
    for text in (b"1", b"1", b"22"):
        for name in ("zarr.json", "a/c/0", "a/c/1") if text == b"22" else ("zarr.json", "a/c/0", "b/c/0"):
            store.write_bytes(text, "work/staging/t", name)
        store.move_tree("work/staging/t", "inputs/t")
        assert not store.exists("work/staging/t")
    assert list(store.files("inputs/t")) == ["a/c/0", "a/c/1", "zarr.json"]
    assert store.read_bytes("inputs/t/a/c/1") == b"22"
    assert store.names("inputs") == ["t"]
    store.write_bytes(b"22", "work/staging/t", "zarr.json")
    store.place_tree("work/staging/t", "inputs/t")
    assert store.read_bytes("inputs/t/a/c/1") == b"22"


def test_a_repeat_with_the_same_bytes_never_takes_a_folder_away(tmp_path):
    store, stop = Store(str(tmp_path)), []

    def look() -> int:
        looks = 0
        while not stop:
            assert store.read_bytes("work/x/zarr.json") == b"same"
            looks += 1
        return looks

    store.write_bytes(b"same", "work/x/zarr.json")
    with ThreadPoolExecutor(1) as pool:
        looking = pool.submit(look)
        for _ in range(50):
            store.write_bytes(b"same", "work/staging/y/zarr.json")
            store.move_tree("work/staging/y", "work/x")
        stop.append(True)
        assert looking.result(timeout=30) > 0
