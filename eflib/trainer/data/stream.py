"""Feeds steps from an iterable data set: all ranks read one stream, each keeps its share.

The position is what was committed, not what was read: a step whose peers failed is given again, and
what a process read ahead is read again by whoever goes on.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from itertools import chain, count
from typing import TYPE_CHECKING, Any, TypeGuard

from torch.utils.data import DataLoader, IterableDataset

from eflib.errors import UsageError
from eflib.trainer.data.feed import Feed
from eflib.trainer.data.position import CARRY, DROP, SHORT, Block
from eflib.trainer.data.randomness import seed_block, seed_forward

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from eflib.trainer.data.datasets import Resumable, StreamData
    from eflib.trainer.data.split import BatchSplit, StepShare


@dataclass(frozen=True)
class StreamPosition:
    """A place in the stream: the next sample, and the data set's own state there, if it has one."""

    epoch: int = 0
    place: int = 0
    state: object = None


@dataclass(frozen=True)
class Source:
    """A stream and how it is divided into steps.

    Args:
        dataset: Iterable anew for each epoch, alike on all ranks.
        global_batch_size: Samples of a step over all ranks.
        seed: Of what the data set draws while it is read.
        epoch_end: ``carry``, ``short`` or ``drop``, as in ``DataPlan``.
        max_epochs: Where the data ends; None for no end.
    """

    dataset: StreamData
    global_batch_size: int
    seed: int = 0
    epoch_end: str = CARRY
    max_epochs: int | None = None


@dataclass(frozen=True)
class Portion:
    """The samples of one step, and the position behind them."""

    block: Block
    runs: tuple[tuple[int, int, int], ...]  # (epoch, start, stop) each
    samples: list[Any]
    after: StreamPosition


class Reader:
    """Reads a stream step by step from a position on.

    Args:
        source: The stream.
        position: Where to begin. Without a state of the data set the epoch is read from its start,
            and what was used is skipped.
    """

    def __init__(self, source: Source, position: StreamPosition) -> None:
        self._source = source
        self._epoch, self._place = position.epoch, position.place
        self._iterator: Any = None  # a user's
        self._position = position
        self._is_resumed = False

    def read(self) -> Portion:
        """Read the samples of a step; an empty portion when the data has come to its end.

        Raises:
            UsageError: An epoch is empty, or has too few samples for one batch under ``drop``.
        """
        size = self._source.global_batch_size
        first = (self._epoch, self._place)
        runs: list[tuple[int, int, int]] = []
        samples: list[Any] = []
        while len(samples) < size and not self._has_ended:
            self._open()
            seed_block(self._source.seed, Block(self._epoch, self._place, self._place))
            start = self._place
            more = self._take(size - len(samples))
            samples += more
            if more:
                runs.append((self._epoch, start, self._place))
            if len(samples) == size:
                break
            self._end_epoch()
            if self._source.epoch_end == SHORT and samples:
                break
            if self._source.epoch_end == DROP or not samples:
                first, runs, samples = (self._epoch, 0), [], []
        block = Block(*first, first[1] + len(samples))
        return Portion(block, tuple(runs), samples, self._here())

    @property
    def _has_ended(self) -> bool:
        last = self._source.max_epochs
        return last is not None and self._epoch >= last

    def _take(self, most: int) -> list[Any]:
        taken = []
        for sample in self._iterator:
            taken.append(sample)
            self._place += 1
            if len(taken) == most:
                break
        return taken

    def _end_epoch(self) -> None:
        size, end = self._source.global_batch_size, self._source.epoch_end
        self._iterator = None
        if self._place == 0 and self._is_resumed:
            self._is_resumed = False  # its state was of an epoch's end: this begins the next
            return
        if self._place == 0:
            raise UsageError(
                f"the data set gave no sample in epoch {self._epoch}",
                hint="iter(dataset) must start over for each epoch",
            )
        if end == DROP and self._place < size:
            raise UsageError(
                f"epoch_end='drop' drops all {self._place} samples: global_batch_size is {size}",
                hint="use a smaller global batch, or epoch_end='carry'",
            )
        self._epoch, self._place = self._epoch + 1, 0

    def _open(self) -> None:
        """Begin an epoch, or go on in one."""
        if self._iterator is not None:
            return
        dataset, position = self._source.dataset, self._position
        self._position = StreamPosition()
        set_epoch = getattr(dataset, "set_epoch", None)
        if callable(set_epoch):
            set_epoch(self._epoch)
        seed_block(self._source.seed, Block(self._epoch, 0, 0))
        self._is_resumed = position.state is not None
        if self._is_resumed and _has_state(dataset):
            dataset.load_state_dict(deepcopy(position.state))
        self._iterator = iter(dataset)
        if self._is_resumed and not _has_state(dataset):
            self._iterator.load_state_dict(deepcopy(position.state))
        elif not self._is_resumed:
            self._skip(self._place)

    def _skip(self, target: int) -> None:
        """Read again what was used, drawing what was drawn then: seeded at each step's start."""
        size = self._source.global_batch_size
        self._place = 0
        for stop in chain(range(target % size, target, size), [target]):
            if stop > self._place:
                seed_block(self._source.seed, Block(self._epoch, self._place, self._place))
                self._take(stop - self._place)
        if self._place < target:
            raise UsageError(
                f"epoch {self._epoch} of the data set ended after {self._place} samples; "
                f"{target} of it were used before",
                hint="the stream must be the same whenever it is read",
            )

    def _here(self) -> StreamPosition:
        held: object = self._source.dataset
        if not _has_state(held):
            held = self._iterator
        state = deepcopy(held.state_dict()) if _has_state(held) else None
        return StreamPosition(self._epoch, self._place, state)


