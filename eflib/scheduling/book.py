"""All that the scheduler knows: nodes, live jobs, lent GPUs, and the standing plan."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from eflib.scheduling.buddy import capacity_by_exponent
from eflib.scheduling.cluster import Cluster
from eflib.scheduling.jobs import Job, Tier
from eflib.scheduling.occupancy import Occupancy, Periods
from eflib.scheduling.plan import SAME_INSTANT, Row, walk, work_to_plan
from eflib.scheduling.settings import SchedulerSettings


@dataclass(slots=True)
class Loan:
    """GPUs lent for profiling.

    Attributes:
        mask: Positions.
        until: Scheduler time in seconds at which they count as back.
    """

    mask: int
    until: float


def _ahead(row: Row, now: float) -> Row:
    """Return a row without what is over; a border at this instant, but for rounding, is behind us.

    The last segment stays to its very end: with it the job would lose its GPUs.
    """
    if not row or row[0].end > now + SAME_INSTANT:
        return row
    # An event 1e-11 s before a border must see the row after it, or the job keeps its old GPUs
    # while others are given them.
    ahead = [segment for segment in row if segment.end > now + SAME_INSTANT]
    return ahead or [segment for segment in row[-1:] if segment.end > now]


class Book:
    """State of one scheduler, and the questions about it that need no decision.

    Args:
        settings: Costs, margins and the rest.

    Attributes:
        surprised: True once something happened that the standing plan did not foresee.
    """

    def __init__(self, settings: SchedulerSettings) -> None:
        self.settings = settings
        self.cluster = Cluster()
        self.jobs: dict[str, Job] = {}
        self.loans: dict[str, Loan] = {}
        self.now = -math.inf
        self.surprised = False

    def promised(self) -> list[Job]:
        """Jobs with a promise that a plan has to keep, pinned ones left out."""
        return [j for j in self.jobs.values() if j.promise < math.inf and j.pinned is None]

    def yielding(self) -> list[Job]:
        """Jobs that take what the promises leave: soft by deadline, then best effort."""
        # A soft deadline is a wish that time can spoil, best effort has none: so soft comes first,
        # and among soft ones the earliest deadline (as in the fill of promises).
        found = [j for j in self.jobs.values() if j.promise == math.inf and j.pinned is None]
        return sorted(found, key=lambda j: (j.tier(self.now), self._wish(j), j.order))

    def _wish(self, job: Job) -> float:
        return job.deadline if job.tier(self.now) is Tier.SOFT else math.inf

    def pinned(self) -> list[Job]:
        """Jobs whose size an operator holds."""
        return [j for j in self.jobs.values() if j.pinned is not None]

    def held(self) -> int:
        """Return the positions that jobs hold."""
        held = 0
        for job in self.jobs.values():
            held |= job.mask
        return held

    def periods(self) -> Periods:
        """Return what is available when, beside loans and pinned jobs."""
        taken = [(loan.until, loan.mask) for loan in self.loans.values()]
        taken += [(j.finish, j.mask) for j in self.pinned() if j.mask]
        free = self.cluster.available
        for _, mask in taken:
            free &= ~mask
        found = [(self.now, free)]
        for until, mask in sorted(taken):
            if until == math.inf:
                break
            free |= mask & self.cluster.available
            # Two loans that end at one instant, or one that ends now, must not make a column
            # without length.
            if until <= found[-1][0] + SAME_INSTANT:
                found[-1] = (found[-1][0], free)
            else:
                found.append((until, free))
        return found

    def occupancy(self, jobs: Iterable[Job]) -> Occupancy:
        """Return what the rows of ``jobs`` leave free."""
        return Occupancy(self.periods(), [job.row for job in jobs])

    def advance(self, now: float) -> None:
        """Bring every job up to ``now`` and cut what is past out of its row."""
        self.now = max(now, self.now)
        for job in self.jobs.values():
            job.sync(self.now)
            job.row = _ahead(job.row, self.now)
            job.base = _ahead(job.base, self.now)

    def refresh_pinned(self, job: Job) -> None:
        """Write the row of a pinned job: what it holds, until it is done."""
        count = job.mask.bit_count()
        rate = job.rate(count)
        pause = max(job.ready_at - self.now, 0.0)
        job.finish = (
            self.now + pause + work_to_plan(job, self.settings) / rate if rate else math.inf
        )
        job.row = []

    def outlook(self, job: Job) -> float:
        """Return where the job's standing row leads from its true state, without margin."""
        return walk(job, job.row, left=job.left, now=self.now, settings=self.settings)

    def outlook_with_margin(self, job: Job) -> float:
        """Return where the row leads with the margin on top, or without where it is used up."""
        left = work_to_plan(job, self.settings)
        finish = walk(job, job.row, left=left, now=self.now, settings=self.settings)
        # The row was cut at the finish with margin as it was when made; with the margin used up the
        # true state is all that is left to go by.
        return self.outlook(job) if finish == math.inf else finish

    def seconds_alone(self, job: Job) -> float:
        """Return how long a job would take with the cluster to itself, margin included."""
        # The largest aligned block there is, not the number of GPUs: three free GPUs are no block
        # of four.
        largest = len(capacity_by_exponent(self.cluster.available)) - 1
        rates = [r for e, r in zip(job.exponents, job.rates, strict=True) if e <= largest]
        if not rates:
            return math.inf
        return self.settings.cost_of_start + work_to_plan(job, self.settings) / rates[-1]

    def next_border(self) -> float:
        """Return the next time at which the standing plan changes something; infinite if never."""
        after = self.now + SAME_INSTANT
        # Only loans, finishes and the first border of each row: at that border the question is
        # asked again, so later ones need no alarm of their own.
        soonest = min((loan.until for loan in self.loans.values()), default=math.inf)
        for job in self.jobs.values():
            if after < job.finish < soonest:
                soonest = job.finish
            for segment in job.row:
                if segment.start > after:
                    soonest = min(soonest, segment.start)
                    break
                if segment.end > after:
                    soonest = min(soonest, segment.end)
                    break
        return soonest
