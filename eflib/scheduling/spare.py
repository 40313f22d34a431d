"""What the shares leave free goes to whoever gains most by it, never at the price of a promise.

First who waits for nothing but a spare GPU starts. Then *restore*: a job that the plan would shrink
keeps its block for as long as nobody else needs it. Then, one doubling at a time, the job whose
total GPU-time grows least per added GPU, and only if the gain is worth the pauses. Only that job's
row changes, and only into free cells, so every other walk stays what it was.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator, Sequence

from eflib.scheduling.buddy import best_fit, enclosing, free_starts, is_block
from eflib.scheduling.gain import Gains
from eflib.scheduling.jobs import Job
from eflib.scheduling.occupancy import Occupancy
from eflib.scheduling.plan import (
    DEADLINE_TOLERANCE,
    SAME_INSTANT,
    Planned,
    Row,
    Segment,
    head_of,
    trim,
)
from eflib.scheduling.settings import SchedulerSettings


class SpareGpus:
    """Gives what is free now to jobs that gain by it.

    Args:
        occupancy: What is free when; changed as rows change.
        now: Scheduler time in seconds.
        settings: Costs and hysteresis.
    """

    def __init__(self, occupancy: Occupancy, now: float, settings: SchedulerSettings) -> None:
        self._occupancy = occupancy
        self._now = now
        self._gains = Gains(now, settings)
        self._seen, self._most = -1, -1  # log2 of the largest block that is free now

    def spread(self, promised: Sequence[Job], yielding: Sequence[Job]) -> None:
        """Start who waits, restore, then hand out by marginal return; changes the jobs' rows.

        Args:
            promised: Jobs whose row keeps a promise already.
            yielding: Jobs that have nothing but what is spare, in order of their claims.
        """
        for job in promised:
            if not job.row or job.row[0].start > self._now + SAME_INSTANT:
                self._keep_some(job)
        self._start(yielding)
        jobs = [*promised, *yielding]
        for job in jobs:
            if self._may_keep(job) and job.mask != self._held_next(job):
                self._restore(job)
        queue: list[tuple[tuple[float, ...], int, Job]] = []
        for job in jobs:
            self._push(queue, job)
        # Greedy by marginal return is optimal while curves are concave (ElasticFlow, section 4);
        # one job's growth does not change another's price, so a heap will do.
        while queue:
            _, _, job = heapq.heappop(queue)
            if self._grow(job):
                self._push(queue, job)

    def _start(self, yielding: Sequence[Job]) -> None:
        """Give each that waits its smallest count before others keep more than theirs.

        A start adds no GPU-time, so it comes before any growth; the shortest goes first. Who runs
        already keeps at least its smallest count.
        """
        idle = [job for job in yielding if not job.row]
        waiting = [job for job in idle if not job.mask and job.exponents]
        if not waiting:
            return
        for job in idle:
            self._keep_some(job)
        # Shortest first gives the least mean time to completion (Smith, 1956); beside it a
        # best-effort newcomer waited for as long as another held all spare GPUs.
        for job in sorted(waiting, key=lambda j: (j.left / j.rates[0], j.order)):
            self._grow(job)

    def _keep_some(self, job: Job) -> None:
        """Leave a running job the smallest count inside what it holds, while that is free."""
        if self._may_keep(job):
            mask = best_fit(job.mask & self._occupancy.free[0], job.exponents[0], low=True)
            if mask:
                self._hold_while_free(job, mask)

    def _held_next(self, job: Job) -> int:
        """Return what the row gives the job now."""
        return head_of(job.row, self._now)

    def _may_keep(self, job: Job) -> bool:
        """True if what the job holds is a block of a usable size."""
        return is_block(job.mask) and job.mask.bit_count().bit_length() - 1 in job.exponents

    def _restore(self, job: Job) -> None:
        """Keep the present block while it is free, if the finish gets no later."""
        if job.mask & ~(self._occupancy.free[0] | self._held_next(job)):
            return
        self._hold_while_free(job, job.mask)

    def _free_until(self, job: Job, mask: int) -> float:
        """Return until when a block is free for a job, as far as its finish can depend on it."""
        # Past its finish the job holds nothing, so columns beyond it need no look.
        limit = max(job.finish, self._now) + 2 * DEADLINE_TOLERANCE
        return self._occupancy.free_until(mask, self._now, job.row, limit)

    def _hold_while_free(self, job: Job, mask: int) -> None:
        """Put a block at the head of a job's row for as long as it is free."""
        until = self._free_until(job, mask)
        if until > self._now + SAME_INSTANT:
            planned = self._gains.walked(job, self._with_head(job, mask, until))
            if self._gains.not_worse(job, planned):
                self._take(job, planned, mask, until)

    def _grow(self, job: Job) -> bool:
        """Try the next usable count now; True if it was taken."""
        exponent = self._next_exponent(job)
        if exponent is None:
            return False
        # Looking for room is cheap and fails often; the blocks themselves are sought only if there
        # is some.
        if not self._has_room(job, exponent):
            return False
        for mask in self._candidates(job, exponent):
            until = self._free_until(job, mask)
            if until <= self._now + SAME_INSTANT:
                continue
            planned = self._gains.walked(job, self._with_head(job, mask, until))
            if self._gains.is_worth(job, planned, exponent):
                self._take(job, planned, mask, until)
                return True
        return False

    def _has_room(self, job: Job, exponent: int) -> bool:
        """True if a block of a size is free now, what the job's row holds now included."""
        free, held = self._occupancy.free[0], self._held_next(job)
        if free != self._seen:
            self._seen = free
            levels = free_starts(free, max(free.bit_count().bit_length() - 1, 0))
            self._most = max((e for e, starts in enumerate(levels) if starts), default=-1)
        if exponent <= self._most:
            return True
        if is_block(held):  # a larger block with some of it has all of it
            return enclosing(held, exponent) & ~(free | held) == 0
        return bool(held) and bool(free_starts(free | held, exponent)[exponent])

    def _candidates(self, job: Job, exponent: int) -> Iterator[int]:
        """Yield blocks to try: around what the job holds, then the longest free, then any."""
        free = self._occupancy.free[0] | self._held_next(job)
        found = []
        for held in (self._held_next(job), job.mask):
            if held:
                block = enclosing(held, exponent)
                if block & ~free == 0 and block not in found:
                    found.append(block)
                    yield block
        own = best_fit(free & job.mask, exponent, low=True)
        if own and own not in found:
            found.append(own)
            yield own
        # A block that stays free to its finish needs no second change; the lowest free one is the
        # last resort.
        lasting = self._occupancy.free_over(self._now, job.finish)
        for choice in (lasting, free):
            block = best_fit(choice, exponent, low=True)
            if block and block not in found:
                found.append(block)
                yield block

    def _with_head(self, job: Job, mask: int, until: float) -> Row:
        """Return the job's row with ``mask`` held from now until ``until``."""
        head = Segment(self._now, until, mask, mask.bit_count())
        return [head, *trim(job.row, now=until, end=math.inf)]

    def _take(self, job: Job, planned: Planned, mask: int, until: float) -> None:
        """Give the job its new row; what it no longer needs later stays reserved for now."""
        self._occupancy.swap_head(job.row, mask, min(until, planned.finish))
        job.row, job.finish = planned

    def _next_exponent(self, job: Job) -> int | None:
        """Return log2 of the next usable count above what the job gets now."""
        count = self._held_next(job).bit_count()
        for exponent in job.exponents:
            if 1 << exponent > count:
                return exponent
        return None

    def _push(self, queue: list[tuple[tuple[float, ...], int, Job]], job: Job) -> None:
        exponent = self._next_exponent(job)
        if exponent is not None and job.left > 0 and self._gains.could_pay(job, exponent):
            heapq.heappush(
                queue,
                (
                    self._gains.price(job, self._held_next(job).bit_count(), exponent),
                    job.order,
                    job,
                ),
            )