def _has_state(held: object) -> TypeGuard[Resumable]:
    return all(callable(getattr(held, name, None)) for name in ("state_dict", "load_state_dict"))


class StreamLoader(Feed):
    """Gives each step's samples from a stream; its state travels and is saved with the job's.

    Args:
        source: The stream.
        split: How shares are split into micro-batches.
        collate_fn: Makes a batch of a list of samples; None for torch's default.
        num_workers: 1 reads ahead in a DataLoader's process; 0 reads in this one.

    Raises:
        UsageError: More than one process was asked for.
    """

    is_counted = False

    def __init__(
        self,
        source: Source,
        split: BatchSplit,
        *,
        collate_fn: Callable[[list[Any]], Any] | None,
        num_workers: int,
    ) -> None:
        super().__init__(split, collate_fn)
        if num_workers > 1:
            raise UsageError(
                f"num_workers is {num_workers}; an iterable data set is read by 0 or 1",
                hint="several processes would each read the whole stream; a map-style data set can "
                "have any number",
            )
        self._source = source
        self._is_ahead = num_workers == 1
        self._committed = StreamPosition()
        self._reader: Reader | None = None
        self._arriving: Iterator[tuple[Portion, dict[Block, Any]]] | None = None
        self._portion: Portion | None = None
        self._batches: dict[Block, Any] = {}
        self._first = Block(0, 0, 0)  # of the step begun last, for the record
        self._runs: tuple[tuple[int, int, int], ...] = ()

    def restart(self, step: int, last_step: int | None, rank: int, world_size: int) -> None:
        """Go on behind the last committed step with another share."""
        del step, last_step
        if self.place != (rank, world_size):
            self.place = (rank, world_size)
            if self._is_ahead:  # what is read ahead was split for the old share
                self._forget()

    def start(self, last_step: int | None, rank: int, world_size: int) -> None:
        """Read nothing yet: where to begin is not known before the ranks have met."""

    def begin(self, step: int) -> Block:
        """Return the whole batch of the step at hand, read now or read already."""
        del step
        if self._portion is None:
            self._portion, self._batches = self._next_portion()
            if self._portion.block.size:
                self._first, self._runs = self._portion.block, self._portion.runs
        return self._portion.block

    def fetch(self, block: Block) -> object:
        """Return the batch of a block of the step at hand."""
        portion = self._portion
        if portion is None:
            raise LookupError("fetch() before begin()")
        if block in self._batches:
            again = block in self.share(portion.block).padding
            batch = self._batches[block] if again else self._batches.pop(block)
        else:
            if len(portion.samples) != portion.block.size:  # they stayed in the process
                self._arriving = None
                portion = self._portion = Reader(self._source, self._committed).read()
            start = block.start - portion.block.start
            seed_block(self._source.seed, block)
            batch = self.collate(portion.samples[start : start + block.size])
        seed_forward(self._source.seed, block)
        return batch

    def commit(self) -> None:
        """Go on behind the step at hand."""
        if self._portion is not None:
            self._committed = self._portion.after
        self._portion = None

    def samples(self, block: Block) -> list[tuple[int, int]]:
        """Return a block of the step begun last as pairs of epoch and place in the stream."""
        pairs = [(epoch, place) for epoch, low, high in self._runs for place in range(low, high)]
        start = block.start - self._first.start
        return pairs[start : start + block.size]

    def epoch(self, step: int, *, is_over: bool) -> int:
        """Return the epoch of the step that was begun, or else of the place behind the last one.

        Where a step ended with the last sample of an epoch, only reading on tells that it did.
        """
        del step
        if is_over:
            return self._first.epoch
        return self._portion.block.epoch if self._portion else self._committed.epoch

    def close(self) -> None:
        """End the DataLoader's process."""
        self._arriving = None

    def state_dict(self) -> dict[str, Any]:
        """Return the committed position; the same on all ranks."""
        position = self._committed
        return {"epoch": position.epoch, "place": position.place, "dataset": position.state}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a position that any rank committed."""
        position = StreamPosition(state_dict["epoch"], state_dict["place"], state_dict["dataset"])
        self._committed = position
        self._reader = self._arriving = self._portion = None

    def _forget(self) -> None:
        """Drop what was read beyond the committed position by the process."""
        self._arriving = None
        if self._is_ahead:
            self._portion = None

    def _next_portion(self) -> tuple[Portion, dict[Block, Any]]:
        if not self._is_ahead:
            self._reader = self._reader or Reader(self._source, self._committed)
            return self._reader.read(), {}
        if self._arriving is None:
            rank, world_size = self.place
            share = partial(self.split.share, rank=rank, world_size=world_size)
            self._arriving = iter(
                DataLoader(
                    _Ahead(self._source, self._committed, share, self.collate),
                    batch_size=None,
                    collate_fn=_same,
                    num_workers=1,
                    worker_init_fn=self._on_start(),
                )
            )
        return next(self._arriving)


class _Ahead(IterableDataset[Any]):
    """The portions of a stream in a DataLoader's process, this rank's share made into batches."""

    def __init__(
        self,
        source: Source,
        position: StreamPosition,
        share: Callable[[Block], StepShare],
        collate: Callable[[list[Any]], Any],
    ) -> None:
        self._source = source
        self._position = position
        self._share = share
        self._collate = collate

    def __iter__(self) -> Iterator[tuple[Portion, dict[Block, Any]]]:
        reader = Reader(self._source, self._position)
        for _ in count():
            portion = reader.read()
            batches = {}
            share = self._share(portion.block)
            for block in (*share.blocks, *share.padding[:1]):  # padding is one block, repeated
                start = block.start - portion.block.start
                seed_block(self._source.seed, block)
                batches[block] = self._collate(portion.samples[start : start + block.size])
            yield Portion(portion.block, portion.runs, [], portion.after), batches
            if portion.block.size == 0:
                return


def _same(item: object) -> object:
    return item
