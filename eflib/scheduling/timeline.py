"""How many GPUs are free when: columns of time with the largest block that still fits in each."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from eflib.scheduling.buddy import capacity_by_exponent
from eflib.scheduling.plan import SAME_INSTANT, Row

_ROOM = 64
"""Columns that a timeline has room for at first; the room doubles."""


class Timeline:
    """Free GPUs over the future, by block size.

    On a cluster whose size is a power of two one number per column would do. Else (a node is lost,
    ten nodes of eight) blocks of a size s may use fewer GPUs than there are, and each size at which
    that number drops has its own count.

    Args:
        periods: ``(start, available positions)`` ascending, the first at the present.

    Attributes:
        max_exponent: Log2 of the largest block that there is at any time.
    """

    __slots__ = ("_exponents", "_fits", "_free", "_lengths", "_num", "_times", "max_exponent")

    def __init__(self, periods: list[tuple[float, int]]) -> None:
        capacities = [capacity_by_exponent(available) for _, available in periods]
        self.max_exponent = max(max(len(c) for c in capacities) - 1, 0)
        full = [c + [0] * (self.max_exponent + 1 - len(c)) for c in capacities]
        self._exponents = [
            # Each size whose whole blocks cover fewer GPUs than the next smaller one's needs a
            # count of its own; on 16 nodes of 8 that is one count, on ten of 8 two.
            e
            for e in range(self.max_exponent + 1)
            if e == 0 or any(c[e] < c[e - 1] for c in full)
        ]
        self._num = len(periods)
        # Arrays that grow by doubling, as lists do: a fill splits columns all the time.
        room = self._num + _ROOM
        self._times = np.zeros(room)
        self._times[: self._num] = [start for start, _ in periods]
        self._free = np.zeros((len(self._exponents), room), dtype=np.int32)
        self._free[:, : self._num] = [[c[e] for c in full] for e in self._exponents]
        self._fits = np.zeros(room, dtype=np.int16)
        self._lengths = _bit_lengths(max(c[0] for c in full))
        self._refit(0, self._num)

    @classmethod
    def of_fits(cls, times: list[float], fits: list[int]) -> Timeline:
        """Return a timeline for one job alone, from the largest free block of each column.

        Args:
            times: Start of each column in seconds.
            fits: Per column, log2 of the largest block that fits, plus one; 0 if none does.
        """
        timeline = cls.__new__(cls)
        timeline.max_exponent = max(max(fits) - 1, 0)
        timeline._exponents = [0]
        timeline._num = len(times)
        timeline._times = np.array(times)
        timeline._fits = np.array(fits, dtype=np.int16)
        timeline._free = (np.int32(1) << timeline._fits.astype(np.int32)[None, :]) >> 1
        timeline._lengths = _bit_lengths(1 << timeline.max_exponent)
        return timeline

    def copy(self) -> Timeline:
        """Return an independent equal."""
        twin = Timeline.__new__(Timeline)
        twin.max_exponent, twin._exponents, twin._num = (
            self.max_exponent,
            self._exponents,
            self._num,
        )
        twin._times, twin._free = self._times.copy(), self._free.copy()
        twin._fits, twin._lengths = self._fits.copy(), self._lengths
        return twin

    @property
    def start(self) -> float:
        """The present, in seconds."""
        return float(self._times[0])

    @property
    def last_border(self) -> float:
        """Start of the last column, which has no end, in seconds."""
        return float(self._times[self._num - 1])

    def _refit(self, first: int, last: int) -> None:
        """Work out anew which block fits in some columns."""
        lengths = self._lengths
        free = self._free[0, first:last]
        if len(self._exponents) == 1:
            self._fits[first:last] = np.minimum(lengths[free], self.max_exponent + 1)
            return
        best = np.zeros(last - first, dtype=np.int16)
        for index, exponent in enumerate(self._exponents):
            free = np.minimum(free, self._free[index, first:last])
            after = index + 1
            most = self._exponents[after] if after < len(self._exponents) else self.max_exponent + 1
            fits = np.minimum(lengths[free], most)
            best = np.where(fits > exponent, fits, best)
        self._fits[first:last] = best

    def split(self, time: float) -> int:
        """Make ``time`` a column border and return the column that starts there."""
        num = self._num
        at = int(self._times[:num].searchsorted(time - SAME_INSTANT))
        if at < num and self._times[at] <= time + SAME_INSTANT:
            return at
        if at == 0:
            return 0
        if num == len(self._times):
            self._grow()
        self._times[at + 1 : num + 1] = self._times[at:num]
        self._times[at] = time
        self._free[:, at + 1 : num + 1] = self._free[:, at:num]
        self._free[:, at] = self._free[:, at - 1]
        self._fits[at + 1 : num + 1] = self._fits[at:num]
        self._fits[at] = self._fits[at - 1]
        self._num = num + 1
        return at

    def _grow(self) -> None:
        """Double the room."""
        self._times = np.concatenate([self._times, np.zeros_like(self._times)])
        self._free = np.concatenate([self._free, np.zeros_like(self._free)], axis=1)
        self._fits = np.concatenate([self._fits, np.zeros_like(self._fits)])

    def reserve(self, start: float, end: float, count: int) -> None:
        """Take GPUs out of the free ones.

        Args:
            start: From when, in seconds.
            end: Until when, in seconds; may be infinite.
            count: How many, a power of two.
        """
        first = self.split(start)
        last = self._num if end == math.inf else self.split(end)
        exponent = count.bit_length() - 1
        for index, level in enumerate(self._exponents):
            if level <= exponent:
                self._free[index, first:last] -= count
        self._refit(first, last)

    def release(self, start: float, end: float, count: int) -> None:
        """Give back what ``reserve`` took out with the same arguments.

        Args:
            start: From when, in seconds.
            end: Until when, in seconds; finite.
            count: How many, a power of two.
        """
        first, last = self.split(start), self.split(end)
        exponent = count.bit_length() - 1
        for index, level in enumerate(self._exponents):
            if level <= exponent:
                self._free[index, first:last] += count
        self._refit(first, last)

    def reserve_row(self, row: Row) -> None:
        """Take out all that a row holds."""
        for segment in row:
            self.reserve(max(segment.start, self.start), segment.end, segment.size)

    def runs(self, end: float, table: NDArray[np.int16]) -> list[tuple[float, float, int]]:
        """Return ``(start, end, level)`` up to ``end``, joining columns of the same level.

        Args:
            end: Scheduler time in seconds.
            table: Level by the largest block that fits; see ``Job.level_table``.
        """
        if end <= self._times[0]:
            return []
        last = int(self._times[: self._num].searchsorted(end - SAME_INSTANT, side="right"))
        levels = table[self._fits[:last]]
        borders = np.flatnonzero(levels[1:] != levels[:-1]) + 1
        starts = [float(self._times[0]), *self._times[borders].tolist()]
        ends = [*starts[1:], end]
        return list(zip(starts, ends, [int(levels[0]), *levels[borders].tolist()], strict=True))


@lru_cache(maxsize=16)
def _bit_lengths(most: int) -> NDArray[np.int16]:
    """Return the bit length of each number up to ``most``; 0 for as many below zero, by index."""
    return np.array([n.bit_length() for n in range(most + 1)] + [0] * (most + 1), dtype=np.int16)
