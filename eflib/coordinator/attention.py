"""Which jobs have to be looked at: those that something happened to, or for whom time matters.

Of a thousand jobs nearly all train, and nothing comes due for them by time alone. They are left in
peace until an input or the scheduler concerns them. Jobs that have ended are dropped for good.
"""

from __future__ import annotations

import heapq
import math
from typing import TYPE_CHECKING

from eflib.coordinator.job import Job, State

if TYPE_CHECKING:
    from collections.abc import Iterator

    from eflib.coordinator.membership import Membership


def calm_until(job: Job, *, has_room: bool) -> float | None:
    """Return until when there is nothing to do for a job but by an input, in seconds.

    Args:
        job: The job.
        has_room: Whether there are slots at all that it could ask for.

    Returns:
        Infinite if nothing comes due by time alone; None if there may be something to do now.
    """
    is_open = job.speed.profiling is None and job.run.finished_step is None
    if not is_open or not is_calm(job.members):
        return None
    if job.state is State.SUBMITTED:
        return job.speed.ask_at if has_room else math.inf
    is_planned = job.state in {State.PENDING, State.RUNNING, State.PAUSED}
    return math.inf if is_planned else None


def is_calm(members: Membership) -> bool:
    """True if neither ``step`` nor ``proposal`` finds anything to do, whatever the time."""
    alive = members.alive()
    if members.standby or not (alive or members.target):
        return not alive and not members.standby
    if members.ending or members.is_over or members.newest != members.settled:
        return False
    named = {one.worker for one in members.newest.members}
    return (
        members.newest.mode == members.mode
        and named == {seat.worker for seat in alive}
        and all(seat.mode == members.mode and not seat.dismissed for seat in alive)
        and set(members.target) == {seat.gpu for seat in alive}
    )


class Attention:
    """Keeps the jobs that are present, and notes which of them have changed.

    Attributes:
        present: Jobs that are live or still have workers, in the order of their submission.
    """

    def __init__(self) -> None:
        self.present: dict[str, Job] = {}
        self._restless: dict[int, Job] = {}
        self._alarms: list[tuple[float, int, str]] = []
        self._added: list[int] = []
        self._changed: dict[str, Job] = {}
        self._is_reseated = True

    def add(self, job: Job) -> None:
        """Begin to look after a job."""
        self.present[job.job] = job
        self.touch(job)

    def resume(self, job: Job) -> None:
        """Look after a job again whose document was written before a restart."""
        self.present[job.job] = job
        self._restless[job.number] = job

    def touch(self, job: Job) -> None:
        """Note that something happened to a job: its document and workers may be others now."""
        self._changed[job.job] = job
        self._is_reseated = True
        if job.job in self.present and job.number not in self._restless:
            self._restless[job.number] = job
            self._added.append(job.number)

    def reseat(self) -> None:
        """Note that nodes are others now: any worker may be."""
        self._is_reseated = True

    def in_turn(self) -> Iterator[Job]:
        """Yield the jobs to look at, in order of submission.

        A job that is touched meanwhile is yielded too, if its turn has not passed.
        """
        heap = sorted(self._restless)
        self._added = []
        while heap:
            number = heapq.heappop(heap)
            yield self._restless[number]
            for added in self._added:
                if added > number:
                    heapq.heappush(heap, added)
            self._added = []

    def rest(self, job: Job, until: float = math.inf) -> None:
        """Leave a job in peace until it is touched.

        Args:
            job: The job.
            until: When it is looked at again in any case, in seconds.
        """
        self._restless.pop(job.number, None)
        if until < math.inf:
            heapq.heappush(self._alarms, (until, job.number, job.job))

    def wake(self, now: float) -> None:
        """Look again at the jobs whose time has come."""
        while self._alarms and self._alarms[0][0] <= now:
            _, number, job_id = heapq.heappop(self._alarms)
            if job_id in self.present:
                self._restless[number] = self.present[job_id]

    def drop(self, job: Job) -> None:
        """Look after a job no more: it has ended, and its workers have gone."""
        self.rest(job)
        self.present.pop(job.job, None)

    def restless(self) -> list[Job]:
        """Return the jobs to look at, in order of submission."""
        return [self._restless[number] for number in sorted(self._restless)]

    def take_changed(self) -> list[Job]:
        """Return the jobs whose document may have changed, once."""
        changed, self._changed = list(self._changed.values()), {}
        return changed

    def take_reseated(self) -> bool:
        """Tell whether any worker may be another than at the last call."""
        was, self._is_reseated = self._is_reseated, False
        return was
