"""What pruning removes, and all that it must never touch; on a folder and on a quick S3 server."""

import datetime as dt
import json

import pytest
import xarray as xr

from pipeline import prune
from pipeline.core.errors import InputError, UsageError
from pipeline.store.cubes import open_cube, write_cube
from pipeline.store.ledger import Ledger
from pipeline.store.location import Store
from pipeline.store.prune import carry_out, plan
from pipeline.store.publish import LATEST, PARTIAL, latest, note_partial, point_to, product_path, visible
from pipeline.store.verify import MANIFEST, manifest, verify
from tests.store.publishing import YEAR, publish_one

DAY = dt.timedelta(days=1)
CHINA = {"domain": "china", "year": [2022]}


def later(days: float = 30) -> dt.datetime:
    """A time so many days from now: what a test wrote is old then."""
    return dt.datetime.now(dt.UTC) + days * DAY


def pruned(store: Store, keep: int, **more) -> set[str]:
    """Names of what was removed, thirty days from now."""
    made = plan(store, keep, now=later(), **more)
    return {name for item in carry_out(store, made) for name in item.names}


def version(number: int) -> str:
    return f"202201{number:02d}T000000Z-{number:08x}"


def make(store: Store, number: int, *cubes: str, units=None, finished: bool = True) -> str:
    """A version of empty cubes that nothing names."""
    path = product_path(version(number))
    for cube in cubes or ("emissions_025",):
        write_cube(store, f"{path}/{cube}.zarr", xr.Dataset({"x": ("y", [number])}))
    store.write_json({"units": units or {}}, path, "provenance.json")
    if finished:
        store.write_json(manifest(store, version(number)), path, MANIFEST)
    return version(number)


def everything(store: Store) -> dict[str, bytes]:
    return {name: store.read_bytes(folder, name) for folder in ("products", "work") for name in store.files(folder)}


def test_replaced_versions_go_and_the_published_one_stays_whole(store):
    versions = [publish_one(store, number) for number in range(7)]
    before = everything(store)
    assert plan(store, 0).items == ()
    made = plan(store, 3, now=later())
    assert everything(store) == before
    assert [item.names for item in made.items] == [(product_path(v),) for v in sorted(versions[:3])]
    first = min(versions[:3])
    assert made.items[0].bytes == sum(len(data) for name, data in before.items() if name.startswith(first))
    assert pruned(store, 3) == {product_path(v) for v in versions[:3]}
    assert visible(store) == sorted(versions[3:])
    assert pruned(store, 1) == {product_path(v) for v in versions[3:5]}
    assert store.read_json(LATEST)["previous"] == {str(YEAR): [versions[5]]}
    assert set(store.read_json(LATEST)["replaced"]) == {versions[5]}
    assert pruned(store, 0) == {product_path(versions[5])}
    assert visible(store) == [latest(store, YEAR)] == versions[-1:]
    assert verify(store, versions[-1])[1] == []
    assert pruned(store, 0) == set()


def test_a_version_that_was_just_replaced_stays_for_its_readers(store):
    old, new = (make(store, k) for k in (1, 2))
    point_to(store, old, [YEAR])
    point_to(store, new, [YEAR])
    assert plan(store, 0, 7 * DAY, later(6.9)).kept[old] == "written not long ago"
    assert [i.names for i in plan(store, 0, 7 * DAY, later(7.1)).items] == [(product_path(old),)]
    # Written long ago, but a year's until a moment ago.
    pointer = store.read_json(LATEST)
    store.write_json({**pointer, "replaced": {old: later(29).isoformat()}}, LATEST)
    assert plan(store, 0, now=later()).kept[old] == "replaced not long ago"
    # A pointer of an earlier release does not say since when.
    store.write_json({k: v for k, v in pointer.items() if k != "replaced"}, LATEST)
    assert plan(store, 0, 7 * DAY, later(6.9)).items == ()
    assert len(plan(store, 0, 7 * DAY, later(7.1)).items) == 1


def test_a_pointer_that_was_moved_back_is_what_counts(store):
    first, second = (make(store, k) for k in (1, 2))
    for v in (first, second, first):
        point_to(store, v, [YEAR])
    point_to(store, first, [2021])
    point_to(store, second, [2021])
    assert pruned(store, 0) == set()
    point_to(store, first, [2021])
    assert pruned(store, 0) == {product_path(second)}
    assert latest(store, 2021) == latest(store, YEAR) == first


