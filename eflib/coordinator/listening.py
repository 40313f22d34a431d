"""What trainers say of their progress: read in turns, so that many jobs cost no more than some."""

from __future__ import annotations

from typing import TYPE_CHECKING

from eflib.coordinator import timeouts
from eflib.messages.journal import ProgressMade
from eflib.messages.records import Progress
from eflib.store import keys

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from eflib.coordinator.job import Job
    from eflib.store.signed import SignedStore

AT_A_TIME = 25
"""Jobs whose progress is read at a time: 100 in a second. With fewer, all of them are."""


class ProgressReader:
    """Reads the progress of jobs, and says what of it the plane should hear.

    Args:
        store: The cluster's store.
        clock: Seconds that only grow.

    Attributes:
        latest: What each live job has said last, by its id.
    """

    def __init__(self, store: SignedStore, clock: Callable[[], float]) -> None:
        self.latest: dict[str, Progress] = {}
        self._store = store
        self._clock = clock
        self._fed: dict[str, tuple[float, int]] = {}
        self._last = 0

    def next_of(self, live: list[Job]) -> list[Job]:
        """Return the jobs whose turn it is.

        Args:
            live: All live jobs, in the order of their submission.
        """
        behind = [job for job in live if job.number > self._last]
        chosen = [*behind, *(job for job in live if job.number <= self._last)][:AT_A_TIME]
        self._last = chosen[-1].number if chosen else 0
        if len(self.latest) > 2 * len(live) + AT_A_TIME:
            self._forget_all_but(live)
        return chosen

    def read(self, jobs: Iterable[Job], *, feed_all: bool) -> list[ProgressMade]:
        """Read the progress of jobs; return what the plane should hear.

        Args:
            jobs: Whose progress to read.
            feed_all: Let the plane hear of all that is new; else of a job only now and then.
        """
        told: list[ProgressMade] = []
        now = self._clock()
        for job in jobs:
            progress = self._store.fetch(keys.job_progress(job.job), Progress)
            if progress is None:
                continue
            self.latest[job.job] = progress
            fed_at, fed_step = self._fed.get(job.job, (-timeouts.FEED, -1))
            is_new = progress.global_step != fed_step
            if is_new and (feed_all or now - fed_at > timeouts.FEED):
                self._fed[job.job] = (now, progress.global_step)
                told.append(ProgressMade(job=job.job, progress=progress))
        return told

    def _forget_all_but(self, live: list[Job]) -> None:
        names = {job.job for job in live}
        self.latest = {job: one for job, one in self.latest.items() if job in names}
        self._fed = {job: one for job, one in self._fed.items() if job in names}
