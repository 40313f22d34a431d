"""Calls that may hang, made with a bound."""

from __future__ import annotations

import queue
import threading
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


class BoundedCalls:
    """Makes calls, one at a time, on a thread of its own, and stops waiting when a bound passes.

    A call that hangs keeps its thread; the thread is a daemon, so it keeps nobody else. After
    that, this object is of no more use: make a new one.
    """

    def __init__(self) -> None:
        self._calls: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="eflib-store", daemon=True)
        self._thread.start()

    def __call__(self, call: Callable[[], T], seconds: float) -> T:
        """Return what ``call`` returns, or raise what it raises.

        Raises:
            TimeoutError: It did not end within ``seconds``.
        """
        results: list[T] = []
        errors: list[BaseException] = []
        done = threading.Event()

        def act() -> None:
            try:
                results.append(call())
            except BaseException as error:  # noqa: BLE001 - handed on to the caller, whatever it is
                errors.append(error)
            done.set()

        self._calls.put(act)
        if not done.wait(seconds):
            raise TimeoutError(f"no answer for {seconds:g} s")
        if errors:
            raise errors[0]
        return results[0]

    def end(self) -> None:
        """Let the thread end once the calls before this one have."""
        self._calls.put(None)

    def _work(self) -> None:
        while (act := self._calls.get()) is not None:
            act()
