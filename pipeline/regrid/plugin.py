"""Makes xESMF importable where Dask runs tasks: on workers, and in the processes of `Regridder(parallel=True)`."""

from __future__ import annotations

from typing import Any

from distributed import WorkerPlugin

from pipeline.regrid.finder import install


class EnginePlugin(WorkerPlugin):
    """Gives every present and future worker of a cluster the engine, unless it has native ESMF.

    ``client.register_plugin(EnginePlugin())``. The project has to be installed on the workers; without the plugin
    ``dask worker --preload pipeline.regrid`` does the same.
    """

    name = "carboncube-regrid-engine"
    idempotent = True

    def setup(self, worker: Any) -> None:  # noqa: ARG002
        """Called by Dask on each worker."""
        install()


def process_options() -> dict[str, Any]:
    """Options for `dask.config.set` so that Dask's own spawned processes find the engine.

    ``with dask.config.set(process_options()): xesmf.Regridder(..., parallel=True)``
    """
    return {"multiprocessing.initializer": install}
