"""Names of inventories in what data say of themselves."""

import pytest

from pipeline.core.ancestry import named_in, related, split_names


@pytest.mark.parametrize("told", ["ceads, meic", "CEADS MEIC", ["ceads", "Meic"]])
def test_recorded_names_are_read_however_they_are_listed(told):
    assert split_names(told) == ["ceads", "meic"]
    assert split_names(None) == split_names("") == []


def test_a_version_is_related_to_its_inventory_and_another_is_not():
    ancestry = {"edgar_v8", "ceads", "meic"}
    assert related("edgar", ancestry) == ["edgar_v8"]
    assert related("meic_v14", ancestry) == ["meic"]
    assert related("carbon_monitor", ancestry) == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("MEIC v1.4 provincial CO2", {"meic"}),
        ("scaled to Carbon-Monitor and EDGAR", {"carbon_monitor", "edgar"}),
        ("homeic and meics", set()),
        ("Global Energy Monitor", set()),
    ],
)
def test_inventories_are_found_as_whole_words(text, found):
    assert named_in(text) == found
