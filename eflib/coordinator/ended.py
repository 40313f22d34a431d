"""Jobs that have ended: kept for a moment, then by name alone, and of those only the last ones."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from eflib.coordinator import timeouts
from eflib.coordinator.snapshot import EndedJob

if TYPE_CHECKING:
    from collections.abc import Iterable

    from eflib.coordinator.job import Job

MAX_ENDED = 1000
"""Of so many ended jobs the coordinator still knows that there were any; documents in the store
tell about all of them."""

MAX_LISTED = 200
"""Of so many ended jobs, the last ones, the index in the store tells."""


class EndedJobs:
    """Knows which jobs have ended, and which of them have still to be dropped."""

    def __init__(self) -> None:
        self._waiting: dict[str, float] = {}
        self._names: OrderedDict[str, str] = OrderedDict()

    def add(self, job: Job, now: float) -> None:
        """Note that a job has ended and its workers have gone."""
        self._waiting[job.job] = now
        self._names[job.job] = job.name
        if len(self._names) > MAX_ENDED + len(self._waiting):
            self._names.popitem(last=False)

    def due(self, now: float) -> list[str]:
        """Return the ids of jobs whose time is over, once."""
        found = []
        for job_id, since in self._waiting.items():  # in order of time
            if now - since < timeouts.ENDED_KEPT:
                break
            found.append(job_id)
        for job_id in found:
            del self._waiting[job_id]
        return found

    def has(self, job_id: str) -> bool:
        """Tell whether the job with this id has ended, as far as that is remembered."""
        return job_id in self._names

    def knows(self, name: str) -> bool:
        """Tell whether a job of this id or name has ended, as far as that is remembered."""
        return name in self._names or name in self._names.values()

    def last(self, number: int) -> tuple[str, ...]:
        """Return the ids of the last jobs that have ended, in order."""
        return tuple(self._names)[-number:]

    def state(self) -> tuple[EndedJob, ...]:
        """Return all of it, in order."""
        return tuple(
            EndedJob(job=job_id, name=name, since=self._waiting.get(job_id))
            for job_id, name in self._names.items()
        )

    def restore(self, state: Iterable[EndedJob]) -> None:
        """Go on from a state."""
        for one in state:
            self._names[one.job] = one.name
            if one.since is not None:
                self._waiting[one.job] = one.since
