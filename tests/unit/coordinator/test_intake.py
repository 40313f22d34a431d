"""Messages that lack what the plane reads are refused before they are journaled."""

import pytest

from eflib.coordinator.intake import REQUIRED, complaint


@pytest.mark.parametrize("kind", sorted(REQUIRED))
def test_each_missing_field_is_named_and_a_whole_message_passes(kind):
    whole = {"type": kind, **dict.fromkeys(REQUIRED[kind], "x")}
    assert complaint(whole) == ""
    for name in REQUIRED[kind]:
        torn = {key: value for key, value in whole.items() if key != name}
        assert complaint(torn) == f"{kind} without {name}"


def test_an_unknown_type_is_named():
    assert complaint({"type": "dance"}) == "unknown type 'dance'"
    assert complaint({}) == "unknown type None"
