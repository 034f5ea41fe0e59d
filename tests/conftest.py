"""What several rooms' tests share."""

from __future__ import annotations

from pathlib import Path

import pytest
from product_fixture import write_product

from pipeline.store.location import Store


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, str]:
    """A store with one small made-up product version and its truth; read it, do not change it."""
    folder: Path = tmp_path_factory.mktemp("made")
    store = Store(str(folder))
    return store, write_product(store)
