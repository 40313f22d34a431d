"""What a job gains by other GPUs: where its row then leads, and if that is worth the pauses."""

from __future__ import annotations

import math

from eflib.scheduling.jobs import Job, Tier
from eflib.scheduling.plan import (
    DEADLINE_TOLERANCE,
    SAME_INSTANT,
    Planned,
    Row,
    trim,
    walk,
    work_to_plan,
)
from eflib.scheduling.settings import SchedulerSettings


class Gains:
    """Judges changes of one job's row.

    Args:
        now: Scheduler time in seconds.
        settings: Costs and hysteresis.
    """

    __slots__ = ("_now", "_settings")

    def __init__(self, now: float, settings: SchedulerSettings) -> None:
        self._now = now
        self._settings = settings

    def could_pay(self, job: Job, exponent: int) -> bool:
        """True unless the gain would be too small even if the GPUs stayed to the end.

        Args:
            job: The job.
            exponent: Log2 of the count that it would hold.
        """
        settings = self._settings
        if job.finish == math.inf:
            return True
        # The best case: the GPUs stay to the end and one pause is paid. If even that gains too
        # little, nothing can.
        cost = settings.rescale_cost if job.mask else settings.cost_of_start
        if job.mask.bit_count() == 1 << exponent:
            cost = 0.0
        soonest = self._now + cost + work_to_plan(job, settings) / job.rate(1 << exponent)
        return soonest < job.finish - settings.hysteresis * settings.rescale_cost - SAME_INSTANT

    def walked(self, job: Job, row: Row) -> Planned:
        """Return a row cut at the finish to which it leads, and that finish, in seconds."""
        left = work_to_plan(job, self._settings)
        finish = walk(job, row, left=left, now=self._now, settings=self._settings)
        return Planned(trim(row, now=self._now, end=finish), finish)

    def not_worse(self, job: Job, planned: Planned) -> bool:
        """True if another row ends no later than the job's own."""
        if planned.finish == math.inf:
            return job.finish == math.inf
        return planned.finish <= max(job.finish, self._now) + DEADLINE_TOLERANCE

    def is_worth(self, job: Job, planned: Planned, exponent: int) -> bool:
        """True if the gain is larger than the pauses it costs, several times.

        Args:
            job: The job.
            planned: The row that is judged.
            exponent: Log2 of the count that the row begins with.
        """
        # A gain of less than a few pauses is taken back by the next event. Deadlines met, and
        # rescales, with a threshold of 0 / 4 / 10 pauses of 30 s: 166, 698 / 167, 633 / 165, 630 on
        # 195job with 64 GPUs; 179, 710 / 181, 614 / 181, 545 with 128.
        threshold = self._settings.hysteresis * self._settings.rescale_cost
        if planned.finish < math.inf:
            return planned.finish < job.finish - threshold - SAME_INSTANT
        # A row that ends must go on to end; only one that leads nowhere may be held against another
        # that leads nowhere, by the work that it does.
        if job.finish < math.inf or job.tier(self._now) is Tier.PROMISED:
            return False
        before = self._work(job, job.row)
        gain = self._work(job, planned.row) - before
        return gain > (threshold + SAME_INSTANT) * job.rate(1 << exponent)

    def _work(self, job: Job, row: Row) -> float:
        """Return the steps a row does that does not reach the end."""
        done, held, ready = 0.0, job.mask, job.ready_at
        for start, end, mask, count in row:
            begin = max(start, self._now)
            if mask != held:
                ready = begin + self._settings.rescale_cost
                held = mask
            done += job.rate(count) * max(min(end, 1e15) - max(begin, ready), 0.0)
        return done

    def price(self, job: Job, count: int, exponent: int) -> tuple[float, ...]:
        """Return the growth of total GPU-time per added GPU; a start comes before any growth.

        Args:
            job: The job.
            count: GPUs that it gets now.
            exponent: Log2 of the larger count.
        """
        more = 1 << exponent
        if count == 0:
            # GPU-time that is not spent yet grows by what is needed anyway: starts first, the
            # shortest before others.
            return (0.0, job.left / job.rate(more))
        before = count * job.left / job.rate(count)
        after = more * job.left / job.rate(more)
        return (1.0, (after - before) / (more - count))
