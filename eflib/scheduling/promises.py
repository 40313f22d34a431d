"""The standing plan is the promise: how it is replaced, and what is done when it cannot hold."""

from __future__ import annotations

import math
from collections.abc import Sequence

from eflib.scheduling.backfill import backfill, soonest_backfill
from eflib.scheduling.book import Book
from eflib.scheduling.counts import Need
from eflib.scheduling.disruption import disruption, shrink_in_place
from eflib.scheduling.fresh import Situation, fresh_plan, placed_again, promise_order
from eflib.scheduling.jobs import Job
from eflib.scheduling.occupancy import Occupancy, Periods
from eflib.scheduling.plan import (
    DEADLINE_TOLERANCE,
    SAME_INSTANT,
    Plan,
    Planned,
    Row,
    gpu_seconds,
    head_of,
    trim,
    walk,
    work_to_plan,
)
from eflib.scheduling.share import fill
from eflib.scheduling.timeline import Timeline

_OFFER_TRIES = 20

_KEEP_TRIES = 4
"""How many plans are made to let fewer wait."""

# It saves time, not deadlines: on 195job with 64 and 128 GPUs and cluster03 with 256, at a rescale
# cost of 30 s, always planning anew meets 167, 179, 2219, this 167, 181, 2219.
CHEAP_ENOUGH = 1.1
"""GPU-seconds of a newcomer in the gaps, against those on an idle cluster, that need no re-plan."""

# Without this bound cluster03 on 256 GPUs meets 2207 deadlines at a rescale cost of 30 s, with it
# 2219; traces that are less crowded meet the same.
TIGHT_SHARE = 0.7
"""GPU-seconds of a newcomer, against the mean of the others, up to which a tight plan is sought.

Where it is crowded, one large job that is squeezed in takes the room of several small ones.
"""


def _situation(book: Book) -> Situation:
    """Return what a plan made now has to go by."""
    return Situation(book.periods(), book.now, book.settings, book.held())


def adopt(book: Book, plan: Plan) -> None:
    """Make a plan the standing one."""
    for job_id, planned in plan.items():
        job = book.jobs[job_id]
        job.row, job.finish = planned
        job.base = planned.row


def admit(book: Book, job: Job, deadline: float, *, undisturbed: bool = False) -> Plan | None:
    """Return a plan that keeps every promise and gives ``job`` its deadline; None if none is found.

    If the newcomer fits beside the shares of the others as cheaply as on an empty cluster, nothing
    else is asked. Else the whole plan is made anew; where that fails, the newcomer goes beside the
    shares at any price, or else into the gaps of the standing plan.

    Args:
        book: The state.
        job: The newcomer.
        deadline: Scheduler time in seconds.
        undisturbed: Look for a plan in which the running jobs stay where they are, if the first
            one found pauses or moves some of them.
    """
    # Saves the searches below: no plan reaches into the past.
    if deadline <= book.now:
        return None
    alone = _alone(book, job, deadline)
    if alone is None:
        return None
    # Plans read the promise from the job; it is the newcomer's for as long as they are tried, and
    # kept only by Scheduler if one is found.
    job.promise = deadline
    plan = _any_plan(book, job, gpu_seconds(alone))
    if plan is not None and undisturbed:
        plan = less_disruptive(book, plan, job)
    job.promise = math.inf
    return plan


def less_disruptive(book: Book, plan: Plan, newcomer: Job | None = None) -> Plan:
    """Return a plan, or another that disturbs fewer of those that run.

    Tried in this order: the same counts, placed around those that run; who runs shrunk, for as long
    as it runs; all filled anew, with those that would wait holding their smallest count till then.

    Args:
        book: The state.
        plan: One that keeps every promise.
        newcomer: A job of the plan that is not live yet.
    """
    least = disruption(book, plan)
    if not any(least):
        return plan
    # From cheap to dear in GPU-seconds: other blocks for the same counts cost others nothing,
    # shrinking where they are costs what the late switch saved, filling around them most.
    for make in (_placed_again, _shrunk_in_place, _kept_running):
        other = make(book, plan, newcomer)
        if other is not None and (hurt := disruption(book, other)) < least:
            plan, least = other, hurt
            if not any(least):
                break
    return plan


def _with(book: Book, newcomer: Job | None) -> list[Job]:
    """Return all that a plan has to hold."""
    return book.promised() if newcomer is None else [*book.promised(), newcomer]


def _placed_again(book: Book, plan: Plan, newcomer: Job | None) -> Plan | None:
    """Return a plan of the same counts that is placed around those that run."""
    jobs = _with(book, newcomer)
    rows = {j.job_id: plan[j.job_id].row if j.job_id in plan else j.row for j in jobs}
    return placed_again(jobs, rows, _situation(book))


