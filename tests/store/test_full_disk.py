"""A disk that is full: one clear error, nothing visible, and the work goes on once there is room."""

import datetime as dt
import shutil
import subprocess

import pytest

from pipeline import doctor
from pipeline.build import build
from pipeline.core.errors import StoreError
from pipeline.store.location import Store
from pipeline.store.prune import carry_out, plan
from pipeline.store.publish import visible
from pipeline.store.verify import verify
from tests.conftest import need, settings_for
from tests.store.publishing import publish_one


@pytest.fixture
def disk(tmp_path):
    """A small file system in memory; the size of it in KiB is changed by calling."""
    need("mounts")
    place = tmp_path / "disk"
    place.mkdir()

    def resize(kib: int, *options: str) -> str:
        subprocess.run(["mount", "-t", "tmpfs", "-o", ",".join([f"size={kib}k", *options]), "tmpfs", place], check=True)
        return str(place)

    resize(512)
    yield lambda kib: resize(kib, "remount")
    subprocess.run(["umount", place], check=True)


@pytest.mark.slow
def test_a_full_disk_shows_no_product_and_the_build_resumes(disk, world, client):
    url = disk(64 * 1024)
    shutil.copytree(f"{world}/inputs", f"{url}/inputs")
    shutil.copy(f"{world}/carboncube.json", url)
    used = int(subprocess.run(["df", "-k", "--output=used", url], capture_output=True, text=True).stdout.split()[-1])
    disk(used + 400)
    store, settings = Store(url), settings_for(url, fine=False, report=False, learn=False)
    with pytest.raises(StoreError, match="no space left") as caught:
        build(settings, store, client, progress=False)
    assert caught.value.exit_code == 4
    assert visible(store) == []
    disk(used + 64 * 1024)
    version = build(settings, store, client, progress=False).version
    assert verify(store, version)[1] == []
    assert visible(store) == [version]


def published_until_full(store: Store) -> list[str]:
    """Versions that found room, oldest first."""
    versions: list[str] = []

    def fill() -> None:
        while len(versions) < 100:
            versions.append(publish_one(store, len(versions)))

    with pytest.raises(StoreError, match="no space left"):
        fill()
    return versions


@pytest.mark.slow
def test_a_version_that_does_not_fit_is_never_pointed_at(disk):
    store = Store(disk(512))
    versions = published_until_full(store)
    assert versions
    assert store.read_json("products/latest.json")["years"] == {"2022": versions[-1]}
    assert all(f.level == "ok" for f in doctor.verified(store))


@pytest.mark.slow
def test_pruning_makes_room_on_a_full_disk(disk):
    store = Store(disk(512))
    versions = published_until_full(store)
    made = plan(store, 0, now=dt.datetime.now(dt.UTC) + dt.timedelta(days=30))
    removed = [name for item in carry_out(store, made) for name in item.names]
    assert {f"products/{version}" for version in versions[:-1]} <= set(removed)
    assert visible(store) == versions[-1:]
    assert verify(store, versions[-1])[1] == []
    assert verify(store, publish_one(store, 0))[1] == []
