"""How a trainer enters, changes and leaves the generations of its job, between two steps."""

from __future__ import annotations

import signal
import sys
import threading
from functools import partial
from typing import TYPE_CHECKING, NoReturn

from eflib.errors import PreemptedError
from eflib.messages.generations import PAUSE
from eflib.messages.inbox import Announce
from eflib.trainer.collectives import came_from_transfer
from eflib.trainer.elastic import reporting
from eflib.trainer.elastic.conductor import LeftError
from eflib.trainer.elastic.session import Training
from eflib.trainer.step.machine import Event, State

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch

    from eflib.messages.generations import Generation
    from eflib.trainer.callback import Callbacks
    from eflib.trainer.run import Parts
    from eflib.trainer.step.machine import StepMachine
    from eflib.trainer.step.votes import Votes


class Generations:
    """Moves a trainer between generations.

    Args:
        parts: What the trainer is made of.
        machine: Where it stands.
        callbacks: Are told of each move.
    """

    def __init__(self, parts: Parts, machine: StepMachine, callbacks: Callbacks) -> None:
        self._parts = parts
        self._machine = machine
        self._callbacks = callbacks

    def open(self) -> None:
        """Enter the first one.

        Raises:
            UsageError: Another job uses the checkpoint folder, or another trainer of this worker
                has begun before.
        """
        parts = self._parts
        session = parts.session
        parts.checkpoints.hold()
        self._machine.on(Event.OPENED)
        if session.elastic and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self._on_sigterm)
        if session.elastic and parts.sharded is not None:
            parts.model.register_forward_hook(self._guard, always_call=True)
            parts.checkpoints.hasten()
        _ = parts.work  # buffers for gradients, before others wait for this worker
        parts.feed.start(parts.last_step, session.rank, session.world_size)
        try:
            session.open(
                Training(
                    state=parts.state,
                    settings=common_settings(parts),
                    announce=announcement(parts),
                    device=parts.device,
                    checkpoint_dir=parts.checkpoints.folder,
                    is_leaving=lambda: parts.requests.leave,
                    last_checkpoint=lambda: parts.checkpoints.last,
                )
            )
        except LeftError as left:  # a newer generation is without this worker
            self._leave(left.generation)
        self._enter()

    def act_on(self, votes: Votes) -> None:
        """After a committed step: enter the generation that the votes ask for, if any."""
        session = self._parts.session
        if votes.generation > 0:
            self._switch(partial(session.switch, int(votes.generation)))
        elif votes.leave > 0:
            self._switch(partial(session.let_leave, leaving=self._parts.requests.leave))
        else:
            self._machine.on(Event.SETTLED)

    def _switch(self, move: Callable[[], None]) -> None:
        self._machine.on(Event.SWITCHED)
        self._move(move)
        self._enter()
        self._callbacks.rescale()

    def recover(self, failure: str, tell_step_end: Callable[[], None]) -> None:
        """A peer is gone: go on in a generation without it, from the last committed step.

        Args:
            failure: What the collective said.
            tell_step_end: Called if others had committed the step at hand, with this rank's part:
                then this rank has its end to tell, too.
        """
        parts = self._parts
        self._machine.on(Event.PEER_LOST)
        parts.work.undo()
        if parts.sharded is not None:
            parts.checkpoints.give_up()
            parts.sharded.drop()
        step = parts.state.global_step
        self._move(partial(parts.session.recover, failure))
        if parts.state.global_step > step:
            tell_step_end()
        self._enter()
        self._callbacks.rescale()
        if parts.state.global_step < step:
            parts.requests.end = False  # it was asked for in a step that is taken again

    def finish(self) -> None:
        """The last step is done: end training, or go on where a peer was lost in it."""
        parts = self._parts
        self._machine.on(Event.RAN_OUT)
        parts.feed.close()
        parts.checkpoints.close()
        self._callbacks.fit_end()
        try:
            is_finished = parts.session.finish()
        except LeftError as left:
            self._leave(left.generation)
        if is_finished:
            parts.checkpoints.release()
            self._machine.on(Event.PARTED)
            return
        parts.requests.end = False
        self.point_feed()
        self._machine.on(Event.SET_BACK)

    def _move(self, move: Callable[[], None]) -> None:
        try:
            move()
        except LeftError as left:
            self._leave(left.generation)

    def _enter(self) -> None:
        self.point_feed()
        if self._parts.session.rank == 0:
            self._parts.checkpoints.look()
        self._machine.on(Event.ENTERED)

    def point_feed(self) -> None:
        """Let the feed give this rank's micro-batches from the step at hand on."""
        parts = self._parts
        session = parts.session
        step = parts.state.global_step
        parts.feed.restart(step, parts.last_step, session.rank, session.world_size)

    def _leave(self, generation: Generation) -> NoReturn:
        parts = self._parts
        self._machine.on(Event.EVICTED)
        parts.feed.close()
        is_paused = generation.world_size == 0 and generation.action == PAUSE
        if is_paused and parts.session.has_state:
            is_saved = parts.checkpoints.save_before_leaving(parts.state, parts.session.rank)
            if is_saved and parts.session.rank == 0:
                parts.session.report_now()
        parts.checkpoints.close()
        parts.checkpoints.release()
        parts.session.close()
        raise SystemExit(PreemptedError.exit_status if is_paused else 0)

    def _on_sigterm(self, signum: int, frame: object) -> None:
        del signum, frame
        self._parts.requests.leave = True

    def _guard(self, module: torch.nn.Module, args: object, output: object) -> None:
        """Leave when a forward pass of the script's own finds that a peer is gone.

        Only those of ``fit`` can be taken again. The job starts anew from its checkpoint.
        """
        del module, args, output
        if self._machine.state is State.FORWARD or not came_from_transfer(sys.exc_info()[1]):
            return
        self._machine.on(Event.EVICTED)
        self._parts.feed.close()
        self._parts.checkpoints.give_up()
        self._parts.session.close()
        raise SystemExit(PreemptedError.exit_status)


def common_settings(parts: Parts) -> dict[str, object]:
    """Return what all ranks must have been given alike, by name."""
    names = (
        "global_batch_size",
        "max_steps",
        "max_epochs",
        "seed",
        "epoch_end",
        "precision",
        "max_grad_norm",
        "parallel",
        "deterministic",
        "num_shards",
        "sync_batchnorm",
    )
    found = {name: getattr(parts.settings, name) for name in names}
    return {
        **found,
        "len(dataset)": parts.feed.num_samples,
        "trainable parameters": parts.work.trained,
    }


def announcement(parts: Parts) -> Announce:
    """Return what a worker says of its job when it is ready."""
    machine = reporting.machine(parts.device)
    return Announce(
        max_steps=parts.max_steps,
        global_batch_size=parts.settings.global_batch_size,
        model=parts.state.signature(),
        model_name=type(parts.model).__name__,
        num_parameters=parts.state.num_parameters(),
        dataset_size=parts.feed.num_samples,
        least_share=parts.feed.split.least,
        device=machine.device,
        cores=machine.cores,
        threads=machine.threads,
    )
