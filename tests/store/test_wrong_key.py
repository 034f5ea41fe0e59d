"""A key that the server does not know: every command line says so in one line, before anything is read or made."""

import urllib.request

import pytest

from pipeline import build, doctor, prune
from tests.store.conftest import next_moto


@pytest.fixture
def choosy(request, monkeypatch, moto):
    """A store that was reached, on a server that from now on asks for keys it has given out: there are none."""
    store = next_moto(request, monkeypatch)
    store.claim(default=False, version="0")
    monkeypatch.setenv("CARBONCUBE_STORAGE__ENDPOINT", moto)
    monkeypatch.setenv("CARBONCUBE_STORAGE__RETRIES", "0")

    def ask_after(requests: bytes) -> None:
        headers = {"Content-Type": "application/octet-stream"}
        urllib.request.urlopen(urllib.request.Request(f"{moto}/moto-api/reset-auth", requests, headers)).read()

    ask_after(b"0")
    yield store
    ask_after(b"inf")


@pytest.mark.parametrize(
    ("main", "flags"),
    [
        (doctor.main, ["--probe"]),
        (doctor.main, ["--verify"]),
        (prune.main, ["--yes"]),
        (build.main, ["--year", "2022"]),
        (build.main, ["--year", "2022", "--preview"]),
    ],
)
def test_a_wrong_key_is_one_line(choosy, capsys, main, flags):
    assert main([*flags, "--store", choosy.url]) == 4
    said = capsys.readouterr()
    assert "the server does not know this access key" in said.err
    assert said.err.count("\n") == 1
    assert said.out == ""
