"""Which nodes live: heartbeats, and the records of nodes that join."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from eflib.coordinator import timeouts
from eflib.messages.journal import NodeLost, TakenNodeJoined
from eflib.messages.records import Heartbeat, NodeRecord
from eflib.store import keys

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from eflib.store.signed import SignedStore

_log = logging.getLogger(__name__)

UNKNOWN = -1
"""The count of a heartbeat that is not there, or cannot be read."""


@dataclass
class _Pulse:
    count: int
    since: float


class NodeWatch:
    """Sees by their heartbeats which nodes live.

    A heartbeat is a number that only its agent changes: when it was last seen to change is told by
    the coordinator's own steady clock, so that nobody's wall clock matters.

    Args:
        store: The cluster's store.
        clock: Seconds that only grow.
    """

    def __init__(self, store: SignedStore, clock: Callable[[], float]) -> None:
        self._store = store
        self._clock = clock
        self._pulses: dict[str, _Pulse] = {}
        self._lost: dict[str, int] = {}

    def names(self) -> list[str]:
        """Return the nodes that have a record in the store."""
        listed = self._store.list(keys.NODES)
        return [keys.owner(key) for key in listed if keys.last_part(key) == "record"]

    def joined(self, node: str) -> TakenNodeJoined | None:
        """Return what the plane must know of a node that joins; None if it has no record."""
        record = self._store.fetch(keys.node_record(node), NodeRecord)
        if record is None:
            _log.warning("node %s joins without a record that can be read; it is left out", node)
            return None
        self._lost.pop(node, None)
        return TakenNodeJoined(node=node, record=record)

    def expect(self, node: str) -> None:
        """Give a node that is found, and may be long gone, a few beats to show that it lives."""
        since = self._clock() - timeouts.HEARTBEAT_LOST + 3 * timeouts.BEAT
        self._pulses[node] = _Pulse(self._count(node), since)

    def forgive(self) -> None:
        """Begin to count anew, since no heartbeat could be read for a while."""
        for pulse in self._pulses.values():
            pulse.since = self._clock()

    def look(self, nodes: Iterable[str]) -> list[NodeLost | TakenNodeJoined]:
        """Return which nodes are lost, and which lost ones give signs of life again.

        Args:
            nodes: Those that the plane counts on.
        """
        known = set(nodes)
        found: list[NodeLost | TakenNodeJoined] = []
        for node in sorted(known):
            if self._is_silent(node):
                self._lost[node] = self._pulses.pop(node).count
                found.append(NodeLost(node=node))
        for gone in set(self._pulses) - known:
            del self._pulses[gone]
        for node, count in list(self._lost.items()):
            if node in known:
                continue  # lost this very moment
            if self._count(node) not in (UNKNOWN, count):
                joined = self.joined(node)
                found += [] if joined is None else [joined]
        return found

    def _is_silent(self, node: str) -> bool:
        now, count = self._clock(), self._count(node)
        pulse = self._pulses.setdefault(node, _Pulse(count, now))
        if count not in (UNKNOWN, pulse.count):
            pulse.count, pulse.since = count, now
        return now - pulse.since > timeouts.HEARTBEAT_LOST

    def _count(self, node: str) -> int:
        beat = self._store.fetch(keys.node_heartbeat(node), Heartbeat)
        return UNKNOWN if beat is None else beat.count
