"""Named coordinates (sector, region) as CF flags: integers that say what they mean, readable by any Zarr library."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr

from pipeline.core.errors import InputError


def label_coord(dim: str, names: Sequence[str]) -> xr.Variable:
    """A coordinate that names the steps of `dim`: 0, 1, ... with `flag_values` and `flag_meanings`.

    Raises
    ------
    InputError : a name that is empty, holds a blank or comes twice, which `flag_meanings` cannot carry.
    """
    if len(set(names)) != len(names) or any(not name or len(name.split()) != 1 for name in names):
        raise InputError(f"labels {', '.join(names)} of {dim}", "each once and without blanks")
    values = np.arange(len(names), dtype="int16")
    return xr.Variable(dim, values, {"flag_values": values.tolist(), "flag_meanings": " ".join(names)})


def labels(coord: xr.DataArray) -> list[str]:
    """The names of a coordinate written by `label_coord`, or of one that holds fixed-length strings.

    Raises
    ------
    InputError : neither strings nor flags that name each value.
    """
    values = np.asarray(coord.values)
    if values.dtype.kind == "S":
        return [v.decode() for v in values.tolist()]
    if values.dtype.kind in "UOT":
        return [str(v) for v in values.tolist()]
    meanings = str(coord.attrs.get("flag_meanings", "")).split()
    flags = np.atleast_1d(coord.attrs.get("flag_values", np.arange(len(meanings)))).tolist()
    named = dict(zip(flags, meanings, strict=False))
    if not meanings or len(flags) != len(meanings) or any(v not in named for v in values.tolist()):
        raise InputError(
            f"coordinate {coord.name!r} holds {values[:4]} and means {meanings[:4]}",
            "strings, or integers with flag_values and flag_meanings",
        )
    return [named[v] for v in values.tolist()]
