"""What the tests of ingest share."""

import pytest


@pytest.fixture(autouse=True)
def _no_preflight(request, monkeypatch):
    """The look at a file's structure in another process takes longer than most tests; those about it keep it."""
    if "preflight" not in request.node.nodeid and request.node.get_closest_marker("slow") is None:
        monkeypatch.setattr("pipeline.ingest.books.check_structure", lambda path: None)
