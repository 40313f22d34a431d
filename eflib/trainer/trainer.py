"""``ElasticTrainer``: what a training script holds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from eflib.errors import UsageError
from eflib.trainer import configuration, evaluation
from eflib.trainer.assembly import assemble
from eflib.trainer.callback import Callbacks
from eflib.trainer.configuration import REPLICATED, TrainerSettings
from eflib.trainer.data.position import CARRY
from eflib.trainer.loop import StepLoop
from eflib.trainer.step.deterministic import NUM_SHARDS

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    import torch

    from eflib.trainer.callback import Callback
    from eflib.trainer.state.state import Stateful
    from eflib.trainer.step.update import Schedule


class ElasticTrainer:
    """Trains a model on however many workers its job has at the moment.

    The same script runs under plain ``python`` (one worker), under ``torchrun`` (a world of fixed
    size) and under ``eflaunch`` (elastic). Every optimizer step is the mean over exactly
    ``global_batch_size`` samples at any world size; the order of samples depends on (seed, epoch)
    alone.

    Args:
        model: Any module; it is moved to the worker's device and trained in place, not wrapped.
        optimizer: Of the model's parameters.
        dataset: Map-style and sized, or iterable; items are ``(inputs, targets)`` for ``fit``. An
            iterable one is read whole by all ranks; with ``state_dict`` and ``load_state_dict`` a
            newcomer seeks in it, else it skips forward.
        loss_fn: ``loss_fn(outputs, targets)``: the mean over the samples it is given, or a pair
            (sum, count) when samples weigh differently, as tokens do. Needed by ``fit`` alone.
        global_batch_size: Samples per optimizer step over all workers.
        max_steps: End of training in optimizer steps; or
        max_epochs: End of training in passes over the data.
        lr_scheduler: Stepped once per optimizer step; not when fp16 overflowed and none was taken.
        seed: Of the samples' order and of the random state of each step.
        collate_fn: Makes a batch of a list of samples; None for torch's default.
        num_workers: DataLoader processes per worker; 0 loads in the worker itself. At most 1 for
            an iterable data set.
        max_microbatch_size: Most samples of one forward pass; more are accumulated. With ``auto``
            it is halved whenever memory runs out, and the step is taken again.
        epoch_end: ``carry`` (default: a batch goes on into the next epoch, so each step has
            exactly the global batch size), ``short`` or ``drop``.
        precision: ``fp32``, ``bf16`` or ``fp16`` (autocast; fp16 with a gradient scaler).
        max_grad_norm: Clip the global gradient norm to this; None for no clipping.
        callbacks: Objects like ``eflib.trainer.callback.Callback``.
        checkpoint_dir: Where checkpoints go; under ``eflaunch`` a folder of the job by default. A
            run resumes from the newest whole one there.
        checkpoint_seconds: Least time between two checkpoints.
        keep_checkpoints: How many of the newest to keep.
        step_seconds: Longest time that one worker may compute in one step, loading its samples
            included; under ``eflaunch`` one that takes longer counts as hung and is replaced. None
            for any time.
        device: Where to train; by default the first visible GPU, or the CPU.
        deterministic: The same bits at any number of workers, by virtual shards; it costs time.
        num_shards: How many virtual shards; more workers than that have nothing to do.
        sync_batchnorm: Let BatchNorm's statistics in training be of all ranks' samples.
        parallel: ``ddp``: each rank holds the whole model; ``fsdp``: FSDP2 (``fully_shard``), each
            holds its rows of parameters and optimizer state.
        fsdp_layers: Names of the submodules to shard each for itself, as ``blocks.*``; by default
            the members of its lists of modules.

    Raises:
        UsageError: A value cannot be used; the message names it.
    """

    def __init__(  # noqa: PLR0913 - the one object a script configures
        self,
        model: torch.nn.Module,
        optimizer: torch.optim.Optimizer,
        dataset: object,
        *,
        global_batch_size: int,
        loss_fn: Callable[[Any, Any], Any] | None = None,
        max_steps: int | None = None,
        max_epochs: int | None = None,
        lr_scheduler: Schedule | None = None,
        seed: int = 0,
        collate_fn: Callable[[list[Any]], Any] | None = None,
        num_workers: int = 0,
        max_microbatch_size: int | str | None = None,
        epoch_end: str = CARRY,
        precision: str = "fp32",
        max_grad_norm: float | None = None,
        callbacks: Iterable[Callback] = (),
        checkpoint_dir: str | os.PathLike[str] | None = None,
        checkpoint_seconds: float = 300.0,
        keep_checkpoints: int = 2,
        step_seconds: float | None = 300.0,
        device: torch.device | str | None = None,
        deterministic: bool = False,
        num_shards: int = NUM_SHARDS,
        sync_batchnorm: bool = False,
        parallel: str = REPLICATED,
        fsdp_layers: Sequence[str] | None = None,
    ) -> None:
        configuration.check_model(model, optimizer)
        configuration.check_scheduler(lr_scheduler)
        configuration.check_functions(loss_fn, collate_fn)
        settings = TrainerSettings(
            global_batch_size=global_batch_size,
            max_steps=max_steps,
            max_epochs=max_epochs,
            seed=seed,
            num_workers=num_workers,
            max_microbatch_size=max_microbatch_size,
            epoch_end=epoch_end,
            precision=precision,
            max_grad_norm=max_grad_norm,
            checkpoint_dir=configuration.read_folder(checkpoint_dir),
            checkpoint_seconds=checkpoint_seconds,
            keep_checkpoints=keep_checkpoints,
            step_seconds=step_seconds,
            deterministic=deterministic,
            num_shards=num_shards,
            sync_batchnorm=sync_batchnorm,
            parallel=parallel,
            fsdp_layers=fsdp_layers,
        )
        told = Callbacks(configuration.read_callbacks(callbacks), self)
        self._parts = assemble(
            settings,
            model,
            optimizer,
            dataset,
            loss_fn=loss_fn,
            lr_scheduler=lr_scheduler,
            collate_fn=collate_fn,
            device=device,
        )
        self._loop = StepLoop(self._parts, told)
        self.model = self._parts.model
        self.optimizer = optimizer
        self.lr_scheduler = lr_scheduler
        self.device = self._parts.device
        self.max_steps = self._parts.max_steps  # 0 where only reading the data tells
        self.profiling = self._parts.is_measuring  # a profiling run: its steps are thrown away

    # What a script may read anywhere -------------------------------------------------------------

    @property
    def loss(self) -> float:
        """Loss of the last committed step, over all workers; nan before the first."""
        return self._loop.loss

    @property
    def batch_samples(self) -> list[tuple[int, int]]:
        """In ``on_step_end``: this rank's samples of the step as pairs of epoch and index."""
        return self._loop.batch_samples

    @property
    def global_step(self) -> int:
        """Number of committed optimizer steps; inside a step, the index of this step."""
        return self._parts.state.global_step

    @property
    def epoch(self) -> int:
        """Index of the epoch of the samples at hand, from 0; between two steps, of the next.

        Of an iterable data set nothing is read for it: between two steps it is the epoch of the
        place that was reached.
        """
        return self._loop.epoch

    @property
    def samples_at_hand(self) -> list[tuple[int, int]]:
        """The samples of the micro-batch at hand as pairs of epoch and index; else none."""
        return self._loop.samples_at_hand

    @property
    def generation(self) -> int:
        """Number of the job's current membership; 0 outside ``eflaunch``."""
        return self._parts.session.generation

    @property
    def rank(self) -> int:
        """This worker's rank in the current generation; before ``fit``, the planned one."""
        return self._parts.session.rank

    @property
    def world_size(self) -> int:
        """Number of workers in the current generation; before ``fit``, the planned one."""
        return self._parts.session.world_size

    @property
    def global_batch_size(self) -> int:
        """Samples per optimizer step over all workers."""
        return self._parts.settings.global_batch_size

    # What a script may do ------------------------------------------------------------------------

    def register(self, name: str, obj: Stateful) -> None:
        """Add an object with ``state_dict``/``load_state_dict`` to what travels and is saved.

        Args:
            name: Under which it is saved; not that of another object.
            obj: The object.

        Raises:
            UsageError: Training has begun, the name is taken, or a method is missing.
        """
        if self._loop.has_begun:
            raise UsageError(
                f"register({name!r}) after training began", hint="call it before fit()"
            )
        self._parts.state.register(name, obj)

    def stop(self) -> None:
        """End training after the current step, on all ranks; one rank's call is enough.

        A profiling run goes on: its steps are not those at which a script means to stop.
        """
        self._parts.requests.end = True

    def fit(self) -> None:
        """Train to the end. Returns on every worker that is still a member then.

        Raises:
            UsageError: There is no ``loss_fn``.
            SystemExit: Status 0: the job goes on without this worker, which has left in order.
        """
        if not self._parts.forward.has_loss:
            raise UsageError("fit() needs loss_fn", hint="pass loss_fn=..., or use the loop form")
        for batch in self:
            self._loop.train_on(batch)

    def __iter__(self) -> Iterator[Any]:
        """Yield this rank's micro-batches; call ``step(loss)`` once for each."""
        return self._loop.batches()

    def epochs(self) -> Iterator[int]:
        """Yield the number of each epoch that is left; ``for batch in trainer`` then ends with it.

        For scripts that do something between epochs. A batch that goes on into the next epoch
        belongs to the one of its first sample. A worker that joins begins with the epoch at hand; a
        profiling run has one epoch without end.
        """
        return self._loop.epochs()

    def step(self, loss: torch.Tensor | tuple[torch.Tensor, Any]) -> bool:
        """Take the loss of the micro-batch at hand; commits the step after the last one.

        Args:
            loss: The mean over the samples of the micro-batch, or a pair (sum, count).

        Returns:
            True if the optimizer step is done; False while micro-batches of it are left, and where
            it has to be taken again.

        Raises:
            UsageError: There is no micro-batch at hand.
        """
        return self._loop.take_loss(loss)

    def halve_microbatch(self) -> None:
        """Take the step at hand again, in forward passes of half the size.

        For a loop of one's own with ``max_microbatch_size="auto"``, when its forward pass ran out
        of memory, after the handler of that error; ``fit`` and ``step`` do it by themselves.

        Raises:
            UsageError: There is no micro-batch at hand, or its size is not ``auto``.
            WorkerFailedError: There is nothing to halve.
        """
        self._loop.halve_microbatch()

    def autocast(self) -> AbstractContextManager[Any]:
        """Return the context for a forward pass in the chosen precision."""
        return self._parts.forward.autocast()

    def evaluate(
        self,
        dataset: object,
        metric_fn: Callable[[Any, Any], Any],
        batch_size: int = 256,
    ) -> float:
        """Return the mean of ``metric_fn(outputs, targets)`` over a data set, on this rank alone.

        No other rank takes part, so any rank may call it at any time; the model is in evaluation
        mode meanwhile and back in its own afterwards. With ``parallel="fsdp"`` no rank has the
        whole model: then all must call it, with data of the same size, between two steps.

        Raises:
            UsageError: The model is sharded, and not all ranks called it.
        """
        parts = self._parts
        if parts.sharded is not None:
            parts.sharded.meet()
        return evaluation.evaluate(
            dataset,
            metric_fn,
            batch_size,
            model=self.model,
            forward=parts.forward,
            collate=parts.feed.collate,
            device=parts.device,
        )

    def save_checkpoint(self) -> Path | None:
        """Write a checkpoint and wait until it is whole; between two steps only.

        The trainer's own checkpoints are written in the background; this one is not. With
        ``parallel="fsdp"`` all ranks must call it after the same step: each writes its part.

        Returns:
            Its folder on rank 0; None on other ranks.

        Raises:
            UsageError: There is no checkpoint folder.
            CheckpointError: It could not be written.
        """
        return self._parts.checkpoints.save(self._parts.state, self.rank)
