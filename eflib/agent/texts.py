"""Texts of errors as messages hold them: bounded, valid, without a library's C++ frames."""

from __future__ import annotations

import re

from eflib.messages.fields import shortened

_FRAMES = re.compile(
    r"\n?Exception raised from [^\n]*\(most recent call first\):"
    r"|\n?frame #\d+: [^\n]*"
    r"|\n?<omitting python frames>"
)


def presentable(text: str) -> str:
    """Return an error's text as a message may hold it; applied twice it changes nothing more.

    torch puts the C++ frames of the place where it came up into each of its errors: they go. Of
    what is still too long, head and tail are kept.
    """
    return shortened(_FRAMES.sub("", text))
