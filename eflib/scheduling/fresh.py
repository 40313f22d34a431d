"""A plan for all promised jobs made anew: filled in order, placed dry, verified by walks."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

from eflib.scheduling.counts import ROUNDING, Need, walk_counts
from eflib.scheduling.jobs import Job
from eflib.scheduling.occupancy import Occupancy, Periods
from eflib.scheduling.placement import place
from eflib.scheduling.plan import (
    DEADLINE_TOLERANCE,
    SAME_INSTANT,
    Plan,
    Planned,
    Row,
    Segment,
    gpu_seconds,
    trim,
    walk,
    work_to_plan,
)
from eflib.scheduling.priced import fill_priced
from eflib.scheduling.prices import find_prices
from eflib.scheduling.settings import SchedulerSettings
from eflib.scheduling.share import fill
from eflib.scheduling.timeline import Timeline

# Each round reserves one more move for those that fail; what fails three times fails for another
# reason than the moves, as a block that is free nowhere for long enough.
VERIFY_ROUNDS = 3
"""How often rows that end late are given more reserve before a plan is dropped."""


COMPARED = 200
"""Jobs up to which all orders are compared; with more the first that fits is taken, for time."""


def promise_order(job: Job) -> tuple[float, float, int]:
    """Sort key of the fill: by deadline, then as submitted."""
    return (job.promise, job.request.submitted_at, job.order)


def _fastest(job: Job, settings: SchedulerSettings) -> float:
    """Return the seconds that a job's work takes at its highest speed."""
    return work_to_plan(job, settings) / job.rates[-1] if job.rates else 0.0


class Situation(NamedTuple):
    """What every plan has to go by.

    Attributes:
        periods: What is available when.
        now: Scheduler time in seconds.
        settings: Costs and margins.
        avoid: Positions that somebody uses now; see ``place``.
    """

    periods: Periods
    now: float
    settings: SchedulerSettings
    avoid: int = 0


def fresh_plan(
    jobs: Sequence[Job],
    situation: Situation,
    keep: Mapping[str, float] | None = None,
    *,
    tight: bool = True,
) -> Plan | None:
    """Plan all promised jobs anew; None if no order that is tried keeps every promise.

    Args:
        jobs: All with a promise, a newcomer among them.
        situation: What there is.
        keep: Jobs by id that run, and until when they hold their smallest count at least.
        tight: Where no order fits, let prices say who takes what when.
    """
    return _Planner(jobs, situation, keep).plan(tight=tight)


def placed_again(jobs: Sequence[Job], rows: Mapping[str, Row], situation: Situation) -> Plan | None:
    """Place the counts of rows anew; None if that keeps not every promise.

    Args:
        jobs: All with a promise, a newcomer among them.
        rows: The rows of all of them; their blocks do not matter.
        situation: What there is.
    """
    return _Planner(jobs, situation).placed(rows)


