"""What docs/operations.md tells an operator to do after damage, loss or a full store, done as it is written there."""

import datetime as dt
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from pipeline import doctor, flow
from pipeline.access import open_input
from pipeline.build import build
from pipeline.core.errors import InputError, StoreError
from pipeline.ingest.books import Request
from pipeline.ingest.run import run as ingest
from pipeline.store.location import Store
from pipeline.store.prune import carry_out, plan
from pipeline.store.publish import new_version, point_to, product_path, visible
from pipeline.store.verify import verify

from .conftest import settings_for
from .ingest.granules import tropomi, tropomi_name

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


def test_a_product_that_lost_a_month_is_never_published(store, finished, client, monkeypatch):
    """Somebody clears away what a build under way has written."""
    _, version, reference = finished
    claim = flow.claim_publication

    def robbed(place, key, mine):
        place.remove(product_path(mine), "region_samples.zarr/co2_emission/c")
        return claim(place, key, mine)

    with monkeypatch.context() as patch:
        patch.setattr("pipeline.flow.claim_publication", robbed)
        with pytest.raises(StoreError, match=r"has lost 2022-07; .*makes a new version"):
            again(store, client, fresh=True)
    assert visible(store) == [version]
    made = again(store, client)
    assert chunks(store, made) == reference


def damage(store: Store, version: str) -> str:
    """One bit of a chunk turned over; its name."""
    name = f"{product_path(version)}/emissions_025.zarr/co2_emission/c/0/0/0"
    path = Path(store.path(name))
    whole = bytearray(path.read_bytes())
    whole[len(whole) // 2] ^= 1
    path.write_bytes(whole)
    return name


def said_by_verify(store: Store, capsys, *version: str) -> tuple[int, str]:
    capsys.readouterr()
    return doctor.main(["--store", store.url, "--verify", *version]), capsys.readouterr().out


def test_a_damaged_object_is_copied_back_from_a_backup(store, finished, tmp_path, capsys):
    version = finished[1]
    shutil.copytree(store.url, tmp_path / "backup")
    name = damage(store, version)
    code, said = said_by_verify(store, capsys)
    assert code == 3
    assert said == f"broken   {name} is changed\n"
    shutil.copy(tmp_path / "backup" / name, store.path(name))
    code, said = said_by_verify(store, capsys)
    assert code == 0
    assert "objects are as the manifest says" in said


def test_without_a_backup_a_fresh_build_gives_the_object_back(store, finished, client, capsys):
    _, version, reference = finished
    name = damage(store, version)
    made = again(store, client, fresh=True)
    assert made != version
    assert chunks(store, made) == reference
    assert said_by_verify(store, capsys, made)[0] == 0
    # The damaged version is still named, and says so until the object is put back or it is pruned.
    assert said_by_verify(store, capsys)[0] == 3
    shutil.copy(store.path(name.replace(version, made)), store.path(name))
    assert said_by_verify(store, capsys)[0] == 0


def test_a_damaged_version_is_pruned_once_a_fresh_one_is_there(store, finished, client, capsys):
    version = finished[1]
    damage(store, version)
    made = again(store, client, fresh=True)
    made_plan = plan(store, keep=0, now=dt.datetime.now(dt.UTC) + dt.timedelta(days=30))
    list(carry_out(store, made_plan))
    assert visible(store) == [made]
    assert said_by_verify(store, capsys)[0] == 0


def remove_work(store: Store) -> None:
    """Everything under ``work/`` but what ingest goes on from."""
    for name in set(store.names("work")) - {"ingest", "ledger"}:
        store.remove("work", name)
    for stage in set(store.names("work", "ledger")) - {"ingest"}:
        store.remove("work/ledger", stage)


def test_ingest_goes_on_when_other_work_was_removed_or_pruned(tmp_path):
    files = [tropomi(tmp_path / tropomi_name(orbit=o), o * 1e-9, orbit=o) for o in (22000, 22001)]
    stores = [Store(str(tmp_path / name)) for name in ("at once", "one by one")]
    for store, batches in zip(stores, ([tuple(files)], [(path,) for path in files]), strict=True):
        store.claim(default=False, version="0")
        for batch in batches:
            ingest(Request("tropomi_no2", batch, store))
            age(store, 30)
            list(carry_out(store, plan(store, keep=0)))
            remove_work(store)
    columns = [open_input(store, "no2_tropomi")["no2_column"].sel(time="2022-01-15").values for store in stores]
    assert np.isfinite(columns[0]).any()
    np.testing.assert_array_equal(*columns)


def test_ingest_does_not_go_on_with_cubes_whose_books_are_gone(tmp_path):
    """The day would be put together from the later file alone."""
    files = [tropomi(tmp_path / tropomi_name(orbit=o), o * 1e-9, orbit=o) for o in (22000, 22001)]
    store = Store(str(tmp_path / "store"))
    store.claim(default=False, version="0")
    ingest(Request("tropomi_no2", (files[0],), store))
    store.remove("work")
    with pytest.raises(InputError, match=r"does not know from which files.*ingest all its files again"):
        ingest(Request("tropomi_no2", (files[1],), store))
    store.remove("inputs/no2_tropomi.zarr")
    assert ingest(Request("tropomi_no2", tuple(files), store)).statuses == {"used": 2}


def test_work_of_units_may_be_removed_and_is_done_again(store, finished, client):
    _, version, reference = finished
    remove_work(store)
    made = again(store, client)
    assert made != version
    assert chunks(store, made) == reference


def age(store: Store, days: float) -> None:
    """Let products and work have been written some days ago; inputs that are newer would be others."""
    then = dt.datetime.now().timestamp() - days * 86400
    for folder in ("products", "work"):
        for path in Path(store.path(folder)).rglob("*"):
            os.utime(path, (then, then))


def test_pruning_keeps_what_the_next_build_goes_on_from(store, finished, client):
    """Another seed's version covers nothing less: the older one goes with its work, the newer one's stays in use."""
    version = finished[1]
    newer = build(settings_for(store.url, seed=1, **QUICK), store, client, progress=False).version
    assert not [name for name in store.names("work/runs") if name.endswith("under-way.json")]
    assert plan(store, keep=0).items == ()
    age(store, 8)
    before = {stage: set(store.names("work/ledger", stage)) for stage in store.names("work/ledger")}
    removed = list(carry_out(store, plan(store, keep=0)))
    assert {item.kind for item in removed} == {"version", "work", "record"}
    assert visible(store) == [newer]
    assert not store.exists(product_path(version))
    after = {stage: set(store.names("work/ledger", stage)) for stage in store.names("work/ledger")}
    assert after != before
    settings = settings_for(store.url, seed=1, **{**QUICK, "fine": True})
    third = build(settings, store, client, progress=False)
    done = {stage: told["done"] for stage, told in third.stages.items()}
    assert {stage for stage, units in done.items() if units} == {"product 0.25", "product 1 km"}
    assert verify(store, third.version)[1] == []
    assert plan(store, keep=0).items == ()
