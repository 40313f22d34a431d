"""Texts that fit their field, whatever they were."""

import pytest

from eflib.messages.codec import decode, encode
from eflib.messages.fields import MAX_TEXT, shortened
from eflib.messages.records import ErrorText


@pytest.mark.parametrize(
    "text", ["", "short", "x" * MAX_TEXT, "x" * (MAX_TEXT + 1), "y" * 10_000_000, "\ud800" * 20_000]
)
def test_a_shortened_text_can_be_written_and_read(text):
    error = ErrorText(shortened(text), shortened(text))
    assert decode(encode(error), ErrorText) == error


def test_beginning_and_end_of_a_long_text_are_kept():
    text = shortened("first line\n" + "frame\n" * 100_000 + "ValueError: last line")
    assert text.startswith("first line\n")
    assert text.endswith("ValueError: last line")
    assert "characters and more left out" in text
    assert len(text) == MAX_TEXT


def test_half_a_surrogate_pair_becomes_a_question_mark():
    assert shortened("a\ud800b") == "a?b"
