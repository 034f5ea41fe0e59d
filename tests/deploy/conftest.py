"""The files of `deploy/`, read once."""

from pathlib import Path

import pytest
import yaml

from ..conftest import need

DEPLOY = Path(__file__).parents[2] / "deploy"


def resources() -> list[tuple[str, dict]]:
    """Every Kubernetes resource of `deploy/` with the name of its file."""
    files = sorted((DEPLOY / "kubernetes").glob("*.yaml"))
    return [(f.name, r) for f in files for r in yaml.safe_load_all(f.read_text()) if r]


@pytest.fixture(scope="session")
def manifests() -> list[tuple[str, dict]]:
    return resources()


@pytest.fixture(autouse=True)
def with_schemas():
    need("schemas")
