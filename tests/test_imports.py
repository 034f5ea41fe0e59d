"""The doors between the rooms: who may import whom, and that importing does nothing else."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import pipeline

ROOT = Path(pipeline.__file__).parent
STAGES = ("ingest", "regrid", "transport", "invert", "learn", "product", "validate", "report", "world")
ALLOWED = {
    "core": {"core"},
    "store": {"core", "store"},
    **{room: {"core", "store", room} for room in STAGES},
    "invert": {"core", "store", "transport", "invert"},
    "access": {"core", "store"},
    "guard": {"core", "store", "access"},
    "settings": {"core"},
    "catalog": {"core", "store", "settings", "access"},
    "cluster": {"core", "settings", "regrid"},
    "telemetry": set(),
    "units": {"core", "store", "telemetry"},
}
COMMAND_LINES = {"build", "flow", "tasks", "coverage", "preview", "command", "doctor", "prune"}
"""The layer above the rooms: it may see everything."""


def modules() -> list[Path]:
    return sorted(ROOT.rglob("*.py"))


def room_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return parts[0]


def imported_rooms(path: Path) -> set[str]:
    rooms = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [
                f"{node.module}.{alias.name}" if node.module == "pipeline" else node.module for alias in node.names
            ]
        for name in names:
            head, _, rest = name.partition(".")
            if head == "pipeline" and rest and not rest.startswith("__"):
                rooms.add(rest.split(".")[0])
    return rooms


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(ROOT)))
def test_rooms_keep_to_their_doors(path):
    room = room_of(path)
    if room in COMMAND_LINES or room == "__init__" or path.name == "__main__.py":
        return
    assert room in ALLOWED, f"{room} is a new room: say in this test and in docs/architecture.md what it may import"
    forbidden = imported_rooms(path) - ALLOWED[room]
    assert not forbidden, f"{path.relative_to(ROOT)} imports {forbidden}"


def test_every_room_is_there():
    found = {p.name for p in ROOT.iterdir() if p.is_dir() and p.name != "__pycache__"}
    assert set(STAGES) | {"core", "store"} <= found


def test_invert_and_learn_never_see_the_world():
    for room in ("invert", "learn", "transport", "product"):
        for path in (ROOT / room).rglob("*.py"):
            assert "pipeline.world" not in path.read_text(), path


def test_importing_has_no_effect_but_the_regridding_engine():
    """No client, no file, no warning filter, no option: only `pipeline.regrid` appends a finder."""
    script = (
        "import sys, warnings, pkgutil, importlib\n"
        "finders, filters = list(sys.meta_path), list(warnings.filters)\n"
        "import xarray, dask, distributed, lightgbm, rasterio, geopandas, matplotlib, intake, dask_ml, zarr, numba\n"
        "before = len(warnings.filters)\n"
        "import pipeline\n"
        "for m in pkgutil.walk_packages(pipeline.__path__, 'pipeline.'):\n"
        "    if not m.name.endswith('__main__'): importlib.import_module(m.name)\n"
        "ours = [f for f in sys.meta_path if 'pipeline' in type(f).__module__ + getattr(f, '__module__', '')]\n"
        "assert len(ours) == 1 and sys.meta_path[-1] is ours[0], sys.meta_path\n"
        "assert not any('pipeline' in str(f) for f in warnings.filters)\n"
        "assert distributed.client._get_global_client() is None\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
