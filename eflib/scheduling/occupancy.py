"""Which positions are taken when, by the rows of a plan."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from operator import itemgetter

from eflib.scheduling.buddy import best_fit, free_starts
from eflib.scheduling.plan import SAME_INSTANT, Row, Segment
from eflib.scheduling.timeline import Timeline

Periods = Sequence[tuple[float, int]]
"""``(start, available positions)``, ascending, the first at the present."""


_time = itemgetter(0)


class Occupancy:
    """Columns of time with the positions that are free in each.

    Args:
        periods: What is available when.
        rows: Rows that hold some of it.

    Attributes:
        times: Start of each column in seconds; the last has no end.
        free: Positions free in each.
        clash: True if two of the rows hold one position at a time, or one that is not available.
    """

    __slots__ = ("clash", "free", "times")

    def __init__(self, periods: Periods, rows: Iterable[Row]) -> None:
        now = periods[0][0]
        changes: list[tuple[float, int, int]] = [(start, 0, 0) for start, _ in periods]
        for row in rows:
            for start, end, mask, size in row:
                if end > now:
                    changes.append((start if start > now else now, mask, size))
                    if end < math.inf:
                        changes.append((end, mask, -size))
        # One pass over all borders in order of time; XOR puts a block in at its start and takes it
        # out at its end.
        changes.sort(key=_time)
        self.times: list[float] = []
        self.free: list[int] = []
        self.clash = False
        taken, period, held = 0, 0, 0
        at = -math.inf
        available = periods[0][1]
        for time, mask, size in changes:
            if time - at > SAME_INSTANT:
                if self.times:
                    self._close(taken, held, available)
                at = time
                self.times.append(time)
                while period + 1 < len(periods) and periods[period + 1][0] <= time + SAME_INSTANT:
                    period += 1
                available = periods[period][1]
            taken ^= mask
            held += size
        self._close(taken, held, available)

    def _close(self, taken: int, held: int, available: int) -> None:
        """Note what is free in the newest column."""
        self.free.append(available & ~taken)
        # With two rows on one position XOR cancels it, while the sum of sizes does not: the
        # difference shows the clash without a look at pairs of rows.
        if taken.bit_count() != held or taken & ~available:
            self.clash = True

    def split(self, time: float) -> int:
        """Make ``time`` a column border and return the column that starts there."""
        at = bisect_left(self.times, time - SAME_INSTANT)
        if at < len(self.times) and self.times[at] <= time + SAME_INSTANT:
            return at
        if at == 0:
            return 0
        self.times.insert(at, time)
        self.free.insert(at, self.free[at - 1])
        return at

    def flip(self, row: Row) -> None:
        """Take out what a row holds, or give it back if it was taken."""
        for start, end, mask, _ in row:
            if end > self.times[0] + SAME_INSTANT:
                first = self.split(start)
                last = len(self.times) if end == math.inf else self.split(end)
                for column in range(first, last):
                    self.free[column] ^= mask

    def free_until(
        self, mask: int, start: float, own: Row | None = None, limit: float = math.inf
    ) -> float:
        """Return the time from ``start`` up to which all of ``mask`` is free; inf past a limit.

        Args:
            mask: Positions.
            start: Scheduler time in seconds.
            own: A row whose own positions do not count as taken.
            limit: What comes later, in seconds, is not looked at.
        """
        times, free = self.times, self.free
        column = max(bisect_right(times, start + SAME_INSTANT) - 1, 0)
        # Far columns cannot change the answer: the finish that depends on it lies before the limit.
        last = len(times) if limit == math.inf else bisect_left(times, limit)
        # Stretches of the row in turn: within one, its positions do not count as taken.
        for begin, end, held, _ in own or ():
            if end <= times[min(column, last - 1)] + SAME_INSTANT:
                continue
            stop = min(bisect_left(times, begin - SAME_INSTANT, column, last), last)
            for at in range(column, stop):
                if free[at] & mask != mask:
                    return max(times[at], start)
            column = max(column, stop)
            stop = bisect_left(times, end - SAME_INSTANT, column, last) if column < last else last
            outside = mask & ~held
            if outside:
                for at in range(column, stop):
                    if free[at] & outside != outside:
                        return max(times[at], start)
            column = max(column, stop)
        for at in range(column, last):
            if free[at] & mask != mask:
                return max(times[at], start)
        return math.inf

    def swap_head(self, own: Row, mask: int, until: float) -> None:
        """Take ``mask`` from the present to ``until``, giving back what a row held till then.

        Args:
            own: The row, which is taken out so far.
            mask: Positions, all free or the row's own in this time.
            until: Scheduler time in seconds; may be infinite.
        """
        last = len(self.times) if until == math.inf else self.split(until)
        for start, end, held, _ in own:
            if start >= until - SAME_INSTANT:
                break
            first = self.split(start)
            stop = len(self.times) if end == math.inf else self.split(end)
            last = len(self.times) if until == math.inf else self.split(until)
            for column in range(first, min(stop, last)):
                self.free[column] |= held
        # Only the columns up to ``until`` are touched: flipping the whole row out and back in costs
        # as many columns as the plan has, for each spare GPU that is given away.
        rest = ~mask
        self.free[:last] = [free & rest for free in self.free[:last]]

    def free_over(self, start: float, end: float) -> int:
        """Return the positions that are free all the time from ``start`` to ``end``."""
        first = max(bisect_right(self.times, start + SAME_INSTANT) - 1, 0)
        last = bisect_left(self.times, end - SAME_INSTANT, first + 1)
        free = self.free[first]
        for more in self.free[first + 1 : last]:
            free &= more
            if not free:
                break
        return free

    def fits(self, until: float, largest: int) -> list[int]:
        """Return per column log2 of the largest free aligned block, plus one; 0 if none.

        Args:
            until: Columns from this time on are not looked at.
            largest: Log2 of the largest block that matters.
        """
        found = []
        last = bisect_left(self.times, until)
        for free in self.free[: max(last, 1)]:
            # No block can be larger than the number of free positions, and none larger than the job
            # can use matters.
            exponent = min(free.bit_count().bit_length() - 1, largest)
            levels = free_starts(free, max(exponent, 0))
            while exponent >= 0 and not levels[exponent]:
                exponent -= 1
            found.append(exponent + 1)
        return found

    def timeline(self, until: float, largest: int) -> Timeline:
        """Return what is free up to a time for one job alone, moving nobody; see ``fits``."""
        fits = self.fits(until, largest)
        return Timeline.of_fits(self.times[: len(fits)], fits)

    def place_alone(self, counts: Row, held: int, avoid: int = 0) -> Row | None:
        """Place a row of counts without moving anybody; None if a block is missing.

        A stay goes on one block for as long as one is free, and moves on where it must.

        Args:
            counts: The row, not placed.
            held: Positions held now, kept where possible.
            avoid: Free positions to take last for what begins now.
        """
        row: Row = []
        for start, end, _, count in counts:
            exponent = count.bit_length() - 1
            at = start
            while at < end - SAME_INSTANT:
                # Staying costs nothing; any other block costs a rescale, so it is left only when
                # somebody else is due there.
                mask = held if held.bit_count() == count else 0
                until = self.free_until(mask, at) if mask else at
                if until <= at + SAME_INSTANT:
                    mask, until = self._longest(
                        at, end, exponent, avoid if at <= self.times[0] + SAME_INSTANT else 0
                    )
                if not mask:
                    return None
                until = min(until, end)
                row.append(Segment(at, until, mask, count))
                at, held = until, mask
        return row

    def _longest(self, start: float, end: float, exponent: int, avoid: int) -> tuple[int, float]:
        """Return a block that stays free for as long as any does, and until when."""
        first = max(bisect_right(self.times, start + SAME_INSTANT) - 1, 0)
        free, until = self.free[first], math.inf
        if not best_fit(free, exponent, low=True):
            return 0, start
        for column in range(first + 1, len(self.times)):
            if self.times[column] >= end - SAME_INSTANT:
                break
            # Shrink the set of positions column by column until no block is left in it: the last
            # that was left stays free longest, so the stay needs the fewest moves.
            both = free & self.free[column]
            if not free_starts(both, exponent)[exponent]:
                until = self.times[column]
                break
            free = both
        mask = best_fit(free & ~avoid, exponent, low=True) if avoid else 0
        return mask or best_fit(free, exponent, low=True), until
