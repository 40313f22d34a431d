"""Turn plain counts into GPUs, for policies that do not care which."""

from __future__ import annotations

from collections.abc import Mapping

from eflib.scheduling.buddy import best_fit, is_block, positions
from eflib.simulator.policies import ClusterShape, GpuIds, SimulatedJob


class Placer:
    """Places counts on a cluster, keeping jobs where they are.

    A power of two gets an aligned block; any other count gets any GPUs. Where the free GPUs suffice
    but no block does, all that are not larger than it are packed anew.

    Args:
        shape: The cluster.

    Examples:
        >>> placer = Placer(ClusterShape(nodes=1, gpus_per_node=8))
        >>> placer.place({"a": 4, "b": 2}, {})
        {'a': (0, 1, 2, 3), 'b': (4, 5)}
    """

    def __init__(self, shape: ClusterShape) -> None:
        self._all = (1 << shape.num_gpus) - 1

    def place(
        self, counts: Mapping[str, int], jobs: Mapping[str, SimulatedJob]
    ) -> dict[str, GpuIds]:
        """Return the GPUs of each job in ``counts``; a job that fits nowhere gets none.

        Args:
            counts: GPUs by job_id for every job that is to hold any, most important first.
            jobs: Live jobs, for what they hold now.
        """
        held = {name: _mask(jobs[name].gpus) if name in jobs else 0 for name in counts}
        placed: dict[str, int] = {}
        free = self._all
        for name, count in counts.items():
            mask = held[name]
            if mask and mask.bit_count() == count and mask & ~free == 0 and _legal(mask):
                placed[name] = mask
                free &= ~mask
        waiting = sorted((n for n in counts if n not in placed), key=lambda n: -counts[n])
        for name in waiting:
            mask = self._one(counts[name], free, held[name])
            if not mask and counts[name] <= free.bit_count():
                return self._packed(counts)
            if mask:
                placed[name] = mask
                free &= ~mask
        return {name: tuple(positions(placed.get(name, 0))) for name in counts}

    def _packed(self, counts: Mapping[str, int]) -> dict[str, GpuIds]:
        """Place everything anew in falling size, which leaves no holes."""
        free = self._all
        placed: dict[str, int] = {}
        for name in sorted(counts, key=lambda n: -counts[n]):
            mask = self._one(counts[name], free, 0)
            placed[name] = mask
            free &= ~mask
        return {name: tuple(positions(placed[name])) for name in counts}

    def _one(self, count: int, free: int, old: int) -> int:
        """Return GPUs for one job, in or near its old ones where possible; 0 if there are none."""
        if count < 1 or count > free.bit_count():
            return 0
        if count & (count - 1):
            chosen = positions(free & old)[:count]
            chosen += positions(free & ~old)[: count - len(chosen)]
            return sum(1 << p for p in chosen)
        exponent = count.bit_length() - 1
        return best_fit(free & old, exponent, low=True) or best_fit(free, exponent, low=True)


def _mask(gpus: GpuIds) -> int:
    return sum(1 << gpu for gpu in gpus)


def _legal(mask: int) -> bool:
    count = mask.bit_count()
    return bool(count & (count - 1)) or is_block(mask)
