"""Hold the smaller count first and the larger one only as late as is in time.

A curve flattens: the same work on fewer GPUs takes fewer GPU-seconds. So of all rows that switch
once from lower to higher levels the one that switches latest leaves others most.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from eflib.scheduling.counts import Run, held_level, row_of, until, walk_counts
from eflib.scheduling.jobs import Job
from eflib.scheduling.plan import SAME_INSTANT, Row
from eflib.scheduling.settings import SchedulerSettings


class Candidate(NamedTuple):
    """A run in which the switch may fall.

    Attributes:
        start: Scheduler time in seconds.
        end: Scheduler time in seconds.
        low: Level held before the switch; -1 for none.
        high: Level held after it; -1 for none.
        before: Steps done before the run on the lower levels.
        after: Steps done from the run's start on by the higher levels.
        held: Level held just before the run on the lower levels.
    """

    start: float
    end: float
    low: int
    high: int
    before: float
    after: float
    held: int


def switch_late(
    job: Job,
    runs: list[Run],
    low: list[int],
    high: list[int],
    need: float,
    settings: SchedulerSettings,
) -> Row | None:
    """Return the row that switches from the lower to the higher levels as late as is in time.

    Args:
        job: The job as it is at the start of the first run.
        runs: What is free.
        low: Level to hold in each run before the switch; -1 for none.
        high: Level to hold in each run from the switch on; -1 for none.
        need: Steps to do, with all reserves.
        settings: For the costs.

    Returns:
        Counts over time, or None if even switching at once is too late.
    """
    before, held_before = _work_before(job, runs, low, settings)
    after = work_after(runs, high, job.rates, settings.rescale_cost)
    candidates = [
        Candidate(start, end, *rest)
        for (start, end, _), *rest in zip(runs, low, high, before, after, held_before, strict=True)
    ]
    at = latest_switch(candidates, job.rates, settings.rescale_cost, need)
    return None if at is None else _walked(job, runs, (low, high), at, need, settings)


def work_after(
    runs: Sequence[Run], levels: Sequence[int], rates: Sequence[float], cost: float
) -> list[float]:
    """Return, per run, the steps done on the levels from its start to the end of the last run.

    Args:
        runs: What is free.
        levels: Level held in each; -1 for none.
        rates: Steps per second at each level.
        cost: Seconds lost at each change to another level within the runs.

    Examples:
        10 steps/s on one GPU (level 0), 18 on two (level 1), two runs of 20 s and 30 s:

        >>> runs = [(0.0, 20.0, 1), (20.0, 50.0, 1)]
        >>> work_after(runs, [1, 1], rates=(10.0, 18.0), cost=0.0)
        [900.0, 540.0]
        >>> work_after(runs, [0, 1], rates=(10.0, 18.0), cost=1.0)  # 200 + 540 less 1 s at 18
        [722.0, 540.0]
    """
    done, follows = 0.0, -1
    found: list[float] = []
    for (start, end, _), level in zip(reversed(runs), reversed(levels), strict=True):
        # The entry into a run is charged to the run before it: where the switch falls into that
        # run, ``latest_switch`` charges its own.
        if follows >= 0 and follows != level:
            done -= cost * rates[follows]
        if level >= 0:
            done += rates[level] * (end - start)
        found.append(done)
        follows = level
    found.reverse()
    return found


def latest_switch(
    candidates: Sequence[Candidate], rates: Sequence[float], cost: float, need: float
) -> float | None:
    """Return the latest time to go from the lower to the higher levels, in seconds; None if none.

    Args:
        candidates: The runs, ascending.
        rates: Steps per second at each level.
        cost: Seconds lost by the switch.
        need: Steps to do.

    Examples:
        850 steps in 50 s at 10 steps/s on one GPU and 18 on two. Switching at 20 s makes 200 + 540
        steps, too few; switching at 0 s makes 900, 50 too many. Each second on one GPU costs 8 of
        them, so the second GPU is needed from 50 / 8 s on:

        >>> runs = [Candidate(0.0, 20.0, 0, 1, 0.0, 900.0, 0)]
        >>> runs += [Candidate(20.0, 50.0, 0, 1, 200.0, 540.0, 0)]
        >>> latest_switch(runs, (10.0, 18.0), cost=0.0, need=850.0)
        6.25
        >>> latest_switch(runs, (10.0, 18.0), cost=0.0, need=901.0) is None
        True
    """
    for start, end, low, high, before, after, held in reversed(candidates):
        fee = cost * rates[high] if high >= 0 and held != high else 0.0
        if before + after - fee < need:
            continue
        if not low < high:
            return start
        # Within this run: each second of delay costs the difference of the two rates.
        slow = rates[low] if low >= 0 else 0.0
        entry = cost * slow if low != held else 0.0
        room = before - entry + after - cost * rates[high] - need
        return min(start + room / (rates[high] - slow), end) if room > 0 else start
    return None


def _work_before(
    job: Job, runs: list[Run], levels: list[int], settings: SchedulerSettings
) -> tuple[list[float], list[int]]:
    """Return, at the start of each run, the work done on the levels and the one held until then."""
    rates = job.rates
    held = held_level(job)
    done = -rates[held] * max(job.ready_at - runs[0][0], 0.0) if held >= 0 else 0.0
    work, held_before = [], []
    for number, ((start, end, _), level) in enumerate(zip(runs, levels, strict=True)):
        work.append(done if number else 0.0)
        held_before.append(held)
        if level >= 0:
            if level != held:
                done = max(done, 0.0) if number == 0 else done
                fee = settings.rescale_cost if held >= 0 else settings.cost_of_start
                done -= rates[level] * fee
            done += rates[level] * (end - start)
        elif number == 0:
            done = 0.0
        held = level
    return work, held_before


def _walked(
    job: Job,
    runs: list[Run],
    levels: tuple[list[int], list[int]],
    at: float,
    need: float,
    settings: SchedulerSettings,
) -> Row | None:
    """Return the row that switches levels at a time if its walk ends within the runs, or None."""
    now, horizon = runs[0][0], runs[-1][1]
    pieces: list[Run] = []
    for (start, end, _), low, high in zip(runs, *levels, strict=True):
        if start >= at - 2 * SAME_INSTANT:
            pieces.append((start, end, high))
        elif end <= at + 2 * SAME_INSTANT:
            pieces.append((start, end, low))
        else:
            pieces.append((start, at, low))
            pieces.append((at, end, high))
    row = row_of(job, pieces, [level for _, _, level in pieces])
    finish = walk_counts(job, row, left=need, now=now, settings=settings)
    return until(row, finish) if finish <= horizon + SAME_INSTANT else None
