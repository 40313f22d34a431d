"""What the trainer asks of its data, be it a map or a stream."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

from torch.utils.data import default_collate

from eflib.trainer.data.inheritance import CloseInheritedSockets, open_connections

if TYPE_CHECKING:
    from collections.abc import Callable

    from eflib.trainer.data.position import Block
    from eflib.trainer.data.split import BatchSplit, StepShare


class Feed(ABC):
    """Gives each step's samples to the ranks: ``begin``, ``fetch`` for each block, ``commit``.

    Args:
        split: How shares are split into micro-batches.
        collate_fn: Makes a batch of a list of samples; None for torch's default.
    """

    is_counted: bool
    """True when ``num_steps`` is exact; False when only reading tells where the data ends."""
    num_samples: int | None = None
    """Samples of an epoch; None if nobody knows."""
    num_steps: int | None = None
    """Steps of all epochs that were asked for; None if steps were, or nobody knows."""

    def __init__(self, split: BatchSplit, collate_fn: Callable[[list[Any]], Any] | None) -> None:
        self.split = split
        self.collate = collate_fn or default_collate
        self.place = (0, 1)
        """Rank and world size for which samples are fetched."""
        self._known = open_connections()

    def _on_start(self) -> CloseInheritedSockets:
        """Return what a DataLoader's process does first."""
        return CloseInheritedSockets(self._known)

    def share(self, batch: Block) -> StepShare:
        """Return this rank's part of a batch."""
        return self.split.share(batch, *self.place)

    @abstractmethod
    def start(self, last_step: int | None, rank: int, world_size: int) -> None:
        """Begin to fetch what a fresh job would need, before the ranks have met."""

    @abstractmethod
    def restart(self, step: int, last_step: int | None, rank: int, world_size: int) -> None:
        """Go on at ``step`` for a rank of a world of this size, and with the limit that now holds.

        Args:
            step: Which step is asked for next.
            last_step: Where the run ends; None for no end.
            rank: This worker's rank.
            world_size: Number of workers.
        """

    @abstractmethod
    def begin(self, step: int) -> Block:
        """Begin a step, which reads the samples of a stream; do nothing if it was begun already.

        Returns:
            Its whole batch; an empty one when the data has come to its end.
        """

    @abstractmethod
    def fetch(self, block: Block) -> object:
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

        Nothing is read for it: of a stream, it is the epoch of the place that was read last.

        Args:
            step: The step that is next.
            is_over: True when there is no next step.
        """

    @abstractmethod
    def close(self) -> None:
        """End the DataLoader's processes."""
