"""A worker under an agent: it follows the generations of its job."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING

import torch

from eflib import env
from eflib.errors import StoreError, UsageError, WorkerFailedError
from eflib.messages.fields import replace
from eflib.messages.generations import PAUSE, PROFILE, TRAIN, Generation
from eflib.messages.inbox import Finished, Measured
from eflib.messages.records import Progress
from eflib.store import keys, open_store
from eflib.store.secret import load_key
from eflib.store.signed import SignedStore
from eflib.trainer import timeouts
from eflib.trainer.collectives import PeerLostError, gather_rows
from eflib.trainer.console import say
from eflib.trainer.elastic.conductor import LeftError
from eflib.trainer.elastic.formation import EndpointGoneError, GroupKeeper
from eflib.trainer.elastic.membership import Membership, StoreMembership
from eflib.trainer.elastic.recovery import NeighbourWatch, describe_loss
from eflib.trainer.elastic.reporting import Reporter, StepClock, memory_bytes, redirect_output
from eflib.trainer.elastic.rescaling import RescaleClock
from eflib.trainer.elastic.session import Session, Training, conductor_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from eflib.trainer.state.state import TrainingState


class ElasticSession(Session):
    """A worker under an agent: follows the generations of its job.

    Args:
        worker: What the agent said.
    """

    elastic = True
    _was_opened = False  # in this process

    def __init__(self, worker: env.WorkerEnvironment) -> None:
        super().__init__(worker.rank, worker.world_size, worker.local_rank)
        self.mode = worker.mode
        self.checkpoint_dir = worker.checkpoint_dir
        self._worker = worker
        self._planned_generation = worker.generation
        self._clock = StepClock()
        self._pending = 0
        self._measured = 0
        self._document: Progress | None = None

    def open(self, training: Training) -> None:
        """Say that this worker is ready, wait to be named, and enter.

        Raises:
            UsageError: Another trainer of this process has trained, or does.
        """
        if ElasticSession._was_opened:
            raise UsageError(
                "a second ElasticTrainer starts to train in one job under eflaunch",
                hint="submit one job per training (each fold, each phase), and tell the script by "
                "an argument which it is; networks that train together go into one model",
            )
        ElasticSession._was_opened = True
        worker = self._worker
        store = SignedStore(open_store(worker.store), load_key(worker.key_file))
        self._store = store
        self._training, self._state = training, training.state
        self._membership: Membership = StoreMembership(
            store,
            worker.job,
            worker.worker,
            self._planned_generation,
            is_leaving=training.is_leaving,
        )
        self._keeper = GroupKeeper(training.device)
        self._watch = NeighbourWatch(self._membership, self._keeper)
        self._conductor = conductor_of(training.state)(
            self._membership,
            self._keeper,
            training.state,
            settings=training.settings,
            prefix=worker.job,
            checkpoint_dir="" if self.mode == PROFILE else training.checkpoint_dir,
        )
        self._reporter = Reporter(
            store, worker.job, snapshot=self._newest_document, look=self._look
        )
        self._reporter.start()
        # Connecting can take seconds (torch looks the peer's name up): nobody waits for it here.
        # That node may be gone: the generation says who is there.
        with suppress(PeerLostError, EndpointGoneError):
            self._keeper.connect(worker.master_addr, worker.master_port)
        announce = training.announce
        generation = self._membership.join(announce)
        self._rescaling = RescaleClock(announce.global_batch_size, announce.least_share)
        self._rescaling.leave()
        self._enter(generation)

    # From one generation to the next -------------------------------------------------------------

    def decision(self) -> int:
        """Return the newest generation that rank 0's watcher has seen."""
        return self._pending if self.rank == 0 and self._pending > self.generation else 0

    def switch(self, number: int) -> None:
        """Enter generation ``number``, on which all members agreed in a collective.

        Raises:
            WorkerFailedError: The store does not hold it.
        """
        self._rescaling.leave()
        generation = self._store.fetch(keys.generation(self._worker.job, number), Generation)
        if generation is None:
            raise WorkerFailedError(f"generation {number} was agreed on and is not in the store")
        self._enter(generation)

    def recover(self, failure: str) -> None:
        """Go on from the last committed step after an exchange between ranks failed.

        Args:
            failure: What torch said of it.

        Raises:
            LeftError: The generation that follows is without this worker.
            WorkerFailedError: The exchange fails again and again while every worker lives.
        """
        self._rescaling.lose()
        conductor, lost = self._conductor, self._current()
        if conductor is not None:
            conductor.abandon()
            conductor.attempts.fail(failure)
            following = self._membership.recover(lost)
            conductor.attempts.follow(lost, following)
            self.say(describe_loss(lost, following, self._membership, failure))
            self._enter(following)

    def let_leave(self, *, leaving: bool) -> None:
        """Make the generation without the workers that were asked to leave.

        Raises:
            LeftError: This worker is one of them, or all are.
        """
        self._rescaling.leave()
        current, failure = self._current(), ""
        try:
            flags = [int(row[0]) for row in gather_rows(torch.tensor([int(leaving)]))]
        except PeerLostError as error:  # it goes no further: its frames hold the connections
            failure = str(error)
        if failure:
            self.recover(failure)
            return
        staying = tuple(
            member for member, flag in zip(current.members, flags, strict=True) if not flag
        )
        following = Generation(
            number=current.number + 1,
            members=staying,
            mode=current.mode,
            action=TRAIN if staying else PAUSE,
            reason="preempted",
            made_by=self._worker.worker,
        )
        if staying:
            host, port = self._membership.endpoint(staying)
            following = replace(following, master_addr=host, master_port=port)
        self._membership.propose(following)  # the first wins; all propose the same
        newest = self._membership.newest(current.number)
        self._enter(newest or following)

    def _current(self) -> Generation:
        if self._conductor is None or self._conductor.generation is None:
            raise LookupError("no generation was entered yet")
        return self._conductor.generation

    def _enter(self, generation: Generation) -> None:
        conductor = self._conductor
        if conductor is None:
            raise LookupError("the session is not open")
        is_first = conductor.generation is None
        try:
            parts = conductor.enter(generation)
        except LeftError as left:
            self.say(f"leaves at step {self._state.global_step}: {left.generation.reason}")
            raise
        now = self._current()
        self._rescaling.enter(now, self._state.global_step, parts)
        planned = (self._planned_generation, self._planned[0])
        if self._worker.log_dir and ((now.number, self.rank) != planned or not is_first):
            redirect_output(self._worker.log_dir, now.number, self.rank)
        self._clock.restart()
        self._watch.step_done()
        self._measured = 0

    # The end -------------------------------------------------------------------------------------

    def finish(self) -> bool:
        """Tell the coordinator that training is over, and let go of the group.

        Nobody goes before all have committed the last step. Were a peer lost in it, some would
        have committed it and others not, and these need the state of those.

        Returns:
            False when a peer was lost and the step is now an earlier one.
        """
        step = self._state.global_step
        while True:
            if self.rank == 0:  # before the others may go: their exits are then known as the end
                self._reporter.write_progress()
                self._reporter.post(
                    Finished(
                        job=self._worker.job,
                        generation=self.generation,
                        step=self._state.global_step,
                    )
                )
            failure = self._meet_at_end()
            if not failure:
                break
            self.recover(failure)
            if self._state.global_step < step:
                return False
        self.close()
        return True

    def _meet_at_end(self) -> str:
        """Wait until all members are done; return why that fails, or "" once they are."""
        members = [one.worker for one in self._current().members]
        end = time.monotonic() + timeouts.END
        try:
            self._keeper.say_done(self.rank)
            while self.world_size > 1 and time.monotonic() < end:
                late = self._keeper.not_done(members)
                if not late:
                    break
                lost = self._membership.ended(late)
                if lost and set(lost) & set(self._keeper.not_done(members)):
                    return f"{', '.join(lost)} ended before the end"
                time.sleep(timeouts.POLL)
        except PeerLostError as error:
            return str(error)
        return ""

    def close(self) -> None:
        """End the reporter's thread and leave the group."""
        self._reporter.close()
        self._keeper.close()

    # What is told --------------------------------------------------------------------------------

    def step_done(self, state: TrainingState, loss: float, *, passes: int = 1) -> None:
        """Count the step, tell of the pause if it was the first of a generation, report."""
        self._clock.tick()
        self._watch.step_done()
        if self._conductor is not None:
            self._conductor.attempts.succeed()
        rescale = self._rescaling.step_done(passes)
        if rescale is not None:
            self._keeper.drop_parked()
            if self.rank == 0:
                self._reporter.post(rescale.to_message(self._worker.job))
                self.say(str(rescale))
        if self.rank == 0 and self.mode == PROFILE:
            self._report_measured()
        elif self.rank == 0:
            self._document = self._progress(state, loss)

    def report_now(self) -> None:
        """Write the progress document now; the job may have nobody who does it later."""
        with suppress(StoreError):  # what was told before has to do
            self._reporter.write_progress()

    def _progress(self, state: TrainingState, loss: float) -> Progress:
        return Progress(
            generation=self.generation,
            world_size=self.world_size,
            global_step=state.global_step,
            max_steps=self._training.announce.max_steps,
            samples=state.samples,
            steps_per_s=self._clock.steps_per_s(),
            loss=loss,
            digest=f"{self._conductor.digest:016x}" if self._conductor else "",
        )

    def _newest_document(self) -> Progress | None:
        """On the reporter's thread: a checkpoint becomes whole between two steps, too."""
        if self._document is None:
            return None
        step, saved_at = self._training.last_checkpoint() or (None, None)
        return replace(self._document, checkpoint_step=step, checkpoint_at=saved_at)

    def _report_measured(self) -> None:
        if self._measured == self.generation:
            return
        measured = self._clock.measured()
        if measured is not None:
            self._measured = self.generation
            self._reporter.post(
                Measured(
                    job=self._worker.job,
                    generation=self.generation,
                    world_size=self.world_size,
                    memory_bytes=memory_bytes(self._training.device),
                    **measured._asdict(),
                )
            )

    def _look(self) -> None:
        """On the reporter's thread: see whether a newer generation exists, or a peer is gone."""
        generation = self._conductor.generation if self._conductor is not None else None
        if generation is None:
            return
        self._watch.look(generation, self.rank)
        if self.rank == 0:
            newest = self._membership.newest(generation.number)
            if newest is not None:
                self._pending = newest.number

    def say(self, text: str) -> None:
        """Tell whoever reads this worker's log."""
        name = f"{self._worker.job_name} g{self.generation} rank {self.rank}"
        say(f"{name}: {text}")


def session_of(environ: Mapping[str, str]) -> Session:
    """Return how this worker runs, by what its environment says."""
    worker = env.read_worker(environ)
    if worker is not None:
        return ElasticSession(worker)
    world = env.read_torchrun(environ)
    if world is not None:
        return Session(world.rank, world.world_size, world.local_rank)
    return Session(0, 1, 0)
