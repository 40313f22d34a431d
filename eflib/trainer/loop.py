"""The loop over steps: micro-batches out, losses in, and one optimizer step for all ranks."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING, Any

import torch

from eflib import pulse
from eflib.errors import UsageError
from eflib.trainer.collectives import PeerLostError, came_from_transfer, first_words
from eflib.trainer.data.batches import to_device
from eflib.trainer.data.microbatch import is_out_of_memory
from eflib.trainer.generations import Generations
from eflib.trainer.step.machine import ENDS, Event, State, StepMachine
from eflib.trainer.step.votes import Votes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from eflib.trainer.callback import Callbacks
    from eflib.trainer.data.position import Block
    from eflib.trainer.run import Parts

_IN_A_STEP = frozenset(
    {State.COMPUTING, State.LOSS_DUE, State.FORWARD, State.REDUCING, State.COMMITTED, State.RETRY}
)


class StepLoop:
    """Takes steps, one after the other, and follows the generations between them.

    Args:
        parts: What the trainer is made of.
        callbacks: Are told of each step.
    """

    def __init__(self, parts: Parts, callbacks: Callbacks) -> None:
        self._parts = parts
        self._callbacks = callbacks
        self._machine = StepMachine()
        self._generations = Generations(parts, self._machine, callbacks)
        self._pulse = pulse.own()
        self._block: Block | None = None
        self._epoch: int | None = None  # that the script is in, where it loops over epochs
        self._num_begun = 0  # steps, those that were taken again included
        self.loss = float("nan")
        self.batch_samples: list[tuple[int, int]] = []

    @property
    def has_begun(self) -> bool:
        """True once the script began to iterate."""
        return self._machine.state is not State.NEW

    @property
    def epoch(self) -> int:
        """Index of the epoch of the samples at hand, from 0."""
        if self._block is not None:
            return self._block.epoch
        parts = self._parts
        return parts.feed.epoch(parts.state.global_step, is_over=parts.is_over)

    @property
    def samples_at_hand(self) -> list[tuple[int, int]]:
        """The samples of the micro-batch at hand as pairs of epoch and index; else none."""
        return self._parts.feed.samples(self._block) if self._block is not None else []

    # What a script does --------------------------------------------------------------------------

    def batches(self) -> Iterator[Any]:
        """Yield this rank's micro-batches; the script gives the loss of each."""
        self._open()
        parts, machine = self._parts, self._machine
        while self._has_next():
            self._begin_step()
            if not parts.work.turns:
                self._commit()
                continue
            for block in parts.work.turns:
                batch = to_device(parts.feed.fetch(block), parts.device)
                self._block = block
                machine.on(Event.BATCH_GIVEN)
                yield batch
                if machine.state is State.LOSS_DUE:
                    raise UsageError(
                        "the loop's body ended without trainer.step(loss)",
                        hint="call trainer.step(loss) once for each batch",
                    )
                if machine.state is not State.COMPUTING:
                    break

    def epochs(self) -> Iterator[int]:
        """Yield the number of each epoch that is left."""
        self._open()
        self._end_with_data()
        while self._machine.state not in ENDS:
            while not self._parts.is_over:
                self._look_ahead()
                self._epoch, begun = self.epoch, self._num_begun
                yield self._epoch
                if self._num_begun == begun:
                    raise UsageError(
                        f"the loop over epochs took no batch in epoch {self._epoch}",
                        hint="put a loop into it: for batch in trainer: ...; trainer.step(loss)",
                    )
            if self._machine.state not in ENDS:  # the script left its loop after the last step
                self._generations.finish()

    def take_loss(self, loss: object) -> bool:
        """Take the loss of the micro-batch at hand; commit the step after the last one."""
        if not self._machine.can(Event.LOSS_TAKEN) or self._block is None:
            raise UsageError(
                "trainer.step(loss) without a batch, or twice for one batch",
                hint="call it once for each batch of: for batch in trainer",
            )
        self._machine.on(Event.LOSS_TAKEN)
        work, before, problem = self._parts.work, self._parts.state.global_step, ""
        try:
            work.add(self._block, loss)
        except RuntimeError as error:
            problem = self._retry_reason(error)
        if problem:  # outside the handler: its frames hold memory and connections
            self._retry_step(problem)
        elif work.is_complete:
            self._commit()
        return self._parts.state.global_step > before

    def train_on(self, batch: object) -> None:
        """Run the forward pass of ``fit`` on a batch, and take its loss."""
        self._machine.on(Event.FORWARD_BEGUN)
        loss: object = None
        problem = ""
        try:
            loss = self._parts.forward.loss(batch)
        except RuntimeError as error:
            problem = self._retry_reason(error)
        if problem:  # outside the handler: its frames hold memory and connections
            self._retry_step(problem)
        else:
            self.take_loss(loss)

    def halve_microbatch(self) -> None:
        """Take the step at hand again, in forward passes of half the size."""
        if self._machine.state is not State.LOSS_DUE or not self._parts.size.is_auto:
            raise UsageError(
                "halve_microbatch() without a batch, or without max_microbatch_size='auto'",
                hint="call it in the loop over the trainer, in place of step(loss)",
            )
        self._retry_step("halve_microbatch() was called")

    # A step --------------------------------------------------------------------------------------

    def _open(self) -> None:
        machine = self._machine
        if machine.state is State.NEW:
            self._generations.open()
        elif machine.state in _IN_A_STEP or machine.state is State.FINISHING:
            machine.on(Event.ABANDONED)  # the step at hand begins anew

    def _has_next(self) -> bool:
        """Tell whether the loop at hand has another step; at the end of training, finish."""
        if self._machine.state in ENDS:
            return False
        if self._parts.is_over:
            self._generations.finish()
            if self._machine.state in ENDS:
                return False
        if self._epoch is None or self._parts.is_measuring:
            return True
        self._look_ahead()
        return self.epoch == self._epoch

    def _look_ahead(self) -> None:
        """Read the samples of the next step, which tell of what epoch they are."""
        self._parts.feed.begin(self._parts.state.global_step)

    def _begin_step(self) -> None:
        parts = self._parts
        self._machine.on(Event.STEP_BEGUN)
        self._num_begun += 1
        self._pulse.computing(parts.settings.step_seconds)
        share = parts.feed.share(parts.feed.begin(parts.state.global_step))
        session = parts.session
        parts.work.begin(share, rank=session.rank, world_size=session.world_size)

    def _retry_reason(self, error: RuntimeError) -> str:
        """Return the first line of an error after which the step is taken again; raise others.

        That is want of memory, which a smaller micro-batch may mend, and, where the forward and
        backward passes talk to other ranks, a peer that is gone.
        """
        parts = self._parts
        if parts.sharded is not None and parts.session.elastic and came_from_transfer(error):
            return first_words(error)
        if not parts.size.is_auto or not is_out_of_memory(error):
            raise error
        return str(error).partition("\n")[0]

    def _retry_step(self, problem: str) -> None:
        """Begin the step at hand anew with smaller micro-batches; other ranks wait meanwhile."""
        parts = self._parts
        if parts.sharded is not None:
            self._recover(problem)
            return
        self._machine.on(Event.OUT_OF_MEMORY)
        size = self._block.size if self._block is not None else 1
        parts.size.halve(size, problem)
        parts.work.undo()
        gc.collect()
        if parts.device.type == "cuda":
            torch.cuda.empty_cache()
        parts.session.say(
            f"step {parts.state.global_step}: {size} samples do not fit in memory; "
            f"again with at most {parts.size.limit}"
        )
        self._generations.point_feed()

    def _recover(self, failure: str) -> None:
        self._block = None
        self._generations.recover(failure, self._tell_step_end)

    def _commit(self) -> None:
        """Reduce and apply; then act upon the votes."""
        parts, state = self._parts, self._parts.state
        self._pulse.idle()
        self._machine.on(Event.ALL_TAKEN)
        totals, failure = self._reduce()
        if failure:
            self._recover(failure)
            return
        if not parts.work.step_size:  # the data has come to its end, on all ranks
            state.is_over = True
            self._machine.on(Event.DATA_ENDED)
            return
        past_end = parts.is_measuring and state.global_step >= parts.max_steps
        parts.update.apply(past_end=past_end)
        self._machine.on(Event.SUMMED)
        self.loss = totals.mean_loss
        state.global_step += 1
        state.samples += parts.work.step_size
        if parts.size.agree(totals.halvings):
            self._generations.point_feed()
        self._block = None
        parts.feed.commit()
        parts.session.step_done(state, self.loss, passes=len(parts.work.turns))
        self._tell_step_end()
        state.is_over = totals.end > 0 and not parts.is_measuring
        if totals.save > 0:
            parts.checkpoints.start(state, parts.session.rank)
        self._generations.act_on(totals)
        self._end_with_data()

    def _end_with_data(self) -> None:
        """Where the data decides when it is over: look, and let all ranks agree."""
        parts = self._parts
        if parts.last_step is not None or parts.is_measuring or parts.state.is_over:
            return
        if not parts.feed.begin(parts.state.global_step).size:
            self._begin_step()
            self._commit()

    def _reduce(self) -> tuple[Votes, str]:
        """Sum and clip the gradients; return the sum of all votes, or why a peer is gone.

        The exception itself goes no further: its frames would keep the group's connections open,
        and peers that wait for us learn of the failure by their closing.
        """
        parts = self._parts
        votes = Votes(
            generation=float(parts.session.decision()),
            leave=float(parts.requests.leave),
            end=float(parts.requests.end),
            save=float(parts.session.rank == 0 and parts.checkpoints.is_due),
            halvings=parts.size.votes(),
        )
        try:
            totals = parts.work.reduce(votes)
            if parts.work.step_size:
                parts.update.clip()
        except PeerLostError as error:
            return Votes(), str(error)
        return totals, ""

    def _tell_step_end(self) -> None:
        if not len(self._callbacks):
            return
        feed = self._parts.feed
        self.batch_samples = [
            sample for block in self._parts.work.blocks for sample in feed.samples(block)
        ]
        self._callbacks.step_end()
