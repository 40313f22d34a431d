"""Whether every promise can be kept together with a new one, and by which plan."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from eflib.scheduling.jobs import Job
from eflib.scheduling.occupancy import Occupancy, Periods
from eflib.scheduling.placement import place
from eflib.scheduling.plan import DEADLINE_TOLERANCE, Row, trim, walk
from eflib.scheduling.settings import SchedulerSettings
from eflib.scheduling.share import fill
from eflib.scheduling.timeline import Timeline

VERIFY_ROUNDS = 3


class Planned(NamedTuple):
    """A row that passed its walk, and where it leads."""

    row: Row
    finish: float


Plan = dict[str, Planned]


def work_to_plan(job: Job, settings: SchedulerSettings) -> float:
    """Return the steps a plan must provide for: what is left, and the margin."""
    return max(job.left, 0.0) * (1.0 + settings.safety_margin)


def promise_order(job: Job) -> tuple[float, float, int]:
    """Sort key of the fill: by deadline, then as submitted."""
    return (job.promise, job.request.submitted_at, job.order)


def fresh_plan(
    jobs: Sequence[Job], periods: Periods, now: float, settings: SchedulerSettings
) -> Plan | None:
    """Plan all promised jobs anew; None if no order that was tried keeps every promise.

    When a job does not fit it is moved to half its position, every third time to the front.

    Args:
        jobs: All with a promise, a newcomer among them.
        periods: What is available when.
        now: Scheduler time in seconds.
        settings: Costs, margins and how often to try.
    """
    order = sorted(jobs, key=promise_order)
    base = Timeline(list(periods))
    reserve = {job.job_id: settings.forced_moves for job in order}
    for attempt in range(settings.order_retries + 1):
        rows, stuck = _fill_all(order, base.copy(), reserve, settings)
        if stuck < 0:
            return _verified(order, rows, base, periods, reserve, now, settings)
        place_in_order = 0 if attempt % 3 == 2 else stuck // 2
        if place_in_order == stuck:
            return None
        order.insert(place_in_order, order.pop(stuck))
    return None


def _fill_all(
    order: Sequence[Job],
    timeline: Timeline,
    reserve: dict[str, float],
    settings: SchedulerSettings,
) -> tuple[dict[str, Row], int]:
    """Fill in the given order; the second value is the place of the job that did not fit, or -1."""
    rows: dict[str, Row] = {}
    for number, job in enumerate(order):
        left = work_to_plan(job, settings)
        row = None
        spare = reserve[job.job_id] * settings.rescale_cost
        for deadline in (job.promise - spare, job.promise):
            row = fill(job, timeline, left=left, deadline=deadline, settings=settings)
            if row is not None or not spare:
                break
        if row is None:
            return rows, number
        rows[job.job_id] = row
        timeline.reserve_row(row)
    return rows, -1


def _verified(
    order: Sequence[Job],
    rows: dict[str, Row],
    base: Timeline,
    periods: Periods,
    reserve: dict[str, float],
    now: float,
    settings: SchedulerSettings,
) -> Plan | None:
    """Place and walk; rows that fail get one more move in reserve, a few times."""
    for _ in range(VERIFY_ROUNDS):
        tight = 10.0 * settings.rescale_cost
        placed = place(
            [(job, rows[job.job_id], _slack(job, rows[job.job_id]) < tight) for job in order],
            periods,
            now,
        )
        if placed is None:
            return None
        plan, failed = _walk_all(order, placed, now, settings)
        if not failed:
            return plan
        if not settings.rescale_cost:
            return None
        for job_id in failed:
            reserve[job_id] += 1.0
        rows, stuck = _fill_all(order, base.copy(), reserve, settings)
        if stuck >= 0:
            return None
    return None


def _slack(job: Job, row: Row) -> float:
    return job.promise - (row[-1].end if row else math.inf)


def _walk_all(
    order: Sequence[Job], placed: dict[str, Row], now: float, settings: SchedulerSettings
) -> tuple[Plan, list[str]]:
    """Walk each row; the second value names those that end late."""
    plan: Plan = {}
    failed: list[str] = []
    for job in order:
        row = placed[job.job_id]
        left = work_to_plan(job, settings)
        finish = walk(job, row, left=left, now=now, settings=settings)
        if finish > job.promise + DEADLINE_TOLERANCE:
            finish, row = _stretched(job, row, left, now, settings)
        if finish > job.promise + DEADLINE_TOLERANCE:
            failed.append(job.job_id)
        plan[job.job_id] = Planned(trim(row, now=now, end=finish), finish)
    return plan, failed


def _stretched(
    job: Job, row: Row, left: float, now: float, settings: SchedulerSettings
) -> tuple[float, Row]:
    """Return the row as it is: a hook for rows that may run on past their planned end."""
    return walk(job, row, left=left, now=now, settings=settings), row


def in_gaps(
    job: Job,
    occupancy: Occupancy,
    *,
    deadline: float,
    now: float,
    settings: SchedulerSettings,
) -> Planned | None:
    """Plan one job in what a plan leaves free, moving nobody; None if it cannot be in time.

    Args:
        job: The job.
        occupancy: What is free when, without the job itself.
        deadline: Scheduler time in seconds; may be infinite.
        now: Scheduler time in seconds.
        settings: Costs and margins.
    """
    timeline = Timeline.of_fits(occupancy.times, occupancy.fits())
    left = work_to_plan(job, settings)
    for moves in (settings.forced_moves, 0.0):
        limit = deadline - moves * settings.rescale_cost
        counts = fill(job, timeline, left=left, deadline=limit, settings=settings)
        if counts is None:
            continue
        row = occupancy.place_alone(counts, job.mask)
        if row is None:
            continue
        finish = walk(job, row, left=left, now=now, settings=settings)
        if finish <= deadline + DEADLINE_TOLERANCE:
            return Planned(trim(row, now=now, end=finish), finish)
        if not settings.rescale_cost:
            break
    return None


def soonest_in_gaps(
    job: Job, occupancy: Occupancy, *, now: float, settings: SchedulerSettings
) -> float:
    """Return a finish in seconds that ``in_gaps`` can reach; infinite if none is found."""
    timeline = Timeline.of_fits(occupancy.times, occupancy.fits())
    left = work_to_plan(job, settings)
    counts = fill(job, timeline, left=left, deadline=math.inf, settings=settings)
    if counts is None:
        return math.inf
    finish = counts[-1].end
    for _ in range(40):
        found = in_gaps(job, occupancy, deadline=finish, now=now, settings=settings)
        if found is not None:
            return finish
        finish = now + (finish - now) * 1.1 + settings.rescale_cost
    return math.inf
