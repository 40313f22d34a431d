"""Fetches a rank's micro-batches: in this process, or ahead of time in DataLoader workers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch.utils.data import DataLoader, Dataset, default_collate

from eflib.trainer.position import rank_blocks
from eflib.trainer.randomness import seed_block

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from eflib.trainer.position import Block, DataPlan


class BlockLoader:
    """Gives the batch of a block; blocks are asked for in the order of the plan.

    With ``num_workers`` above 0, DataLoader's processes fetch ahead along the plan for this rank
    and world size. ``restart`` throws away whatever they prefetched: the position is a count of
    committed steps, so nothing that was fetched and not used is lost.

    Args:
        dataset: Map-style data set.
        plan: Which samples a step uses.
        collate_fn: Makes a batch of a list of samples; None for torch's default.
        num_workers: DataLoader processes; 0 fetches in this process.
        max_size: Most samples of one forward pass, or None.
    """

    def __init__(
        self,
        dataset: Any,  # noqa: ANN401 - a user's class: __getitem__ and __len__ are all we use
        plan: DataPlan,
        *,
        collate_fn: Callable[[list[Any]], Any] | None,
        num_workers: int,
        max_size: int | None,
    ) -> None:
        self._dataset = dataset
        self._plan = plan
        self.collate = collate_fn or default_collate
        self._num_workers = num_workers
        self._max_size = max_size
        self._ahead: Iterator[Any] | None = None

    def restart(self, step: int, last_step: int | None, rank: int, world_size: int) -> None:
        """Begin anew at ``step`` for a rank of a world of this size."""
        self.close()
        if self._num_workers:
            sampler = _Ahead(self._plan, step, last_step, rank, world_size, self._max_size)
            self._ahead = iter(
                DataLoader(
                    _Seeded(self._dataset, self._plan.seed),
                    batch_sampler=sampler,  # type: ignore[arg-type]  # _Seeded takes what it gives
                    num_workers=self._num_workers,
                    collate_fn=self.collate,
                )
            )

    def fetch(self, block: Block) -> Any:  # noqa: ANN401 - whatever the collate function makes
        """Return the batch of the next block of this rank."""
        seed_block(self._plan.seed, block)
        if self._ahead is not None:
            batch = next(self._ahead)
            seed_block(self._plan.seed, block)  # DataLoader drew from the generator as well
            return batch
        return self.collate(_samples(self._dataset, self._plan.indices(block).tolist()))

    def close(self) -> None:
        """End the DataLoader's processes."""
        self._ahead = None


def _samples(dataset: Any, indices: list[int]) -> Any:  # noqa: ANN401 - a user's class
    get_many = getattr(dataset, "__getitems__", None)
    return get_many(indices) if get_many else [dataset[index] for index in indices]


class _Seeded(Dataset[Any]):
    """The data set in a DataLoader's process: seeded for each block, as in this process."""

    def __init__(self, dataset: Any, seed: int) -> None:  # noqa: ANN401 - a user's class
        self._dataset = dataset
        self._seed = seed

    def __getitems__(self, wanted: tuple[Block, list[int]]) -> Any:  # noqa: ANN401 - a user's class
        block, indices = wanted
        seed_block(self._seed, block)
        return _samples(self._dataset, indices)


class _Ahead:
    """The blocks of one rank from a step on with their indices, as a batch sampler."""

    def __init__(
        self,
        plan: DataPlan,
        step: int,
        last_step: int | None,
        rank: int,
        world_size: int,
        max_size: int | None,
    ) -> None:
        self._plan = plan
        self._step = step
        self._last_step = last_step
        self._rank = rank
        self._world_size = world_size
        self._max_size = max_size

    def __iter__(self) -> Iterator[tuple[Block, list[int]]]:
        step = self._step
        while self._last_step is None or step < self._last_step:
            blocks = self._plan.batch(step)
            for block in rank_blocks(blocks, self._rank, self._world_size, self._max_size):
                yield block, self._plan.indices(block).tolist()
            step += 1
