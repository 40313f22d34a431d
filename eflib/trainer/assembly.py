"""Puts a trainer together from what a script gives."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING, Any

import torch

from eflib import env
from eflib.messages.generations import PROFILE
from eflib.trainer.checkpointing import CheckpointSchedule
from eflib.trainer.configuration import check_length, check_memory, choose_device
from eflib.trainer.data.feeding import make_feed
from eflib.trainer.data.microbatch import MicrobatchSize
from eflib.trainer.data.split import BatchSplit
from eflib.trainer.data.stream import StreamLoader
from eflib.trainer.elastic.elastic_session import session_of
from eflib.trainer.run import Parts
from eflib.trainer.state.sharded_state import ShardedState
from eflib.trainer.state.state import Stateful, TrainingState
from eflib.trainer.step.deterministic import fix_arithmetic
from eflib.trainer.step.forward import ForwardPass
from eflib.trainer.step.sync_batchnorm import convert
from eflib.trainer.step.update import Schedule, Update

if TYPE_CHECKING:
    from collections.abc import Callable

    from eflib.trainer.configuration import TrainerSettings
    from eflib.trainer.elastic.session import Session

_NORMALISED = (
    torch.nn.BatchNorm1d,
    torch.nn.BatchNorm2d,
    torch.nn.BatchNorm3d,
    torch.nn.LazyBatchNorm1d,
    torch.nn.LazyBatchNorm2d,
    torch.nn.LazyBatchNorm3d,
)


def assemble(  # noqa: PLR0913 - what a script hands over beside its settings
    settings: TrainerSettings,
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    dataset: object,
    *,
    loss_fn: Callable[[Any, Any], Any] | None,
    lr_scheduler: Schedule | None,
    collate_fn: Callable[[list[Any]], Any] | None,
    device: torch.device | str | None,
) -> Parts:
    """Return the parts of a trainer; nothing is started.

    Args:
        settings: The values that were checked.
        model: Moved to the device, unless it is to be sharded: that goes layer by layer.
        optimizer: Of its parameters.
        dataset: The data.
        loss_fn: For ``fit``, or None.
        lr_scheduler: Or None.
        collate_fn: Or None for torch's default.
        device: Where to train; None to choose.

    Raises:
        UsageError: The data cannot be used, or model and settings do not go together.
    """
    session = session_of(os.environ)
    place = choose_device(device, session.local_rank)
    if settings.deterministic:
        fix_arithmetic(place, os.environ)
    if not settings.is_sharded:
        check_memory(model)
        model.to(place)
    least = least_share(model)
    rank_sum = convert(model) if settings.sync_batchnorm else None
    size = MicrobatchSize(settings.max_microbatch_size, settings.global_batch_size, least)
    is_measuring = session.mode == PROFILE
    split = BatchSplit(
        size,
        least,
        settings.shards,
        even=settings.sync_batchnorm or settings.is_sharded,
        padded=settings.is_sharded,
    )
    feed = make_feed(
        dataset,
        split,
        global_batch_size=settings.global_batch_size,
        seed=settings.seed,
        epoch_end=settings.epoch_end,
        max_epochs=settings.max_epochs,
        is_endless=is_measuring,
        collate_fn=collate_fn,
        num_workers=settings.num_workers,
    )
    max_steps = settings.max_steps or feed.num_steps or 0
    check_length(max_steps, elastic=session.elastic)
    scaler = torch.amp.GradScaler(place.type, enabled=settings.precision == "fp16")
    travelling: dict[str, Stateful] = {"optimizer": optimizer, "microbatch": size}
    if lr_scheduler is not None:
        travelling["lr_scheduler"] = lr_scheduler
    if scaler.is_enabled():
        travelling["scaler"] = scaler
    if isinstance(feed, StreamLoader):
        travelling["data"] = feed
    sharded = (
        ShardedState(model, travelling, device=place, layers=settings.fsdp_layers)
        if settings.is_sharded
        else None
    )
    return Parts(
        settings=settings,
        device=place,
        model=model,
        session=session,
        state=sharded or TrainingState(model, travelling),
        sharded=sharded,
        size=size,
        feed=feed,
        forward=ForwardPass(model, place, settings.precision, loss_fn),
        scaler=scaler,
        rank_sum=rank_sum,
        update=Update(
            model,
            optimizer,
            scaler,
            lr_scheduler=lr_scheduler,
            max_grad_norm=settings.max_grad_norm,
        ),
        checkpoints=CheckpointSchedule(
            settings.checkpoint_dir or session.checkpoint_dir,
            seconds=settings.checkpoint_seconds,
            keep=settings.keep_checkpoints,
            all_write=settings.is_sharded,
            is_measuring=is_measuring,
            owner=_owner(session),
        ),
        max_steps=max_steps,
        ends_by_steps=settings.max_steps is not None or feed.is_counted,
    )


def _owner(session: Session) -> str:
    """Return what this worker's job is called in its checkpoint folder; "" if it holds none."""
    worker = env.read_worker(os.environ)
    if worker is not None:
        return f"job {worker.job}"
    return f"process {os.getpid()} on {socket.gethostname()}" if session.rank == 0 else ""


def least_share(model: torch.nn.Module) -> int:
    """Return how many samples a rank should hold at least: BatchNorm cannot train on one."""
    return 2 if any(isinstance(one, _NORMALISED) for one in model.modules()) else 1
