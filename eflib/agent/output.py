"""A worker's standard output and error: one file, which may lie on a disk that is full."""

from __future__ import annotations

import errno
import io
import os
import sys
from contextlib import suppress

FULL = {errno.ENOSPC, errno.EDQUOT}
"""What a write fails with where there is no room: no reason for training to end."""


class Output(io.FileIO):
    """A file descriptor that takes what cannot be written as written, and says later what is lost.

    Args:
        number: The descriptor; it stays open when this object goes.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number, "w", closefd=False)
        self._number_lost = 0

    def write(self, data: object, /) -> int:
        """Write some of the bytes; returns how many of them need not be written again."""
        view = data if isinstance(data, memoryview) else memoryview(_as_bytes(data))
        try:
            if self._number_lost:
                note = f"\n[eflib] {self._number_lost:,} bytes of output are missing here: "
                super().write(f"{note}the disk was full\n".encode())
                self._number_lost = 0
            return super().write(view)
        except OSError as error:
            if error.errno not in FULL:
                raise
            self._number_lost += view.nbytes
            return view.nbytes


def _as_bytes(data: object) -> bytes:
    if not isinstance(data, (bytes, bytearray)):
        raise TypeError(f"output must be bytes, not {type(data).__name__}")
    return bytes(data)


def redirect(path: str) -> None:
    """Send this process's output to the end of a file, and take input from nowhere.

    Where the file cannot be opened for want of space, output goes nowhere.
    """
    nothing = os.open(os.devnull, os.O_RDWR)
    try:
        log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    except OSError as error:
        if error.errno not in FULL:
            raise
        log = os.dup(nothing)
    os.dup2(nothing, 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)
    os.close(nothing)
    sys.stdout = sys.__stdout__ = _line_stream(1, "replace")  # type: ignore[misc]
    sys.stderr = sys.__stderr__ = _line_stream(2, "backslashreplace")  # type: ignore[misc]


def say(text: str) -> None:
    """Write to standard error, if that is possible."""
    with suppress(OSError, ValueError):
        sys.stderr.write(text)
        sys.stderr.flush()


def _line_stream(number: int, errors: str) -> io.TextIOWrapper:
    buffered = io.BufferedWriter(Output(number))
    return io.TextIOWrapper(buffered, encoding="utf-8", errors=errors, line_buffering=True)
