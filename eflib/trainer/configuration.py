"""What a script asks of a trainer, checked once before anything starts."""

from __future__ import annotations

import inspect
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeGuard

import torch

from eflib.errors import UsageError
from eflib.trainer.data.datasets import check_workers
from eflib.trainer.data.microbatch import AUTO
from eflib.trainer.data.position import CARRY, EPOCH_ENDS
from eflib.trainer.step.deterministic import NUM_SHARDS
from eflib.trainer.step.forward import AUTOCAST
from eflib.trainer.values import choice, function, number, truth, whole_number

if TYPE_CHECKING:
    from collections.abc import Callable

    from eflib.trainer.callback import Callback

REPLICATED, FSDP = "ddp", "fsdp"
MAX_BATCH = 2**24
"""Most samples of a step: float32 gradients carry their number, and count exactly to here."""
MAX_STEPS = 10**12
MAX_SEED = 2**64 - 1
_CALLBACK_METHODS = ("on_step_end", "on_rescale", "on_fit_end")


@dataclass(frozen=True)
class TrainerSettings:
    """The values that a script gives; ``ElasticTrainer`` says what each means.

    Raises:
        UsageError: A value cannot be used; the message names it.
    """

    global_batch_size: int
    max_steps: int | None = None
    max_epochs: int | None = None
    seed: int = 0
    num_workers: int = 0
    max_microbatch_size: int | str | None = None
    epoch_end: str = CARRY
    precision: str = "fp32"
    max_grad_norm: float | None = None
    checkpoint_dir: str = ""
    checkpoint_seconds: float = 300.0
    keep_checkpoints: int = 2
    step_seconds: float | None = 300.0
    deterministic: bool = False
    num_shards: int = NUM_SHARDS
    sync_batchnorm: bool = False
    parallel: str = REPLICATED
    fsdp_layers: Sequence[str] | None = field(default=None)

    def __post_init__(self) -> None:
        self._check_numbers()
        self._check_end()
        self._check_choices()
        self._check_together()

    @property
    def is_sharded(self) -> bool:
        """True when each rank holds its rows of the state alone."""
        return self.parallel == FSDP

    @property
    def shards(self) -> int | None:
        """Number of virtual shards; None outside deterministic mode."""
        return self.num_shards if self.deterministic else None

    def _set(self, name: str, value: object) -> None:
        """Keep a value in its plain type: an int for numpy's integers."""
        object.__setattr__(self, name, value)

    def _check_numbers(self) -> None:
        for name, least, most in (
            ("global_batch_size", 1, MAX_BATCH),
            ("seed", 0, MAX_SEED),
            ("keep_checkpoints", 1, 10**6),
            ("num_shards", 1, 10**6),
        ):
            self._set(name, whole_number(name, getattr(self, name), least=least, most=most))
        self._set("num_workers", check_workers(self.num_workers))
        size = self.max_microbatch_size
        if isinstance(size, str) and size != AUTO:
            raise UsageError(f"max_microbatch_size is {size!r}", hint="a number, 'auto' or None")
        if size is not None and not isinstance(size, str):
            hint = "give a number from 1 on, 'auto' or None"
            limit = whole_number("max_microbatch_size", size, least=1, most=MAX_BATCH, hint=hint)
            self._set("max_microbatch_size", limit)
        if self.max_grad_norm is not None:
            hint = "give the largest norm that gradients may have, or None for no clipping"
            norm = number("max_grad_norm", self.max_grad_norm, above=True, hint=hint, finite=False)
            self._set("max_grad_norm", norm)
        hint = "give the least seconds between two checkpoints"
        seconds = number(
            "checkpoint_seconds", self.checkpoint_seconds, above=False, hint=hint, finite=False
        )
        self._set("checkpoint_seconds", seconds)
        if self.step_seconds is not None:
            hint = "give the longest seconds of one step, or None for any time"
            self._set(
                "step_seconds", number("step_seconds", self.step_seconds, above=True, hint=hint)
            )

    def _check_end(self) -> None:
        if (self.max_steps is None) == (self.max_epochs is None):
            raise UsageError(
                "give max_steps or max_epochs, one of the two",
                hint="max_steps counts optimizer steps, max_epochs passes over the data",
            )
        for name in ("max_steps", "max_epochs"):
            if getattr(self, name) is not None:
                value = whole_number(name, getattr(self, name), least=1, most=MAX_STEPS)
                self._set(name, value)

    def _check_choices(self) -> None:
        choice("epoch_end", self.epoch_end, EPOCH_ENDS)
        choice("precision", self.precision, AUTOCAST)
        choice("parallel", self.parallel, (REPLICATED, FSDP))
        truth("deterministic", self.deterministic)
        truth("sync_batchnorm", self.sync_batchnorm)
        if self.fsdp_layers is not None and not _are_names(self.fsdp_layers):
            raise UsageError(
                f"fsdp_layers is {self.fsdp_layers!r}",
                hint="give a list of names, such as ['blocks.*']",
            )

    def _check_together(self) -> None:
        is_auto = self.max_microbatch_size == AUTO
        if self.deterministic and is_auto:
            raise UsageError(
                "max_microbatch_size='auto' with deterministic=True: "
                "what fits would decide the bits",
                hint="give a number, or None",
            )
        if self.sync_batchnorm and (self.deterministic or is_auto):
            other = "deterministic=True" if self.deterministic else "max_microbatch_size='auto'"
            raise UsageError(
                f"sync_batchnorm=True with {other}: all ranks must make the same passes",
                hint="choose one of the two",
            )
        for what, is_asked in (
            ("deterministic=True", self.deterministic),
            ("sync_batchnorm=True", self.sync_batchnorm),
            ("precision='fp16'", self.precision == "fp16"),
            ("max_microbatch_size='auto'", is_auto),
        ):
            if self.is_sharded and is_asked:
                raise UsageError(
                    f"parallel='fsdp' does not go with {what}",
                    hint="FSDP2 fixes which rank sums what, and when; use parallel='ddp' for that",
                )


