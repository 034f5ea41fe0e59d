"""Named arrays in one object, for what passes between tasks and is no cube: NumPy's npz, never a pickle."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from pipeline.core.errors import InputError
from pipeline.store.location import Store


def save_arrays(store: Store, path: str, arrays: Mapping[str, NDArray]) -> None:
    """Write arrays under one path, all or nothing."""
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    store.write_bytes(buffer.getvalue(), path)


def load_arrays(store: Store, path: str) -> dict[str, NDArray]:
    """Read what `save_arrays` wrote.

    Raises
    ------
    InputError : absent or damaged.
    """
    try:
        with np.load(io.BytesIO(store.read_bytes(path)), allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (FileNotFoundError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"{store.address(path)} cannot be read ({error})", remedy="run again with --fresh") from error
