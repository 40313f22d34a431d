"""The coordinator's time: the wall clock's, but steady."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

FASTEST = 2.0
SLOWEST = 0.5
"""By what factors the time passes while it catches up with the wall clock, or waits for it."""


class SteadyClock:
    """Seconds since the epoch that never jump.

    Somebody may set the wall clock at any time. Deadlines are moments of the wall clock, so it is
    followed; but all waits are differences of these seconds, so it is followed gradually.

    Args:
        wall: Seconds since the epoch, which may jump.
        monotonic: Seconds that only grow, at an even pace.
    """

    def __init__(
        self,
        wall: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._wall = wall
        self._monotonic = monotonic
        self._last = wall()
        self._at = monotonic()

    def __call__(self) -> float:
        """Return the present."""
        now = self._monotonic()
        passed, self._at = now - self._at, now
        low, high = self._last + SLOWEST * passed, self._last + FASTEST * passed
        self._last = min(max(self._wall(), low), high)
        return self._last

    def not_before(self, moment: float) -> None:
        """Go on from a moment that was the present before, as a journal has it."""
        self._last = max(self._last, moment)
