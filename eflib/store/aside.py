"""What could not be read or verified, kept as files for a person to look at.

Whoever meets such a value treats it as absent and goes on. Here it is counted, said once in the
log, and written to a folder with its reason. Files, their size and lines in the log are bounded, so
a flood of bad values costs little.
"""

from __future__ import annotations

import logging
import os
import time
from collections import OrderedDict
from contextlib import suppress
from hashlib import sha256
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

MAX_FILES = 200
"""Files in the folder; the oldest make room."""
MAX_BYTES = 65_536
"""Bytes that are kept of one value."""
MAX_AN_HOUR = 200
"""Values that one process writes and logs in an hour; further ones are only counted."""
HOUR = 3600.0
_REMEMBERED = 1024

_log = logging.getLogger(__name__)


class Aside:
    """Puts bad values aside.

    Args:
        folder: Where they are kept; None: they are counted and logged alone.
        say: Told of each in one line; by default a warning is logged.
        clock: Seconds that only grow.

    Attributes:
        count: How many were put aside by this process.
    """

    def __init__(
        self,
        folder: Path | None = None,
        *,
        say: Callable[[str], None] = _log.warning,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.count = 0
        self._folder = folder
        self._say = say
        self._clock = clock
        self._known: OrderedDict[tuple[str, bytes], None] = OrderedDict()
        self._hour_began = clock()
        self._this_hour = 0

    def put(self, place: str, value: bytes, reason: str) -> None:
        """Put a value aside; the same value at the same place is put aside once.

        Args:
            place: Where it was found: a key, a stream with an index, a file with a line.
            value: The bytes.
            reason: Why it is not used, in a line.
        """
        mark = (place, sha256(value).digest())
        if mark in self._known:
            self._known.move_to_end(mark)
            return
        self._known[mark] = None
        if len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)
        self.count += 1
        if not self._may_write():
            return
        where = self._write(place, value, reason)
        kept = f"; kept in {where}" if where else ""
        self._say(f"ignored the value at {_plain(place)}: {_plain(reason)}{kept}")

    def _may_write(self) -> bool:
        now = self._clock()
        if now - self._hour_began > HOUR:
            self._hour_began, self._this_hour = now, 0
        self._this_hour += 1
        if self._this_hour == MAX_AN_HOUR + 1:
            self._say(f"more than {MAX_AN_HOUR} bad values in an hour: further ones are not kept")
        return self._this_hour <= MAX_AN_HOUR

    def _write(self, place: str, value: bytes, reason: str) -> str:
        """Return the file that now holds the value; empty if there is none."""
        if self._folder is None:
            return ""
        stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime())
        file = self._folder / f"{stamp}-{os.getpid()}-{self.count}.txt"
        cut = f" (the first {MAX_BYTES} follow)" if len(value) > MAX_BYTES else ""
        head = f"place: {_plain(place)}\nreason: {_plain(reason)}\nbytes: {len(value)}{cut}\n\n"
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._make_room()
            descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as handle:
                handle.write(head.encode() + value[:MAX_BYTES])
        except OSError:
            return ""  # a full disk, say: the log has the reason
        return str(file)

    def _make_room(self) -> None:
        if self._folder is None:
            return
        files = sorted(self._folder.glob("*.txt"))
        for old in files[: max(0, len(files) - MAX_FILES + 1)]:
            with suppress(OSError):
                old.unlink()


def _plain(text: str) -> str:
    """Return a text in one line of printable ASCII, whatever somebody put into it."""
    return text.encode("unicode_escape").decode("ascii")[:500]
