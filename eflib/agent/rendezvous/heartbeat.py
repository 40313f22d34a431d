"""A node's signs of life in the rendezvous, given from a thread of its own."""

from __future__ import annotations

import atexit
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from eflib.errors import StoreError
from eflib.messages.rendezvous import Participant

if TYPE_CHECKING:
    from eflib.agent.rendezvous.meeting import Meeting


class HeartbeatThread:
    """Says again and again that this node lives, and whether it waits.

    Args:
        meeting: Where to say it, by a connection of our own.
        node: This node.
        address: Where other nodes reach it.
        interval: Seconds between two signs.
    """

    def __init__(self, meeting: Meeting, node: str, address: str, interval: float) -> None:
        self.address = address
        self.started = time.monotonic()
        self._meeting = meeting
        self._node = node
        self._interval = interval
        self._waiting = False
        self._beat = 0
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def say(self, *, waiting: bool) -> None:
        """Say whether this node waits, now and from now on."""
        self._waiting = waiting
        self._say()
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="eflib-heartbeat", daemon=True)
            self._thread.start()
            atexit.register(self.stop)

    def stop(self) -> None:
        """Take this node's words away, so that nobody waits for them to grow old."""
        with self._lock:
            if self._ended.is_set():
                return
            self._ended.set()
            with suppress(StoreError):
                self._meeting.leave(self._node)

    def _work(self) -> None:
        while not self._ended.wait(self._interval):
            with suppress(StoreError):  # who reads will say so
                self._say()

    def _say(self) -> None:
        with self._lock:
            if not self._ended.is_set():
                self._beat += 1
                words = Participant(beat=self._beat, waiting=self._waiting, address=self.address)
                self._meeting.say(self._node, words)
