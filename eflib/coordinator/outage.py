"""A store that is out for a while: said once, waited for within a bound."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from eflib.coordinator import timeouts

if TYPE_CHECKING:
    from collections.abc import Callable

    from eflib.errors import StoreError

_log = logging.getLogger(__name__)


class Outage:
    """Knows since when the store is out.

    Args:
        clock: Seconds that only grow.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._since: float | None = None

    @property
    def is_on(self) -> bool:
        """True while the store is out."""
        return self._since is not None

    def goes_on(self, error: StoreError) -> None:
        """Note that the store did not answer.

        Raises:
            StoreError: It has not for ``timeouts.OUTAGE``.
        """
        if self._since is None:
            self._since = self._clock()
            _log.warning("waiting for the store: %s", error.problem)
        elif self._clock() - self._since > timeouts.OUTAGE:
            raise error

    def ends(self) -> bool:
        """Note that the store has answered; True if it was out before."""
        if self._since is None:
            return False
        seconds = self._clock() - self._since
        self._since = None
        _log.warning("the store answers again, after %.1f s", seconds)
        return True
