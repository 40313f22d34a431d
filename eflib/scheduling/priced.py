"""The minimum satisfactory share where prices say what a GPU is worth when; see ``prices``."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from functools import cache

from eflib.scheduling.counts import ROUNDING, Need, Run, split
from eflib.scheduling.jobs import Job
from eflib.scheduling.late_switch import switch_late
from eflib.scheduling.plan import Row
from eflib.scheduling.prices import Prices, hull
from eflib.scheduling.settings import SchedulerSettings
from eflib.scheduling.share import under_cap
from eflib.scheduling.timeline import Timeline

PRICED_SLACK = 2e-4
"""Share of the time to the deadline by which a late switch comes early, where prices say when.

Less than ``share.LATE_SLACK``: such rows are found again at other prices.
"""


def fill_priced(
    job: Job, timeline: Timeline, need: Need, settings: SchedulerSettings, prices: Prices
) -> Row | None:
    """Return the cheapest row, in counts, that does the work by the deadline; None if none does.

    In each stretch the job holds the level whose last GPUs are worth their price; what they may
    cost at most is the least that suffices, the same in all stretches.

    Args:
        job: The job as it is at the timeline's start.
        timeline: What is free.
        need: The work and its deadline, which is finite.
        settings: For the costs.
        prices: Of a GPU-second.
    """
    left, deadline, spare = need
    now = timeline.start
    if not job.rates or deadline <= now or job.rates[-1] * (deadline - now) < left:
        return None
    runs = split(timeline.runs(deadline, job.level_table(timeline.max_exponent)), prices.borders)
    paid = [prices.at(start) for start, _, _ in runs]
    offers = hull(job)
    # Only at these worths does a level come in somewhere; the last one suffices for all of them.
    worths = sorted({price * cost for price in set(paid) for _, cost in offers})

    @cache  # the search asks again for the one that it finds
    def row_at(index: int) -> Row | None:
        levels = levels_worth(worths[index], runs, paid, offers)
        steps = left + max(spare, ROUNDING) * job.rates[max(*levels, 0)]
        capped = [(start, end, level) for (start, end, _), level in zip(runs, levels, strict=True)]
        return under_cap(job, capped, len(job.rates) - 1, steps, settings)

    # The more a job may pay, the more it can do: so the least worth is found by halving.
    index = bisect_left(range(len(worths)), 1, key=lambda tried: int(row_at(tried) is not None))
    row = row_at(index) if index < len(worths) else None
    if row is None:
        return None
    # The next smaller worth does too little and this one too much: hold that first, this one late.
    high = levels_worth(worths[index], runs, paid, offers)
    low = levels_worth(worths[index - 1] if index else 0.0, runs, paid, offers)
    slack = max(spare, ROUNDING) + PRICED_SLACK * (deadline - now)
    steps = left + slack * job.rates[max(*high, 0)]
    return switch_late(job, runs, low, high, steps, settings) or row


def levels_worth(
    worth: float,
    runs: Sequence[Run],
    paid: Sequence[float],
    steps: Sequence[tuple[int, float]],
) -> list[int]:
    """Return, per run, the highest free level whose last GPUs cost no more than they are worth.

    Args:
        worth: The most to pay for one more step per second.
        runs: What is free.
        paid: Price of a GPU in each run.
        steps: Levels worth holding, and the GPUs per step/s that each costs on top of the last.

    Returns:
        Levels; -1 for none.

    Examples:
        One GPU costs 0.1 GPUs per step/s, the second 0.125. Where a GPU is twice as dear the job
        holds none, and where others leave one it holds one:

        >>> runs = [(0.0, 10.0, 1), (10.0, 20.0, 1), (20.0, 30.0, 0)]
        >>> levels_worth(0.15, runs, [2.0, 1.0, 1.0], [(0, 0.1), (1, 0.125)])
        [-1, 1, 0]
    """
    caps = {
        price: max((level for level, cost in steps if price * cost <= worth), default=-1)
        for price in set(paid)
    }
    return [min(top, caps[price]) for (_, _, top), price in zip(runs, paid, strict=True)]
