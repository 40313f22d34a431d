"""Rows of counts over runs of free GPUs, before anything is placed."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from typing import NamedTuple

from eflib.scheduling.jobs import Job
from eflib.scheduling.plan import SAME_INSTANT, Row, Segment
from eflib.scheduling.settings import SchedulerSettings

Run = tuple[float, float, int]
"""``(start, end, level)``: the highest usable level that is free all the time between; -1: none."""


class Need(NamedTuple):
    """What a row of counts has to do.

    Attributes:
        left: Steps to do, margin included.
        deadline: Scheduler time in seconds to be done by; may be infinite.
        spare: Seconds at the row's largest count to provide on top, for moves that others force.
    """

    left: float
    deadline: float
    spare: float = 0.0


ROUNDING = 1e-5
"""Seconds that each row provides on top: borders that are one instant may differ by a little."""


def held_level(job: Job) -> int:
    """Return the level of what the job holds, or -1 if that is no usable count."""
    count = job.mask.bit_count()
    exponent = count.bit_length() - 1
    # A pinned job or one that lost a node may hold any count; the plan goes on from a usable one or
    # starts anew.
    if count and count & (count - 1) == 0 and exponent in job.exponents:
        return job.exponents.index(exponent)
    return -1


def capped(runs: list[Run], cap: int) -> list[Run]:
    """Return the runs with levels of at most ``cap``, equal neighbours joined."""
    found: list[Run] = []
    begin, before, last = 0.0, -2, 0.0
    for start, end, top in runs:
        level = top if top < cap else cap
        if level != before:
            if before != -2:
                found.append((begin, last, before))
            begin, before = start, level
        last = end
    found.append((begin, last, before))
    return found


def row_of(job: Job, runs: list[Run], levels: list[int]) -> Row:
    """Return the counts held over the runs, equal neighbours joined.

    Args:
        job: Whose levels they are.
        runs: What is free.
        levels: Level held in each run; -1 for none.
    """
    row: Row = []
    for (start, end, _), level in zip(runs, levels, strict=False):
        if level < 0:
            continue
        count = 1 << job.exponents[level]
        if row and row[-1].size == count and start - row[-1].end <= SAME_INSTANT:
            row[-1] = Segment(row[-1].start, end, 0, count)
        else:
            row.append(Segment(start, end, 0, count))
    return row


def walk_counts(
    job: Job, row: Row, *, left: float, now: float, settings: SchedulerSettings
) -> float:
    """Follow a row that is not placed yet: a change of the count is a change of the GPUs.

    Args:
        job: The job as it is at ``now``.
        row: Counts; the positions in it do not matter.
        left: Steps to do.
        now: Scheduler time in seconds.
        settings: For the costs.

    Returns:
        Scheduler time in seconds at which the work is done; infinite if the row is too short.
    """
    held, ready, last_end = job.mask.bit_count(), job.ready_at, now
    for start, end, _, count in row:
        if start > last_end + SAME_INSTANT:
            held = 0
        begin = start
        if count != held:
            ready = begin + (settings.rescale_cost if held else settings.cost_of_start)
            held = count
        last_end = end
        begin = max(begin, ready)
        if end > begin:
            rate = job.rate(count)
            gain = rate * (end - begin)
            if gain >= left - SAME_INSTANT * rate:
                return begin + left / rate
            left -= gain
    return math.inf


def split(runs: list[Run], borders: Sequence[float]) -> list[Run]:
    """Return the runs, cut at borders."""
    found: list[Run] = []
    for start, end, level in runs:
        begin = start
        first = bisect_right(borders, start + SAME_INSTANT)
        for border in borders[first : bisect_left(borders, end - SAME_INSTANT)]:
            found.append((begin, border, level))
            begin = border
        found.append((begin, end, level))
    return found


def until(row: Row, finish: float) -> Row:
    """Return the row up to its finish."""
    if row and row[-1].start < finish:
        row[-1] = row[-1]._replace(end=finish)
        return row
    cut = [s for s in row if s.start < finish]
    if cut:
        cut[-1] = cut[-1]._replace(end=min(cut[-1].end, finish))
    return cut
