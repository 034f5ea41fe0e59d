"""A store in a folder, and one on a quick S3 server."""

import os

import pytest

from pipeline.core.options import StorageOptions
from pipeline.store.location import Store


@pytest.fixture(params=["folder", "moto"])
def store(request, tmp_path, monkeypatch):
    if request.param == "folder":
        return Store(str(tmp_path / "store"))
    return next_moto(request, monkeypatch)


def next_moto(request, monkeypatch) -> Store:
    """A store in a bucket of its own."""
    for name, value in (("ACCESS_KEY_ID", "k"), ("SECRET_ACCESS_KEY", "s"), ("DEFAULT_REGION", "us-east-1")):
        monkeypatch.setenv(f"AWS_{name}", value)
    bucket = f"b{os.urandom(6).hex()}"
    made = Store.at(f"s3://{bucket}/store", StorageOptions(endpoint=request.getfixturevalue("moto"), retries=1))
    made.fs.mkdir(bucket)
    return made
