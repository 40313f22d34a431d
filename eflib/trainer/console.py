"""What a worker says to whoever reads its log."""

from __future__ import annotations

import sys
from contextlib import suppress


def say(text: str) -> None:
    """Write one line to stderr, which is a worker's log; a full disk under it costs the line."""
    line = text.encode(errors="backslashreplace").decode()
    with suppress(OSError, ValueError):  # ValueError: a script has closed it
        sys.stderr.write(f"[eflib] {line}\n")
        sys.stderr.flush()