def _are_names(value: object) -> bool:
    if isinstance(value, str) or not isinstance(value, Sequence):
        return False
    return all(isinstance(one, str) for one in value)


def check_model(model: object, optimizer: object) -> None:
    """Refuse a model or an optimizer that cannot be trained as they are.

    Raises:
        UsageError: Not a module or not an optimizer, an optimizer of other parameters or one whose
            step() needs a closure, or a model that is wrapped already.
    """
    if not isinstance(model, torch.nn.Module):
        raise UsageError(
            f"model is a {type(model).__name__}, not a torch.nn.Module",
            hint="pass the model first, then its optimizer, then the data set",
        )
    if isinstance(model, torch.nn.parallel.DistributedDataParallel):
        raise UsageError(
            "model is wrapped in DistributedDataParallel",
            hint="pass the plain model: ElasticTrainer reduces the gradients itself",
        )
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise UsageError(
            f"optimizer is a {type(optimizer).__name__}, not a torch.optim.Optimizer",
            hint="pass one of torch.optim, such as torch.optim.Adam(model.parameters())",
        )
    _check_closure(optimizer)
    own = {id(parameter) for parameter in model.parameters()}
    held = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    if not any(id(parameter) in own for parameter in held):
        raise UsageError(
            "the optimizer holds none of the model's parameters",
            hint="make it after the model: torch.optim.Adam(model.parameters())",
        )


def _check_closure(optimizer: torch.optim.Optimizer) -> None:
    """Refuse an optimizer that evaluates the model by itself: a step has one set of gradients."""
    try:
        closure = inspect.signature(type(optimizer).step).parameters.get("closure")
    except (TypeError, ValueError):  # not a Python function: nobody can tell
        return
    if closure is not None and closure.default is inspect.Parameter.empty:
        raise UsageError(
            f"optimizer is a {type(optimizer).__name__}, whose step() needs a closure",
            hint="use one that takes a single set of gradients a step, such as torch.optim.Adam",
        )


