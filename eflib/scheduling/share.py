"""Minimum satisfactory share: the least a job must hold, and when, to be done by its deadline.

Works on counts alone; placement comes after. The job takes what earlier deadlines leave free, under
the smallest cap that suffices; then the next smaller cap first and the cap only as late as needed,
which uses fewer GPU-seconds (see docs/architecture.md and Gu et al., ASPLOS '23, section 4).
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from functools import cache

from eflib.scheduling.jobs import Job
from eflib.scheduling.plan import SAME_INSTANT, Row, Segment, gpu_seconds
from eflib.scheduling.prices import Prices, hull
from eflib.scheduling.settings import SchedulerSettings
from eflib.scheduling.timeline import Timeline

Run = tuple[float, float, int]
_NEVER = -math.inf

ROUNDING = 1e-5
"""Seconds that each row provides on top: borders that are one instant may differ by a little."""

LATE_SLACK = 5e-3
"""Share of the time to the deadline by which a late switch comes early.

Rows without any slack cannot be filled again from a state that differs by a rounding.
"""

PRICED_SLACK = 2e-4
"""The same where prices say when: those rows are found again at other prices."""


class _Path:
    """The most work that can be done over runs of free levels, one number per level held.

    Each level is either kept from the run before, or come to from the best of all levels at the
    price of a pause. With runs of free GPUs as steps this is exact for changes at run borders.
    """

    __slots__ = ("_came", "best", "values")

    def __init__(
        self, job: Job, runs: list[Run], *, held: int, pause: float, settings: SchedulerSettings
    ) -> None:
        rates = job.rates
        cost = settings.rescale_cost
        count = len(rates)
        values = [_NEVER] * count
        nothing = 0.0
        if held >= 0:
            values[held] = -rates[held] * pause
            nothing = _NEVER
        self._came: list[list[int]] = []
        self.values: list[list[float]] = []
        self.best: list[float] = []
        for number, (start, end, top) in enumerate(runs):
            length = end - start
            source, most = -1, nothing
            for level in range(count):
                if values[level] > most:
                    source, most = level, values[level]
            if number == 0 and held >= 0:
                source, most = held, 0.0
            fee = settings.cost_of_start if source < 0 else cost
            came, after = [-2] * count, [_NEVER] * count
            for level in range(top + 1):
                stay, come = values[level], most - rates[level] * fee
                if stay >= come:
                    came[level] = level
                    after[level] = stay + rates[level] * length
                else:
                    came[level] = source
                    after[level] = come + rates[level] * length
            nothing = max(most, nothing)
            came.append(source)
            values = after
            self._came.append(came)
            self.values.append(after)
            self.best.append(max(nothing, *after))

    def first_enough(self, need: float) -> int:
        """Return the first run at whose end the work is done, or -1."""
        for number, done in enumerate(self.best):
            if done >= need:
                return number
        return -1

    def levels(self, last: int) -> list[int]:
        """Return the level held in each run up to ``last`` on the best path that ends there."""
        values = self.values[last]
        level = max(range(len(values)), key=values.__getitem__)
        if values[level] < self.best[last]:
            level = -1
        found = [level]
        for number in range(last, 0, -1):
            came = self._came[number]
            level = came[-1] if level < 0 else came[level]
            found.append(level)
        found.reverse()
        return found


def _held_level(job: Job) -> int:
    """Return the level of what the job holds, or -1 if that is no usable count."""
    count = job.mask.bit_count()
    exponent = count.bit_length() - 1
    if count and count & (count - 1) == 0 and exponent in job.exponents:
        return job.exponents.index(exponent)
    return -1


def _capped(runs: list[Run], cap: int) -> list[Run]:
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


def _row(job: Job, runs: list[Run], levels: list[int]) -> Row:
    """Return the counts held over the runs, equal neighbours joined."""
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
    """Follow a row that is not placed yet: a change of the count is a change of the GPUs."""
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


def fill(
    job: Job,
    timeline: Timeline,
    *,
    left: float,
    deadline: float,
    settings: SchedulerSettings,
    spare: float = 0.0,
) -> Row | None:
    """Return the least row, in counts, that does the work by the deadline; None if there is none.

    Args:
        job: The job as it is at the timeline's start.
        timeline: What is free.
        left: Steps to do, margin included.
        deadline: Scheduler time in seconds to be done by; may be infinite.
        settings: For the costs.
        spare: Seconds at the row's largest count to provide on top, for moves that others force.
    """
    now = timeline.start
    if not job.rates:
        return None
    longest = _longest(job, left, settings) + 2.0 * spare
    horizon = min(deadline, timeline.last_border + longest)
    if horizon <= now or job.rates[-1] * (horizon - now) < left:
        return None
    runs = timeline.runs(horizon, job.level_table(timeline.max_exponent))
    lengths = [0.0] * (len(job.rates) + 1)
    for start, end, level in runs:
        lengths[level] += end - start
    for cap in range(len(job.rates)):
        need = left + max(spare, ROUNDING) * job.rates[cap]
        if _free_work(job, lengths, cap) < need:
            continue
        row = _under_cap(job, runs, cap, need, settings)
        if row is None:
            continue
        if cap > 0 and deadline < math.inf:
            slack = LATE_SLACK * (horizon - now) * job.rates[cap]
            low = [top if top < cap - 1 else cap - 1 for _, _, top in runs]
            high = [top if top < cap else cap for _, _, top in runs]
            late = _switch_late(job, runs, low, high, need + slack, settings)
            if late is not None and gpu_seconds(late) < gpu_seconds(row):
                return late
        return row
    return None


def fill_priced(  # noqa: PLR0913 - as ``fill``, and the prices
    job: Job,
    timeline: Timeline,
    prices: Prices,
    *,
    left: float,
    deadline: float,
    settings: SchedulerSettings,
    spare: float = 0.0,
) -> Row | None:
    """Return the cheapest row, in counts, that does the work by the deadline; None if none does.

    In each stretch the job holds the level whose last GPUs are worth their price; what they may
    cost at most is the least that suffices, the same in all stretches.

    Args:
        job: The job as it is at the timeline's start.
        timeline: What is free.
        prices: Of a GPU-second.
        left: Steps to do, margin included.
        deadline: Scheduler time in seconds to be done by; finite.
        settings: For the costs.
        spare: Seconds at the largest count to provide on top, for moves that others force.
    """
    now = timeline.start
    if not job.rates or deadline <= now or job.rates[-1] * (deadline - now) < left:
        return None
    runs = _split(timeline.runs(deadline, job.level_table(timeline.max_exponent)), prices.borders)
    paid = [prices.at(start) for start, _, _ in runs]
    steps = hull(job)
    worths = sorted({price * cost for price in set(paid) for _, cost in steps})

    def levels(place: int) -> list[int]:
        worth = worths[place] if place >= 0 else 0.0
        caps = {
            price: max((level for level, cost in steps if price * cost <= worth), default=-1)
            for price in set(paid)
        }
        return [min(top, caps[price]) for (_, _, top), price in zip(runs, paid, strict=True)]

    @cache  # the search asks for the one that it finds
    def row_at(place: int) -> Row | None:
        high = levels(place)
        need = left + max(spare, ROUNDING) * job.rates[max(*high, 0)]
        capped = [(start, end, level) for (start, end, _), level in zip(runs, high, strict=True)]
        return _under_cap(job, capped, len(job.rates) - 1, need, settings)

    place = bisect_left(range(len(worths)), 1, key=lambda one: int(row_at(one) is not None))
    row = row_at(place) if place < len(worths) else None
    if row is None:
        return None
    high = levels(place)
    slack = max(spare, ROUNDING) + PRICED_SLACK * (deadline - now)
    need = left + slack * job.rates[max(*high, 0)]
    return _switch_late(job, runs, levels(place - 1), high, need, settings) or row


def _split(runs: list[Run], borders: Sequence[float]) -> list[Run]:
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


def soonest(job: Job, timeline: Timeline, *, left: float, settings: SchedulerSettings) -> float:
    """Return the earliest finish, in seconds, that any cap reaches; infinite if none does."""
    if not job.rates:
        return math.inf
    horizon = timeline.last_border + _longest(job, left, settings)
    runs = timeline.runs(horizon, job.level_table(timeline.max_exponent))
    rows = [_under_cap(job, runs, cap, left, settings) for cap in range(len(job.rates))]
    return min((row[-1].end for row in rows if row), default=math.inf)


def _free_work(job: Job, lengths: list[float], cap: int) -> float:
    """Return the steps that could be done under a cap if changes were free."""
    done = 0.0
    for level, rate in enumerate(job.rates):
        done += lengths[level] * (rate if level < cap else job.rates[cap])
    return done


def _under_cap(
    job: Job, runs: list[Run], cap: int, need: float, settings: SchedulerSettings
) -> Row | None:
    """Return a row under a cap that does the work within the runs, cut at its finish, or None.

    Following what is free as it comes is tried first; where its changes cost too much, the best
    path is sought.
    """
    now, horizon = runs[0][0], runs[-1][1]
    capped = _capped(runs, cap)
    row = _row(job, capped, [level for _, _, level in capped])
    finish = walk_counts(job, row, left=need, now=now, settings=settings)
    if finish <= horizon + SAME_INSTANT:
        if len(row) == 1 or not settings.rescale_cost:
            return _until(row, finish)
    elif not settings.rescale_cost:
        return None
    path = _Path(
        job,
        capped,
        held=_held_level(job),
        pause=max(job.ready_at - now, 0.0),
        settings=settings,
    )
    last = path.first_enough(need)
    if last >= 0:
        best = _row(job, capped, path.levels(last))
        best_finish = walk_counts(job, best, left=need, now=now, settings=settings)
        if best_finish <= horizon + SAME_INSTANT and best_finish < finish + SAME_INSTANT:
            return _until(best, best_finish)
    return _until(row, finish) if finish <= horizon + SAME_INSTANT else None


def _longest(job: Job, left: float, settings: SchedulerSettings) -> float:
    """Return the longest that the work can take once all is free."""
    return 2.0 * left / job.rates[0] + 4.0 * (settings.rescale_cost + settings.cost_of_start) + 1.0


def _until(row: Row, finish: float) -> Row:
    """Return the row up to its finish."""
    if row and row[-1].start < finish:
        row[-1] = row[-1]._replace(end=finish)
        return row
    cut = [s for s in row if s.start < finish]
    if cut:
        cut[-1] = cut[-1]._replace(end=min(cut[-1].end, finish))
    return cut


def _switch_late(
    job: Job,
    runs: list[Run],
    low: list[int],
    high: list[int],
    need: float,
    settings: SchedulerSettings,
) -> Row | None:
    """Hold the lower levels first, and the higher ones only from as late as is in time.

    One pass forward gives the work done on the lower levels before each border, one pass backward
    the work that the higher ones do from there on; the latest border at which both suffice is
    taken, and the switch put into the run before it as late as the rates allow.
    """
    rates, cost = job.rates, settings.rescale_cost
    before, held_before = _work_before(job, runs, low, settings)
    after = 0.0
    for number in range(len(runs) - 1, -1, -1):
        start, end, _ = runs[number]
        level = high[number]
        if level >= 0:
            if number + 1 < len(runs):
                follows = high[number + 1]
                if follows not in (level, -1):
                    after -= cost * rates[follows]
            after += rates[level] * (end - start)
        elif number + 1 < len(runs) and (follows := high[number + 1]) >= 0:
            after -= cost * rates[follows]
        fee = cost * rates[level] if level >= 0 and held_before[number] != level else 0.0
        if before[number] + after - fee < need:
            continue
        at = start
        small = low[number]
        if small < level and level >= 0:
            slow = rates[small] if small >= 0 else 0.0
            entry = cost * slow if small != held_before[number] else 0.0
            room = before[number] - entry + after - cost * rates[level] - need
            if room > 0:
                at = min(start + room / (rates[level] - slow), end)
        return _walked(job, runs, (low, high), at, need, settings)
    return None


def _work_before(
    job: Job, runs: list[Run], levels: list[int], settings: SchedulerSettings
) -> tuple[list[float], list[int]]:
    """Return, at the start of each run, the work done on the levels and the one held until then."""
    rates = job.rates
    held = _held_level(job)
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
    row = _row(job, pieces, [level for _, _, level in pieces])
    finish = walk_counts(job, row, left=need, now=now, settings=settings)
    return _until(row, finish) if finish <= horizon + SAME_INSTANT else None