def test_partial_versions_go_once_newer_ones_cover_them(store):
    months = {1: [1], 2: [1, 2], 3: [1, 2, 3], 4: [3], 5: [1, 2, 3]}
    for number, part in months.items():
        note_partial(store, make(store, number), {**CHINA, "months": part})
    note_partial(store, make(store, 6), {**CHINA, "domain": "beijing-tianjin-hebei", "months": [1]})
    note_partial(store, make(store, 7, "emissions_025", "emissions_001"), {**CHINA, "months": [1]})
    note_partial(store, make(store, 8), {"said": "nothing of its months"})
    # 1 is covered by 2, 3, 5 and 7; 2 by 3 and 5; 3 and 4 by 5; what is without a cube, 5, does not cover 7.
    assert pruned(store, 3) == {product_path(version(1))}
    assert pruned(store, 2) == set()
    assert pruned(store, 1) == {product_path(version(2))}
    assert pruned(store, 0) == {product_path(version(k)) for k in (3, 4)}
    assert set(store.read_json(PARTIAL)["versions"]) == {version(k) for k in (5, 6, 7, 8)}
    point_to(store, make(store, 9, "emissions_025", "emissions_001"), [2022])
    assert pruned(store, 0) == {product_path(version(k)) for k in (5, 7)}


def unit(store: Store, stage: str, name: str, key: str, *suffixes: str) -> list[str]:
    """A unit's entry and outputs; the names of what there is of it."""
    for suffix in suffixes:
        if suffix == ".zarr":
            write_cube(store, f"work/{stage}/{name}-{key}.zarr", xr.Dataset({"x": ("y", [1])}))
        else:
            store.write_bytes(b"1", f"work/{stage}/{name}-{key}{suffix}")
    Ledger(store, stage).record(name, key, {"outputs": {}})
    return [f"work/ledger/{stage}/{name}-{key}.json", *sorted(f"work/{stage}/{name}-{key}{s}" for s in suffixes)]


def test_work_that_no_kept_version_was_made_from_goes(store):
    used, orphan, torn = "0123456789abcdef", "fedcba9876543210", "00000000deadbeef"
    point_to(store, make(store, 1, units={"first look": {"2022-07": used}}), [YEAR])
    unit(store, "first look", "2022-07", used, ".zarr", "-evidence.npz")
    gone = unit(store, "first look", "2022-07", orphan, "-evidence.npz", ".zarr")
    assert gone[1].endswith("-evidence.npz")
    gone += unit(store, "product 1 km", "2022-a0b1", orphan)
    store.write_bytes(b"1", f"work/observe/2022-07-{torn}.npz")
    gone += [f"work/observe/2022-07-{torn}.npz"]
    # Ingest goes on from its sums; weights are looked up by every build.
    unit(store, "ingest", "tropomi_no2/x", orphan)
    store.write_bytes(b"1", f"work/ingest/tropomi_no2/2022-07-01/{orphan}.npz")
    store.write_bytes(b"1", f"work/weights/{orphan}.npz")
    before = everything(store)
    assert pruned(store, 3) == set(gone)
    ours = {name for name in before if "ingest" in name or "weights" in name}
    assert {name for name in everything(store) if orphan in name} == {name for name in ours if orphan in name}
    assert ours | {name for name in before if used in name} <= set(everything(store))
    # A version of an earlier release does not say what it was made from.
    store.write_json({}, product_path(version(1)), "provenance.json")
    unit(store, "invert", "2022-07", orphan, ".zarr")
    made = plan(store, 3, now=later())
    assert made.items == ()
    assert version(1) in made.notes[0]


def under_way(store: Store, number: int) -> str:
    name = f"work/runs/{'0' * 16}-{version(number)}-0123abcd-under-way.json"
    store.write_json({"version": version(number)}, name)
    return name


def test_what_a_build_may_be_using_stays(store):
    point_to(store, make(store, 1), [YEAR])
    unfinished, record = make(store, 2, finished=False), f"work/runs/{'0' * 16}.json"
    store.write_json({"version": unfinished, "published": False}, record)
    orphan = unit(store, "invert", "2022-07", "fedcba9876543210", ".zarr")
    assert plan(store, 0, DAY, later(0.9)).items == ()
    mark = under_way(store, 2)
    seen = plan(store, 0, DAY, later(0.9))
    assert seen.kept[unfinished] == "a build is under way, or was interrupted not long ago"
    assert "build is under way" in seen.notes[0]
    # Long after, the build is dead: its version, record and mark go, and work that nobody came to use.
    assert pruned(store, 0) == {product_path(unfinished), record, mark, *orphan}
    assert not store.exists(record)
    assert store.names("work", "runs") == []


