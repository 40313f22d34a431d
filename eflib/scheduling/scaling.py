"""Throughput of one job by the number of GPUs it holds, and which counts are worth using."""

from __future__ import annotations

import math
from collections.abc import Mapping

from eflib.errors import UsageError


class ScalingCurve:
    """Measured steps per second by GPU count, for one model, device and global batch size.

    A curve need not be concave, nor even grow: a count is *usable* only if it is faster than every
    smaller one. Points that are not measured (``nan``, zero or below) are left out.

    Args:
        points: Steps per second by GPU count (at least 1).

    Raises:
        UsageError: No point is left, or a count is below 1.

    Examples:
        >>> curve = ScalingCurve({1: 10.0, 2: 18.0, 4: 17.0, 8: 30.0})
        >>> curve.usable(8)
        ((1, 10.0), (2, 18.0), (8, 30.0))
        >>> curve.throughput(3)
        17.5
    """

    __slots__ = ("_counts", "_rates")

    def __init__(self, points: Mapping[int, float]) -> None:
        known = sorted((int(n), float(v)) for n, v in points.items() if math.isfinite(v) and v > 0)
        if not known:
            raise UsageError("a scaling curve needs at least one measured point")
        if known[0][0] < 1:
            raise UsageError(f"a scaling curve cannot have a point at {known[0][0]} GPUs")
        self._counts = tuple(n for n, _ in known)
        self._rates = tuple(v for _, v in known)

    @property
    def counts(self) -> tuple[int, ...]:
        """The measured GPU counts, ascending."""
        return self._counts

    @property
    def points(self) -> dict[int, float]:
        """Steps per second by measured GPU count, as a new dict."""
        return dict(zip(self._counts, self._rates, strict=True))

    def throughput(self, num_gpus: int) -> float:
        """Return steps per second at any count.

        Between measured counts it is linear; below the first it falls in proportion; beyond the
        last it stays, for lack of a measurement that promises more.

        Args:
            num_gpus: A GPU count; zero or below gives 0.
        """
        if num_gpus <= 0:
            return 0.0
        low, low_rate = 0, 0.0
        for count, rate in zip(self._counts, self._rates, strict=True):
            if count == num_gpus:
                return rate
            if count > num_gpus:
                return low_rate + (rate - low_rate) * (num_gpus - low) / (count - low)
            low, low_rate = count, rate
        return low_rate

    def usable(self, max_gpus: int | None = None) -> tuple[tuple[int, float], ...]:
        """Return ``(count, steps per second)`` of the powers of two worth giving, ascending.

        Each is faster than all before it. A curve without any measured power of two is read
        between its points.

        Args:
            max_gpus: Largest count to return; None means no bound.
        """
        bound = self._counts[-1] if max_gpus is None else max_gpus
        powers = [n for n in self._counts if n & (n - 1) == 0]
        # A curve measured at 3 and 6 GPUs alone must not make the job unusable: read it between its
        # points.
        if not powers or powers[0] > bound:
            top = min(bound, self._counts[-1])
            powers = [1 << e for e in range(max(top, 0).bit_length()) if 1 << e <= top]
        found: list[tuple[int, float]] = []
        for count in powers:
            rate = self.throughput(count)
            # More GPUs for no more speed would be waste, and the search by levels counts on rates
            # that rise.
            if count <= bound and (not found or rate > found[-1][1]):
                found.append((count, rate))
        return tuple(found)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ScalingCurve) and self.points == other.points

    def __hash__(self) -> int:
        return hash((self._counts, self._rates))

    def __repr__(self) -> str:
        return f"ScalingCurve({self.points})"