def _shrunk_in_place(book: Book, plan: Plan, newcomer: Job | None) -> Plan | None:
    """Return a plan in which who runs shrinks where it is."""
    return shrink_in_place(book, newcomer)


def _kept_running(book: Book, plan: Plan, newcomer: Job | None) -> Plan | None:
    """Return a plan in which those that would wait hold their smallest count till then."""
    keep: dict[str, float] = {}
    dropped: set[str] = set()
    found: Plan | None = None
    jobs = _with(book, newcomer)
    for _ in range(_KEEP_TRIES):
        waiting = {
            job.job_id: row[0].start
            for job in book.promised()
            if job.mask and job.exponents and job.job_id not in dropped
            if (row := plan[job.job_id].row if job.job_id in plan else job.row)
            and not head_of(row, book.now)
        }
        if not waiting and found is not None:
            break
        keep.update(waiting)
        other = fresh_plan(jobs, _situation(book), keep)
        if other is not None:
            plan = found = other
        elif len(keep) > 1:
            # No room for all of them: the one whose promise is due last has most time to pause.
            latest = max(keep, key=lambda name: promise_order(book.jobs[name]))
            dropped.add(latest)
            del keep[latest]
        else:
            break
    return found


def _alone(book: Book, job: Job, deadline: float) -> Row | None:
    """Return what a job would hold if nobody else had a promise; None if it would be late."""
    settings, free = book.settings, Timeline(list(book.periods()))
    left = work_to_plan(job, settings)
    reserve = settings.forced_moves * settings.rescale_cost
    row = fill(job, free, Need(left, deadline, reserve), settings)
    if row is None and reserve:
        row = fill(job, free, Need(left, deadline), settings)
    return row


def _any_plan(book: Book, job: Job, least: float) -> Plan | None:
    """Return the plan that takes least, whoever has to move for it; None if none is found.

    Args:
        book: The state.
        job: The newcomer.
        least: GPU-seconds that it would take alone.
    """
    # Most arrivals end here. Nobody's share changes, and it takes about what it would take alone: a
    # plan made anew could save a tenth of one job's GPU time at most.
    plan, is_cheap = _beside(book, job, least)
    if is_cheap:
        return plan
    others = book.promised()
    mean = sum(gpu_seconds(other.base) for other in others) / max(len(others), 1)
    fresh = fresh_plan(
        [*others, job],
        _situation(book),
        tight=least <= TIGHT_SHARE * mean,
    )
    if fresh is not None or plan is not None:
        return fresh or plan
    occupancy = book.occupancy(book.promised())
    found = backfill(
        job,
        occupancy,
        deadline=job.promise,
        now=book.now,
        settings=book.settings,
        avoid=book.held(),
    )
    return None if found is None else {job.job_id: found}


def _beside(book: Book, job: Job, least: float) -> tuple[Plan | None, bool]:
    """Return a plan that leaves all shares as they are, and whether the newcomer's is cheap."""
    settings, now, periods = book.settings, book.now, book.periods()
    plan: Plan = {}
    for other in book.promised():
        left = work_to_plan(other, settings)
        # The shares as last planned, without the spare GPUs that others may need more; where a lag
        # makes the share too late, the row with spare GPUs is what keeps the promise.
        finish = walk(other, other.base, left=left, now=now, settings=settings)
        if finish > other.promise + DEADLINE_TOLERANCE:
            plan[other.job_id] = Planned(other.row, other.finish)
        else:
            plan[other.job_id] = Planned(trim(other.base, now=now, end=finish), finish)
    occupancy = Occupancy(periods, (planned.row for planned in plan.values()))
    if occupancy.clash:
        return None, False
    found = backfill(
        job, occupancy, deadline=job.promise, now=now, settings=settings, avoid=book.held()
    )
    if found is None:
        return None, False
    plan[job.job_id] = found
    return plan, gpu_seconds(found.row) <= CHEAP_ENOUGH * least


def earliest_deadline(book: Book, job: Job) -> float | None:
    """Return the deadline that a refusal offers: asked for at once, it would be admitted."""
    settings = book.settings
    finish = soonest_backfill(job, book.occupancy(book.promised()), now=book.now, settings=settings)
    if finish == math.inf:
        return None
    offer = finish + settings.quote_slack
    for _ in range(_OFFER_TRIES):
        if admit(book, job, offer) is not None:
            break
        # A finish that can be walked may still lie outside of what admit() finds, as it takes
        # reserves too: 10 % and a pause later until it is admitted.
        offer = book.now + (offer - book.now) * 1.1 + settings.rescale_cost
    else:
        return None
    low = max(job.deadline, book.now)
    for _ in range(settings.quote_tries):
        # Closer than a thousandth of the wait, or 0.1 s, an earlier offer is worth no further plan.
        if offer - low <= max(0.1, 1e-3 * (offer - book.now)):
            break
        middle = (low + offer) / 2
        # Admission is not monotone in the deadline (another order may win), so the offer itself is
        # tried as well: what is quoted must be admitted a moment later.
        later = middle + settings.quote_slack
        if admit(book, job, middle) is not None and admit(book, job, later) is not None:
            offer = later
        else:
            low = middle
    return offer


