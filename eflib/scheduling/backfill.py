"""One job alone in what a plan leaves free, moving nobody."""

from __future__ import annotations

import math

from eflib.scheduling.counts import Need
from eflib.scheduling.jobs import Job
from eflib.scheduling.occupancy import Occupancy
from eflib.scheduling.plan import DEADLINE_TOLERANCE, Planned, trim, walk, work_to_plan
from eflib.scheduling.settings import SchedulerSettings
from eflib.scheduling.share import fill, soonest

_OFFER_TRIES = 60


def backfill(
    job: Job,
    occupancy: Occupancy,
    *,
    deadline: float,
    now: float,
    settings: SchedulerSettings,
    avoid: int = 0,
) -> Planned | None:
    """Plan one job in what a plan leaves free, moving nobody; None if it cannot be in time.

    Args:
        job: The job.
        occupancy: What is free when, without the job itself.
        deadline: Scheduler time in seconds; may be infinite.
        now: Scheduler time in seconds.
        settings: Costs and margins.
        avoid: Free positions to take last, as somebody uses them now.
    """
    if not job.exponents:
        return None
    # One number per column (the largest free block) is enough for one job alone that moves nobody;
    # the whole accounting of block sizes in Timeline is for many jobs at once.
    timeline = occupancy.timeline(deadline, job.exponents[-1])
    left = work_to_plan(job, settings)
    # With time in reserve for moves that later plans force, and where that is too late, without: a
    # tight promise is better than none.
    for moves in (settings.forced_moves, 0.0):
        spare = moves * settings.rescale_cost
        counts = fill(job, timeline, Need(left, deadline, spare), settings)
        if counts is None:
            continue
        # Counts that fit may still have to change blocks on the way; each such move costs a pause
        # that the counts did not know of, so the placed row is walked again.
        row = occupancy.place_alone(counts, job.mask, avoid)
        if row is None:
            continue
        finish = walk(job, row, left=left, now=now, settings=settings)
        if finish <= deadline + DEADLINE_TOLERANCE:
            return Planned(trim(row, now=now, end=finish), finish)
        # Without a cost the reserve is zero: the second try would be the first again.
        if not settings.rescale_cost:
            break
    return None


def soonest_backfill(
    job: Job, occupancy: Occupancy, *, now: float, settings: SchedulerSettings
) -> float:
    """Return a finish in seconds that ``backfill`` can reach; infinite if none is found.

    Args:
        job: The job.
        occupancy: What is free when, without the job itself.
        now: Scheduler time in seconds.
        settings: Costs and margins.
    """
    if not job.exponents:
        return math.inf
    timeline = occupancy.timeline(math.inf, job.exponents[-1])
    finish = soonest(job, timeline, left=work_to_plan(job, settings), settings=settings)
    if finish == math.inf:
        return math.inf
    for _ in range(_OFFER_TRIES):
        if backfill(job, occupancy, deadline=finish, now=now, settings=settings) is not None:
            return finish
        # The counts' finish was a little too early for the blocks. 2 % and a pause later is tried
        # next: small steps keep the offer close to the best, and 60 of them reach 3.3 times as far.
        finish = now + (finish - now) * 1.02 + settings.rescale_cost
    return math.inf
