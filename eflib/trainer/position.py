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
    from numpy.typing import NDArray

CARRY = "carry"  # a batch goes on into the next epoch: every step has exactly the global batch size
SHORT = "short"  # the last batch of an epoch holds what is left
DROP = "drop"  # what is left at the end of an epoch is dropped
EPOCH_ENDS = (CARRY, SHORT, DROP)


@dataclass(frozen=True)
class Block:
    """A run of one epoch's order: places ``start`` to ``stop`` (exclusive) of that epoch."""

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
    """

    num_samples: int
    global_batch_size: int
    seed: int = 0
    epoch_end: str = CARRY
    max_epochs: int | None = None

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

    def batch(self, step: int) -> tuple[Block, ...]:
        """Return the samples of a global step, in order, as blocks of one epoch each.

        Examples:
            >>> DataPlan(num_samples=10, global_batch_size=4).batch(2)
            (Block(epoch=0, start=8, stop=10), Block(epoch=1, start=0, stop=2))
        """
        if self.epoch_end != CARRY:
            epoch, within = divmod(step, int(self.steps_per_epoch))
            start = within * self.global_batch_size
            return (Block(epoch, start, min(start + self.global_batch_size, self.num_samples)),)
        blocks = []
        first = step * self.global_batch_size
        end = first + self.global_batch_size
        if self.max_epochs is not None:
            end = min(end, self.max_epochs * self.num_samples)
        while first < end:
            epoch, start = divmod(first, self.num_samples)
            stop = min(self.num_samples, start + end - first)
            blocks.append(Block(epoch, start, stop))
            first += stop - start
        return tuple(blocks)

    def batch_size(self, step: int) -> int:
        """Return how many samples a global step has."""
        return sum(block.size for block in self.batch(step))

    def indices(self, block: Block) -> NDArray[np.int64]:
        """Return the data set's indices of a block: shape ``(block.size,)``."""
        return epoch_order(self.seed, block.epoch, self.num_samples)[block.start : block.stop]


@lru_cache(maxsize=3)
def epoch_order(seed: int, epoch: int, num_samples: int) -> NDArray[np.int64]:
    """Return the order of an epoch: a permutation that only (seed, epoch) decide."""
    order = np.random.default_rng([seed, epoch]).permutation(num_samples)
    order.flags.writeable = False
    return order


def share(size: int, rank: int, world_size: int) -> tuple[int, int]:
    """Return the places of a batch that a rank holds: contiguous, sizes differ by at most one.

    Examples:
        >>> [share(10, rank, 3) for rank in range(3)]
        [(0, 4), (4, 7), (7, 10)]
    """
    small, larger = divmod(size, world_size)
    start = rank * small + min(rank, larger)
    return start, start + small + (rank < larger)


def rank_blocks(
    blocks: tuple[Block, ...], rank: int, world_size: int, max_size: int | None = None
) -> tuple[Block, ...]:
    """Return a rank's share of a batch, cut at epochs and into micro-batches.

    Args:
        blocks: The batch of a global step.
        rank: This worker's rank.
        world_size: Number of workers.
        max_size: Most samples in one forward pass; None for no limit. A block that is larger is
            cut into parts whose sizes differ by at most one.
    """
    start, stop = share(sum(block.size for block in blocks), rank, world_size)
    parts: list[Block] = []
    place = 0
    for block in blocks:
        low, high = max(start, place), min(stop, place + block.size)
        if low < high:
            own = Block(block.epoch, block.start + low - place, block.start + high - place)
            parts.extend(_cut(own, max_size))
        place += block.size
    return tuple(parts)


def _cut(block: Block, max_size: int | None) -> list[Block]:
    if max_size is None or block.size <= max_size:
        return [block]
    num_parts = -(-block.size // max_size)
    bounds = [share(block.size, part, num_parts) for part in range(num_parts)]
    return [Block(block.epoch, block.start + low, block.start + high) for low, high in bounds]
