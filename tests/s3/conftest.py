"""A Ceph server for the session, buckets of its own for each test."""

import os

import pytest

from pipeline.core.options import StorageOptions
from pipeline.store.location import Store
from tests.conftest import need
from tests.s3 import ceph as server


@pytest.fixture(scope="session")
def ceph():
    need("ceph")
    with server.running() as running, pytest.MonkeyPatch.context() as patch:
        for name, value in running.environment.items():
            patch.setenv(name, value)
        yield running


def new_store(ceph, endpoint=None, **storage) -> Store:
    """A store in a bucket that was not there before."""
    bucket = f"b{os.urandom(6).hex()}"
    Store.at(f"s3://{bucket}", StorageOptions(endpoint=ceph.endpoint)).fs.mkdir(bucket)
    return Store.at(f"s3://{bucket}/store", StorageOptions(endpoint=endpoint or ceph.endpoint, **storage))


@pytest.fixture
def store(ceph) -> Store:
    return new_store(ceph)
