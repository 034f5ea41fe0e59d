"""One toy world for all tests of the room."""

import pytest
from toy_world import make_world


@pytest.fixture(scope="session")
def toy():
    return make_world()
