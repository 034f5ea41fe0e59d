"""A missing capability fails a test, unless the one who runs it has said that it may be missing; then it is printed."""

import pytest

pytest_plugins = ["pytester"]

TEST = """
from tests import conftest

def test_needs_something():
    conftest.CAPABILITIES["moon"] = (lambda: {there}, "fly there")
    conftest.need("moon")
"""
CONFTEST = "from tests.conftest import pytest_terminal_summary  # noqa: F401"


@pytest.mark.parametrize(
    ("there", "allowed", "outcome"),
    [(True, "", "passed"), (False, "", "failed"), (False, "sun", "failed"), (False, "sun,moon", "skipped")],
)
def test_need(pytester, monkeypatch, there, allowed, outcome):
    monkeypatch.setenv("CARBONCUBE_ALLOW_SKIP", allowed)
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(TEST.format(there=there))
    result = pytester.runpytest_inprocess("-p", "no:cacheprovider")
    result.assert_outcomes(**{outcome: 1})
    if outcome != "passed":
        result.stdout.fnmatch_lines(["*this test needs moon: fly there*"])
    if outcome == "skipped":
        result.stdout.fnmatch_lines(["SKIPPED by CARBONCUBE_ALLOW_SKIP: this test needs moon: fly there"])
