"""Streams of entries, written once for every store over its keys.

An entry is a key that is created if it is absent, so a stream has no holes and no locks, whichever
way its writers die. Two more keys say where to look: ``tail`` (about where the next entry goes) and
``floor`` (entries below it are trimmed). Nobody signs these two, so neither is believed: a number
counts when the entry before it exists, and ``trim`` leaves one entry in place for this. What is not
proved is worked out from the entries themselves, said once, and overwritten by the next writer.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    Entries = list[tuple[int, bytes]]
    Reported = set[str]

PREFIX = "streams/"
"""Keys below this prefix belong to the streams; ``list`` hides them."""
MOST_DIGITS = 15
"""Digits of the largest index: a stream of a thousand entries a second lasts 30,000 years."""

_NEIGHBOURS = 16  # entries that a tail may lag behind, as racing writers leave it

_log = logging.getLogger(__name__)


class Keys(Protocol):
    """The part of a store on which streams stand."""

    @property
    def reported(self) -> Reported:
        """Keys whose value was said to be unusable; said once each."""

    def get(self, key: str) -> bytes | None:
        """Return the value of a key, or None."""

    def set(self, key: str, value: bytes) -> None:
        """Write the value of a key."""

    def compare_and_set(self, key: str, expected: bytes | None, value: bytes) -> bool:
        """Write ``value`` if the key holds ``expected`` (None: if it is absent)."""

    def delete(self, key: str) -> bool:
        """Remove a key; True if it was there."""

    def list_all(self, prefix: str) -> list[str]:
        """Return the keys that start with ``prefix``, hidden ones too, as far as it can."""


def append(store: Keys, stream: str, value: bytes) -> int:
    """Add an entry at the end of a stream; returns its index, from 0."""
    index = _near_end(store, stream)
    while True:
        while not store.compare_and_set(entry_key(stream, index), None, value):
            index += 1
        floor = _number(store, _floor_key(stream)) or 0
        if index >= floor or index >= (floor := _floor(store, stream)):
            break
        # The place was free because a trim had emptied it: nobody reads there any more.
        store.delete(entry_key(stream, index))
        index = floor
    # Only a hint, which may fall behind when two writers race: the search goes on from it.
    store.set(_tail_key(stream), str(index + 1).encode())
    return index


def read(store: Keys, stream: str, start: int) -> Entries:
    """Return all entries from index ``start`` on; those trimmed away are left out."""
    index = max(0, start)
    is_proved = _exists(store, stream, index - 1)  # then nothing from here on has been trimmed
    if not is_proved:
        index = max(index, _floor(store, stream))
    entries = []
    while (value := store.get(entry_key(stream, index))) is not None:
        entries.append((index, value))
        index += 1
    if is_proved and not entries:
        _put_tail_right(store, stream, index)
    return entries


def reaches(store: Keys, stream: str, end: int) -> bool:
    """Tell whether a stream ever had ``end`` entries."""
    if end <= 0 or _exists(store, stream, end - 1):
        return True
    return end <= _floor(store, stream)


def trim(store: Keys, stream: str, end: int) -> None:
    """Forget the entries with an index below ``end``, but keep the last of them as a proof."""
    key = _floor_key(stream)
    while True:
        held = store.get(key)
        if _floor(store, stream) >= end:
            return
        if store.compare_and_set(key, held, str(end).encode()):
            break
    # Downwards from the end: how many there are is never taken from an unsigned number.
    for index in range(end - 2, -1, -1):
        if not store.delete(entry_key(stream, index)):
            break


def entry_key(stream: str, index: int) -> str:
    """Return where an entry stands."""
    return f"{PREFIX}{stream}/{index}"


def _near_end(store: Keys, stream: str) -> int:
    """Return an index at which or soon after which the next entry goes."""
    tail, floor = _number(store, _tail_key(stream)), _number(store, _floor_key(stream))
    if tail and tail >= (floor or 0) and _exists(store, stream, tail - 1):
        return tail
    floor = _floor(store, stream)
    if tail and tail > floor:
        if any(_exists(store, stream, tail + more) for more in range(_NEIGHBOURS)):
            return tail
        _say_once(store, _tail_key(stream), str(tail))
    return floor


def _floor(store: Keys, stream: str) -> int:
    """Return the index below which entries are trimmed, proved or worked out."""
    key = _floor_key(stream)
    floor = None
    while (latest := _number(store, key)) != floor:  # again if it was moved meanwhile
        floor = latest
        if floor and _exists(store, stream, floor - 1):
            return floor
    tail = _number(store, _tail_key(stream))
    if floor is None and tail is None:
        return _searched(store, stream)
    if _exists(store, stream, 0):
        return 0
    end = tail or 0
    near = range(max(0, end - 1), end + _NEIGHBOURS)
    last = next((index for index in near if _exists(store, stream, index)), None)
    if last is None:
        # All trimmed, by an eflib that kept none as a proof: then the two numbers agree.
        return floor if floor is not None and 0 <= floor - end <= _NEIGHBOURS else 0
    while _exists(store, stream, last - 1):
        last -= 1
    if floor == last:
        return floor  # as before, but entries came since
    if floor is not None:
        _say_once(store, key, str(floor))
    return last + 1


def _put_tail_right(store: Keys, stream: str, end: int) -> None:
    """Tell writers where a stream ends, if the number that they go by says less.

    They would write where nobody reads; only who reads knows better.
    """
    key = _tail_key(stream)
    held = store.get(key)
    if held is None or not _is_index(held) or int(held) < end:
        store.compare_and_set(key, held, str(end).encode())


def _searched(store: Keys, stream: str) -> int:
    """Return the floor of a stream whose numbers are both missing, from its last run of entries."""
    if store.get(_tail_key(stream)) is None and store.get(_floor_key(stream)) is None:
        return 0  # a stream that has not begun
    prefix = f"{PREFIX}{stream}/"
    names = [key.removeprefix(prefix) for key in store.list_all(prefix)]
    indexes = {int(name) for name in names if _is_index(name)}
    if not indexes:
        return 0
    first = max(indexes)
    while first - 1 in indexes:
        first -= 1
    return first + 1 if first else 0  # the first entry of a trimmed stream is its proof


def _exists(store: Keys, stream: str, index: int) -> bool:
    return index >= 0 and store.get(entry_key(stream, index)) is not None


def _number(store: Keys, key: str) -> int | None:
    """Return the index at a key; None where there is none that could be."""
    held = store.get(key)
    if held is None:
        return None
    if _is_index(held):
        return int(held)
    _say_once(store, key, repr(held[:40])[1:])
    return None


def _is_index(text: bytes | str) -> bool:
    """Tell whether a text, which anybody may have written, is an index: "²" is a digit, too."""
    return text.isascii() and text.isdigit() and len(text) <= MOST_DIGITS


def _say_once(store: Keys, key: str, value: str) -> None:
    if key not in store.reported:
        store.reported.add(key)
        _log.warning("the value %s at key %s cannot be right; going by the entries", value, key)


def _tail_key(stream: str) -> str:
    return f"{PREFIX}{stream}/tail"


def _floor_key(stream: str) -> str:
    return f"{PREFIX}{stream}/floor"
