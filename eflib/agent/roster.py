"""Which workers to start, to end and to report: the agent's decisions, without its hands.

The roster knows no process, no store and no clock. It compares the assignment, a level, with what
it knows of each worker, and answers with acts; the agent performs them and tells what came of them.
A worker is started at most once, whatever the assignment says later.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

from eflib.errors import InvalidTransitionError

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    Acts = tuple["Act", ...]


class Phase(Enum):
    """Where a worker that was started stands; one that is not on the roster was never started."""

    RUNNING = "running"
    LEAVING = "leaving"
    KILLED = "killed"
    ENDED = "ended"


@dataclass(frozen=True)
class Act:
    """Something for the agent to do about one worker."""

    worker: str


class Start(Act):
    """Start it; after that it is on the roster, or its failure is reported with ``ended``."""


class Terminate(Act):
    """Ask it to leave (SIGTERM)."""


class Kill(Act):
    """End it and its family now (SIGKILL)."""


class ReportLost(Act):
    """Say that it is gone: an earlier agent had started it, and did not outlive it."""


@dataclass
class _Entry:
    phase: Phase
    due: float = float("inf")


@dataclass
class Roster:
    """The workers of a node.

    Args:
        grace: How long a worker may take to leave, in seconds.
        kill_again: How long a killed worker may take to be gone, in seconds.
        lost: Workers that an earlier agent of this node started; none of them is alive.
    """

    grace: float
    kill_again: float
    lost: Collection[str] = ()
    is_draining: bool = False
    _entries: dict[str, _Entry] = field(default_factory=dict)

    @property
    def alive(self) -> tuple[str, ...]:
        """The workers that were started and have not ended."""
        return tuple(w for w, entry in self._entries.items() if entry.phase is not Phase.ENDED)

    def phase(self, worker: str) -> Phase | None:
        """Return where a worker stands; None if it was never started."""
        entry = self._entries.get(worker)
        return entry.phase if entry else None

    def has_new(self, assigned: Sequence[str] | None) -> bool:
        """Tell whether a worker is assigned that is not on the roster."""
        return any(worker not in self._entries for worker in assigned or ())

    def reconcile(self, assigned: Sequence[str] | None, now: float, *, can_start: bool) -> Acts:
        """Return what to do so that the node runs what it should.

        Args:
            assigned: The workers that this node should run; None when that cannot be told just
                now: then nobody is started or asked to leave.
            now: Seconds that only grow.
            can_start: Whether a start would be cheap; if not, starts wait.
        """
        acts: list[Act] = []
        if self.is_draining:
            assigned = ()
        if assigned is not None:
            acts += self._arrivals(assigned, can_start=can_start)
            acts += self._departures(frozenset(assigned), now)
        acts += self._overdue(now)
        return tuple(acts)

    def ended(self, worker: str) -> None:
        """Note that a worker is gone, or could not be started."""
        entry = self._entries.get(worker)
        if entry is None or entry.phase is Phase.ENDED:
            raise InvalidTransitionError(f"worker {worker} ended, but was not running")
        entry.phase = Phase.ENDED

    def postpone(self, worker: str) -> None:
        """Note that a start came to nothing and can be tried again."""
        if self.phase(worker) is not Phase.RUNNING:
            raise InvalidTransitionError(f"worker {worker} was not started just now")
        del self._entries[worker]

    def drain(self) -> None:
        """From now on nothing is assigned: everyone leaves."""
        self.is_draining = True

    def end_grace(self, now: float) -> None:
        """Give workers that are leaving no more time: they are killed at the next step."""
        for entry in self._entries.values():
            if entry.phase is Phase.LEAVING:
                entry.due = now

    def _arrivals(self, assigned: Sequence[str], *, can_start: bool) -> list[Act]:
        acts: list[Act] = []
        for worker in assigned:
            if worker in self._entries:
                continue
            if worker in self.lost:
                self._entries[worker] = _Entry(Phase.ENDED)
                acts.append(ReportLost(worker))
            elif can_start:
                self._entries[worker] = _Entry(Phase.RUNNING)
                acts.append(Start(worker))
        return acts

    def _departures(self, assigned: frozenset[str], now: float) -> list[Act]:
        acts: list[Act] = []
        for worker, entry in self._entries.items():
            if entry.phase is Phase.RUNNING and worker not in assigned:
                entry.phase, entry.due = Phase.LEAVING, now + self.grace
                acts.append(Terminate(worker))
        return acts

    def _overdue(self, now: float) -> list[Act]:
        acts: list[Act] = []
        for worker, entry in self._entries.items():
            if entry.phase in (Phase.LEAVING, Phase.KILLED) and now >= entry.due:
                entry.phase, entry.due = Phase.KILLED, now + self.kill_again
                acts.append(Kill(worker))
        return acts
