"""``ElasticSampler`` and ``ElasticLoader``: exact data without the trainer.

Both keep the position as a count of samples that all ranks have used, never as a count of this
rank's batches, so it means the same at every world size.
"""

from __future__ import annotations

import os
from dataclasses import replace
from math import ceil
from typing import TYPE_CHECKING, Any

import torch.distributed as dist
from torch.utils.data import Sampler

from eflib import env
from eflib.errors import StateMismatchError, UsageError
from eflib.trainer.data import datasets
from eflib.trainer.data.loader import BlockLoader
from eflib.trainer.data.microbatch import MicrobatchSize
from eflib.trainer.data.position import SHORT, Block, DataPlan, rank_blocks
from eflib.trainer.data.split import BatchSplit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from types import TracebackType


class _Walk:
    """A place in the data and a rank; what the sampler and the loader share.

    Args:
        num_samples: Size of the data set.
        global_batch_size: Samples of a batch over all ranks; None for one a rank.
        seed: Of the order.
        epoch_end: ``short``, ``drop`` or ``carry``, as in ``DataPlan``.
        rank: This process's rank.
        world_size: Number of processes.
    """

    def __init__(
        self,
        num_samples: int,
        global_batch_size: int | None,
        *,
        seed: int,
        epoch_end: str,
        rank: int | None,
        world_size: int | None,
    ) -> None:
        self._place = _world(rank, world_size)
        self._size = global_batch_size
        self._plan = DataPlan(num_samples, global_batch_size or self._place[1], seed, epoch_end)
        self._step = 0

    @property
    def rank(self) -> int:
        """This process's rank."""
        return self._place[0]

    @property
    def world_size(self) -> int:
        """Number of processes that share each batch."""
        return self._place[1]

    @property
    def epoch(self) -> int:
        """Index of the epoch of the next sample, from 0."""
        return self._next.epoch

    @property
    def samples(self) -> int:
        """Samples of this epoch that all ranks together have used."""
        return self._next.start

    def set_world(self, rank: int, world_size: int) -> None:
        """Go on as another rank, or in a world of another size, from the next batch on.

        All ranks must call it between the same two batches.

        Raises:
            UsageError: There is no such rank.
        """
        self._place = _world(rank, world_size)
        if self._size is None:
            self._seek(self.epoch, self.samples)  # a turn has another size now
        else:
            self._moved()

    def set_epoch(self, epoch: int) -> None:
        """Go to the start of an epoch; within this epoch already, stay where we are.

        So a loop that calls it before each epoch, as with ``DistributedSampler``, goes on in the
        middle after ``load_state_dict``.
        """
        if epoch != self.epoch:
            self._seek(epoch, 0)

    def state_dict(self) -> dict[str, Any]:
        """Return the position; the same on all ranks, and free of rank and world size."""
        return self._state_at(self._next)

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on from a position that any rank of any world saved.

        Its seed holds from here on, so that the epoch goes on in the order in which it began.

        Raises:
            StateMismatchError: It is of a data set of another size.
        """
        saved, own = state_dict["num_samples"], self._plan.num_samples
        if saved != own:
            raise StateMismatchError(
                f"the position is of a data set of {saved} samples, this one has {own}",
                hint="go on with the same data, or begin a new epoch with set_epoch()",
            )
        self._plan = replace(self._plan, seed=int(state_dict["seed"]))
        self._seek(int(state_dict["epoch"]), int(state_dict["samples"]))

    @property
    def _next(self) -> Block:
        return self._plan.batch(self._step)

    def _state_at(self, block: Block) -> dict[str, Any]:
        return {
            "epoch": block.epoch,
            "samples": block.start,
            "num_samples": self._plan.num_samples,
            "seed": self._plan.seed,
        }

    def _seek(self, epoch: int, place: int) -> None:
        size = self._size or self.world_size
        self._plan = replace(self._plan, global_batch_size=size, origin=(epoch, place))
        self._step = 0
        self._moved()

    def _moved(self) -> None:
        """Note that position, rank or world size are other ones; the loader overrides it."""


class ElasticSampler(_Walk, Sampler[Any]):
    """The order of samples for torch's ``DataLoader``, at any number of ranks.

    The order is a function of (seed, epoch). With a ``global_batch_size`` it gives lists, this
    rank's share of each global batch, for ``DataLoader(batch_sampler=...)``; a rank gets an empty
    list if a batch has too few samples for all. Without one it gives single indices for
    ``DataLoader(sampler=...)``: the ranks take turns, one sample each.

    An iteration goes from the position to the end of its epoch; the next one begins the next epoch.

    Args:
        data: The data set, or its size.
        global_batch_size: Samples of a batch over all ranks; None for single indices.
        seed: Of the order.
        epoch_end: ``short`` (the last batch of an epoch is what is left), ``drop`` (what is left is
            dropped) or ``carry`` (a batch goes on into the next epoch).
        rank: This process's rank; by default that of the process group, or of torchrun.
        world_size: Number of processes; by default as for ``rank``.

    Examples:
        >>> sampler = ElasticSampler(10, 4, rank=0, world_size=2)
        >>> [len(indices) for indices in sampler]
        [2, 2, 1]
    """

    def __init__(
        self,
        data: object,
        global_batch_size: int | None = None,
        *,
        seed: int = 0,
        epoch_end: str = SHORT,
        rank: int | None = None,
        world_size: int | None = None,
    ) -> None:
        super().__init__(
            data if isinstance(data, int) else len(datasets.as_map(data)),
            global_batch_size,
            seed=seed,
            epoch_end=epoch_end,
            rank=rank,
            world_size=world_size,
        )
        self._began = (self._plan, self._step)

    def __iter__(self) -> Iterator[Any]:
        """Yield to the end of the epoch: lists of indices, or single ones."""
        self._began = (self._plan, self._step)
        epoch = self.epoch
        while (block := self._next).epoch == epoch:
            self._step += 1
            own = [
                index
                for part in rank_blocks(block, self.rank, self.world_size)
                for index in self._plan.indices(part).tolist()
            ]
            if self._size is None:
                yield from own
            else:
                yield own

    def __len__(self) -> int:
        """Return how many items an epoch has from its start, at most where ranks differ."""
        return ceil(self._plan.steps_per_epoch)

    def state_dict(self, taken: int | None = None) -> dict[str, Any]:
        """Return the position; the same on all ranks, and free of rank and world size.

        Args:
            taken: How many lists (or indices) of the present iteration were used. Without it the
                position is behind all that were drawn, and a ``DataLoader`` with processes draws
                ahead of what it hands out.

        Raises:
            UsageError: The iteration was moved meanwhile, so that a count means nothing.
        """
        if taken is None:
            return super().state_dict()
        plan, step = self._began
        if plan is not self._plan:
            raise UsageError(
                "state_dict(taken=...) after the position or the size of a turn was changed",
                hint="start a new loop over it first",
            )
        return self._state_at(plan.batch(step + taken))


class ElasticLoader(_Walk):
    """Batches of a data set at any number of ranks; its state is what was handed out.

    Each iteration goes from the position to the end of its epoch, and gives this rank's share of
    each global batch; None if the batch has too few samples for all ranks. What its processes
    have fetched ahead counts for nothing: ``state_dict`` names the sample after the last batch that
    was handed out.

    Before a batch is fetched, the generators of torch, numpy and Python are seeded from (seed,
    place in the data), so augmentation does not depend on which process loads it.

    Args:
        dataset: Map-style and sized.
        global_batch_size: Samples of a batch over all ranks.
        seed: Of the order and of random augmentation.
        epoch_end: ``short``, ``drop`` or ``carry``, as for ``ElasticSampler``.
        rank: This process's rank; by default that of the process group, or of torchrun.
        world_size: Number of processes; by default as for ``rank``.
        collate_fn: Makes a batch of a list of samples; None for torch's default.
        num_workers: DataLoader processes; 0 loads in this process.

    Examples:
        >>> loader = ElasticLoader(range(10), 4, rank=0, world_size=2)
        >>> [len(batch) for batch in loader]
        [2, 2, 1]
    """

    def __init__(  # noqa: PLR0913 - what a script configures
        self,
        dataset: object,
        global_batch_size: int,
        *,
        seed: int = 0,
        epoch_end: str = SHORT,
        rank: int | None = None,
        world_size: int | None = None,
        collate_fn: Callable[[list[Any]], Any] | None = None,
        num_workers: int = 0,
    ) -> None:
        datasets.check_workers(num_workers)
        samples = datasets.as_map(dataset)
        super().__init__(
            len(samples),
            global_batch_size,
            seed=seed,
            epoch_end=epoch_end,
            rank=rank,
            world_size=world_size,
        )
        self.batch_size = 0
        """Samples of the batch at hand over all ranks: each weighs 1 / ``batch_size``."""
        whole = BatchSplit(MicrobatchSize(None, global_batch_size, least=1))
        self._loader = BlockLoader(
            samples, self._plan, whole, collate_fn=collate_fn, num_workers=num_workers
        )
        self._moved()

    def __iter__(self) -> Iterator[Any]:
        """Yield this rank's batches to the end of the epoch."""
        epoch = self.epoch
        while (block := self._next).epoch == epoch:
            self.batch_size = block.size
            own = self._loader.share(block).blocks
            batch = self._loader.fetch(own[0]) if own else None
            self._step += 1
            yield batch

    def __len__(self) -> int:
        """Return how many batches an epoch has from its start."""
        return ceil(self._plan.steps_per_epoch)

    def close(self) -> None:
        """End the processes; the position stays."""
        self._loader.close()

    def __enter__(self) -> ElasticLoader:
        """Use it in ``with``: its processes end with the block."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the processes."""
        self.close()

    def _moved(self) -> None:
        self._loader.restart(self._step, None, self.rank, self.world_size, self._plan)


def _world(rank: int | None, world_size: int | None) -> tuple[int, int]:
    """Return rank and world size as given, of the process group, or of torchrun."""
    if rank is None or world_size is None:
        torchrun = env.read_torchrun(os.environ)
        found = (torchrun.rank, torchrun.world_size) if torchrun else (0, 1)
        if dist.is_available() and dist.is_initialized():
            found = (dist.get_rank(), dist.get_world_size())
        rank = found[0] if rank is None else rank
        world_size = found[1] if world_size is None else world_size
    if not 0 <= rank < world_size:
        raise UsageError(f"rank {rank} of {world_size} cannot be", hint="ranks count from 0")
    return rank, world_size