def test_what_is_taken_up_after_the_plan_stays(store):
    for number in (1, 2, 3):
        point_to(store, make(store, number), [YEAR])
    torn = make(store, 4, finished=False)
    orphan = unit(store, "invert", "2022-07", "fedcba9876543210", ".zarr")
    made = plan(store, 0, now=later())
    assert {name for item in made.items for name in item.names} == {
        *orphan,
        *(product_path(v) for v in (version(1), version(2), torn)),
    }
    point_to(store, version(1), [2021])
    under_way(store, 4)
    assert [item.names for item in carry_out(store, made)] == [(product_path(version(2)),)]
    assert {version(1), version(3), torn} < set(store.names("products"))
    assert all(store.exists(name) for name in orphan)
    assert visible(store) == [version(1), version(3)]


def test_a_version_half_removed_is_an_error_to_readers_and_goes_next_time(store, monkeypatch):
    old, new = (publish_one(store, k) for k in (1, 2))
    made, remove = plan(store, 0, now=later()), Store.remove

    def dying(self, *parts):
        if parts == (product_path(old),):
            raise SystemExit
        remove(self, *parts)

    with monkeypatch.context() as patch:
        patch.setattr(Store, "remove", dying)
        with pytest.raises(SystemExit):
            list(carry_out(store, made))
    assert store.exists(product_path(old), "one.zarr/x/c/1")
    with pytest.raises(InputError):
        open_cube(store, f"{product_path(old)}/one.zarr")
    with pytest.raises(InputError, match="no manifest"):
        verify(store, old)
    assert visible(store) == [new]
    assert pruned(store, 3) == {product_path(old)}


def test_leftovers_go(store):
    point_to(store, make(store, 1), [YEAR])
    gone = {"work/staging/0123.zarr/x/c/0": "work/staging/0123.zarr", "work/world/sources-2022.npz": ""}
    gone |= {"work/.probe-0123": "", f"{product_path(version(1))}/emissions_025.zarr/x/c/0.0123.partial": ""}
    gone |= {"work/invert/2022-07-fedcba9876543210.npz.0123.tmp": ""}
    stay = ["products/notes.txt.tmp", "products/mine/a.partial", "inputs/x.tmp"]
    for name in (*gone, *stay):
        store.write_bytes(b"1", name)
    assert pruned(store, 0) == {name or path for path, name in gone.items()}
    assert all(store.exists(name) for name in stay)
    assert verify(store, version(1))[1] == []


@pytest.mark.parametrize(("keep", "age"), [(-1, 7 * DAY), (4, 7 * DAY), (3, 0 * DAY), (3, -7 * DAY)])
def test_what_would_not_be_safe_is_refused(tmp_path, keep, age):
    with pytest.raises(UsageError, match="expected"):
        plan(Store(str(tmp_path)), keep, age)


def test_the_command_removes_nothing_without_yes(tmp_path, capsys, monkeypatch):
    store = Store(str(tmp_path))
    assert prune.main(["--store", store.url]) == 3
    assert "expected a store made by carboncube" in capsys.readouterr().err
    store.claim(default=False, version="0")
    versions = [publish_one(store, number) for number in range(3)]
    assert prune.main(["--store", store.url, "--keep", "9"]) == 2
    assert prune.main(["--store", store.url, "--older-than", "0"]) == 2
    assert prune.main(["--store", store.url, "--older-than", "nan"]) == 2
    capsys.readouterr()
    assert prune.main(["--store", store.url, "--keep", "0", "--yes"]) == 0
    assert "removed  0 objects, 0 B together" in capsys.readouterr().out
    monkeypatch.setattr(prune, "plan", lambda *given: plan(*given, now=later()))
    assert prune.main(["--store", store.url, "--keep", "1"]) == 0
    out = capsys.readouterr().out
    assert f"stays    products/{versions[2]}: published for 2022\n" in out
    assert f"goes     products/{versions[0]}: replaced 30 days ago (" in out
    assert out.endswith("together; --yes removes it\n")
    assert set(store.names("products")) == {*versions, "latest.json"}
    assert prune.main(["--store", store.url, "--keep", "1", "--yes", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [item["names"] for item in told["removed"]] == [[product_path(versions[0])]]
    assert set(told["kept"]) == set(versions[1:])
    assert set(store.names("products")) == {*versions[1:], "latest.json"}


def test_a_store_that_tells_no_times_keeps_everything(tmp_path, monkeypatch):
    store = Store(str(tmp_path))
    for number in range(3):
        publish_one(store, number)
    files = Store.files
    monkeypatch.setattr(Store, "files", lambda self, *p: {n: {"size": 1} for n in files(self, *p)})
    assert plan(store, 0, now=later()).items == ()
