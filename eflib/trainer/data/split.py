"""How a batch is split into the micro-batches of each rank: a pure function of the settings."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

from eflib.trainer.data.position import Block, even_passes, rank_blocks, share

if TYPE_CHECKING:
    from eflib.trainer.data.microbatch import MicrobatchSize

    Shards = tuple[tuple[Block, ...], ...]


@dataclass(frozen=True)
class StepShare:
    """One rank's part of a step.

    Attributes:
        batch: The samples of all ranks.
        shards: This rank's micro-batches by shard, without empty shards; without virtual shards
            the whole share of the rank is one.
        padding: Micro-batches that this rank runs for nothing, so that all take as many turns.
        is_even: True when all ranks have as many micro-batches.
    """

    batch: Block
    shards: Shards
    padding: tuple[Block, ...]
    is_even: bool

    @property
    def blocks(self) -> tuple[Block, ...]:
        """This rank's micro-batches in order."""
        return tuple(chain(*self.shards))


@dataclass(frozen=True)
class BatchSplit:
    """How a rank's share of a batch is split into micro-batches.

    Args:
        size: Owner of the limit on the samples of one forward pass; what it says holds at once.
        least: Fewest samples that a rank should hold, as in ``position.share``.
        num_shards: Number of virtual shards, whose borders do not depend on the world size; None to
            share each batch among the ranks.
        even: Split the shares of all ranks into as many micro-batches, where all hold enough.
        padded: Where some rank has fewer, what it lacks is padding.
    """

    size: MicrobatchSize
    least: int = 1
    num_shards: int | None = None
    even: bool = False
    padded: bool = False

    def share(self, batch: Block, rank: int, world_size: int) -> StepShare:
        """Return a rank's part of a batch."""
        limit = self.size.limit
        passes = even_passes(batch.size, world_size, limit, self.least) if self.even else 0
        mine, parts = range(rank, rank + 1), world_size
        if self.num_shards is not None:
            mine, parts = range(*share(self.num_shards, rank, world_size)), self.num_shards
        split = (rank_blocks(batch, part, parts, limit, self.least, passes) for part in mine)
        shards = tuple(blocks for blocks in split if blocks)
        padding = self._padding(batch, rank, world_size) if self.padded and not passes else ()
        return StepShare(batch, shards, padding, passes > 0)

    def _padding(self, batch: Block, rank: int, world_size: int) -> tuple[Block, ...]:
        """Return what a rank lacks: its last micro-batch again, or the first ever."""
        most, own = (
            rank_blocks(batch, one, world_size, self.size.limit, self.least) for one in (0, rank)
        )
        first = Block(batch.epoch, batch.start, batch.start + min(batch.size, self.least))
        return (own[-1] if own else first,) * (len(most) - len(own))
