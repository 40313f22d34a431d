"""Minimum satisfactory share: the least a job must hold, and when, to be done by its deadline.

Works on counts alone; placement comes after. The job takes what earlier deadlines leave free, under
the smallest cap that suffices; then the next smaller cap first and the cap only as late as needed,
which uses fewer GPU-seconds (see docs/architecture.md and Gu et al., ASPLOS '23, section 4).
"""

from __future__ import annotations

import math

from eflib.scheduling.jobs import Job
from eflib.scheduling.plan import SAME_INSTANT, Row, Segment
from eflib.scheduling.settings import SchedulerSettings
from eflib.scheduling.timeline import Timeline

Run = tuple[float, float, int]
_NEVER = -math.inf


class _Path:
    """The most work that can be done over runs of free levels, one number per level held.

    Each level is either kept from the run before, or come to from the best of all levels at the
    price of a pause. With runs of free GPUs as steps this is exact for changes at run borders.
    """

    __slots__ = ("_came", "_costs", "_rates", "_runs", "best", "values")

    def __init__(
        self, job: Job, runs: list[Run], *, held: int, pause: float, settings: SchedulerSettings
    ) -> None:
        rates = job.rates
        self._rates, self._runs = rates, runs
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
            self.best.append(max(max(after), nothing))

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


def most_work(job: Job, timeline: Timeline, deadline: float) -> float:
    """Return the steps that could be done by the deadline if changes were free."""
    table = job.level_table(timeline.max_exponent, len(job.rates))
    return sum(
        job.rates[level] * (end - start)
        for start, end, level in timeline.runs(deadline, table)
        if level >= 0
    )


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
    now = timeline.times[0]
    work = left
    horizon = min(deadline, timeline.times[-1] + _latest(job, left, settings))
    if horizon <= now or most_work(job, timeline, horizon) < left:
        return None
    held = _held_level(job)
    pause = max(job.ready_at - now, 0.0)
    for cap in range(len(job.rates)):
        left = work + spare * job.rates[cap]
        if job.rates[cap] * (horizon - now) < left:
            continue
        runs = timeline.runs(horizon, job.level_table(timeline.max_exponent, cap))
        path = _Path(job, runs, held=held, pause=pause, settings=settings)
        last = path.first_enough(left)
        if last < 0:
            continue
        row = _row(job, runs, path.levels(last))
        finish = walk_counts(job, row, left=left, now=now, settings=settings)
        if finish > deadline + SAME_INSTANT:
            continue
        late = None
        if cap > 0 and deadline < math.inf:
            late = _switch_late(job, timeline, (row, finish), cap, left, deadline, settings)
        return late or _until(row, finish)
    return None


def _latest(job: Job, left: float, settings: SchedulerSettings) -> float:
    """Return the longest that the work can take once all is free."""
    return 2.0 * left / job.rates[0] + 4.0 * (settings.rescale_cost + settings.cost_of_start) + 1.0


def _until(row: Row, finish: float) -> Row:
    """Return the row up to its finish."""
    cut = [s if s.end <= finish else s._replace(end=finish) for s in row if s.start < finish]
    if cut and cut[-1].end < finish:
        cut[-1] = cut[-1]._replace(end=finish)
    return cut


def _switch_late(
    job: Job,
    timeline: Timeline,
    enough: tuple[Row, float],
    cap: int,
    left: float,
    deadline: float,
    settings: SchedulerSettings,
) -> Row | None:
    """Hold the next smaller cap first, and the cap only from as late as is in time.

    The switch is found by halving: the later it is, the later the finish (nearly: what is found is
    walked before it is used).
    """
    now = timeline.times[0]
    lower = timeline.runs(deadline, job.level_table(timeline.max_exponent, cap - 1))
    upper = timeline.runs(deadline, job.level_table(timeline.max_exponent, cap))
    best: Row | None = None
    low, high = now, deadline
    for _ in range(24):
        at = (low + high) / 2
        row = _joined(job, lower, upper, at)
        finish = walk_counts(job, row, left=left, now=now, settings=settings)
        if finish <= deadline + SAME_INSTANT:
            best, low = _until(row, finish), at
        else:
            high = at
        if high - low < 1e-3 * (deadline - now):
            break
    if best is None or _gpu_seconds(best) >= _gpu_seconds(_until(*enough)):
        return None
    return best


def _joined(job: Job, lower: list[Run], upper: list[Run], at: float) -> Row:
    """Return the lower runs before ``at`` and the upper from there on, as one row."""
    runs = [(s, min(e, at), v) for s, e, v in lower if s < at]
    runs += [(max(s, at), e, v) for s, e, v in upper if e > at]
    return _row(job, runs, [level for _, _, level in runs])


def _gpu_seconds(row: Row) -> float:
    return sum((segment.end - segment.start) * segment.size for segment in row)
