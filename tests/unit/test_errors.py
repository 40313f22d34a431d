import pytest
from hypothesis import given
from hypothesis import strategies as st

from eflib import errors
from eflib.errors import EflibError


@given(st.text(), st.text(), st.text())
def test_whatever_a_message_holds_its_lines_are_safe_for_a_terminal(problem, detail, hint):
    rendered = EflibError(problem, detail=detail, hint=hint).render()
    lines = rendered.split("\n")
    assert all(line.isprintable() for line in lines)
    assert lines[-1].startswith("error[error]: ")
    assert len(lines) <= errors.MAX_DETAIL_LINES + 2
    rendered.encode()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain \u00fc \u4f60", "plain \u00fc \u4f60"),
        ("\x1b[31mred\x07", "\\x1b[31mred\\x07"),
        ("two\nlines\r", "two\\nlines\\r"),
        ("\udcff", "\\udcff"),
        ("\x9b2J\u202e", "\\x9b2J\\u202e"),
    ],
)
def test_control_characters_are_escaped(text, shown):
    assert errors.printable(text) == shown


def test_a_text_of_a_megabyte_is_cut_and_counted():
    text = "x" * 10**6
    assert errors.printable(text) == "x" * 1000 + "... (999000 characters more)"
    rendered = EflibError(text, detail="\n".join([text] * 500), hint=text).render()
    assert len(rendered) < 110_000


def test_the_words_of_the_operating_system_are_used():
    assert errors.os_reason(PermissionError(13, "Permission denied")) == "permission denied"
    assert errors.os_reason(OSError("torn")) == "torn"
    assert errors.os_reason(OSError()) == "oserror"
