"""Whether every promise can be kept together with a new one, and by which plan."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from eflib.scheduling.jobs import Job
from eflib.scheduling.occupancy import Occupancy, Periods
from eflib.scheduling.placement import place
from eflib.scheduling.plan import DEADLINE_TOLERANCE, SAME_INSTANT, Row, trim, walk
from eflib.scheduling.settings import SchedulerSettings
from eflib.scheduling.share import fill, soonest, walk_counts
from eflib.scheduling.timeline import Timeline

VERIFY_ROUNDS = 3

_OFFER_TRIES = 60


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
        if spare:
            row = fill(
                job, timeline, left=left, deadline=job.promise, settings=settings, spare=spare
            )
        if row is None:
            row = fill(job, timeline, left=left, deadline=job.promise, settings=settings)
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
        placed = place(
            [
                (job, rows[job.job_id], _moves(job, rows[job.job_id], now, settings))
                for job in order
            ],
            periods,
            now,
        )
        if placed is None:
            return None
        plan, failed = _walk_all(order, placed, now, settings)
        if failed and settings.rescale_cost:
            failed = _stretch(failed, plan, placed, periods, settings)
        if not failed:
            return plan
        if not settings.rescale_cost:
            return None
        for job in failed:
            reserve[job.job_id] += 1.0
        rows, stuck = _fill_all(order, base.copy(), reserve, settings)
        if stuck >= 0:
            return None
    return None


def _moves(job: Job, row: Row, now: float, settings: SchedulerSettings) -> float:
    """Return how many moves that others force a row has time for."""
    if not row or not settings.rescale_cost:
        return math.inf
    left = work_to_plan(job, settings)
    spare = row[-1].end - walk_counts(job, row, left=left, now=now, settings=settings)
    return (spare + SAME_INSTANT) / settings.rescale_cost


def _walk_all(
    order: Sequence[Job], placed: dict[str, Row], now: float, settings: SchedulerSettings
) -> tuple[Plan, list[Job]]:
    """Walk each row; the second value holds those that end late."""
    plan: Plan = {}
    failed: list[Job] = []
    for job in order:
        row = placed[job.job_id]
        left = work_to_plan(job, settings)
        finish = walk(job, row, left=left, now=now, settings=settings)
        if finish > job.promise + DEADLINE_TOLERANCE:
            failed.append(job)
        plan[job.job_id] = Planned(trim(row, now=now, end=finish), finish)
    return plan, failed


def _stretch(
    failed: Sequence[Job],
    plan: Plan,
    placed: dict[str, Row],
    periods: Periods,
    settings: SchedulerSettings,
) -> list[Job]:
    """Let rows that end too soon run on where their last block stays free; return those still late.

    Args:
        failed: Jobs whose row does not do.
        plan: All rows; changed where it helps.
        placed: The rows before they were cut at their finish.
        periods: What is available when.
        settings: Costs and margins.
    """
    now = periods[0][0]
    occupancy = Occupancy(periods, (planned.row for planned in plan.values()))
    still: list[Job] = []
    for job in failed:
        row = placed[job.job_id]
        if not row:
            still.append(job)
            continue
        last = row[-1]
        until = min(occupancy.free_until(last.mask, last.end), job.promise)
        longer = [*row[:-1], last._replace(end=max(until, last.end))]
        left = work_to_plan(job, settings)
        finish = walk(job, longer, left=left, now=now, settings=settings)
        if finish > job.promise + DEADLINE_TOLERANCE:
            still.append(job)
            continue
        occupancy.flip(plan[job.job_id].row)
        plan[job.job_id] = Planned(trim(longer, now=now, end=finish), finish)
        occupancy.flip(plan[job.job_id].row)
    return still


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
        spare = moves * settings.rescale_cost
        counts = fill(job, timeline, left=left, deadline=deadline, settings=settings, spare=spare)
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
    finish = soonest(job, timeline, left=work_to_plan(job, settings), settings=settings)
    if finish == math.inf:
        return math.inf
    for _ in range(_OFFER_TRIES):
        if in_gaps(job, occupancy, deadline=finish, now=now, settings=settings) is not None:
            return finish
        finish = now + (finish - now) * 1.02 + settings.rescale_cost
    return math.inf
