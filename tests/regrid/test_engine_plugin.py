"""Workers that never imported the room get the engine from the plugin."""

import numpy as np
import pytest
import xarray as xr

from pipeline.core.grid import Grid
from pipeline.regrid import regrid
from pipeline.regrid.plugin import EnginePlugin


def imports_xesmf():
    import sys

    import xesmf

    return xesmf.__name__, any(type(f).__name__ == "EngineFinder" for f in sys.meta_path)


@pytest.mark.slow
def test_present_and_later_workers_can_import_xesmf():
    distributed = pytest.importorskip("distributed")
    with (
        distributed.LocalCluster(n_workers=1, threads_per_worker=1, processes=True, dashboard_address=None) as cluster,
        distributed.Client(cluster) as client,
    ):
        client.register_plugin(EnginePlugin())
        assert client.submit(imports_xesmf).result(timeout=120) == ("xesmf", True)
        cluster.scale(2)
        client.wait_for_workers(2, timeout=120)
        answers = client.run(imports_xesmf)
    assert set(answers.values()) == {("xesmf", True)}


@pytest.mark.slow
def test_distributed_equals_local():
    distributed = pytest.importorskip("distributed")
    values = np.random.default_rng(0).random((3, 40, 50))
    values[0, :5] = np.nan
    coords = {"lat": 30.05 + 0.1 * np.arange(40), "lon": 110.05 + 0.1 * np.arange(50)}
    field = xr.DataArray(values, coords, ("time", "lat", "lon"))
    grid = Grid.from_bounds(110, 30, 115, 34, 4)
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as cluster,
        distributed.Client(cluster),
    ):
        there = regrid(field.chunk(time=1, lat=15), grid, "conservative", chunks={"lat": 7, "lon": 9}).compute()
    xr.testing.assert_identical(
        there, regrid(field.chunk(time=1), grid, "conservative", chunks={"lat": 7, "lon": 9}).compute()
    )
