"""What a data set is: a map, a stream, or something that cannot be used as one."""

from __future__ import annotations

from typing import Any

import torch

from eflib.errors import UsageError
from eflib.trainer.values import whole_number

MAX_WORKERS = 1024


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


def is_stream(dataset: Any) -> bool:  # noqa: ANN401 - a user's class
    """True for a data set that can be iterated anew for each epoch and is not map-style."""
    if isinstance(dataset, torch.utils.data.IterableDataset):
        return True
    is_iterable = hasattr(dataset, "__iter__") and not hasattr(dataset, "__next__")
    return is_iterable and not hasattr(dataset, "__getitem__")


def dataset_length(dataset: Any) -> int | None:  # noqa: ANN401 - a user's class
    """Return ``len(dataset)``, or None where it has none."""
    try:
        return len(dataset)
    except (TypeError, NotImplementedError):
        return None


def dataset_size(dataset: Any) -> int:  # noqa: ANN401 - a user's class
    """Return ``len(dataset)`` of a map-style data set.

    Raises:
        UsageError: It has no length, or no items.
    """
    check_kind(dataset)
    if not hasattr(dataset, "__getitem__") or not hasattr(dataset, "__len__"):
        raise UsageError(
            f"the data set ({type(dataset).__name__}) is not map-style",
            hint="it needs __len__ and __getitem__, or an __iter__ that begins anew each epoch",
        )
    return len(dataset)
