"""How many GPUs are free when: columns of time with the largest block that still fits in each."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right

from eflib.scheduling.blocks import capacity_by_exponent
from eflib.scheduling.plan import SAME_INSTANT, Row


class Timeline:
    """Free GPUs over the future, by block size.

    On a cluster whose size is a power of two one number per column would do. Else (a node is lost,
    ten nodes of eight) blocks of a size s may use fewer GPUs than there are, and each size at which
    that number drops has its own count.

    Args:
        periods: ``(start, available positions)`` ascending, the first at the present.

    Attributes:
        times: Start of each column in seconds; the last has no end.
        fits: Per column, log2 of the largest block that fits, plus one; 0 if none does.
    """

    __slots__ = ("_exponents", "_free", "fits", "max_exponent", "times")

    def __init__(self, periods: list[tuple[float, int]]) -> None:
        capacities = [capacity_by_exponent(available) for _, available in periods]
        self.max_exponent = max(max(len(c) for c in capacities) - 1, 0)
        full = [c + [0] * (self.max_exponent + 1 - len(c)) for c in capacities]
        self._exponents = [
            e for e in range(self.max_exponent + 1) if e == 0 or any(c[e] < c[e - 1] for c in full)
        ]
        self.times = [start for start, _ in periods]
        self._free = [[c[e] for c in full] for e in self._exponents]
        self.fits = [self._fit(i) for i in range(len(self.times))]

    @classmethod
    def of_fits(cls, times: list[float], fits: list[int]) -> Timeline:
        """Return a timeline for one job alone, from the largest free block of each column.

        Args:
            times: Start of each column in seconds.
            fits: See the attribute.
        """
        timeline = cls.__new__(cls)
        timeline.max_exponent = max(max(fits) - 1, 0)
        timeline._exponents = [0]
        timeline.times = times[:]
        timeline._free = [[(1 << fit) >> 1 for fit in fits]]
        timeline.fits = fits[:]
        return timeline

    def copy(self) -> Timeline:
        """Return an independent equal."""
        twin = Timeline.__new__(Timeline)
        twin.max_exponent = self.max_exponent
        twin._exponents = self._exponents
        twin.times = self.times[:]
        twin._free = [column[:] for column in self._free]
        twin.fits = self.fits[:]
        return twin

    def _fit(self, column: int) -> int:
        free = self._free[0][column]
        if len(self._exponents) == 1:
            return min(free.bit_length(), self.max_exponent + 1) if free > 0 else 0
        best = 0
        for place, exponent in enumerate(self._exponents):
            free = min(free, self._free[place][column])
            if free <= 0:
                break
            after = place + 1
            top = self._exponents[after] - 1 if after < len(self._exponents) else self.max_exponent
            fit = min(free.bit_length() - 1, top)
            if fit >= exponent:
                best = fit + 1
        return best

    def split(self, time: float) -> int:
        """Make ``time`` a column border and return the column that starts there."""
        times = self.times
        at = bisect_left(times, time - SAME_INSTANT)
        if at < len(times) and times[at] <= time + SAME_INSTANT:
            return at
        if at == 0:
            return 0
        times.insert(at, time)
        for column in self._free:
            column.insert(at, column[at - 1])
        self.fits.insert(at, self.fits[at - 1])
        return at

    def reserve(self, start: float, end: float, count: int) -> None:
        """Take ``count`` GPUs out of the free ones from ``start`` to ``end``."""
        first = self.split(start)
        last = len(self.times) if end == math.inf else self.split(end)
        exponent = count.bit_length() - 1
        for place, level in enumerate(self._exponents):
            if level <= exponent:
                column = self._free[place]
                column[first:last] = [free - count for free in column[first:last]]
        if len(self._exponents) == 1:
            top = self.max_exponent + 1
            self.fits[first:last] = [
                0 if free <= 0 else fit if (fit := free.bit_length()) < top else top
                for free in self._free[0][first:last]
            ]
        else:
            self.fits[first:last] = [self._fit(i) for i in range(first, last)]

    def reserve_row(self, row: Row) -> None:
        """Take out all that a row holds."""
        for segment in row:
            self.reserve(max(segment.start, self.times[0]), segment.end, segment.size)

    def runs(self, end: float, table: list[int]) -> list[tuple[float, float, int]]:
        """Return ``(start, end, level)`` up to ``end``, joining columns of the same level.

        Args:
            end: Scheduler time in seconds.
            table: Level by entry of ``fits``; see ``Job.level_table``.
        """
        times = self.times
        if end <= times[0]:
            return []
        last = bisect_right(times, end - SAME_INSTANT)
        found: list[tuple[float, float, int]] = []
        start, level = times[0], table[self.fits[0]]
        for i in range(1, last):
            other = table[self.fits[i]]
            if other != level:
                found.append((start, times[i], level))
                start, level = times[i], other
        found.append((start, end, level))
        return found
