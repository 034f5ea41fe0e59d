import io
import zipfile

import pytest

from pipeline.core.errors import InputError, StoreError
from pipeline.ingest import sources
from pipeline.ingest.contract import Granule
from pipeline.ingest.sources import checked_archive, list_granules, local_file


def _zip(path, members, mode=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", mode) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return str(path)


def test_folder_takes_matching_names_and_reports_the_rest(tmp_path):
    (tmp_path / "sub").mkdir()
    for name in ("b.nc", "sub/a.NC", "notes.txt"):
        (tmp_path / name).write_bytes(b"x")
    listing = list_granules([str(tmp_path)], ["*.nc"])
    assert [g.name for g in listing.granules] == ["b.nc", "a.NC"]
    assert [name.rsplit("/", 1)[-1] for name in listing.ignored] == ["notes.txt"]


def test_a_named_file_is_always_taken_and_a_glob_is_searched(tmp_path):
    for name in ("a.dat", "b.nc", "c.nc"):
        (tmp_path / name).write_bytes(b"x")
    assert [g.name for g in list_granules([str(tmp_path / "a.dat")], ["*.nc"]).granules] == ["a.dat"]
    assert [g.name for g in list_granules([f"{tmp_path}/*.nc"], ["*.nc"]).granules] == ["b.nc", "c.nc"]


def test_nothing_there_and_foreign_protocols_are_refused(tmp_path):
    with pytest.raises(InputError, match="nothing at"):
        list_granules([str(tmp_path / "none")], ["*"])
    for url in ("ftp://host/file", "zip::file://x.zip", "reference::x.json"):
        with pytest.raises(StoreError):
            list_granules([url], ["*"])


def test_archive_members_are_granules_and_unpack_to_their_bytes(tmp_path):
    path = _zip(tmp_path / "all.zip", {"x/a.nc": b"alpha", "b.txt": b"beta"})
    listing = list_granules([path], ["*.nc"])
    assert [g.address for g in listing.granules] == [f"{path}!x/a.nc"]
    with local_file(listing.granules[0]) as local, open(local, "rb") as file:
        assert file.read() == b"alpha"


def test_a_changed_member_is_another_granule(tmp_path):
    first = list_granules([_zip(tmp_path / "a.zip", {"a.nc": b"one"})], ["*"]).granules[0]
    second = list_granules([_zip(tmp_path / "a.zip", {"a.nc": b"two"})], ["*"]).granules[0]
    assert first.address == second.address
    assert first.key("p", 1, {}) != second.key("p", 1, {})


def test_bombs_and_escapes_are_refused(tmp_path, monkeypatch):
    bomb = _zip(tmp_path / "bomb.zip", {"zeros": bytes(2**25)})
    with open(bomb, "rb") as file, pytest.raises(InputError, match="expands from"):
        checked_archive(file, "bomb")
    escape = _zip(tmp_path / "escape.zip", {"../../etc/x": b"x"})
    with open(escape, "rb") as file, pytest.raises(InputError, match="plain files"):
        checked_archive(file, "escape")
    with pytest.raises(InputError, match="not a zip"):
        checked_archive(io.BytesIO(b"PK nothing"), "broken")


def test_a_broken_archive_stays_one_granule_whose_reading_fails(tmp_path):
    path = tmp_path / "broken.zip"
    path.write_bytes(b"PK\x03\x04 cut off")
    granule = list_granules([str(path)], ["*.nc", "*.zip"]).granules[0]
    with pytest.raises(InputError, match="not a zip"), local_file(granule):
        pass


def test_a_member_with_damaged_bytes_is_an_input_error(tmp_path):
    path = _zip(tmp_path / "a.zip", {"a.nc": bytes(range(256)) * 50})
    granule = list_granules([path], ["*"]).granules[0]
    raw = bytearray((tmp_path / "a.zip").read_bytes())
    raw[60] ^= 0xFF
    (tmp_path / "a.zip").write_bytes(raw)
    with pytest.raises(InputError, match="cannot be unpacked"), local_file(granule):
        pass


def test_memory_files_are_fetched_in_blocks_and_a_short_one_is_refused(monkeypatch):
    import fsspec

    monkeypatch.setattr(sources, "_BLOCK", 3)
    monkeypatch.setattr(sources.time, "sleep", lambda seconds: None)
    fs = fsspec.filesystem("memory")
    fs.pipe_file("/ingest/a.bin", b"0123456789")
    granule = list_granules(["memory://ingest/a.bin"], ["*"]).granules[0]
    with local_file(granule) as path, open(path, "rb") as file:
        assert file.read() == b"0123456789"
    with pytest.raises(InputError, match=r"could not be fetched|came as"), local_file(Granule(granule.url, 99)):
        pass