class _Planner:
    """One attempt at a plan, and the orders it tries."""

    def __init__(
        self, jobs: Sequence[Job], situation: Situation, keep: Mapping[str, float] | None = None
    ) -> None:
        self._order = sorted(jobs, key=promise_order)
        self._periods, self._now, self._settings, self._avoid = situation
        self._free = Timeline(list(self._periods))
        self._reserve = {job.job_id: self._settings.forced_moves for job in jobs}
        self._keep = keep or {}
        self._fill: Callable[..., Row | None] = fill
        for job in jobs:
            if job.job_id in self._keep:
                self._free.reserve(self._now, self._keep[job.job_id], 1 << job.exponents[0])

    def plan(self, *, tight: bool) -> Plan | None:
        """Fill in each order; the rows that take the fewest GPU-seconds are placed and verified."""
        # Which order wins depends on the jobs: a tight one with a far deadline fits only where it
        # is taken early. The rows with the fewest GPU-seconds leave most to later arrivals.
        # Deadlines met with three orders (and by deadline alone) at a rescale cost of 30 s: 167
        # (166) of 195job on 64 GPUs, 953 (952) of 1000job_1500lam on 64, but 2219 (2249) of
        # cluster03 on 256.
        best: tuple[float, list[Job], dict[str, Row]] | None = None
        for order in self._orders():
            self._order = order
            rows = self._fill_all()
            if rows is not None:
                taken = sum(map(gpu_seconds, rows.values()))
                if best is None or taken < best[0] - ROUNDING:
                    best = (taken, order, rows)
                if len(order) > COMPARED:
                    break
        if best is not None:
            _, self._order, rows = best
            return self._verified(rows)
        # Prices take ten rounds over jobs x columns: too long for a decision beside hundreds of
        # jobs.
        if not tight or len(self._order) > COMPARED:
            return None
        rows = self._fill_at_prices()
        return None if rows is None else self._verified(rows)

    def _fill_at_prices(self) -> dict[str, Row] | None:
        """Fill as the prices say, in order of time to spare; None if a job does not fit."""
        # Prices already say who waits; the order only says who gets the last block, and that should
        # be who can wait least.
        self._order = sorted(self._order, key=self._to_spare)
        prices = find_prices(self._order, self._periods, self._now, self._settings)
        self._fill = partial(fill_priced, prices=prices)
        return self._fill_all()

    def _to_spare(self, job: Job) -> tuple[float, float, float, int]:
        """Sort key: until when a job could wait if it then had all it can use."""
        return (job.promise - _fastest(job, self._settings), *promise_order(job))

    def _orders(self) -> list[list[Job]]:
        """Return the orders to fill in: by deadline, by time to spare, by share of time needed.

        Who needs nearly all its time at full speed fits only where others are not yet; by deadline
        it comes late if the deadline is far.
        """
        jobs = self._order

        def share_needed(job: Job) -> tuple[float, float, float, int]:
            window = max(job.promise - self._now, SAME_INSTANT)
            return (-_fastest(job, self._settings) / window, *promise_order(job))

        orders = [jobs]
        for key in (self._to_spare, share_needed):
            order = sorted(jobs, key=key)
            if order not in orders:
                orders.append(order)
        return orders

    def _fill_all(self) -> dict[str, Row] | None:
        """Fill in order; None if a job does not fit."""
        settings, timeline = self._settings, self._free.copy()
        rows: dict[str, Row] = {}
        for job in self._order:
            left = work_to_plan(job, settings)
            reserve = self._reserve[job.job_id] * settings.rescale_cost
            row = None
            until = self._keep.get(job.job_id, -math.inf)
            if until > self._now:
                timeline.release(self._now, until, 1 << job.exponents[0])
            # Time for a move that others force is kept where it fits. At a rescale cost of 30 s two
            # thirds of the fresh plans failed their walk for want of it.
            for spare in (reserve, 0.0) if reserve else (0.0,):
                row = self._fill(job, timeline, Need(left, job.promise, spare), settings)
                if row is not None:
                    break
            if row is None:
                return None
            # A job that is to keep running holds its smallest count until its own row begins.
            if row and row[0].start > self._now + SAME_INSTANT and until > self._now:
                head = Segment(self._now, min(until, row[0].start), 0, 1 << job.exponents[0])
                row = [head, *row]
            rows[job.job_id] = row
            timeline.reserve_row(row)
        return rows

    def placed(self, rows: Mapping[str, Row]) -> Plan | None:
        """Place rows and walk them; None if one ends late."""
        plan, failed = self._place(rows)
        return None if failed else plan

    def _verified(self, rows: dict[str, Row]) -> Plan | None:
        """Place and walk; rows that fail get one more move in reserve, a few times."""
        for _ in range(VERIFY_ROUNDS):
            plan, failed = self._place(rows)
            if plan is None or not failed:
                return plan
            # A walk fails only by pauses that placement added; without a cost no reserve can help.
            if not self._settings.rescale_cost:
                return None
            for job in failed:
                self._reserve[job.job_id] += 1.0
            again = self._fill_all()
            if again is None:
                return None
            rows = again
        return None

    def _place(self, rows: Mapping[str, Row]) -> tuple[Plan | None, list[Job]]:
        """Place rows and walk them, stretching where it helps; the second holds who is late."""
        wanted = [(j, rows[j.job_id], self._moves(j, rows[j.job_id])) for j in self._order]
        placed = place(wanted, self._periods, self._now, self._avoid)
        if placed is None:
            return None, []
        plan, failed = self._walk_all(placed)
        if failed and self._settings.rescale_cost:
            failed = self._stretch(failed, plan, placed)
        return plan, failed

    def _moves(self, job: Job, row: Row) -> float:
        """Return how many moves that others force a row has time for."""
        settings = self._settings
        if not row or not settings.rescale_cost:
            return math.inf
        left = work_to_plan(job, settings)
        spare = row[-1].end - walk_counts(job, row, left=left, now=self._now, settings=settings)
        # Placement prefers to move who has time for it; a row that ends exactly at its deadline has
        # not.
        return (spare + SAME_INSTANT) / settings.rescale_cost

    def _finish(self, job: Job, row: Row) -> float:
        """Return where a placed row leads."""
        settings = self._settings
        return walk(job, row, left=work_to_plan(job, settings), now=self._now, settings=settings)

    def _walk_all(self, placed: Mapping[str, Row]) -> tuple[Plan, list[Job]]:
        """Walk each row; the second value holds those that end late."""
        plan: Plan = {}
        failed: list[Job] = []
        for job in self._order:
            row = placed[job.job_id]
            finish = self._finish(job, row)
            if finish > job.promise + DEADLINE_TOLERANCE:
                failed.append(job)
            plan[job.job_id] = Planned(trim(row, now=self._now, end=finish), finish)
        return plan, failed

    def _stretch(self, failed: Sequence[Job], plan: Plan, placed: Mapping[str, Row]) -> list[Job]:
        """Let rows that end too soon run on while their last block stays free.

        Args:
            failed: Jobs whose row does not do.
            plan: All rows; changed where it helps.
            placed: The rows before they were cut at their finish.

        Returns:
            The jobs that are late all the same.
        """
        occupancy = Occupancy(self._periods, (planned.row for planned in plan.values()))
        still: list[Job] = []
        for job in failed:
            row = placed[job.job_id]
            if not row:
                still.append(job)
                continue
            last = row[-1]
            # Placement added pauses, so the row ends before its work is done; if its last block
            # stays free, running on is all it needs, and another fill is spared.
            until = min(occupancy.free_until(last.mask, last.end), job.promise)
            longer = [*row[:-1], last._replace(end=max(until, last.end))]
            finish = self._finish(job, longer)
            if finish > job.promise + DEADLINE_TOLERANCE:
                still.append(job)
                continue
            occupancy.flip(plan[job.job_id].row)
            plan[job.job_id] = Planned(trim(longer, now=self._now, end=finish), finish)
            occupancy.flip(plan[job.job_id].row)
        return still