def broken(book: Book) -> list[Job]:
    """Return the promised jobs whose standing row ends late, or touches what is not there."""
    found = []
    periods = book.periods()
    for job in sorted(book.promised(), key=promise_order):
        finish = book.outlook(job) if _clear_of((job,), periods) else math.inf
        if finish > job.promise + DEADLINE_TOLERANCE:
            found.append(job)
    return found


def repair(book: Book) -> list[Job]:
    """Re-plan after a surprise; return the jobs whose promise could not be kept.

    Tried in this order: everything anew; the hurt jobs alone in the gaps of the rest; everything
    anew without the job for which there is no room, until a plan is found.
    """
    hurt = broken(book)
    if not hurt:
        return []
    plan = fresh_plan(book.promised(), _situation(book))
    if plan is None:
        plan = _backfill_all(book, hurt)
    if plan is not None:
        adopt(book, plan)
        return []
    return _give_up(book, hurt)


def _backfill_all(book: Book, hurt: Sequence[Job]) -> Plan | None:
    """Plan the hurt jobs one by one around the others' standing rows."""
    names = {job.job_id for job in hurt}
    occupancy = book.occupancy(j for j in book.promised() if j.job_id not in names)
    plan: Plan = {}
    for job in hurt:
        found = backfill(job, occupancy, deadline=job.promise, now=book.now, settings=book.settings)
        if found is None:
            return None
        plan[job.job_id] = found
        occupancy.flip(found.row)
    return plan


def _give_up(book: Book, hurt: Sequence[Job]) -> list[Job]:
    """Keep what can be kept: the hurt lose their promise only if no plan holds them."""
    # Who is not hurt keeps the promise whatever the others need; the hurt come back in order of
    # their deadlines for as long as they fit.
    kept = [job for job in book.promised() if job not in hurt]
    lost: list[Job] = []
    for job in hurt:
        plan = fresh_plan([*kept, job], _situation(book))
        if plan is not None:
            adopt(book, plan)
            kept.append(job)
            continue
        occupancy = book.occupancy(kept)
        found = backfill(job, occupancy, deadline=job.promise, now=book.now, settings=book.settings)
        if found is not None:
            adopt(book, {job.job_id: found})
            kept.append(job)
        else:
            lost.append(job)
    for job in lost:
        job.row, job.base, job.finish = [], [], math.inf
    return lost


def refit(book: Book, reserved: Periods) -> Plan | None:
    """Return rows for all promised jobs under other availability; None if a promise would break.

    The standing rows are kept where they already avoid what is to be reserved.
    """
    jobs = book.promised()
    if _clear_of(jobs, reserved):
        return {job.job_id: Planned(job.row, job.finish) for job in jobs}
    plan = fresh_plan(jobs, _situation(book)._replace(periods=reserved))
    return None if plan is None else less_disruptive(book, plan)


def _clear_of(jobs: Sequence[Job], periods: Periods) -> bool:
    """True if no row touches what is not available."""
    for job in jobs:
        for segment in job.row:
            for number, (start, free) in enumerate(periods):
                end = periods[number + 1][0] if number + 1 < len(periods) else math.inf
                apart = segment.start > end - SAME_INSTANT or segment.end < start + SAME_INSTANT
                if segment.mask & ~free and not apart:
                    return False
    return True


def minimum_share(book: Book, job: Job) -> int | None:
    """Return the fewest GPUs that finish in time if held from now on; None if none do."""
    if job.deadline == math.inf:
        return None
    for exponent, rate in zip(job.exponents, job.rates, strict=True):
        count = 1 << exponent
        if count == job.mask.bit_count():
            begin = max(job.ready_at, book.now)
        else:
            costs = book.settings
            begin = book.now + (costs.rescale_cost if job.mask else costs.cost_of_start)
        if begin + work_to_plan(job, book.settings) / rate <= job.deadline + DEADLINE_TOLERANCE:
            return count
    return None


def projected_finish(book: Book, job: Job) -> float:
    """Return where a job's row leads, in seconds; if nowhere, what the promises leave room for.

    Infinite if no GPU can be foreseen for it. Best-effort jobs that compete are not foreseen.
    """
    # A pinned job has no row but a finish of its own; it is not planned by what is free.
    if job.finish < math.inf or job.pinned is not None:
        return job.finish
    occupancy = book.occupancy(book.promised())
    return soonest_backfill(job, occupancy, now=book.now, settings=book.settings)
