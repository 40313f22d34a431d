"""What the trainer asks of its data, be it a map or a stream."""

from __future__ import annotations

from abc import ABC, abstractmethod
from itertools import chain
from typing import TYPE_CHECKING, Any

from torch.utils.data import default_collate

from eflib.trainer.data.inheritance import Shed, open_connections
from eflib.trainer.data.position import Block, even_passes, rank_blocks, share

if TYPE_CHECKING:
    from collections.abc import Callable

    Shards = tuple[tuple[Block, ...], ...]


class Cut:
    """How a rank's share of a batch is cut into micro-batches.

    Args:
        max_size: Most samples of one forward pass, or None.
        least: Fewest samples that a rank should hold, as in ``position.share``.
        num_shards: Number of virtual shards, whose borders do not depend on the world size; None to
            share each batch among the ranks.
        even: Cut the shares of all ranks into as many micro-batches, where all hold enough samples.
        padded: Where some rank has fewer, what it lacks is padding.
    """

    def __init__(
        self,
        max_size: int | None,
        least: int = 1,
        num_shards: int | None = None,
        *,
        even: bool = False,
        padded: bool = False,
    ) -> None:
        self.max_size = max_size
        self.place = (0, 1)
        self._least = least
        self._num_shards = num_shards
        self._even = even
        self._padded = padded

    def even_passes(self, batch: Block) -> int:
        """Return how many micro-batches every rank has; 0 when they may differ."""
        if not self._even:
            return 0
        return even_passes(batch.size, self.place[1], self.max_size, self._least)

    def shards(self, batch: Block) -> Shards:
        """Return this rank's micro-batches of a batch by shard, without empty shards.

        Without virtual shards the share of the rank is one.
        """
        rank, parts = self.place
        mine = range(rank, rank + 1)
        if self._num_shards is not None:
            mine, parts = range(*share(self._num_shards, rank, parts)), self._num_shards
        passes = self.even_passes(batch)
        cut = (rank_blocks(batch, part, parts, self.max_size, self._least, passes) for part in mine)
        return tuple(blocks for blocks in cut if blocks)

    def padding(self, batch: Block) -> tuple[Block, ...]:
        """Return what this rank runs for nothing: its last micro-batch again, or the first ever."""
        if not self._padded or self.even_passes(batch):
            return ()
        rank, world_size = self.place
        most, own = (
            rank_blocks(batch, one, world_size, self.max_size, self._least) for one in (0, rank)
        )
        first = Block(batch.epoch, batch.start, batch.start + min(batch.size, self._least))
        return (own[-1] if own else first,) * (len(most) - len(own))


class Feed(ABC):
    """Gives each step's samples to the ranks: ``begin``, ``shards``, ``fetch`` each, ``commit``.

    Args:
        cut: How shares are cut.
        collate_fn: Makes a batch of a list of samples; None for torch's default.
    """

    is_counted: bool
    """True when ``num_steps`` is exact; False when only reading tells where the data ends."""
    num_samples: int | None = None
    """Samples of an epoch; None if nobody knows."""
    num_steps: int | None = None
    """Steps of all epochs that were asked for; None if steps were, or nobody knows."""

    def __init__(self, cut: Cut, collate_fn: Callable[[list[Any]], Any] | None) -> None:
        self.cut = cut
        self.collate = collate_fn or default_collate
        self._known = open_connections()

    def _shed(self) -> Shed:
        """Return what a DataLoader's process does first."""
        return Shed(self._known)

    @abstractmethod
    def start(self, last_step: int | None, rank: int, world_size: int) -> None:
        """Begin to fetch what a fresh job would need, before the ranks have met."""

    @property
    def max_size(self) -> int | None:
        """Most samples of one forward pass; it may be changed at any time."""
        return self.cut.max_size

    @max_size.setter
    def max_size(self, value: int | None) -> None:
        self.cut.max_size = value

    @abstractmethod
    def restart(self, step: int, last_step: int | None, rank: int, world_size: int) -> None:
        """Go on at ``step`` for a rank of a world of this size.

        Args:
            step: Which step is asked for next.
            last_step: Where the run ends; None for no end.
            rank: This worker's rank.
            world_size: Number of workers.
        """

    @abstractmethod
    def begin(self, step: int) -> Block:
        """Return the whole batch of a step; an empty one when the data has come to its end."""

    def shards(self, step: int) -> Shards:
        """Return this rank's micro-batches of a step by shard, without empty shards."""
        return self.cut.shards(self.begin(step))

    def blocks(self, step: int) -> tuple[Block, ...]:
        """Return this rank's micro-batches of a step."""
        return tuple(chain(*self.shards(step)))

    def padding(self, step: int) -> tuple[Block, ...]:
        """Return what this rank runs for nothing, so that all take as many turns in a step."""
        return self.cut.padding(self.begin(step))

    @abstractmethod
    def fetch(self, block: Block) -> Any:  # noqa: ANN401 - whatever the collate function makes
        """Return the batch of the next block of this rank, and seed what the model draws."""

    @abstractmethod
    def commit(self) -> None:
        """Note that the step at hand is committed: its samples are used."""

    @abstractmethod
    def samples(self, block: Block) -> list[tuple[int, int]]:
        """Return a block of the step begun last as pairs of epoch and index."""

    @abstractmethod
    def epoch(self, step: int, *, is_over: bool) -> int:
        """Return the epoch of a step's first sample, or of the step before it if that was the last.

        Args:
            step: The step that is next.
            is_over: True when there is no next step.
        """

    @abstractmethod
    def close(self) -> None:
        """End the DataLoader's processes."""
