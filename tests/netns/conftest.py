"""A small year: twelve months of the tiny domain, and its product built by one process at a time, undisturbed."""

import shutil

import pytest

from pipeline.core.grid import domain_grid
from pipeline.store.location import Store
from pipeline.world.make import make_world

from ..chaos.world import DOMAIN, Driver, chunk_objects, kill_the_rest

YEAR = "1-12"


@pytest.fixture(scope="session")
def small_year(tmp_path_factory) -> str:
    url = str(tmp_path_factory.mktemp("year"))
    make_world(Store(url), [2022], seed=3, domain=domain_grid(DOMAIN))
    shutil.rmtree(f"{url}/truth")
    return url


@pytest.fixture(scope="session")
def year_undisturbed(small_year, tmp_path_factory) -> dict[str, str]:
    url = str(tmp_path_factory.mktemp("year_undisturbed") / "store")
    shutil.copytree(small_year, url)
    code, summary, errors = Driver(url, months=YEAR).finish()
    assert code == 0, errors
    return chunk_objects(Store(url), summary["version"])


@pytest.fixture(autouse=True)
def nothing_stays():
    yield
    kill_the_rest()
