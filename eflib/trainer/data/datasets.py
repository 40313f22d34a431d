"""What a data set is: a map, a stream, or something that cannot be used as one."""

from __future__ import annotations

from collections.abc import Iterator, Sized
from typing import Protocol, TypeGuard, runtime_checkable

import torch

from eflib.errors import UsageError
from eflib.trainer.values import whole_number

MAX_WORKERS = 1024


@runtime_checkable
class MapData(Protocol):
    """A data set with items; ``__getitems__`` for several at once is used where it is there."""

    def __len__(self) -> int:
        """Return the number of samples."""

    def __getitem__(self, index: int, /) -> object:
        """Return a sample."""


class Resumable(Protocol):
    """A stream, or its iterator, that knows its own place."""

    def state_dict(self) -> object:
        """Return the place."""

    def load_state_dict(self, state_dict: object, /) -> object:
        """Go to a place."""


class StreamData(Protocol):
    """A data set that is read from its start for each epoch."""

    def __iter__(self) -> Iterator[object]:
        """Begin an epoch."""


def check_workers(num_workers: object) -> int:
    """Return the number of DataLoader processes.

    Raises:
        UsageError: It is not an integer from 0 to 1024.
    """
    return whole_number("num_workers", num_workers, least=0, most=MAX_WORKERS)


def check_kind(dataset: object) -> None:
    """Refuse what gives batches where samples are needed.

    Raises:
        UsageError: It is a DataLoader.
    """
    if isinstance(dataset, torch.utils.data.DataLoader):
        size = dataset.batch_size
        raise UsageError(
            "dataset is a DataLoader, which gives batches; samples are needed",
            hint="pass loader.dataset, and the samples of a step over all workers as "
            f"global_batch_size (the loader's batch_size is {size})",
        )


def is_stream(dataset: object) -> TypeGuard[StreamData]:
    """True for a data set that can be iterated anew for each epoch and is not map-style."""
    if isinstance(dataset, torch.utils.data.IterableDataset):
        return True
    is_iterable = hasattr(dataset, "__iter__") and not hasattr(dataset, "__next__")
    return is_iterable and not hasattr(dataset, "__getitem__")


def stream_length(dataset: StreamData) -> int | None:
    """Return the samples of an epoch of a stream, or None where it does not say."""
    try:
        return len(dataset) if isinstance(dataset, Sized) else None
    except (TypeError, NotImplementedError):
        return None


def as_map(dataset: object) -> MapData:
    """Return a data set that has items and a length.

    Raises:
        UsageError: It lacks one of them, or gives batches.
    """
    check_kind(dataset)
    if not isinstance(dataset, MapData):
        raise UsageError(
            f"the data set ({type(dataset).__name__}) is not map-style",
            hint="it needs __len__ and __getitem__, or an __iter__ that starts over each epoch",
        )
    try:
        len(dataset)
    except (NotImplementedError, TypeError, ValueError) as error:
        raise UsageError(
            f"the length of the data set ({type(dataset).__name__}) cannot be had: "
            f"{type(error).__name__}: {error}",
            hint="let __len__ return the number of samples, an int of at least 0",
        ) from None
    return dataset
