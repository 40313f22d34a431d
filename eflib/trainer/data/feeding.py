"""Chooses how a data set is fed to the steps: as a map or as a stream."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from eflib.trainer.data import datasets
from eflib.trainer.data.loader import BlockLoader
from eflib.trainer.data.position import DataPlan
from eflib.trainer.data.stream import Source, StreamLoader

if TYPE_CHECKING:
    from collections.abc import Callable

    from eflib.trainer.data.feed import Feed
    from eflib.trainer.data.split import BatchSplit


def make_feed(  # noqa: PLR0913 - what a script says of its data
    dataset: object,
    split: BatchSplit,
    *,
    global_batch_size: int,
    seed: int,
    epoch_end: str,
    max_epochs: int | None,
    is_endless: bool,
    collate_fn: Callable[[list[Any]], Any] | None,
    num_workers: int,
) -> Feed:
    """Return the feed of a data set; the settings are those of ``ElasticTrainer``.

    Args:
        dataset: Map-style or iterable.
        split: How shares are split into micro-batches.
        global_batch_size: Samples of a step over all ranks.
        seed: Of the order, and of what the data set draws.
        epoch_end: What happens at the end of an epoch.
        max_epochs: Where the data ends, or None.
        is_endless: True to go on beyond ``max_epochs``, which then tells the length alone.
        collate_fn: Makes a batch of a list of samples, or None.
        num_workers: DataLoader processes.

    Raises:
        UsageError: The data set is neither, or a setting cannot be.
    """
    datasets.check_kind(dataset)
    end = None if is_endless else max_epochs
    feed: Feed
    if datasets.is_stream(dataset):
        size = datasets.stream_length(dataset)
        # Where the length is unknown, the plan checks the settings alone.
        known = max(1, global_batch_size) if size is None else size
        plan = DataPlan(known, global_batch_size, seed, epoch_end, end)
        source = Source(dataset, global_batch_size, seed, epoch_end, end)
        feed = StreamLoader(source, split, collate_fn=collate_fn, num_workers=num_workers)
    else:
        samples = datasets.as_map(dataset)
        size = len(samples)
        plan = DataPlan(size, global_batch_size, seed, epoch_end, end)
        feed = BlockLoader(samples, plan, split, collate_fn=collate_fn, num_workers=num_workers)
    feed.num_samples = size
    feed.num_steps = plan.steps_in(max_epochs) if max_epochs and size is not None else None
    return feed
