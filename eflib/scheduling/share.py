"""Minimum satisfactory share: the least a job must hold, and when, to be done by its deadline.

Works on counts alone; placement comes after. The job takes what earlier deadlines leave free, under
the smallest cap that suffices; then the next smaller cap first and the cap only as late as needed,
which uses fewer GPU-seconds (see docs/architecture.md and Gu et al., ASPLOS '23, section 4).
"""

from __future__ import annotations

import math

from eflib.scheduling.counts import (
    ROUNDING,
    Need,
    Run,
    capped,
    held_level,
    row_of,
    until,
    walk_counts,
)
from eflib.scheduling.jobs import Job
from eflib.scheduling.late_switch import switch_late
from eflib.scheduling.paths import BestPath
from eflib.scheduling.plan import SAME_INSTANT, Row, gpu_seconds
from eflib.scheduling.settings import SchedulerSettings
from eflib.scheduling.timeline import Timeline

# Deadlines met at a rescale cost of 30 s with none / this / four times as much, on 195job with 64
# and with 128 GPUs and on cluster03 with 256: 163, 179, 2195 / 167, 181, 2219 / 166, 180, 2247.
LATE_SLACK = 5e-3
"""Share of the time to the deadline by which a late switch comes early.

Rows without any slack cannot be filled again from a state that differs by a rounding.
"""


def fill(job: Job, timeline: Timeline, need: Need, settings: SchedulerSettings) -> Row | None:
    """Return the least row, in counts, that does the work by the deadline; None if there is none.

    Args:
        job: The job as it is at the timeline's start.
        timeline: What is free.
        need: The work and its deadline.
        settings: For the costs.
    """
    left, deadline, spare = need
    now = timeline.start
    if not job.rates:
        return None
    # Beyond the last border all columns are alike: the work is done there within this time or
    # never, which bounds a search without a deadline.
    longest = _longest(job, left, settings) + 2.0 * spare
    horizon = min(deadline, timeline.last_border + longest)
    # Even at full speed it is too late: saves the search under each cap.
    if horizon <= now or job.rates[-1] * (horizon - now) < left:
        return None
    runs = timeline.runs(horizon, job.level_table(timeline.max_exponent))
    lengths = [0.0] * (len(job.rates) + 1)
    for start, end, level in runs:
        lengths[level] += end - start
    # The smallest cap that suffices is the minimum satisfactory share (ElasticFlow, section 4):
    # curves flatten, so fewer GPUs mean fewer GPU-seconds.
    for cap in range(len(job.rates)):
        steps = left + max(spare, ROUNDING) * job.rates[cap]
        # An upper bound in a few products: most caps that are too small never reach the walk.
        if _free_work(job, lengths, cap) < steps:
            continue
        row = under_cap(job, runs, cap, steps, settings)
        if row is None:
            continue
        if cap > 0 and deadline < math.inf:
            # A late switch leaves no time at all, so the next event would find the row late by a
            # rounding, or by the first slow step.
            slack = LATE_SLACK * (horizon - now) * job.rates[cap]
            low = [top if top < cap - 1 else cap - 1 for _, _, top in runs]
            high = [top if top < cap else cap for _, _, top in runs]
            late = switch_late(job, runs, low, high, steps + slack, settings)
            # With pauses to pay the switch may take more than the cap throughout.
            if late is not None and gpu_seconds(late) < gpu_seconds(row):
                return late
        return row
    return None


def soonest(job: Job, timeline: Timeline, *, left: float, settings: SchedulerSettings) -> float:
    """Return the earliest finish, in seconds, that any cap reaches; infinite if none does.

    Args:
        job: The job as it is at the timeline's start.
        timeline: What is free.
        left: Steps to do, margin included.
        settings: For the costs.
    """
    if not job.rates:
        return math.inf
    horizon = timeline.last_border + _longest(job, left, settings)
    runs = timeline.runs(horizon, job.level_table(timeline.max_exponent))
    rows = [under_cap(job, runs, cap, left, settings) for cap in range(len(job.rates))]
    return min((row[-1].end for row in rows if row), default=math.inf)


def _free_work(job: Job, lengths: list[float], cap: int) -> float:
    """Return the steps that could be done under a cap if changes were free."""
    done = 0.0
    for level, rate in enumerate(job.rates):
        done += lengths[level] * (rate if level < cap else job.rates[cap])
    return done


def under_cap(
    job: Job, runs: list[Run], cap: int, need: float, settings: SchedulerSettings
) -> Row | None:
    """Return a row under a cap that does the work within the runs, cut at its finish, or None.

    Following what is free as it comes is tried first; where its changes cost too much, the best
    path is sought.

    Args:
        job: The job as it is at the start of the first run.
        runs: What is free.
        cap: The highest level to hold.
        need: Steps to do, with all reserves.
        settings: For the costs.
    """
    now, horizon = runs[0][0], runs[-1][1]
    below = capped(runs, cap)
    row = row_of(job, below, [level for _, _, level in below])
    finish = walk_counts(job, row, left=need, now=now, settings=settings)
    if finish <= horizon + SAME_INSTANT:
        # One stay, or changes that are free: no path does better.
        if len(row) == 1 or not settings.rescale_cost:
            return until(row, finish)
    elif not settings.rescale_cost:
        return None
    path = BestPath(
        job,
        below,
        held=held_level(job),
        pause=max(job.ready_at - now, 0.0),
        settings=settings,
    )
    last = path.first_enough(need)
    if last >= 0:
        best = row_of(job, below, path.levels(last))
        best_finish = walk_counts(job, best, left=need, now=now, settings=settings)
        if best_finish <= horizon + SAME_INSTANT and best_finish < finish + SAME_INSTANT:
            return until(best, best_finish)
    return until(row, finish) if finish <= horizon + SAME_INSTANT else None


def _longest(job: Job, left: float, settings: SchedulerSettings) -> float:
    """Return the longest that the work can take once all is free."""
    # At the lowest rate, twice, and a pause for each change that a late switch or a cap can bring.
    return 2.0 * left / job.rates[0] + 4.0 * (settings.rescale_cost + settings.cost_of_start) + 1.0
