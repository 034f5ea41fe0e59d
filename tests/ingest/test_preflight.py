import h5py
import numpy as np
import pytest

from pipeline.core.errors import InputError
from pipeline.ingest import preflight
from pipeline.ingest.preflight import check_structure
from tests.ingest.granules import tropomi


def test_sound_files_and_other_formats_pass(tmp_path):
    check_structure(tropomi(tmp_path / "a.nc"))
    (tmp_path / "b.nc").write_bytes(b"CDF\x01 whatever")
    check_structure(str(tmp_path / "b.nc"))
    (tmp_path / "c.nc").write_bytes(b"\x89HDF\r\n\x1a\n cut off")
    check_structure(str(tmp_path / "c.nc"))


def test_what_hangs_or_crashes_the_library_is_refused(tmp_path, monkeypatch):
    path = tropomi(tmp_path / "a.nc")
    monkeypatch.setattr(preflight, "_WALK", "import time; time.sleep(60)")
    with pytest.raises(InputError, match="cannot be walked in 1 s"):
        check_structure(path, 1.0)
    monkeypatch.setattr(preflight, "_WALK", "import os; os.abort()")
    with pytest.raises(InputError, match="crashes the HDF5 library"):
        check_structure(path)


def test_dimension_scales_in_a_zeroed_heap_do_not_hang_the_run(tmp_path):
    """References of variable length in a zeroed heap send the library round in circles."""
    with h5py.File(tmp_path / "a.nc", "w") as file:
        file["x"] = np.arange(3)
        file["x"].make_scale("x")
        for k in range(4):
            file[f"v{k}"] = np.arange(3)
            file[f"v{k}"].dims[0].attach_scale(file["x"])
    raw = bytearray((tmp_path / "a.nc").read_bytes())
    heap = raw.find(b"GCOL")
    raw[heap + 16 : heap + 400] = bytes(384)
    (tmp_path / "a.nc").write_bytes(raw)
    with pytest.raises(InputError, match=r"cannot be walked|crashes"):
        check_structure(str(tmp_path / "a.nc"), 2.0)
