"""What every store promises: keys with a value each, streams of entries, and nothing that blocks.

Streams are written once, here, over the keys: an entry is a key that is created if it is absent, so
a stream has no holes and no locks whichever way its writers die.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, TypeVar

from eflib.errors import EflibError, StoreError

if TYPE_CHECKING:
    from collections.abc import Callable

Keys = list[str]
Entries = list[tuple[int, bytes]]
T = TypeVar("T")

STREAMS = "streams/"
"""Keys below this prefix belong to the streams; ``list`` hides them."""


class Store(ABC):
    """Bytes under keys that many processes share; every call ends within a stated bound.

    A key is a path such as ``jobs/digits/status``. A key is meant to be changed either by plain
    ``set`` (its last writer wins) or by ``compare_and_set``: a plain ``set`` does not wait for a
    ``compare_and_set`` of the same key that is under way.

    Every method raises StoreError, naming the place and the cause, when the store cannot be used.
    """

    @property
    @abstractmethod
    def url(self) -> str:
        """The address that ``open_store`` takes to reach this same store."""

    @abstractmethod
    def get(self, key: str) -> bytes | None:
        """Return the value of a key, or None where there is none; never waits for it to appear."""

    @abstractmethod
    def set(self, key: str, value: bytes) -> None:
        """Write the value of a key; a reader sees the old value or the new one, never a part."""

    @abstractmethod
    def compare_and_set(self, key: str, expected: bytes | None, value: bytes) -> bool:
        """Write ``value`` if the key holds ``expected`` (None: if it is absent), in one act.

        Returns:
            Whether this call wrote. Of several calls that expect the same, one returns True.
        """

    @abstractmethod
    def delete(self, key: str) -> bool:
        """Remove a key; True if it was there."""

    @abstractmethod
    def list(self, prefix: str = "") -> Keys:
        """Return the keys that start with ``prefix``, sorted."""

    @abstractmethod
    def close(self) -> None:
        """Let go of connections and files; what is stored stays."""

    def append(self, stream: str, value: bytes) -> int:
        """Add an entry at the end of a stream, of which there is exactly one.

        Returns:
            The index of the entry, from 0.
        """
        tail = _tail_key(stream)
        index = max(self._number(tail), self._number(_floor_key(stream)))
        while True:
            while not self.compare_and_set(_entry_key(stream, index), None, value):
                index += 1
            floor = self._number(_floor_key(stream))
            if index >= floor:
                break
            # The place was free because a trim had emptied it: nobody reads there any more.
            self.delete(_entry_key(stream, index))
            index = floor
        # Only a hint, which may fall behind when two writers race: the search goes on from it.
        self.set(tail, str(index + 1).encode())
        return index

    def read(self, stream: str, start: int) -> Entries:
        """Return all entries from index ``start`` on; those trimmed away are left out."""
        index = max(start, self._number(_floor_key(stream)))
        entries = []
        while (value := self.get(_entry_key(stream, index))) is not None:
            entries.append((index, value))
            index += 1
        return entries

    def reaches(self, stream: str, end: int) -> bool:
        """Tell whether a stream ever had ``end`` entries; a store that began anew has not."""
        if end <= self._number(_floor_key(stream)):
            return True
        return self.get(_entry_key(stream, end - 1)) is not None

    def trim(self, stream: str, end: int) -> None:
        """Forget the entries with an index below ``end``; indices go on from where they were."""
        key = _floor_key(stream)
        while True:
            held = self.get(key)
            floor = int(held) if held else 0
            if floor >= end:
                return
            if self.compare_and_set(key, held, str(end).encode()):
                break
        for index in range(floor, end):
            self.delete(_entry_key(stream, index))

    def _number(self, key: str) -> int:
        held = self.get(key)
        return int(held) if held else 0


def check_key(key: str) -> None:
    """Refuse a key that is not a path.

    Raises:
        StoreError: A part of it is empty.
    """
    if not all(key.split("/")):
        raise StoreError(f"a key has an empty part: {key!r}")


def _entry_key(stream: str, index: int) -> str:
    return f"{STREAMS}{stream}/{index}"


def _tail_key(stream: str) -> str:
    return f"{STREAMS}{stream}/tail"


def _floor_key(stream: str) -> str:
    return f"{STREAMS}{stream}/floor"


def wait_for(  # noqa: PLR0913 - what is waited for, three times, and the two hooks of a test
    condition: Callable[[], T | None],
    *,
    timeout: float,
    what: str,
    poll: float = 0.02,
    error: type[EflibError] = StoreError,
    hint: str = "",
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> T:
    """Return the first true value of ``condition``, asking again and again within a bound.

    Args:
        condition: Asked at least once; None, False and empty values mean *not yet*.
        timeout: The bound, in seconds.
        what: What is waited for, as in "waited 5 s for {what}".
        poll: Time between two questions, in seconds.
        error: The class to raise when the bound passes.
        hint: What the reader can do then.
        clock: Seconds that only grow.
        sleep: How to wait.

    Raises:
        EflibError: An ``error`` that names what was waited for and how long.
    """
    end = clock() + timeout
    while True:
        answer = condition()
        if answer:
            return answer
        left = end - clock()
        if left <= 0:
            raise error(f"waited {timeout:g} s for {what}", hint=hint)
        sleep(min(poll, left))
