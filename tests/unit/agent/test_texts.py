"""Texts of errors as messages hold them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eflib.agent.texts import presentable
from eflib.messages.fields import MAX_TEXT

TORCH_ERROR = """Connection closed by peer [127.0.0.1]:4242
Exception raised from recvBytes at /c10d/Utils.hpp:678 (most recent call first):
frame #0: c10::Error::Error(c10::SourceLocation, std::string) + 0x80 (0x7f in /lib/libc10.so)
frame #1: <unknown function> + 0x5a (0x7f in /lib/libtorch_cpu.so)
<omitting python frames>
frame #19: <unknown function> + 0x891f5 (0x7f in /lib/libc.so.6)
"""


def test_a_short_text_is_as_it_was():
    assert presentable("ValueError: no") == "ValueError: no"


def test_a_long_text_keeps_head_and_tail_and_says_that_something_is_missing():
    kept = presentable("head" + "x" * 20_000_000 + "tail")
    assert kept.startswith("headx")
    assert kept.endswith("xtail")
    assert len(kept) <= MAX_TEXT
    assert "characters and more left out" in kept


@given(st.text(), st.integers(1, 3 * MAX_TEXT))
def test_any_text_is_cut_but_once_and_can_be_encoded(text, times):
    kept = presentable((text * times)[: 4 * MAX_TEXT])
    assert len(kept) <= MAX_TEXT
    assert presentable(kept) == kept
    kept.encode()


@pytest.mark.parametrize("end", ["", "then more"])
def test_the_frames_of_torch_s_c_part_are_left_out(end):
    kept = presentable(TORCH_ERROR + end)
    assert kept == f"Connection closed by peer [127.0.0.1]:4242\n{end}"


def test_half_of_a_surrogate_pair_can_be_sent():
    assert presentable("a\ud800b") == "a?b"
