"""``ElasticTrainer``: what a training script holds; it trains and follows its generations."""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
import time
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from eflib import pulse
from eflib.errors import UsageError
from eflib.messages.generations import PAUSE, PROFILE
from eflib.trainer import checks
from eflib.trainer.collectives import PeerLostError, came_from_transfer, first_words
from eflib.trainer.data.batches import to_device
from eflib.trainer.data.feed import Cut
from eflib.trainer.data.feeding import make_feed
from eflib.trainer.data.microbatch import MicrobatchSize, is_out_of_memory
from eflib.trainer.data.position import CARRY
from eflib.trainer.data.stream import StreamLoader
from eflib.trainer.elastic.conductor import LeftError
from eflib.trainer.elastic.reporting import machine
from eflib.trainer.elastic.session import Session
from eflib.trainer.state.saving import CheckpointWriter
from eflib.trainer.state.sharded_state import ShardedState
from eflib.trainer.state.state import Stateful, TrainingState
from eflib.trainer.step.accumulation import Accumulation
from eflib.trainer.step.deterministic import NUM_SHARDS, fix_arithmetic
from eflib.trainer.step.sync_batchnorm import convert
from eflib.trainer.step.votes import Votes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from eflib.messages.generations import Generation
    from eflib.trainer.callback import Callback
    from eflib.trainer.data.position import Block

