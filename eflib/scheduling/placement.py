"""Which GPUs: rows of counts become rows of blocks, in one dry run over the future.

A job whose count stays the same keeps its block. A job that shrinks now keeps a part of its block,
and a new job gets GPUs that nobody uses, if there are enough. All other jobs whose count changes
give up their blocks and are placed again, the largest first: in or around the old block, else in
the smallest free block that is large enough, else on the aligned block that is cheapest to clear.
The jobs that are evicted there are smaller than the one that evicts them, so this comes to an end.
With moves, any counts fit for which ``capacity_by_exponent`` has room.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from eflib.scheduling.buddy import best_fit, block, is_block
from eflib.scheduling.jobs import Job
from eflib.scheduling.plan import SAME_INSTANT, Row, Segment

# At 1 it would be as good as off: 166, 180 deadlines met instead of 167, 181 on 195job with 64 and
# 128 GPUs at a rescale cost of 30 s.
TIGHT_WEIGHT = 1000.0
"""How much dearer it is to move a job that has no time for it than one that has."""


@dataclass(slots=True)
class PlacedJob:
    """One job in the dry run: where it is, and what it has got so far."""

    job: Job
    row: Row
    mask: int
    low: bool
    moves_left: float
    placed: Row
    since: float = 0.0
    count: int = 0


class Availability:
    """What is available when, as ``(start, positions)`` ascending."""

    __slots__ = ("_masks", "_starts")

    def __init__(self, periods: Sequence[tuple[float, int]]) -> None:
        self._starts = [start for start, _ in periods]
        self._masks = [mask for _, mask in periods]

    @property
    def starts(self) -> list[float]:
        """Times at which availability changes."""
        return self._starts

    def at(self, time: float) -> int:
        """Return the available positions at a time."""
        return self._masks[max(bisect_right(self._starts, time + SAME_INSTANT) - 1, 0)]


def place(
    rows: Sequence[tuple[Job, Row, float]],
    periods: Sequence[tuple[float, int]],
    now: float,
    avoid: int = 0,
) -> dict[str, Row] | None:
    """Place rows of counts; None if some count fits nowhere even with moves.

    Args:
        rows: Job, its row in counts, and how many moves by others it has time for.
        periods: What is available when.
        now: Scheduler time in seconds.
        avoid: Positions that somebody uses now: a newcomer takes others if it can.
    """
    availability = Availability(periods)
    ends = sorted(row[-1].end for _, row, _ in rows if row)
    middle = ends[len(ends) // 2] if ends else math.inf
    placings: list[PlacedJob] = []
    changes: dict[float, list[tuple[PlacedJob, int]]] = {
        start: [] for start in availability.starts[1:]
    }
    for job, row, moves in rows:
        placing = PlacedJob(
            job=job,
            row=row,
            mask=job.mask,
            # Late ends to the low positions, early ends to the high ones: blocks that become free
            # together lie together. First fit moved each job of cluster01 5.4 times, best fit with
            # its own block first 0.13 times.
            low=not row or row[-1].end >= middle,
            moves_left=moves,
            placed=[],
            since=now,
        )
        placings.append(placing)
        # The present is a border for everybody: whoever holds GPUs has to be placed, changed or
        # not.
        changes.setdefault(now, []).append((placing, _count_at(row, now)))
        for time, count in _changes(row, now):
            changes.setdefault(time, []).append((placing, count))
    return _sweep(placings, changes, availability, avoid)


class _Layout:
    """Who is where at one time of the dry run."""

    __slots__ = ("held", "used")

    def __init__(self) -> None:
        self.held: dict[str, PlacedJob] = {}
        self.used = 0

    def enter(self, placing: PlacedJob, mask: int, count: int, time: float) -> None:
        """Give a job a block.

        Args:
            placing: The job.
            mask: The block's positions.
            count: How many GPUs it asks for.
            time: From when on, in seconds.
        """
        placing.mask, placing.since, placing.count = mask, time, count
        self.held[placing.job.job_id] = placing
        self.used |= mask

    def leave(self, placing: PlacedJob, time: float) -> None:
        """Take a job's block from it, and note how long it held it."""
        del self.held[placing.job.job_id]
        self.used &= ~placing.mask
        _close(placing, time)


def _sweep(
    placings: list[PlacedJob],
    changes: dict[float, list[tuple[PlacedJob, int]]],
    availability: Availability,
    avoid: int,
) -> dict[str, Row] | None:
    """Go through the borders in order of time, placing what changes."""
    layout = _Layout()
    times = sorted(changes)
    at = 0
    while at < len(times):
        time = times[at]
        batch = list(changes[time])
        at += 1
        while at < len(times) and times[at] - time <= SAME_INSTANT:
            batch.extend(changes[times[at]])
            at += 1
        available = availability.at(time)
        # Of two changes of one job at one instant the last one holds.
        latest = {placing.job.job_id: (placing, count) for placing, count in batch}
        to_place = _release(latest.values(), layout, available, time)
        # At the present jobs run where they are, and a move stops them at once: so who shrinks and
        # who comes is seated first. In later columns only the dry run holds anything.
        if time == times[0]:
            to_place = _settle_shrinking(to_place, layout, available, time)
            to_place = _settle_new(to_place, layout, available & ~avoid, time)
        if not _place_all(to_place, layout, available, time):
            return None
    for placing in layout.held.values():
        _close(placing, math.inf)
    return {placing.job.job_id: placing.placed for placing in placings}


