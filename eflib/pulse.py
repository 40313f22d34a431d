"""A worker's pulse: signs of life that its agent, on the same machine, reads without asking.

A small file that both map or read: the worker beats in it from a thread of its own, so that a slow
store or a long collective is not taken for a hang, and marks when its main thread computes. All
times are CLOCK_MONOTONIC, which is one clock for all processes of a machine and stands still while
the machine sleeps.
"""

from __future__ import annotations

import faulthandler
import mmap
import struct
import sys
import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

BEAT_SECONDS = 1.0
"""Between two beats."""

_BEAT, _SINCE, _BOUND = range(3)  # each value is one aligned double: none is ever read half
_LAYOUT = struct.Struct("3d")
_WARNING = 0.9  # share of the step bound after which the worker shows where it is
_AHEAD = 1.5 * BEAT_SECONDS  # but this long before the bound: it looks once a beat


@dataclass(frozen=True)
class Sign:
    """What a pulse file says.

    Attributes:
        beat: When the worker beat last.
        since: Since when its main thread has computed in one step; 0 when it does not.
        bound: How long it may, in seconds; 0 for any time.
    """

    beat: float
    since: float
    bound: float


class Pulse:
    """The worker's side of a pulse; without a file it takes notes that nobody reads."""

    def __init__(self, path: str = "") -> None:
        self._values = memoryview(bytearray(_LAYOUT.size)).cast("d")
        self._warned = 0.0
        if path:
            # Written before it is mapped: a page that a full disk has no room for would be a fault.
            Path(path).write_bytes(bytes(_LAYOUT.size))
            with Path(path).open("r+b") as file:
                self._values = memoryview(mmap.mmap(file.fileno(), _LAYOUT.size)).cast("d")

    def start(self) -> None:
        """Beat from now until the process ends."""
        self.beat()
        threading.Thread(target=self._run, name="eflib-pulse", daemon=True).start()

    def beat(self) -> None:
        """Give one sign of life."""
        self._values[_BEAT] = time.monotonic()

    def computing(self, bound: float | None) -> None:
        """Mark that the main thread computes from now on, for at most ``bound`` seconds."""
        self._values[_BOUND] = bound or 0.0
        self._values[_SINCE] = time.monotonic()

    def idle(self) -> None:
        """Mark that the main thread waits for others, or does what may take any time."""
        self._values[_SINCE] = 0.0

    @contextmanager
    def idling(self) -> Iterator[None]:
        """Do something that may take any time, within a step or outside."""
        since = self._values[_SINCE]
        self.idle()
        try:
            yield
        finally:
            if since:
                self._values[_SINCE] = time.monotonic()

    def _run(self) -> None:
        while True:
            time.sleep(BEAT_SECONDS)
            self.beat()
            self._warn()

    def _warn(self) -> None:
        """Show where a step hangs while this process can still tell."""
        since, bound = self._values[_SINCE], self._values[_BOUND]
        spent = time.monotonic() - since
        enough = min(_WARNING * bound, max(bound - _AHEAD, bound / 2))
        if not (since and bound and spent > enough) or since == self._warned:
            return
        self._warned = since
        with suppress(OSError, ValueError):  # a script may have closed it
            sys.stderr.write(
                f"[eflib] one step has computed for {spent:.0f} s; at {bound:g} s this worker "
                "counts as hung. It is here:\n"
            )
            sys.stderr.flush()
            faulthandler.dump_traceback(2)


_own = Pulse()


def own() -> Pulse:
    """Return this process's pulse; outside an agent one that nobody reads."""
    return _own


def begin(path: str) -> None:
    """Begin this worker's pulse in a file, before anything else of it runs.

    Where there is no room for the file, nobody watches this worker for hangs, and it is said.
    """
    global _own  # noqa: PLW0603 - a process has one pulse
    try:
        _own = Pulse(path)
    except OSError as error:
        reason = error.strerror or error
        sys.stderr.write(f"[eflib] cannot write {path} ({reason}): hangs will not be found\n")
        return
    _own.start()


def read(path: str | Path) -> Sign | None:
    """Return what a worker's pulse says; None before its first beat."""
    try:
        data = Path(path).read_bytes()
    except OSError:
        return None
    if len(data) != _LAYOUT.size:
        return None
    beat, since, bound = _LAYOUT.unpack(data)
    return Sign(beat, since, bound) if beat else None
