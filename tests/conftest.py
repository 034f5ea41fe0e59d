"""What several rooms' tests share: a small world and a product built from it, once a session."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import pytest

DOMAIN = "115,38,118,41"


@dataclass(frozen=True)
class Built:
    """A store with a regional world of one month, and the product built from it in this process."""

    url: str
    version: str
    stages: dict
    domain: str = DOMAIN


def settings_for(url: str, **more):
    from pipeline.settings import load

    flags = {"year": 2022, "months": "7", "domain": DOMAIN, "store": url, **more}
    return load(flags, environ={})


def make_small_world(url: str, seed: int = 3) -> None:
    from pipeline.core.grid import domain_grid
    from pipeline.store.location import Store
    from pipeline.world.make import make_world

    make_world(Store(url), [2022], seed=seed, domain=domain_grid(DOMAIN), months=[7])


@pytest.fixture(scope="session")
def client():
    """A Dask client whose one worker is this process: quick to start, compiled kernels shared."""
    from distributed import Client, LocalCluster

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with (
            LocalCluster(n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None) as cluster,
            Client(cluster) as connected,
        ):
            yield connected


@pytest.fixture(scope="session")
def world(tmp_path_factory) -> str:
    """A store with a small synthetic world."""
    url = str(tmp_path_factory.mktemp("world"))
    make_small_world(url)
    return url


@pytest.fixture(scope="session")
def built(world, client) -> Built:
    """The product of the small world."""
    from pipeline.build import build
    from pipeline.store.location import Store

    result = build(settings_for(world), Store(world), client, progress=False)
    return Built(world, result.version, result.stages)
