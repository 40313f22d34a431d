"""Rows of the plan: what a job holds from when to when, and the walk that tells where it leads."""

from __future__ import annotations

import math
from typing import NamedTuple

from eflib.scheduling.jobs import Job
from eflib.scheduling.settings import SchedulerSettings

SAME_INSTANT = 1e-7
"""Seconds; two times closer than this are one column border."""

DEADLINE_TOLERANCE = 1e-3
"""Seconds by which a finish may miss a deadline through rounding alone."""


class Segment(NamedTuple):
    """A job holds one set of GPUs for a while.

    Attributes:
        start: Scheduler time in seconds.
        end: Scheduler time in seconds; may be infinite.
        mask: Positions held; 0 in a row that is not placed yet.
        size: How many.
    """

    start: float
    end: float
    mask: int
    size: int


Row = list[Segment]
"""Segments of one job, ascending and disjoint; between them it holds nothing."""


def walk(job: Job, row: Row, *, left: float, now: float, settings: SchedulerSettings) -> float:
    """Follow a row from the job's true state and return when its work is done.

    Each change to another non-empty set of GPUs costs a rescale; a pause that is under way is over
    when it is over if the set stays.

    Args:
        job: The job as it is at ``now``.
        row: What it would hold.
        left: Steps to do.
        now: Scheduler time in seconds.
        settings: For the costs.

    Returns:
        Scheduler time in seconds; infinite if the row does not reach that far.
    """
    held, ready, last_end = job.mask, job.ready_at, now
    for start, end, mask, count in row:
        begin = start if start > now else now
        if end <= begin:
            continue
        # After a gap in its row the job starts from nothing.
        if begin > last_end + SAME_INSTANT:
            held = 0
        if mask != held:
            ready = begin + (settings.rescale_cost if held else settings.cost_of_start)
            held = mask
        last_end = end
        # A pause that is under way goes on; it is charged again only if the set changes.
        begin = max(begin, ready)
        if end > begin:
            rate = job.rate(count)
            gain = rate * (end - begin)
            # Work is compared as time: steps differ in size by orders of magnitude between jobs,
            # seconds do not.
            if gain >= left - SAME_INSTANT * rate:
                return begin + left / rate if rate > 0 else math.inf
            left -= gain
    return math.inf


def trim(row: Row, *, now: float, end: float) -> Row:
    """Return the part of a row from ``now`` on that ends at ``end``, joining equal neighbours.

    Args:
        row: The row.
        now: Scheduler time in seconds.
        end: Scheduler time in seconds; may be infinite.
    """
    kept: Row = []
    for start, until, mask, count in row:
        begin = start if start > now else now
        stop = until if until < end else end
        if stop <= begin or count == 0:
            continue
        if kept and kept[-1].mask == mask and begin - kept[-1].end <= SAME_INSTANT and mask:
            kept[-1] = Segment(kept[-1].start, stop, mask, count)
        else:
            kept.append(Segment(begin, stop, mask, count))
    # A finish a rounding behind the last border (the same as counts.ROUNDING) is no reason for a
    # gap.
    if kept and kept[-1].end < end < kept[-1].end + 1e-5:
        kept[-1] = kept[-1]._replace(end=end)
    return kept


def head_of(row: Row, now: float) -> int:
    """Return the positions that a row holds now."""
    return row[0].mask if row and row[0].start <= now + SAME_INSTANT else 0


def gpu_seconds(row: Row) -> float:
    """Return the GPU time that a row takes, pauses included."""
    return sum((segment.end - segment.start) * segment.size for segment in row)


class Planned(NamedTuple):
    """A row that passed its walk, and where it leads, in seconds."""

    row: Row
    finish: float


Plan = dict[str, Planned]
"""Rows by job_id."""


def work_to_plan(job: Job, settings: SchedulerSettings) -> float:
    """Return the steps a plan must provide for: what is left, and the margin."""
    return max(job.left, 0.0) * (1.0 + settings.safety_margin)
