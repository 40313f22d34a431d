"""Checks of what a script hands over, each with an error that says what to do."""

from __future__ import annotations

from typing import Any

import torch

from eflib.errors import UsageError
from eflib.trainer.data.microbatch import AUTO

AUTOCAST: dict[str, torch.dtype | None] = {
    "fp32": None,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
}


def check_model(model: object, optimizer: object) -> None:
    """Refuse what is no module, no optimizer, or an optimizer of another model's parameters."""
    if not isinstance(model, torch.nn.Module):
        raise UsageError(f"model is a {type(model).__name__}, not a torch.nn.Module")
    if isinstance(model, torch.nn.parallel.DistributedDataParallel):
        raise UsageError(
            "model is wrapped in DistributedDataParallel",
            hint="pass the plain model: ElasticTrainer reduces the gradients itself",
        )
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise UsageError(f"optimizer is a {type(optimizer).__name__}, not a torch.optim.Optimizer")
    own = {id(parameter) for parameter in model.parameters()}
    held = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    if not any(id(parameter) in own for parameter in held):
        raise UsageError(
            "the optimizer holds none of the model's parameters",
            hint="make it after the model: torch.optim.Adam(model.parameters())",
        )


def check_scheduler(lr_scheduler: object) -> None:
    """Refuse a scheduler that cannot be stepped without a metric."""
    if isinstance(lr_scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau):
        raise UsageError(
            "lr_scheduler is a ReduceLROnPlateau, whose step() needs a metric",
            hint="trainer.register('plateau', scheduler), and step it in a callback's on_step_end "
            "with a value that is equal on all ranks, such as trainer.loss",
        )


def check_end(max_steps: object, max_epochs: object) -> None:
    """Exactly one end must be given, of at least 1."""
    if (max_steps is None) == (max_epochs is None):
        raise UsageError("give max_steps or max_epochs, one of the two")
    for name, value in (("max_steps", max_steps), ("max_epochs", max_epochs)):
        if value is not None and not (isinstance(value, int) and value >= 1):
            raise UsageError(f"{name} is {value!r}; a whole number of at least 1 is needed")


def check_workers(num_workers: int) -> None:
    """Check the number of DataLoader processes."""
    if num_workers < 0:
        raise UsageError(f"num_workers is {num_workers}; at least 0 is needed")


def check_numbers(
    *,
    num_workers: int,
    max_microbatch_size: int | str | None,
    precision: str,
    num_shards: int | None = None,
    sync_batchnorm: bool = False,
) -> None:
    """Check the smaller settings."""
    check_workers(num_workers)
    if isinstance(max_microbatch_size, str):
        if max_microbatch_size != AUTO:
            raise UsageError(
                f"max_microbatch_size is {max_microbatch_size!r}", hint="a number, 'auto' or None"
            )
    elif max_microbatch_size is not None and max_microbatch_size < 1:
        raise UsageError(f"max_microbatch_size is {max_microbatch_size}; at least 1 is needed")
    if num_shards is not None and num_shards < 1:
        raise UsageError(f"num_shards is {num_shards}; at least 1 is needed")
    if num_shards is not None and max_microbatch_size == AUTO:
        raise UsageError(
            "max_microbatch_size='auto' with deterministic=True: what fits would decide the bits",
            hint="give a number, or None",
        )
    if sync_batchnorm and (num_shards is not None or max_microbatch_size == AUTO):
        other = "deterministic=True" if num_shards is not None else "max_microbatch_size='auto'"
        raise UsageError(
            f"sync_batchnorm=True with {other}: all ranks must make the same passes",
            hint="choose one of the two",
        )
    if precision not in AUTOCAST:
        raise UsageError(f"precision is {precision!r}", hint=f"choose from {', '.join(AUTOCAST)}")


def least_share(model: torch.nn.Module) -> int:
    """Return how many samples a rank should hold at least: BatchNorm cannot train on one."""
    normalised = torch.nn.modules.batchnorm._BatchNorm
    own = [one for one in model.modules() if isinstance(one, normalised)]
    return 2 if any(not isinstance(one, torch.nn.SyncBatchNorm) for one in own) else 1


def check_parallel(
    parallel: str,
    *,
    deterministic: bool,
    sync_batchnorm: bool,
    precision: str,
    max_microbatch_size: object,
) -> None:
    """Refuse what a sharded model cannot do."""
    if parallel not in {"ddp", "fsdp"}:
        raise UsageError(f"parallel is {parallel!r}", hint="choose from ddp, fsdp")
    if parallel == "ddp":
        return
    for what, is_asked in (
        ("deterministic=True", deterministic),
        ("sync_batchnorm=True", sync_batchnorm),
        ("precision='fp16'", precision == "fp16"),
        ("max_microbatch_size='auto'", isinstance(max_microbatch_size, str)),
    ):
        if is_asked:
            raise UsageError(
                f"parallel='fsdp' does not go with {what}",
                hint="FSDP2 fixes which rank sums what, and when; use parallel='ddp' for that",
            )


def check_keep(keep_checkpoints: object) -> None:
    """At least one checkpoint must be kept."""
    if not isinstance(keep_checkpoints, int) or keep_checkpoints < 1:
        raise UsageError(f"keep_checkpoints is {keep_checkpoints!r}; at least 1 is needed")


def check_length(max_steps: int, *, elastic: bool) -> None:
    """Under eflaunch the number of steps must be known: a deadline is about all of them."""
    if elastic and not max_steps:
        raise UsageError(
            "max_epochs is given, and the data set does not know its length",
            hint="give max_steps, or the iterable data set a __len__ (samples of an epoch)",
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
    """Return ``len(dataset)``."""
    if not hasattr(dataset, "__getitem__") or not hasattr(dataset, "__len__"):
        raise UsageError(
            f"the data set ({type(dataset).__name__}) is not map-style",
            hint="it needs __len__ and __getitem__, or an __iter__ that begins anew each epoch",
        )
    return len(dataset)


def choose_device(device: torch.device | str | None, local_rank: int) -> torch.device:
    """Return where to train: as asked, else this worker's GPU, else the CPU."""
    if device is not None:
        return torch.device(device)
    if torch.cuda.is_available():
        return torch.device("cuda", local_rank % torch.cuda.device_count())
    return torch.device("cpu")


def split_batch(batch: Any) -> tuple[Any, Any]:  # noqa: ANN401 - whatever the data set gives
    """Return (inputs, targets) of a batch for ``fit``."""
    if isinstance(batch, (list, tuple)) and len(batch) == 2:
        return batch[0], batch[1]
    raise UsageError(
        f"fit() needs batches of (inputs, targets), not a {type(batch).__name__}",
        hint="use the loop form: for batch in trainer: ...; trainer.step(loss)",
    )


def call_model(model: torch.nn.Module, inputs: Any) -> Any:  # noqa: ANN401
    """Call the model with inputs: a dict as keywords, a tuple or list as positions."""
    if isinstance(inputs, dict):
        return model(**inputs)
    if isinstance(inputs, (list, tuple)):
        return model(*inputs)
    return model(inputs)
