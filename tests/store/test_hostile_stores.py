"""Nothing that a store holds is ever executed."""

import io
import json
import os
import pickle

import numcodecs
import numcodecs.abc
import numcodecs.registry
import numpy as np
import pytest
import zarr

from pipeline.core.errors import InputError, StoreError
from pipeline.store.arrays import load_arrays
from pipeline.store.cubes import CODECS, open_cube
from pipeline.store.location import Store


class Bomb:
    """Creates a file when it is unpickled."""

    def __init__(self, mark):
        self.mark = str(mark)

    def __reduce__(self):
        return os.mkdir, (self.mark,)


V2_ARRAY = {
    "zarr_format": 2, "shape": [1], "chunks": [1], "dtype": "|O", "compressor": None, "fill_value": None, "order": "C",
    "filters": [{"id": "pickle", "protocol": 5}],
}  # fmt: skip
BYTES = {"name": "bytes", "configuration": {"endian": "little"}}


def v3_array(*codecs) -> dict:
    return {
        "zarr_format": 3, "node_type": "array", "shape": [1], "data_type": "float64", "fill_value": 0.0,
        "dimension_names": ["x"], "attributes": {}, "codecs": list(codecs),
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [1]}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
    }  # fmt: skip


def shard(*codecs, index=(BYTES, {"name": "crc32c"})) -> dict:
    inside = {"chunk_shape": [1], "codecs": list(codecs), "index_codecs": list(index), "index_location": "end"}
    return {"name": "sharding_indexed", "configuration": inside}


PICKLE = {"name": "numcodecs.pickle", "configuration": {"protocol": 5}}
HOSTILE = {
    "v2 filter": V2_ARRAY,
    "v2 compressor": {**V2_ARRAY, "dtype": "<f8", "filters": None, "compressor": {"id": "pickle", "protocol": 5}},
    "v2 json": {**V2_ARRAY, "filters": [{"id": "json2"}]},
    "v3": v3_array(PICKLE),
    "v3 after bytes": v3_array(BYTES, PICKLE),
    "v3 in a shard": v3_array(shard(BYTES, PICKLE)),
    "v3 in a shard's shard": v3_array(shard(shard(PICKLE))),
    "v3 in a shard's index": v3_array(shard(BYTES, index=(BYTES, PICKLE))),
    "v3 unknown": v3_array(BYTES, {"name": "somebody.else"}),
    "v3 path": v3_array(BYTES, {"name": "os.system", "configuration": {"command": "true"}}),
}


def hostile(folder, metadata, consolidated: bool) -> None:
    cube = folder / "inputs/no2.zarr"
    (cube / "x/c").mkdir(parents=True)
    payload = pickle.dumps(Bomb(folder / "ran"))
    for chunk in ("x/0", "x/c/0"):
        (cube / chunk).write_bytes(payload)
    if metadata["zarr_format"] == 2:
        (cube / ".zgroup").write_text('{"zarr_format": 2}')
        (cube / "x/.zarray").write_text(json.dumps(metadata))
        (cube / "x/.zattrs").write_text('{"_ARRAY_DIMENSIONS": ["x"]}')
        if consolidated:
            everything = {
                ".zgroup": {"zarr_format": 2},
                "x/.zarray": metadata,
                "x/.zattrs": {"_ARRAY_DIMENSIONS": ["x"]},
            }
            (cube / ".zmetadata").write_text(json.dumps({"zarr_consolidated_format": 1, "metadata": everything}))
        return
    inline = {"kind": "inline", "must_understand": False, "metadata": {"x": metadata}}
    group = {"zarr_format": 3, "node_type": "group", "attributes": {}}
    (cube / "zarr.json").write_text(
        json.dumps({**group, **({"consolidated_metadata": inline} if consolidated else {})})
    )
    (cube / "x/zarr.json").write_text(json.dumps(metadata))


@pytest.mark.parametrize("consolidated", [False, True])
@pytest.mark.parametrize("name", sorted(HOSTILE))
def test_a_codec_outside_the_allowlist_is_refused_before_anything_is_decoded(tmp_path, name, consolidated):
    hostile(tmp_path, HOSTILE[name], consolidated)
    with pytest.raises(InputError):
        open_cube(Store(str(tmp_path)), "inputs/no2.zarr").load()
    assert not (tmp_path / "ran").exists()


class Runner(numcodecs.abc.Codec):
    """What a package that somebody installed may bring along: a codec that runs what it reads."""

    codec_id = "runner"

    def encode(self, buf):
        return buf

    def decode(self, buf, out=None):
        pickle.loads(buf)
        return np.zeros(1)


CHECKSUM = {"name": "numcodecs.adler32", "configuration": {}}
NUMBERS = {**V2_ARRAY, "dtype": "<f8", "filters": None}
UNLISTED = {
    "runner": {**NUMBERS, "compressor": {"id": "runner"}},
    "runner as filter": {**NUMBERS, "filters": [{"id": "delta", "dtype": "<f8"}, {"id": "runner"}]},
    "adler32": v3_array(BYTES, CHECKSUM),
    "adler32 in a shard": v3_array(shard(BYTES, CHECKSUM)),
    "adler32 in a shard's shard": v3_array(shard(shard(BYTES, CHECKSUM))),
    "adler32 in a shard's index": v3_array(shard(BYTES, index=(BYTES, CHECKSUM))),
}


@pytest.fixture
def runner(monkeypatch):
    """The codec, known to numcodecs for one test."""
    monkeypatch.setitem(numcodecs.registry.codec_registry, "runner", Runner)


@pytest.mark.usefixtures("runner")
@pytest.mark.parametrize("consolidated", [False, True])
@pytest.mark.parametrize("name", sorted(UNLISTED))
def test_a_codec_that_zarr_would_run_is_refused_by_name(tmp_path, name, consolidated):
    hostile(tmp_path, UNLISTED[name], consolidated)
    with pytest.raises(InputError, match=f"x is packed with codec '{name.split()[0]}'"):
        open_cube(Store(str(tmp_path)), "inputs/no2.zarr").load()
    assert not (tmp_path / "ran").exists()


@pytest.mark.usefixtures("runner")
def test_it_would_run_where_nobody_guards(tmp_path):
    hostile(tmp_path, UNLISTED["runner"], consolidated=False)
    zarr.open_group(str(tmp_path / "inputs/no2.zarr"), mode="r")["x"][:]
    assert (tmp_path / "ran").exists()


def test_our_own_codecs_are_on_the_list_and_none_of_them_executes():
    assert not {c for c in CODECS if "pickle" in c or "json" in c or "python" in c}


def test_arrays_are_no_pickles(tmp_path):
    store, buffer = Store(str(tmp_path)), io.BytesIO()
    np.savez(buffer, x=np.array([Bomb(tmp_path / "ran")], dtype=object))
    store.write_bytes(buffer.getvalue(), "work/x.npz")
    with pytest.raises(InputError, match="cannot be read"):
        load_arrays(store, "work/x.npz")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("version", ["../../outside", "/outside", "a/../../../outside"])
def test_a_pointer_cannot_lead_out_of_the_store(tmp_path, version):
    from pipeline.access import open_product

    store = Store(str(tmp_path / "store"))
    store.write_json({"schema": 1, "years": {"2022": version}}, "products/latest.json")
    with pytest.raises(StoreError, match="inside the store"):
        open_product(store, "emissions_025", 2022)
