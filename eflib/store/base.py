"""What every store promises: keys with a value each, streams of entries, and nothing that blocks.

What streams are made of is written once for all stores, in ``streams.py``.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from functools import cached_property
from typing import TYPE_CHECKING, TypeVar

from eflib.errors import EflibError, StoreError, TooLargeError
from eflib.store import streams

if TYPE_CHECKING:
    from collections.abc import Callable

Keys = list[str]
Entries = list[tuple[int, bytes]]
Reported = set[str]
T = TypeVar("T")

STREAMS = streams.PREFIX
LOOPBACK = "127.0.0.1"
"""The address at which a machine reaches itself, and nobody else does."""
LONGEST_VALUE = 4 * 2**20
"""Bytes of a value. A TCP store's server breaks the connection of who sends twice as much."""


class Store(ABC):
    """Bytes under keys that many processes share; every call ends within a stated bound.

    A key is a path such as ``jobs/digits/status``. A key is meant to be changed either by plain
    ``set`` (its last writer wins) or by ``compare_and_set``: a plain ``set`` does not wait for a
    ``compare_and_set`` of the same key that is under way.

    Every method raises StoreError, naming the place and the cause, when the store cannot be used,
    and TooLargeError for a value of more than ``LONGEST_VALUE`` bytes.
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

    def list_all(self, prefix: str) -> Keys:
        """Return the keys that start with ``prefix``, those of streams too, as far as it can."""
        return self.list(prefix)

    @abstractmethod
    def close(self) -> None:
        """Let go of connections and files; what is stored stays."""

    def append(self, stream: str, value: bytes) -> int:
        """Add an entry at the end of a stream, of which there is exactly one.

        Returns:
            The index of the entry, from 0.
        """
        return streams.append(self, stream, value)

    def read(self, stream: str, start: int) -> Entries:
        """Return all entries from index ``start`` on; those trimmed away are left out."""
        return streams.read(self, stream, start)

    def reaches(self, stream: str, end: int) -> bool:
        """Tell whether a stream ever had ``end`` entries; a store that began anew has not."""
        return streams.reaches(self, stream, end)

    def trim(self, stream: str, end: int) -> None:
        """Forget the entries with an index below ``end``; indices go on from where they were."""
        streams.trim(self, stream, end)

    @cached_property
    def reported(self) -> Reported:
        """Keys whose value was said to be unusable; said once each."""
        return set()


def check_value(key: str, value: bytes) -> None:
    """Refuse a value that no store of ours takes.

    Raises:
        TooLargeError: It has more than ``LONGEST_VALUE`` bytes.
    """
    if len(value) > LONGEST_VALUE:
        raise TooLargeError(
            f"the value for key {key} has {len(value):,} bytes; a store takes {LONGEST_VALUE:,}",
            hint="pass large data in a file, and its path as the argument",
        )


def check_key(key: str) -> None:
    """Refuse a key that is not a path.

    Raises:
        StoreError: A part of it is empty.
    """
    if not all(key.split("/")):
        raise StoreError(f"a key has an empty part: {key!r}")


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
