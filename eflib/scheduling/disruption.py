"""Admitting without disturbing anybody: who runs keeps GPUs of its own, shrunk where needed.

A plan made anew may let a running job wait, or send it to other GPUs, although it could have
stayed: counts are filled in order of deadline, and know nothing of who is where. On a live cluster
either is dear, for all of the job's workers begin again. So a plan that disturbs somebody is held
against others in which more of them stay, and the calmest is taken.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from eflib.scheduling.backfill import backfill
from eflib.scheduling.book import Book
from eflib.scheduling.buddy import best_fit, is_block
from eflib.scheduling.fresh import promise_order
from eflib.scheduling.jobs import Job
from eflib.scheduling.occupancy import Occupancy
from eflib.scheduling.plan import Plan, Planned, Segment, head_of, work_to_plan


class Disruption(NamedTuple):
    """What a plan does at once to jobs that run; less is better.

    Attributes:
        paused: Jobs left without any GPU.
        moved: Jobs left with none of the GPUs they hold, but with others.
    """

    paused: int
    moved: int


def disruption(book: Book, plan: Plan) -> Disruption:
    """Count the running jobs that lose all their GPUs if a plan is adopted now.

    Args:
        book: The state; jobs that the plan does not name keep their standing row.
        plan: New rows.
    """
    now = book.now
    free = book.periods()[0][1]
    heads: list[tuple[Job, int]] = []
    for job in book.jobs.values():
        if job.pinned is None:
            planned = plan.get(job.job_id)
            row = planned.row if planned is not None else job.row
            # Jobs without a promise get their row after the plan is adopted: they count as holding
            # nothing, and below it is seen what would be left for them.
            head = head_of(row, now) if job.promise < math.inf else 0
            free &= ~head
            heads.append((job, head))
    newcomer = [planned.row for name, planned in plan.items() if name not in book.jobs]
    for row in newcomer:
        free &= ~head_of(row, now)
    paused = moved = 0
    for job, head in heads:
        if not job.mask or not job.exponents or head & job.mask:
            continue
        if head:
            # If all it holds stays free, SpareGpus puts it back where it is (restore): no move
            # then.
            moved += bool(job.mask & ~free) or not is_block(job.mask)
        # It keeps running if its smallest count still fits into what it holds; else it moves if
        # that fits anywhere, else it pauses.
        elif not best_fit(free & job.mask, job.exponents[0], low=True):
            if best_fit(free, job.exponents[0], low=True):
                moved += 1
            else:
                paused += 1
    return Disruption(paused, moved)


def shrink_in_place(book: Book, newcomer: Job | None) -> Plan | None:
    """Return a plan in which each running job keeps its smallest constant share of its own block.

    Those that need more than they hold, those that wait and the newcomer go into what is left, in
    order of their deadlines. None if that cannot be.

    Args:
        book: The state.
        newcomer: A job with a promise that is not among the live ones yet.
    """
    plan: Plan = {}
    others: list[Job] = [] if newcomer is None else [newcomer]
    for job in book.promised():
        stay = _stay(book, job)
        if stay is None:
            others.append(job)
        else:
            plan[job.job_id] = stay
    occupancy = Occupancy(book.periods(), (planned.row for planned in plan.values()))
    if occupancy.clash:
        return None
    # Who cannot shrink in place has the tighter promise; by deadline, as in the fill, the most
    # urgent of them gets first what the others gave up.
    for job in sorted(others, key=promise_order):
        found = backfill(
            job,
            occupancy,
            deadline=job.promise,
            now=book.now,
            settings=book.settings,
            avoid=book.held() & ~job.mask,
        )
        if found is None:
            return None
        plan[job.job_id] = found
        occupancy.flip(found.row)
    return plan


def least_to_keep(book: Book) -> int:
    """Return the positions that those who run cannot give up without a pause or a move."""
    kept = 0
    for job in book.jobs.values():
        stay = _stay(book, job) if job.pinned is None and job.promise < math.inf else None
        if stay is not None:
            kept |= stay.row[0].mask
        # Best effort has no share to keep, but its smallest block is enough to go on without a
        # pause.
        elif job.promise == math.inf and job.exponents:
            kept |= best_fit(job.mask, job.exponents[0], low=True) or job.mask
        else:
            kept |= job.mask
    return kept


def _stay(book: Book, job: Job) -> Planned | None:
    """Return the least constant share inside what a job holds that keeps its promise, or None."""
    settings, now = book.settings, book.now
    if not is_block(job.mask):
        return None
    held = job.mask.bit_count()
    available = book.periods()[0][1]
    left = work_to_plan(job, settings)
    # First a share that leaves time for a forced move, as the fill does; then any that is in time.
    for reserve in (settings.forced_moves * settings.rescale_cost, 0.0):
        for exponent, rate in zip(job.exponents, job.rates, strict=True):
            count = 1 << exponent
            if count > held:
                break
            # Keeping the count costs nothing but the pause under way; shrinking costs a rescale.
            begin = max(job.ready_at, now) if count == held else now + settings.rescale_cost
            finish = begin + left / rate
            if finish + reserve <= job.promise and (
                mask := best_fit(job.mask & available, exponent, low=True)
            ):
                return Planned([Segment(now, finish, mask, count)], finish)
        if not reserve:
            break
    return None
