"""Workers that never imported the room get the engine from the plugin."""

import pytest

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
