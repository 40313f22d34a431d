"""Fetches a rank's micro-batches: in this process, or ahead of time in DataLoader processes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from torch.utils.data import DataLoader, Dataset

from eflib.trainer.data.feed import Feed
from eflib.trainer.data.position import Block
from eflib.trainer.data.randomness import seed_block, seed_forward

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from eflib.trainer.data.datasets import MapData
    from eflib.trainer.data.position import DataPlan
    from eflib.trainer.data.split import BatchSplit


class BlockLoader(Feed):
    """Gives the batch of a block; blocks are asked for in the order of the plan.

    With ``num_workers`` above 0, DataLoader's processes fetch ahead along the plan for this rank
    and world size. They stay over a rescale: ``restart`` turns them to the new share, and what they
    had fetched for the old one is thrown away as it arrives. The position is a count of committed
    steps, so nothing that was fetched and not used is lost.

    Args:
        dataset: Map-style data set.
        plan: Which samples a step uses.
        split: How shares are split into micro-batches.
        collate_fn: Makes a batch of a list of samples; None for torch's default.
        num_workers: DataLoader processes; 0 fetches in this process.
    """

    is_counted = True

    def __init__(
        self,
        dataset: MapData,
        plan: DataPlan,
        split: BatchSplit,
        *,
        collate_fn: Callable[[list[Any]], Any] | None,
        num_workers: int,
    ) -> None:
        super().__init__(split, collate_fn)
        self._dataset = dataset
        self._plan = plan
        self._num_workers = num_workers
        self._ahead = _Ahead(self)
        self._arriving: Iterator[tuple[_Wanted, Any]] | None = None
        self._held: tuple[_Wanted, Any] | None = None  # came before it was asked for
        self._way: tuple[Any, ...] | None = None  # of the last turn, until a block is fetched

    def restart(
        self,
        step: int,
        last_step: int | None,
        rank: int,
        world_size: int,
        plan: DataPlan | None = None,
    ) -> None:
        """Go on at ``step``, maybe along another plan of the same data set."""
        way = (plan or self._plan, step, last_step, rank, world_size, self.split.size.limit)
        if way == self._way:  # nothing was asked for since: what is under way is right
            return
        self._plan = plan or self._plan
        self._way = way
        self.place = (rank, world_size)
        self._held = None
        self._ahead.turn(step, last_step)

    def start(self, last_step: int | None, rank: int, world_size: int) -> None:
        """Start the processes and let them fetch the first steps.

        A joiner does so while it waits to be named: others do not wait for its processes then. What
        it fetched is dropped unless the job is fresh.
        """
        self.restart(0, last_step, rank, world_size)
        if self._num_workers:
            self._arriving = self._start()

    def begin(self, step: int) -> Block:
        """Return the whole batch of a step; an empty one beyond the last epoch."""
        return self._plan.batch(step)

    def commit(self) -> None:
        """Nothing to note: the position is the number of committed steps."""

    def samples(self, block: Block) -> list[tuple[int, int]]:
        """Return a block as pairs of epoch and data set index."""
        return self._plan.samples(block)

    def epoch(self, step: int, *, is_over: bool) -> int:
        """Return the epoch of a step's first sample, or of the step before it."""
        return self._plan.batch(max(0, step - is_over)).epoch

    def fetch(self, block: Block) -> object:
        """Return the batch of the next block of this rank."""
        self._way = None
        found, batch = self._await(block) if self._num_workers else (False, None)
        seed_block(self._plan.seed, block)
        if not found:
            indices = self._plan.indices(block).tolist()
            batch = self.collate(_samples(self._dataset, indices))
        seed_forward(self._plan.seed, block)
        return batch

    def close(self) -> None:
        """End the DataLoader's processes."""
        self._arriving = self._held = None

    def _await(self, block: Block) -> tuple[bool, Any]:
        """Take what arrives until the block does; (False, None) if it was not fetched ahead."""
        if self._arriving is None:
            self._arriving = self._start()
        while True:
            arrived = self._held or next(self._arriving, None)
            self._held = None
            if arrived is None:  # all was fetched up to the last step
                self._arriving = self._start() if self._ahead.has_more else None
                if self._arriving is None:
                    return False, None
                continue
            found, batch = arrived
            if (found.seed, found.block) == (self._plan.seed, block):
                return True, batch
            is_beyond = (found.block.epoch, found.block.start) > (block.epoch, block.start)
            if found.turn == self._ahead.current and is_beyond:
                self._held = arrived
                return False, None

    def _start(self) -> Iterator[tuple[_Wanted, Any]]:
        return iter(
            DataLoader(
                _Seeded(self._dataset),
                batch_sampler=self._ahead,  # type: ignore[arg-type]  # _Seeded takes what it gives
                num_workers=self._num_workers,
                collate_fn=_Labelled(self.collate),  # type: ignore[arg-type]
                worker_init_fn=self._on_start(),
            )
        )

    def wanted(self, turn: int, step: int) -> Iterator[_Wanted]:
        """Yield this rank's blocks of a step with their indices."""
        for block in self.share(self._plan.batch(step)).blocks:
            yield _Wanted(turn, self._plan.seed, block, self._plan.indices(block).tolist())


class _Wanted(NamedTuple):
    """What a DataLoader's process is asked to fetch; its name comes back with the batch."""

    turn: int
    seed: int
    block: Block
    indices: list[int]


def _samples(dataset: MapData, indices: list[int]) -> list[Any]:
    get_many: Callable[[list[int]], list[Any]] | None = getattr(dataset, "__getitems__", None)
    return get_many(indices) if get_many else [dataset[index] for index in indices]


class _Seeded(Dataset[Any]):
    """The data set in a DataLoader's process: seeded for each block, as in this process."""

    def __init__(self, dataset: MapData) -> None:
        self._dataset = dataset

    def __getitems__(self, wanted: _Wanted) -> tuple[_Wanted, Any]:
        seed_block(wanted.seed, wanted.block)
        samples = _samples(self._dataset, wanted.indices)
        return wanted._replace(indices=[]), samples


class _Labelled:
    """The collate function in a DataLoader's process; the batch keeps the name of its block."""

    def __init__(self, collate: Callable[[list[Any]], Any]) -> None:
        self._collate = collate

    def __call__(self, fetched: tuple[_Wanted, Any]) -> tuple[_Wanted, Any]:
        name, samples = fetched
        return name, self._collate(samples)


class _Ahead:
    """The blocks to fetch ahead, as a batch sampler that can be turned to another step."""

    def __init__(self, loader: BlockLoader) -> None:
        self._loader = loader
        self._next = 0
        self._last: int | None = None
        self.current = 0

    @property
    def has_more(self) -> bool:
        """True when there are steps that were not fetched yet."""
        return self._last is None or self._next < self._last

    def turn(self, step: int, last_step: int | None) -> None:
        """Go on at another step, or for another share."""
        self._next, self._last = step, last_step
        self.current += 1

    def __iter__(self) -> Iterator[_Wanted]:
        while self.has_more:
            turn = self.current
            self._next += 1
            for wanted in self._loader.wanted(turn, self._next - 1):
                yield wanted
                if turn != self.current:
                    break
