"""One tiny world and its undisturbed product, built once by one worker."""

import shutil

import pytest

from pipeline.core.grid import domain_grid
from pipeline.store.location import Store
from pipeline.world.make import make_world

from .world import DOMAIN, MONTHS, Driver, chunk_objects, kill_the_rest


@pytest.fixture(scope="session")
def tiny(tmp_path_factory) -> str:
    url = str(tmp_path_factory.mktemp("tiny"))
    months = [int(m) for m in MONTHS.split(",")]
    make_world(Store(url), [2022], seed=3, domain=domain_grid(DOMAIN), months=months)
    shutil.rmtree(f"{url}/truth")
    return url


@pytest.fixture(scope="session")
def undisturbed(tiny, tmp_path_factory) -> dict[str, str]:
    """Chunks of the product that one worker makes while nothing happens."""
    url = str(tmp_path_factory.mktemp("undisturbed") / "store")
    shutil.copytree(tiny, url)
    code, summary, errors = Driver(url, ("--workers", "1")).finish()
    assert code == 0, errors
    chunks = chunk_objects(Store(url), summary["version"])
    assert len(chunks) > 10
    return chunks


@pytest.fixture
def store(tiny, tmp_path) -> Store:
    """The tiny world in a store of its own."""
    shutil.copytree(tiny, tmp_path / "store")
    return Store(str(tmp_path / "store"))


@pytest.fixture(autouse=True)
def nothing_stays():
    yield
    kill_the_rest()