def check_memory(model: torch.nn.Module) -> None:
    """Refuse a model without values, where nothing gives it any.

    Raises:
        UsageError: A parameter or buffer is on the meta device.
    """
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if tensor.is_meta:
            raise UsageError(
                f"{name} of the model is on the meta device and has no values",
                hint="build the model outside of torch.device('meta'), or load its weights first",
            )


def check_scheduler(lr_scheduler: object) -> None:
    """Refuse a scheduler that cannot be stepped without a metric.

    Raises:
        UsageError: It is one, or no scheduler at all.
    """
    if lr_scheduler is None:
        return
    if isinstance(lr_scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau):
        raise UsageError(
            "lr_scheduler is a ReduceLROnPlateau, whose step() needs a metric",
            hint="trainer.register('plateau', scheduler), and step it in a callback's on_step_end "
            "with a value that is equal on all ranks, such as trainer.loss",
        )
    for method in ("step", "state_dict", "load_state_dict"):
        if not callable(getattr(lr_scheduler, method, None)):
            raise UsageError(
                f"lr_scheduler is a {type(lr_scheduler).__name__}, which has no {method}()",
                hint="pass one of torch.optim.lr_scheduler, or None",
            )


def check_functions(
    loss_fn: Callable[..., object] | None, collate_fn: Callable[..., object] | None
) -> None:
    """Check what the trainer calls.

    Raises:
        UsageError: One cannot be called.
    """
    function("loss_fn", loss_fn)
    function("collate_fn", collate_fn)


def read_callbacks(callbacks: object) -> list[Callback]:
    """Return the callbacks as a list.

    Raises:
        UsageError: It is not a list of them, or one lacks a method.
    """
    if not isinstance(callbacks, Iterable):
        raise UsageError(
            f"callbacks is a {type(callbacks).__name__}, not a list", hint="pass callbacks=[...]"
        )
    return [one for one in callbacks if _is_callback(one)]


def _is_callback(one: object) -> TypeGuard[Callback]:
    for method in _CALLBACK_METHODS:
        if not callable(getattr(one, method, None)):
            raise UsageError(
                f"the callback {type(one).__name__} has no {method}()",
                hint="derive it from eflib.trainer.callback.Callback",
            )
    return True


def read_folder(checkpoint_dir: object) -> str:
    """Return the checkpoint folder as a text; "" for none.

    Raises:
        UsageError: It is no path.
    """
    if checkpoint_dir is None:
        return ""
    path = os.fspath(checkpoint_dir) if isinstance(checkpoint_dir, (str, os.PathLike)) else None
    if not isinstance(path, str):
        raise UsageError(
            f"checkpoint_dir is {checkpoint_dir!r}, not a path", hint="give the path of a folder"
        )
    return path


def choose_device(device: torch.device | str | None, local_rank: int) -> torch.device:
    """Return where to train: as asked, else this worker's GPU, else the CPU.

    Raises:
        UsageError: There is no such device.
    """
    if device is not None:
        return _usable(device)
    if torch.cuda.is_available():
        return torch.device("cuda", local_rank % torch.cuda.device_count())
    return torch.device("cpu")


def _usable(device: torch.device | str) -> torch.device:
    hint = "give 'cpu', 'cuda', 'cuda:1' or a torch.device, or None"
    try:
        found = torch.device(device)
    except (RuntimeError, TypeError):
        raise UsageError(f"device is {device!r}, which torch does not know", hint=hint) from None
    problem = "tensors on it have no values" if found.type == "meta" else ""
    try:
        torch.empty(0, device=found)
    except (AssertionError, RuntimeError) as error:  # torch without CUDA asserts
        problem = str(error).strip().partition("\n")[0]
    if problem:
        raise UsageError(
            f"device is {device!r}, which this process cannot use", detail=problem, hint=hint
        )
    return found


def check_length(max_steps: int, *, elastic: bool) -> None:
    """Under eflaunch the number of steps must be known: a deadline is about all of them.

    Raises:
        UsageError: It is not.
    """
    if elastic and not max_steps:
        raise UsageError(
            "max_epochs is given, and the data set does not know its length",
            hint="give max_steps, or the iterable data set a __len__ (samples of an epoch)",
        )
