"""Which samples a step uses, and which of them a rank holds: pure functions of the position.

The position of a job is its number of committed global steps and nothing else. It never depends on
the number of workers, so that a rescale can neither lose nor repeat a sample.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from eflib.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

CARRY = "carry"  # a batch goes on into the next epoch: every step has exactly the global batch size
SHORT = "short"  # the last batch of an epoch holds what is left
DROP = "drop"  # what is left at the end of an epoch is dropped
EPOCH_ENDS = (CARRY, SHORT, DROP)


@dataclass(frozen=True)
class Block:
    """A run of samples: places ``start`` to ``stop`` (exclusive) of an epoch's order.

    A block may go on past the end of its epoch: place ``num_samples`` is place 0 of the next one.
    So what is left at the end of an epoch is no batch of its own, and no forward pass either.
    """

    epoch: int
    start: int
    stop: int

    @property
    def size(self) -> int:
        """Number of samples."""
        return self.stop - self.start


@dataclass(frozen=True)
class DataPlan:
    """Maps a global step to its samples.

    Args:
        num_samples: Size of the data set; at least 1.
        global_batch_size: Samples per optimizer step over all ranks; at least 1.
        seed: Seed of the order.
        epoch_end: ``carry`` (a batch goes on into the next epoch, each step has exactly
            ``global_batch_size`` samples), ``short`` (an epoch's last batch is what is left) or
            ``drop`` (what is left is dropped).
        max_epochs: With ``carry``, where the run of samples ends, so that the very last batch may
            be short; None for no end.
        origin: Epoch and place in it (samples that all ranks have used) where step 0 begins.
    """

    num_samples: int
    global_batch_size: int
    seed: int = 0
    epoch_end: str = CARRY
    max_epochs: int | None = None
    origin: tuple[int, int] = (0, 0)

    def __post_init__(self) -> None:
        if self.num_samples < 1:
            raise UsageError("the data set is empty", hint="check its length: len(dataset)")
        if self.global_batch_size < 1:
            raise UsageError(f"global_batch_size is {self.global_batch_size}; at least 1 is needed")
        if self.epoch_end not in EPOCH_ENDS:
            raise UsageError(
                f"epoch_end is {self.epoch_end!r}", hint=f"choose from {', '.join(EPOCH_ENDS)}"
            )
        if self.epoch_end == DROP and self.global_batch_size > self.num_samples:
            raise UsageError(
                f"epoch_end='drop' drops all {self.num_samples} samples: "
                f"global_batch_size is {self.global_batch_size}",
                hint="use a smaller global batch, or epoch_end='carry'",
            )

    @property
    def steps_per_epoch(self) -> float:
        """Steps in an epoch; a fraction with ``carry``."""
        if self.epoch_end == CARRY:
            return self.num_samples / self.global_batch_size
        if self.epoch_end == DROP:
            return self.num_samples // self.global_batch_size
        return -(-self.num_samples // self.global_batch_size)

    def steps_in(self, num_epochs: int) -> int:
        """Return how many steps see ``num_epochs`` epochs to their end."""
        if self.epoch_end == CARRY:
            return -(-self.num_samples * num_epochs // self.global_batch_size)
        return int(self.steps_per_epoch) * num_epochs

    def batch(self, step: int) -> Block:
        """Return the samples of a global step; an empty block beyond the last epoch.

        Examples:
            >>> DataPlan(num_samples=10, global_batch_size=4).batch(2)
            Block(epoch=0, start=8, stop=12)
        """
        size, (epoch, place) = self.global_batch_size, self.origin
        if self.epoch_end != CARRY:
            left = self.num_samples - place
            first = left // size if self.epoch_end == DROP else -(-left // size)
            if step >= first:  # beyond the epoch in which the run began
                beyond, step = divmod(step - first, int(self.steps_per_epoch))
                epoch, place = epoch + 1 + beyond, 0
            start = place + step * size
            return Block(epoch, start, min(start + size, self.num_samples))
        start = epoch * self.num_samples + place + step * size
        end = start + size
        if self.max_epochs is not None:
            end = max(start, min(end, self.max_epochs * self.num_samples))
        epoch, place = divmod(start, self.num_samples)
        return Block(epoch, place, place + end - start)

    def batch_size(self, step: int) -> int:
        """Return how many samples a global step has."""
        return self.batch(step).size

    def indices(self, block: Block) -> NDArray[np.int64]:
        """Return the data set's indices of a block: shape ``(block.size,)``."""
        runs = [
            epoch_order(self.seed, epoch, self.num_samples)[start:stop]
            for epoch, start, stop in self._runs(block)
        ]
        return runs[0] if len(runs) == 1 else np.concatenate([np.empty(0, np.int64), *runs])

    def samples(self, block: Block) -> list[tuple[int, int]]:
        """Return a block as pairs of epoch and data set index."""
        return [
            (epoch, index)
            for epoch, start, stop in self._runs(block)
            for index in epoch_order(self.seed, epoch, self.num_samples)[start:stop].tolist()
        ]

    def _runs(self, block: Block) -> Iterator[tuple[int, int, int]]:
        """Split a block at the ends of epochs: (epoch, start, stop) each."""
        epoch, start, left = block.epoch, block.start, block.size
        while left:
            beyond, start = divmod(start, self.num_samples)
            epoch += beyond
            size = min(left, self.num_samples - start)
            yield epoch, start, start + size
            start += size
            left -= size


@lru_cache(maxsize=3)
def epoch_order(seed: int, epoch: int, num_samples: int) -> NDArray[np.int64]:
    """Return the order of an epoch: a permutation that only (seed, epoch) decide."""
    order = np.random.default_rng([seed, epoch]).permutation(num_samples)
    order.flags.writeable = False
    return order


def share(size: int, rank: int, world_size: int, least: int = 1) -> tuple[int, int]:
    """Return the places of a batch that a rank holds: contiguous, sizes differ by at most one.

    Args:
        size: Samples of the batch.
        rank: This worker's rank.
        world_size: Number of workers.
        least: Ranks that hold samples hold at least so many, if the batch has as many: when there
            are too few for all ranks, the last ones hold none.

    Examples:
        >>> [share(10, rank, 3) for rank in range(3)]
        [(0, 4), (4, 7), (7, 10)]
        >>> [share(5, rank, 3, least=2) for rank in range(3)]
        [(0, 3), (3, 5), (5, 5)]
    """
    holders = max(1, min(world_size, size // least))
    small, larger = divmod(size, holders)
    start = min(size, rank * small + min(rank, larger))
    return start, min(size, start + small + (rank < larger))


def even_passes(size: int, world_size: int, max_size: int | None, least: int = 1) -> int:
    """Return how many micro-batches all ranks can cut their shares into; 0 if some rank cannot.

    Examples:
        >>> even_passes(9, world_size=2, max_size=2), even_passes(1, world_size=2, max_size=None)
        (3, 0)
    """
    first, stop = share(size, 0, world_size, least)
    low, high = share(size, world_size - 1, world_size, least)
    num_passes = 1 if max_size is None else -(-(stop - first) // max_size)
    return num_passes if high - low >= max(1, num_passes) else 0


def rank_blocks(
    block: Block,
    rank: int,
    world_size: int,
    max_size: int | None = None,
    least: int = 1,
    num_passes: int = 0,
) -> tuple[Block, ...]:
    """Return a rank's share of a batch, cut into micro-batches.

    Args:
        block: The batch of a global step.
        rank: This worker's rank.
        world_size: Number of workers.
        max_size: Most samples in one forward pass; None for no limit. A share that is larger is
            cut into parts whose sizes differ by at most one.
        least: Fewest samples that a rank should hold, as in ``share``. From a ``max_size`` of 3 on,
            no part is then smaller than 2 either.
        num_passes: How many parts, as ``even_passes`` says; 0 for as few as ``max_size`` allows.
    """
    low, high = share(block.size, rank, world_size, least)
    size = high - low
    num_parts = num_passes or (1 if max_size is None else -(-size // max_size))
    bounds = [share(size, part, num_parts) for part in range(num_parts)] if size else []
    first = block.start + low
    return tuple(Block(block.epoch, first + start, first + stop) for start, stop in bounds)
