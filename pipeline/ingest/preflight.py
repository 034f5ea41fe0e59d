"""A look at an HDF5 file's structure in another process, since damaged ones can hang or crash the HDF5 library."""

from __future__ import annotations

import subprocess
import sys

from pipeline.core.errors import InputError
from pipeline.ingest.gridded import magic

LIMIT = 120.0
"""s; the structure of the largest granules is walked in about one."""
_WALK = """
import sys, h5py
def visit(name, node):
    for key in node.attrs:
        node.attrs.get(key)
    if isinstance(node, h5py.Dataset):
        [len(scales) for scales in node.dims]
        if node.chunks is not None:
            node.id.get_num_chunks()
with h5py.File(sys.argv[1], "r") as file:
    visit("/", file)
    file.visititems(visit)
"""


def check_structure(path: str, limit: float | None = None) -> None:
    """Walk groups, attributes, dimension scales and chunk indexes of an HDF5 file; other formats pass.

    `limit` is in seconds (`LIMIT` if not given). A file that only raises an error passes too: its reader will raise it
    again and say it better.

    Raises
    ------
    InputError : the library hangs or crashes on it.
    """
    if magic(path) != b"\x89HDF":
        return
    limit = LIMIT if limit is None else limit
    remedy = "fetch the file again"
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-c", _WALK, path], capture_output=True, timeout=limit, check=False
        )
    except subprocess.TimeoutExpired:
        raise InputError(f"its structure cannot be walked in {limit:g} s", "an undamaged HDF5 file", remedy) from None
    if done.returncode < 0:
        raise InputError(f"it crashes the HDF5 library (signal {-done.returncode})", "an undamaged HDF5 file", remedy)
