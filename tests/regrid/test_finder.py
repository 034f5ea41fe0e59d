"""`import pipeline.regrid` makes xESMF importable, and native ESMF always wins."""

import importlib
import subprocess
import sys
import textwrap

import pytest

from pipeline.regrid.finder import EngineFinder, install


def run(code, *path):
    program = f"import sys; sys.path[:0] = {list(map(str, path))!r}\n{textwrap.dedent(code)}"
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False)


def test_xesmf_imports_after_the_room_and_not_before():
    done = run("""
        try:
            import esmpy
        except ImportError:
            print("absent")
        import pipeline.regrid
        import esmpy, esmpy.api.locstream
        from esmpy.api.grid import Grid
        print(esmpy.__engine__, Grid is esmpy.Grid, esmpy.__name__, esmpy.__spec__.name)
        import xesmf.backend
        print(xesmf.backend.Grid.__mro__[1].__module__)
    """)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "absent",
        "carboncube-numpy True pipeline.regrid.esmpy_engine pipeline.regrid.esmpy_engine",
        "pipeline.regrid.esmpy_engine.api.grid",
    ]


def test_native_esmf_wins(tmp_path):
    (tmp_path / "esmpy.py").write_text("__version__ = '8.9.0'\n")
    done = run("import pipeline.regrid; print(*pipeline.regrid.engine())", tmp_path)
    assert done.stdout.split() == ["ESMF", "8.9.0"], done.stderr


def test_installing_twice_adds_one_finder_and_leaves_others_alone():
    install()
    install()
    assert sum(isinstance(f, EngineFinder) for f in sys.meta_path) == 1
    assert EngineFinder().find_spec("json") is None
    assert EngineFinder().find_spec("esmpyx") is None
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("esmpy.nonsense")


def test_importing_the_room_does_nothing_else():
    done = run("""
        import warnings, sys
        import dask.array, scipy.sparse, shapely, xarray, fsspec
        before = list(warnings.filters)
        import pipeline.regrid
        print(warnings.filters == before, "xesmf" in sys.modules, "esmpy" in sys.modules, "distributed" in sys.modules)
    """)
    assert done.stdout.split() == ["True", "False", "False", "False"], done.stderr
