"""Calls that may hang, made with a bound."""

from __future__ import annotations

import queue
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


class BoundedCalls:
    """Makes calls, one at a time, on a thread of its own, and stops waiting when a bound passes.

    A call that hangs keeps its thread; the thread is a daemon, so it keeps nobody else. After
    that, this object is of no more use: make a new one.
    """

    def __init__(self) -> None:
        self._calls: queue.SimpleQueue[tuple[Callable[[], Any], list[Any], threading.Event]] = (
            queue.SimpleQueue()
        )
        self._thread = threading.Thread(target=self._work, name="eflib-store", daemon=True)
        self._thread.start()

    def __call__(self, call: Callable[[], Any], seconds: float) -> Any:  # noqa: ANN401
        """Return what ``call`` returns, or raise what it raises.

        Raises:
            TimeoutError: It did not end within ``seconds``.
        """
        outcome: list[Any] = []
        done = threading.Event()
        self._calls.put((call, outcome, done))
        if not done.wait(seconds):
            raise TimeoutError(f"no answer for {seconds:g} s")
        result, error = outcome
        if error is not None:
            raise error
        return result

    def end(self) -> None:
        """Let the thread end once the calls before this one have."""
        self._calls.put((_stop, [], threading.Event()))

    def _work(self) -> None:
        while True:
            call, outcome, done = self._calls.get()
            if call is _stop:
                return
            try:
                outcome.extend((call(), None))
            except BaseException as error:  # noqa: BLE001 - handed on to the caller, whatever it is
                outcome.extend((None, error))
            done.set()


def _stop() -> None:
    """Mark the end of the calls."""