def _release(
    changed: Iterable[tuple[PlacedJob, int]], layout: _Layout, available: int, time: float
) -> list[tuple[PlacedJob, int]]:
    """Let go of what changes, keep what need not; return who is to be placed, and how large."""
    to_place: list[tuple[PlacedJob, int]] = []
    for placing, count in changed:
        is_in = placing.job.job_id in layout.held
        mask = placing.mask
        # Repacking everything at each event kept only 413 of 1,570 promises makeable on cluster01:
        # who need not move does not.
        stays = count == mask.bit_count() and is_block(mask) and not mask & ~available
        if stays and (is_in or not mask & layout.used):
            if not is_in:
                layout.enter(placing, mask, count, time)
            continue
        if is_in:
            layout.leave(placing, time)
        if count:
            to_place.append((placing, count))
        else:
            placing.mask = 0
    return to_place


def _settle_shrinking(
    to_place: list[tuple[PlacedJob, int]], layout: _Layout, available: int, time: float
) -> list[tuple[PlacedJob, int]]:
    """Place who needs no more than it holds inside its own block; return the others."""
    others: list[tuple[PlacedJob, int]] = []
    for placing, count in to_place:
        exponent = count.bit_length() - 1
        mask = best_fit(placing.mask & available & ~layout.used, exponent, low=True)
        if mask:
            layout.enter(placing, mask, count, time)
        else:
            others.append((placing, count))
    return others


def _settle_new(
    to_place: list[tuple[PlacedJob, int]], layout: _Layout, idle: int, time: float
) -> list[tuple[PlacedJob, int]]:
    """Place who holds nothing yet where nobody is; return the others."""
    others: list[tuple[PlacedJob, int]] = []
    for placing, count in sorted(to_place, key=_largest_first):
        exponent = count.bit_length() - 1
        mask = 0 if placing.mask else best_fit(idle & ~layout.used, exponent, low=placing.low)
        if mask:
            layout.enter(placing, mask, count, time)
        else:
            others.append((placing, count))
    return others


def _place_all(
    to_place: list[tuple[PlacedJob, int]], layout: _Layout, available: int, time: float
) -> bool:
    """Place in falling size; what is evicted joins the queue."""
    to_place.sort(key=_largest_first)
    while to_place:
        placing, count = to_place.pop(0)
        exponent = count.bit_length() - 1
        free = available & ~layout.used
        # Around or inside its old block first: the workers there stay, and only the others have to
        # be started.
        mask = _near(placing.mask, exponent, free) or best_fit(free, exponent, low=placing.low)
        if not mask:
            # Counts that fit by number always fit by block if others may move: those are smaller,
            # so this ends.
            mask = cheapest_to_clear(exponent, available, layout.held)
            if not mask:
                return False
            for other in [t for t in layout.held.values() if t.mask & mask]:
                layout.leave(other, time)
                other.moves_left -= 1.0
                to_place.append((other, other.count))
            to_place.sort(key=_largest_first)
        layout.enter(placing, mask, count, time)
    return True


def _largest_first(item: tuple[PlacedJob, int]) -> tuple[float, float, int]:
    """Sort key of those to be placed."""
    placing, count = item
    return (-count, -placing.moves_left, placing.job.order)


def _near(mask: int, exponent: int, free: int) -> int:
    """Return a free block inside or around a job's old block, or 0."""
    if not mask:
        return 0
    lowest = (mask & -mask).bit_length() - 1
    highest = mask.bit_length() - 1
    for position in (lowest, highest):
        start = position >> exponent << exponent
        wanted = block(start, exponent)
        if wanted & ~free == 0:
            return wanted
    return best_fit(free & mask, exponent, low=True)


def cheapest_to_clear(exponent: int, available: int, held: dict[str, PlacedJob]) -> int:
    """Return the aligned block whose jobs cost least to move; 0 if no block can be cleared.

    Args:
        exponent: Log2 of the block's size.
        available: Positions that there are.
        held: Who holds what; only jobs that are smaller than the block can be moved.
    """
    size = 1 << exponent
    width = available.bit_length()
    weights: dict[int, float] = {}
    for placing in held.values():
        # Who holds as much or more cannot be cleared for it: evicting must go from large to small,
        # or it would not end.
        start = ((placing.mask & -placing.mask).bit_length() - 1) >> exponent
        if placing.count >= size:
            for covered in range(start, start + (placing.count >> exponent)):
                weights[covered] = math.inf
        else:
            # A job without time for a move would miss its deadline: it counts as much as a thousand
            # others. Beside that many GPUs moved weigh a little more than few.
            dear = 1.0 if placing.moves_left >= 1.0 else TIGHT_WEIGHT * (2.0 - placing.moves_left)
            weights[start] = weights.get(start, 0.0) + dear * (1.0 + placing.count / size)
    best, found = math.inf, 0
    for number in range(width >> exponent):
        weight = weights.get(number, 0.0)
        if weight < best:
            mask = block(number << exponent, exponent)
            if mask & ~available == 0:
                best, found = weight, mask
    return found


def _close(placing: PlacedJob, time: float) -> None:
    """End a placing's stay on its block."""
    if time > placing.since:
        last = placing.row[-1].end if placing.row else time
        placing.placed.append(
            Segment(placing.since, min(time, last), placing.mask, placing.mask.bit_count())
        )


def _count_at(row: Row, now: float) -> int:
    """Return what a row holds at its beginning."""
    if row and row[0].start <= now + SAME_INSTANT:
        return row[0].size
    return 0


def _changes(row: Row, now: float) -> list[tuple[float, int]]:
    """Return ``(time, count)`` of each change after the present."""
    found: list[tuple[float, int]] = []
    for number, segment in enumerate(row):
        if segment.start > now + SAME_INSTANT:
            found.append((segment.start, segment.size))
        follows = row[number + 1].start if number + 1 < len(row) else math.inf
        if segment.end < math.inf and follows - segment.end > SAME_INSTANT:
            found.append((segment.end, 0))
    return found
