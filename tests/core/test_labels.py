"""Named coordinates: written as flags, read back from flags or strings."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from pipeline.core.errors import InputError
from pipeline.core.labels import label_coord, labels
from pipeline.store.cubes import open_cube, write_cube
from pipeline.store.location import Store

NAMES = ["CN", "110000", "north"]


def test_names_survive_the_store(tmp_path) -> None:
    store = Store(str(tmp_path))
    ds = xr.Dataset({"a": ("region", np.ones(3))}, coords={"region": label_coord("region", NAMES)})
    write_cube(store, "a.zarr", ds)
    opened = open_cube(store, "a.zarr")
    assert opened["region"].dtype.kind == "i"
    assert labels(opened["region"]) == NAMES
    assert labels(opened["region"].isel(region=[2, 0])) == ["north", "CN"]


@pytest.mark.parametrize("dtype", ["U6", "S6", object])
def test_strings_are_read_too(dtype) -> None:
    assert labels(xr.DataArray(np.array(NAMES, dtype=dtype), dims="region")) == NAMES


@pytest.mark.parametrize("names", [["a", "a"], ["a b"], [""]])
def test_what_flags_cannot_carry_is_refused(names) -> None:
    with pytest.raises(InputError, match="each once and without blanks"):
        label_coord("region", names)


@pytest.mark.parametrize("attrs", [{}, {"flag_meanings": "a b"}, {"flag_values": [0, 1, 2], "flag_meanings": "a b"}])
def test_numbers_without_a_meaning_are_refused(attrs) -> None:
    with pytest.raises(InputError, match="flag_meanings"):
        labels(xr.DataArray(np.arange(3), dims="region", attrs=attrs, name="region"))