PREEMPTED_STATUS = 4
REPLICATED, FSDP = "ddp", "fsdp"


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
        dataset: Any,  # noqa: ANN401 - a user's class
        *,
        global_batch_size: int,
        loss_fn: Callable[[Any, Any], Any] | None = None,
        max_steps: int | None = None,
        max_epochs: int | None = None,
        lr_scheduler: Stateful | None = None,
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
        checks.check_model(model, optimizer)
        checks.check_end(max_steps, max_epochs)
        checks.check_scheduler(lr_scheduler)
        checks.check_numbers(
            num_workers=num_workers,
            max_microbatch_size=max_microbatch_size,
            num_shards=num_shards if deterministic else None,
            sync_batchnorm=sync_batchnorm,
            precision=precision,
        )
        checks.check_keep(keep_checkpoints)
        checks.check_parallel(
            parallel,
            deterministic=deterministic,
            sync_batchnorm=sync_batchnorm,
            precision=precision,
            max_microbatch_size=max_microbatch_size,
        )
        self._session = Session.from_environment(os.environ)
        self.profiling = self._session.mode == PROFILE
        self.device = checks.choose_device(device, self._session.local_rank)
        self._num_shards = num_shards if deterministic else None
        if deterministic:
            fix_arithmetic(self.device, os.environ)
        self.model = (
            model if parallel == FSDP else model.to(self.device)
        )  # FSDP2 moves it by layers
        self.optimizer = optimizer
        self.lr_scheduler = lr_scheduler
        self._loss_fn = loss_fn
        self._least_share = checks.least_share(model)
        self._rank_sum = convert(model) if sync_batchnorm else None
        self._size = MicrobatchSize(max_microbatch_size, global_batch_size, self._least_share)
        self._loader = make_feed(
            dataset,
            Cut(
                self._size.limit,
                self._least_share,
                self._num_shards,
                even=sync_batchnorm or parallel == FSDP,
                padded=parallel == FSDP,
            ),
            global_batch_size=global_batch_size,
            seed=seed,
            epoch_end=epoch_end,
            max_epochs=max_epochs,
            is_endless=self.profiling,
            collate_fn=collate_fn,
            num_workers=num_workers,
        )
        self._global_batch_size = global_batch_size
        self.max_steps = max_steps or self._loader.num_steps or 0  # 0: nobody knows
        checks.check_length(self.max_steps, elastic=self._session.elastic)
        self._ends_by_steps = max_steps is not None or self._loader.is_counted
        self._autocast = checks.AUTOCAST[precision]
        self._scaler = torch.amp.GradScaler(self.device.type, enabled=precision == "fp16")
        self._max_grad_norm = max_grad_norm
        self._callbacks = list(callbacks)
        self._checkpoint_dir = os.fspath(checkpoint_dir or self._session.checkpoint_dir)
        self._checkpoint_seconds = checkpoint_seconds
        self._writer = CheckpointWriter(Path(self._checkpoint_dir), keep=keep_checkpoints)
        self._step_seconds = step_seconds
        self._pulse = pulse.own()
        self._sharded = (
            ShardedState(model, self._parts(), device=self.device, layers=fsdp_layers)
            if parallel == FSDP
            else None
        )
        self._state = self._sharded or TrainingState(model, self._parts())
        self._opened = False
        self._clear_flags()

    def _parts(self) -> dict[str, Stateful]:
        """Return what travels and is saved beside the model."""
        parts: dict[str, Stateful] = {"optimizer": self.optimizer, "microbatch": self._size}
        if self.lr_scheduler is not None:
            parts["lr_scheduler"] = self.lr_scheduler
        if self._scaler.is_enabled():
            parts["scaler"] = self._scaler
        if isinstance(self._loader, StreamLoader):
            parts["data"] = self._loader
        return parts

    def _clear_flags(self) -> None:
        self._block: Block | None = None
        self._awaiting = False
        self._again = False
        self._can_mend = False  # a forward pass of fit() is under way
        self.loss = float("nan")
        self.batch_samples: list[tuple[int, int]] = []
        self._leaving = False
        self._ending = False
        self._epoch_at_hand: int | None = None
        self._saved_at = time.monotonic()

    # What a script may read anywhere -------------------------------------------------------------

    @property
    def global_step(self) -> int:
        """Number of committed optimizer steps; inside a step, the index of this step."""
        return self._state.global_step

    @property
    def epoch(self) -> int:
        """Index of the epoch of the samples at hand, from 0."""
        if self._block is not None:
            return self._block.epoch
        return self._loader.epoch(self._state.global_step, is_over=self._is_over())

    @property
    def samples_at_hand(self) -> list[tuple[int, int]]:
        """The samples of the micro-batch at hand as pairs of epoch and index; else none."""
        return self._loader.samples(self._block) if self._block is not None else []

    @property
    def generation(self) -> int:
        """Number of the job's current membership; 0 outside ``eflaunch``."""
        return self._session.generation

    @property
    def rank(self) -> int:
        """This worker's rank in the current generation; before ``fit``, the planned one."""
        return self._session.rank

    @property
    def world_size(self) -> int:
        """Number of workers in the current generation; before ``fit``, the planned one."""
        return self._session.world_size

    @property
    def global_batch_size(self) -> int:
        """Samples per optimizer step over all workers."""
        return self._global_batch_size

    def register(self, name: str, obj: Stateful) -> None:
        """Add an object with ``state_dict``/``load_state_dict`` to what travels and is saved.

        Raises:
            UsageError: Training has begun, the name is taken, or a method is missing.
        """
        if self._opened:
            raise UsageError(
                f"register({name!r}) after training began", hint="call it before fit()"
            )
        self._state.register(name, obj)

    def stop(self) -> None:
        """End training after the current step, on all ranks; one rank's call is enough.

        A profiling run goes on: its steps are not those at which a script means to stop.
        """
        self._ending = True

    # Training ------------------------------------------------------------------------------------

    def fit(self) -> None:
        """Train to the end. Returns on every worker that is still a member then.

        Raises:
            UsageError: There is no ``loss_fn``.
            SystemExit: Status 0: the job goes on without this worker, which has left in order.
        """
        if self._loss_fn is None:
            raise UsageError("fit() needs loss_fn", hint="pass loss_fn=..., or use the loop form")
        for batch in self:
            problem = ""
            self._can_mend = True
            try:
                loss = self._forward(batch)
            except RuntimeError as error:
                problem = self._what_to_mend(error)
            self._can_mend = False
            if problem:  # outside the handler: its frames hold memory and connections
                self._take_again(problem)
            else:
                self.step(loss)

    def _forward(self, batch: Any) -> Any:  # noqa: ANN401 - whatever the data set and loss_fn give
        inputs, targets = checks.split_batch(batch)
        with self.autocast():
            outputs = checks.call_model(self.model, inputs)
            return self._loss_fn(outputs, targets) if self._loss_fn else outputs

    def halve_microbatch(self) -> None:
        """Take the step at hand again, in forward passes of half the size.

        For a loop of one's own with ``max_microbatch_size="auto"``, when its forward pass ran out
        of memory, after the handler of that error; ``fit`` and ``step`` do it by themselves.

        Raises:
            UsageError: There is no micro-batch at hand, or its size is not ``auto``.
            WorkerFailedError: There is nothing to halve.
        """
        if not self._awaiting or not self._size.is_auto:
            raise UsageError(
                "halve_microbatch() without a batch, or without max_microbatch_size='auto'"
            )
        self._take_again("halve_microbatch() was called")

    def autocast(self) -> AbstractContextManager[Any]:
        """Return the context for a forward pass in the chosen precision."""
        if self._autocast is None:
            return nullcontext()
        return torch.autocast(self.device.type, dtype=self._autocast)

    def __iter__(self) -> Iterator[Any]:
        """Yield this rank's micro-batches; call ``step(loss)`` once for each."""
        self._open()
        while self._goes_on():
            self._begin_step()
            if not self._work.turns:
                self._commit()
                continue
            for block in self._work.turns:
                self._block = block
                self._awaiting = True
                yield to_device(self._loader.fetch(block), self.device)
                if self._again:
                    break
                if self._awaiting:
                    raise UsageError("the loop's body ended without trainer.step(loss)")

    def epochs(self) -> Iterator[int]:
        """Yield the number of each epoch that is left; ``for batch in trainer`` then ends with it.

        For scripts that do something between epochs. A batch that goes on into the next epoch
        belongs to the one of its first sample. A worker that joins begins with the epoch at hand; a
        profiling run has one epoch without end.
        """
        self._open()
        self._meet_end()
        while not self._is_over():
            self._epoch_at_hand = self.epoch
            yield self._epoch_at_hand

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
        if not self._awaiting or self._block is None:
            raise UsageError("trainer.step(loss) without a batch, or twice for one batch")
        self._awaiting = False
        before, problem = self.global_step, ""
        try:
            self._work.add(self._block, loss)
        except RuntimeError as error:
            problem = self._what_to_mend(error)
        if problem:
            self._take_again(problem)
        elif self._work.is_complete:
            self._commit()
        return self.global_step > before

    def evaluate(
        self,
        dataset: Any,  # noqa: ANN401 - a user's class
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
        if self._sharded is not None:
            self._sharded.meet()
        modes = [(module, module.training) for module in self.model.modules()]
        self.model.eval()
        total = 0.0
        try:
            with self._pulse.idling(), torch.no_grad(), self.autocast():
                for low in range(0, len(dataset), batch_size):
                    places = range(low, min(low + batch_size, len(dataset)))
                    batch = to_device(
                        self._loader.collate([dataset[i] for i in places]), self.device
                    )
                    inputs, targets = checks.split_batch(batch)
                    outputs = checks.call_model(self.model, inputs)
                    total += float(metric_fn(outputs, targets)) * len(places)
        finally:
            for module, mode in modes:
                module.training = mode
        return total / len(dataset)

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
        if not self._checkpoint_dir:
            raise UsageError("there is no checkpoint folder", hint="pass checkpoint_dir=...")
        self._saved_at = time.monotonic()
        if self.rank != 0 and self._sharded is None:
            return None
        return self._writer.save(self._state.snapshot())

    # Inside --------------------------------------------------------------------------------------

    def _open(self) -> None:
        if self._opened:
            return
        self._opened = True
        self._work = Accumulation(
            self.model,
            self._scaler,
            num_shards=self._num_shards,
            num_halvings=self._size.num_places,
            undoable=self._session.elastic or self._size.is_auto,
            rank_sum=self._rank_sum,
            sharded=self._sharded is not None,
        )
        if self._session.elastic and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self._on_sigterm)
        if self._sharded is not None and self._session.elastic:
            self.model.register_forward_hook(self._guard, always_call=True)
            self._saved_at -= self._checkpoint_seconds  # soon: a lost worker needs one
        self._loader.start(self._last_step, self.rank, self.world_size)
        announce = {
            "max_steps": self.max_steps,
            "global_batch_size": self.global_batch_size,
            "model": self._state.signature(),
            "model_name": type(self.model).__name__,
            "num_parameters": self._state.num_parameters(),
            "dataset_size": self._loader.num_samples,
            "least_share": self._least_share,
            **machine(self.device),
        }
        try:
            self._session.open(
                self._state,
                announce,
                self.device,
                checkpoint_dir=self._checkpoint_dir,
                is_leaving=lambda: self._leaving,
                last_checkpoint=lambda: self._writer.last,
            )
        except LeftError as left:  # a newer generation is without this worker
            self._leave(left.generation)
        self._after_entering()

    def _on_sigterm(self, signum: int, frame: object) -> None:
        del signum, frame
        self._leaving = True

    @property
    def _last_step(self) -> int | None:
        """Where the run ends; None when it ends by its data, or by the profiler's word."""
        return self.max_steps if self._ends_by_steps and not self.profiling else None

    def _plan_step(self) -> int:
        return self._state.global_step

    def _is_over(self) -> bool:
        at_end = self._last_step is not None and self._state.global_step >= self._last_step
        return self._state.is_over or at_end

    def _is_epoch_over(self) -> bool:
        at_hand = self._epoch_at_hand
        return at_hand is not None and not self.profiling and self.epoch != at_hand

    def _goes_on(self) -> bool:
        """Tell whether the loop at hand has another step; at the end of training, finish."""
        if self._is_over() and self._finish():
            return False
        return not self._is_epoch_over()

    def _begin_step(self) -> None:
        self._pulse.computing(self._step_seconds)
        step = self._plan_step()
        self._again = False
        batch = self._loader.begin(step)
        self._work.begin(
            self._loader.shards(step),
            batch.size,
            rank=self.rank,
            world_size=self.world_size,
            is_even=self._loader.cut.even_passes(batch) > 0,
            padding=self._loader.padding(step),
        )

    def _what_to_mend(self, error: RuntimeError) -> str:
        """Return the first line of an error after which the step is taken again; raise others.

        That is want of memory, which a smaller micro-batch may mend, and, where the forward and
        backward passes talk to other ranks, a peer that is gone.
        """
        if self._sharded is not None and self._session.elastic and came_from_transfer(error):
            return first_words(error)
        if not self._size.is_auto or not is_out_of_memory(error):
            raise error
        return str(error).partition("\n")[0]

    def _guard(self, module: torch.nn.Module, args: object, output: object) -> None:
        """Leave when a forward pass of the script's own finds that a peer is gone.

        Only those of ``fit`` can be taken again. The job starts anew from its checkpoint.
        """
        del module, args, output
        if not self._can_mend and came_from_transfer(sys.exc_info()[1]):
            self._loader.close()
            self._writer.give_up()
            self._session.close()
            raise SystemExit(PREEMPTED_STATUS)

    def _take_again(self, problem: str) -> None:
        """Begin the step at hand anew with smaller micro-batches; other ranks wait meanwhile."""
        if self._sharded is not None:
            self._recover(problem)
            return
        size = self._block.size if self._block is not None else 1
        self._size.halve(size, problem)
        self._awaiting, self._again = False, True
        self._work.undo()
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        self._session.say(
            f"step {self.global_step}: {size} samples do not fit in memory; "
            f"again with at most {self._size.limit}"
        )
        self._point_loader()

    def _point_loader(self) -> None:
        """Let the loader give this rank's micro-batches from the step at hand on."""
        self._loader.max_size = self._size.limit
        last = self._last_step
        self._loader.restart(self._plan_step(), last, self.rank, self.world_size)

    def _recover(self, failure: str) -> None:
        """A peer is gone: take the step again in a generation without it."""
        self._block, self._awaiting, self._again = None, False, True
        self._work.undo()
        if self._sharded is not None:
            self._writer.give_up()
            self._sharded.drop()
        step = self._state.global_step
        self._follow(partial(self._session.recover, failure), unheard=step)
        if self._state.global_step < step:
            self._ending = False  # the script asked for the end in a step that it takes again

    def _commit(self) -> None:
        """Reduce, apply, count; then follow what the votes say."""
        self._pulse.idle()
        totals, failure = self._reduce()
        if failure:
            self._recover(failure)
            return
        if not self._work.step_size:  # the data has come to its end, on all ranks
            self._state.is_over = True
            return
        self._apply(totals)
        self._state.global_step += 1
        self._state.samples += self._work.step_size
        self._size.agree(totals.halvings)
        if self._size.limit != self._loader.max_size:
            self._point_loader()
        self._block = None
        self._loader.commit()
        self._session.step_done(self._state, self.loss, passes=len(self._work.turns))
        self._call_step_end()
        self._state.is_over = totals.end > 0 and not self.profiling
        self._save_when_due(asked=totals.save > 0)
        if totals.generation > 0:
            self._follow(partial(self._session.switch, int(totals.generation)))
        elif totals.leave > 0:
            self._follow(partial(self._session.let_leave, leaving=self._leaving))
        self._meet_end()

    def _meet_end(self) -> None:
        """Where the data decides when it is over: look, and let all ranks agree."""
        by_data = self._last_step is None and not self.profiling and not self._state.is_over
        if by_data and not self._loader.begin(self._plan_step()).size:
            self._begin_step()
            self._commit()

    def _reduce(self) -> tuple[Votes, str]:
        """Return the summed votes, or why a peer is gone.

        The exception itself goes no further: its frames would keep the group's connections open,
        and peers that wait for us learn of the failure by their closing.
        """
        votes = Votes(
            generation=float(self._session.decision()),
            leave=float(self._leaving),
            end=float(self._ending),
            save=float(self.rank == 0 and self._is_save_due()),
            halvings=self._size.votes(),
        )
        try:
            return self._work.reduce(votes), ""
        except PeerLostError as error:
            return Votes(), str(error)

    def _apply(self, totals: Votes) -> None:
        self.loss = totals.mean_loss
        if self._max_grad_norm is not None:
            self._scaler.unscale_(self.optimizer)
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), self._max_grad_norm)
        scale = self._scaler.get_scale()
        self._scaler.step(self.optimizer)
        self._scaler.update()
        is_skipped = self._scaler.get_scale() < scale  # fp16 overflowed: the optimizer did nothing
        past_end = self.profiling and self._state.global_step >= self.max_steps
        if self.lr_scheduler is not None and not past_end and not is_skipped:
            self.lr_scheduler.step()  # type: ignore[attr-defined]  # torch's schedulers share no public base

    def _call_step_end(self) -> None:
        if not self._callbacks:
            return
        self.batch_samples = [
            sample for block in self._work.blocks for sample in self._loader.samples(block)
        ]
        for callback in self._callbacks:
            callback.on_step_end(self)

    def _follow(self, move: Callable[[], None], unheard: int | None = None) -> None:
        """Move to another generation; a worker that is not in it leaves here.

        Args:
            move: Enters it.
            unheard: The step in which a peer was lost. If others had committed it, with this
                rank's part, this rank has its end to tell, too.
        """
        try:
            move()
        except LeftError as left:
            self._leave(left.generation)
        if unheard is not None and self._state.global_step > unheard:
            self._call_step_end()
        self._after_entering()
        for callback in self._callbacks:
            callback.on_rescale(self)

    def _leave(self, generation: Generation) -> None:
        self._loader.close()
        nobody = generation.world_size == 0 and generation.action == PAUSE
        if nobody and self._session.has_state and self._checkpoint_dir and not self.profiling:
            self.save_checkpoint()
            if self.rank == 0:
                self._session.report_now()
        self._writer.close()
        self._session.close()
        raise SystemExit(PREEMPTED_STATUS if nobody else 0)

    def _after_entering(self) -> None:
        self._point_loader()
        if self.rank == 0 and self._checkpoint_dir:
            self._writer.look()

    def _is_save_due(self) -> bool:
        due = time.monotonic() - self._saved_at > self._checkpoint_seconds
        may = bool(self._checkpoint_dir) and not self.profiling
        return due and may and not self._writer.is_writing

    def _save_when_due(self, *, asked: bool) -> None:
        """Begin a checkpoint that rank 0 has asked for; all write if each has a part."""
        if not asked:
            return
        self._saved_at = time.monotonic()
        if self.rank == 0 or self._sharded is not None:
            self._writer.start(self._state.snapshot(), waiting=self.rank != 0)

    def _finish(self) -> bool:
        """End training; False when a peer was lost, and the last steps are to be taken again."""
        self._loader.close()
        self._writer.close()
        for callback in self._callbacks:
            callback.on_fit_end(self)
        if self._session.finish():
            return True
        self._ending = False
        self._after_entering()
        return False
