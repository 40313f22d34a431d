"""A store that asks again when it gets no answer, within a bound."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TypeVar

from eflib.errors import StoreError, TooLargeError
from eflib.store.base import Keys, Store

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

OUTAGE_SECONDS = 30.0
"""How long an outage is sat out: a server that is started again, a disk that comes back."""
_FIRST_PAUSE = 0.1
PAUSE_SECONDS = 2.0


class PatientStore(Store):
    """Another store, of which each call may take an outage of some length.

    For those that have nothing else to do meanwhile; agents and workers go on without the store.
    A write whose answer was lost may have been made. It is looked up before it is made again.

    Args:
        store: The store.
        seconds: How long a call may take in an outage, in all; its last attempt may end later.
        clock: Seconds that only grow.
        sleep: How to wait.
    """

    def __init__(
        self,
        store: Store,
        seconds: float = OUTAGE_SECONDS,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._store = store
        self._seconds = seconds
        self._clock = clock
        self._sleep = sleep

    @property
    def url(self) -> str:
        """The address of the other store."""
        return self._store.url

    def get(self, key: str) -> bytes | None:
        """Return the value of a key, or None."""
        return self._again(lambda: self._store.get(key))

    def set(self, key: str, value: bytes) -> None:
        """Write the value of a key."""
        self._again(lambda: self._store.set(key, value))

    def compare_and_set(self, key: str, expected: bytes | None, value: bytes) -> bool:
        """Write ``value`` if the key holds ``expected`` (None: if it is absent), in one act."""
        attempts = 0

        def act() -> bool:
            nonlocal attempts
            attempts += 1
            if attempts > 1 and self._store.get(key) == value:
                return True  # the attempt before was made, and its answer lost
            return self._store.compare_and_set(key, expected, value)

        return self._again(act)

    def delete(self, key: str) -> bool:
        """Remove a key; True if it was there."""
        return self._again(lambda: self._store.delete(key))

    def list(self, prefix: str = "") -> Keys:
        """Return the keys that start with ``prefix``, sorted."""
        return self._again(lambda: self._store.list(prefix))

    def list_all(self, prefix: str) -> Keys:
        """Return the keys that start with ``prefix``, those of streams too."""
        return self._again(lambda: self._store.list_all(prefix))

    def close(self) -> None:
        """Let go of connections and files."""
        self._store.close()

    def _again(self, act: Callable[[], T]) -> T:
        begin = self._clock()
        pause, attempts = _FIRST_PAUSE, 0
        while True:
            attempts += 1
            try:
                return act()
            except TooLargeError:
                raise
            except StoreError as error:
                waited = self._clock() - begin
                if waited + pause > self._seconds:
                    raise StoreError(
                        f"the store at {self.url} did not answer for {waited:.0f} s, in {attempts} "
                        f"attempts; the last: {error.problem}",
                        detail=error.detail,
                        hint=error.hint,
                    ) from error
            self._sleep(pause)
            pause = min(2 * pause, PAUSE_SECONDS)
