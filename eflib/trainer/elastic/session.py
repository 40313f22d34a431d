"""How a worker runs: alone, in torchrun's fixed world, or elastic under an agent."""

from __future__ import annotations

import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import torch

from eflib import env
from eflib.errors import StoreError, WorkerFailedError
from eflib.messages.fields import replace
from eflib.messages.generations import PAUSE, PROFILE, TRAIN, Generation
from eflib.store import keys, open_store
from eflib.store.secret import load_key
from eflib.store.signed import SignedStore
from eflib.trainer import timeouts
from eflib.trainer.collectives import PeerLostError, gather_rows
from eflib.trainer.data.position import share
from eflib.trainer.elastic.conductor import Conductor, LeftError
from eflib.trainer.elastic.formation import EndpointGoneError, EnvironmentGroup, GroupKeeper
from eflib.trainer.elastic.membership import FixedMembership, Membership, StoreMembership
from eflib.trainer.elastic.reporting import (
    Reporter,
    Rescale,
    StepClock,
    memory_bytes,
    redirect_output,
)
from eflib.trainer.elastic.sharded_conductor import ShardedConductor
from eflib.trainer.state.sharded_state import ShardedState

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from eflib.trainer.state.state import TrainingState


def conductor_of(state: TrainingState) -> type[Conductor]:
    """Return what takes such a state from one generation into the next."""
    return ShardedConductor if isinstance(state, ShardedState) else Conductor


class Session:
    """A worker outside an agent: one process, or torchrun's world of fixed size.

    The base of the elastic session, which overrides what follows a change of membership.

    Args:
        rank: Planned rank.
        world_size: Planned number of workers.
        local_rank: Index on this node.
    """

    elastic = False
    mode = TRAIN
    checkpoint_dir = ""

    def __init__(self, rank: int, world_size: int, local_rank: int) -> None:
        self.local_rank = local_rank
        self._planned = (rank, world_size)
        self._conductor: Conductor | None = None

    @staticmethod
    def from_environment(environ: Mapping[str, str]) -> Session:
        """Choose by what the environment says."""
        worker = env.read_worker(environ)
        if worker is not None:
            return ElasticSession(worker)
        world = env.read_torchrun(environ)
        if world is not None:
            return Session(world.rank, world.world_size, world.local_rank)
        return Session(0, 1, 0)

    @property
    def rank(self) -> int:
        """Rank in the current generation, or the planned one."""
        entered = self._conductor is not None and self._conductor.generation is not None
        return self._conductor.rank if entered and self._conductor else self._planned[0]

    @property
    def has_state(self) -> bool:
        """Whether this worker holds the whole state, which others may lack."""
        return self._conductor is not None and self._conductor.has_state

    @property
    def world_size(self) -> int:
        """Size of the current generation, or the planned one."""
        entered = self._conductor is not None and self._conductor.generation is not None
        return self._conductor.world_size if entered and self._conductor else self._planned[1]

    @property
    def generation(self) -> int:
        """Number of the current generation."""
        current = self._conductor.generation if self._conductor else None
        return current.number if current else 0

    def open(
        self,
        state: TrainingState,
        announce: dict[str, Any],
        device: torch.device,
        *,
        checkpoint_dir: str,
        is_leaving: Callable[[], bool],
        last_checkpoint: Callable[[], tuple[int, float] | None],
    ) -> None:
        """Join the first generation; afterwards all ranks hold the same state."""
        del is_leaving, last_checkpoint
        membership = FixedMembership(*self._planned)
        keeper = EnvironmentGroup(device)
        self._conductor = conductor_of(state)(
            membership, keeper, state, prefix="", checkpoint_dir=checkpoint_dir
        )
        self._keeper: GroupKeeper = keeper
        self._conductor.enter(membership.join(announce))

    def decision(self) -> int:
        """Return the generation that rank 0 wants to switch to after this step; 0 for none."""
        return 0

    def switch(self, number: int) -> None:
        """Enter a newer generation at a step boundary."""

    def recover(self, failure: str) -> None:
        """Go on after a collective failed; a world of fixed size never comes here."""
        raise WorkerFailedError(failure)

    def let_leave(self, *, leaving: bool) -> None:
        """Let the workers go that were asked to leave."""

    def step_done(self, state: TrainingState, loss: float, *, passes: int = 1) -> None:
        """Note that a step is committed, and how many forward passes this rank made for it."""

    def report_now(self) -> None:
        """Tell the last that there is to tell of this job's progress."""

    def finish(self) -> bool:
        """Note that training is over, on every rank; False when it is not."""
        self.close()
        return True

    def say(self, text: str) -> None:
        """Tell whoever reads this worker's log."""
        print(f"[eflib] rank {self.rank}: {text}", file=sys.stderr, flush=True)  # noqa: T201 - a worker's log is its stderr

    def close(self) -> None:
        """Leave the process group."""
        self._keeper.close()


class ElasticSession(Session):
    """A worker under an agent: follows the generations of its job.

    Args:
        worker: What the agent said.
    """

    elastic = True

    def __init__(self, worker: env.WorkerEnvironment) -> None:
        super().__init__(worker.rank, worker.world_size, worker.local_rank)
        self.mode = worker.mode
        self.checkpoint_dir = worker.checkpoint_dir
        self._worker = worker
        self._planned_generation = worker.generation
        self._clock = StepClock()
        self._rescale: Rescale | None = None
        self._boundary = 0.0
        self._entered = 0.0
        self._pending = 0
        self._measured = 0
        self._passes = 0
        self._document: dict[str, Any] | None = None

    def open(
        self,
        state: TrainingState,
        announce: dict[str, Any],
        device: torch.device,
        *,
        checkpoint_dir: str,
        is_leaving: Callable[[], bool],
        last_checkpoint: Callable[[], tuple[int, float] | None],
    ) -> None:
        """Say that this worker is ready, wait to be named, and enter."""
        worker = self._worker
        store = SignedStore(open_store(worker.store), load_key(worker.key_file))
        self._store = store
        self._announce = announce
        self._device = device
        self._last_checkpoint = last_checkpoint
        self._membership: Membership = StoreMembership(
            store, worker.job, worker.worker, self._planned_generation, is_leaving=is_leaving
        )
        self._keeper = GroupKeeper(device)
        self._conductor = conductor_of(state)(
            self._membership,
            self._keeper,
            state,
            prefix=worker.job,
            checkpoint_dir="" if self.mode == PROFILE else checkpoint_dir,
        )
        self._state = state
        self._reporter = Reporter(
            store, worker.job, snapshot=self._newest_document, look=self._look
        )
        self._reporter.start()
        # Connecting can take seconds (torch looks the peer's name up): nobody waits for it here.
        # That node may be gone: the generation says who is there.
        with suppress(PeerLostError, EndpointGoneError):
            self._keeper.connect(worker.master_addr, worker.master_port)
        generation = self._membership.join(announce)
        self._boundary = time.perf_counter()
        self._enter(generation, before=0)

    def decision(self) -> int:
        """Return the newest generation that rank 0's watcher has seen."""
        return self._pending if self.rank == 0 and self._pending > self.generation else 0

    def switch(self, number: int) -> None:
        """Enter generation ``number``, on which all members agreed in a collective."""
        self._boundary = time.perf_counter()
        generation = self._store.fetch(keys.generation(self._worker.job, number), Generation)
        if generation is None:
            raise LookupError(f"generation {number} was agreed on and is not in the store")
        self._enter(generation, before=self.world_size)

    def recover(self, failure: str) -> None:
        """A peer is gone: go on from the last committed step in a generation without it."""
        self._boundary = time.perf_counter()
        if self._conductor is not None:
            self._conductor.abandon()
        self.say(f"a peer is gone ({failure}); recovering")
        lost = self._current()
        before = lost.world_size
        self._enter(self._membership.recover(lost), before=before)

    def let_leave(self, *, leaving: bool) -> None:
        """Make the generation without the workers that were asked to leave.

        Raises:
            LeftError: This worker is one of them, or all are.
        """
        self._boundary = time.perf_counter()
        current = self._current()
        flags, failure = self._gather(int(leaving))
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
        self._enter(newest or following, before=current.world_size)

    def _gather(self, flag: int) -> tuple[list[int], str]:
        """Return the flags of all ranks, or why a peer is gone."""
        try:
            rows = gather_rows(torch.tensor([flag]))
        except PeerLostError as error:  # it goes no further: its frames hold the connections
            return [], str(error)
        return [int(row[0]) for row in rows], ""

    def step_done(self, state: TrainingState, loss: float, *, passes: int = 1) -> None:
        """Count the step, note the pause if it was the first of a generation, report."""
        self._clock.tick()
        if self._rescale is not None:
            self._complete_rescale(passes)
        self._passes = passes
        if self.rank == 0 and self.mode == PROFILE:
            self._report_measured()
        elif self.rank == 0:
            self._document = self._progress(state, loss)

    def report_now(self) -> None:
        """Write the progress document now; the job may have nobody who does it later."""
        with suppress(StoreError):  # what was told before has to do
            self._reporter.write_progress()

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
                    "finished", generation=self.generation, step=self._state.global_step
                )
            self._keeper.say_done(self.rank)
            lost = self._await_done()
            if not lost:
                break
            self.recover(f"{', '.join(lost)} ended before the end")
            if self._state.global_step < step:
                return False
        self.close()
        return True

    def _await_done(self) -> list[str]:
        """Wait until all members are done; return those that ended before they were."""
        members = [one.worker for one in self._current().members]
        end = time.monotonic() + timeouts.END
        while self.world_size > 1 and time.monotonic() < end:
            late = self._keeper.not_done(members)
            if not late:
                break
            lost = self._membership.ended(late)
            if lost and set(lost) & set(self._keeper.not_done(members)):
                return lost
            time.sleep(timeouts.POLL)
        return []

    def close(self) -> None:
        """End the reporter's thread and leave the group."""
        self._reporter.close()
        self._keeper.close()

    def _current(self) -> Generation:
        if self._conductor is None or self._conductor.generation is None:
            raise LookupError("no generation was entered yet")
        return self._conductor.generation

    def _enter(self, generation: Generation, *, before: int) -> None:
        conductor = self._conductor
        if conductor is None:
            raise LookupError("the session is not open")
        parts = {"agree": time.perf_counter() - self._boundary}
        try:
            parts |= conductor.enter(generation)
        except LeftError as left:
            self.say(f"leaves at step {self._state.global_step}: {left.generation.reason}")
            raise
        now = self._current()
        self._entered = time.perf_counter()
        planned = (self._planned_generation, self._planned[0])
        if self._worker.log_dir and ((now.number, self.rank) != planned or before):
            redirect_output(self._worker.log_dir, now.number, self.rank)
        self._rescale = Rescale(
            generation=now.number,
            step=self._state.global_step,
            from_=before,
            to=now.world_size,
            parts=parts,
            reason=now.reason,
        )
        self._clock.restart()
        self._measured = 0

    def _complete_rescale(self, passes: int) -> None:
        now = time.perf_counter()
        rescale, self._rescale = self._rescale, None
        self._keeper.drop_parked()
        if rescale is None or self.rank != 0:
            return
        rescale.parts["first_step"] = now - self._entered
        rescale.pause_s = now - self._boundary
        rescale.shares = f"{self._shares(rescale.from_)} -> {self._shares(rescale.to)}"
        rescale.passes = f"{self._passes if rescale.from_ else 0} -> {passes}"
        self._reporter.post("switched", **rescale.to_message())
        parts = ", ".join(f"{name} {seconds:.3f}" for name, seconds in rescale.parts.items())
        self.say(
            f"rescaled {rescale.from_} -> {rescale.to} workers at step {rescale.step}: "
            f"{rescale.shares} samples a rank, in {rescale.passes} passes on rank 0; "
            f"pause {rescale.pause_s:.3f} s ({parts})"
        )

    def _shares(self, world_size: int) -> str:
        """Spell how a global batch is shared: ``22+21+21``, or ``16x4``."""
        if world_size < 1:
            return "0"
        total, least = (int(self._announce[n]) for n in ("global_batch_size", "least_share"))
        shares = [share(total, rank, world_size, least) for rank in range(world_size)]
        sizes = [stop - start for start, stop in shares]
        if len(set(sizes)) == 1:
            return f"{sizes[0]}x{world_size}"
        return "+".join(str(size) for size in sizes)

    def _progress(self, state: TrainingState, loss: float) -> dict[str, Any]:
        return {
            "generation": self.generation,
            "world_size": self.world_size,
            "global_step": state.global_step,
            "max_steps": self._announce["max_steps"],
            "samples": state.samples,
            "steps_per_s": self._clock.steps_per_s(),
            "loss": loss,
            "digest": f"{self._conductor.digest:016x}" if self._conductor else "",
        }

    def _newest_document(self) -> dict[str, Any] | None:
        """On the reporter's thread: a checkpoint becomes whole between two steps, too."""
        if self._document is None:
            return None
        step, saved_at = self._last_checkpoint() or (None, None)
        return {**self._document, "checkpoint_step": step, "checkpoint_at": saved_at}

    def _report_measured(self) -> None:
        if self._measured == self.generation:
            return
        measured = self._clock.measured()
        if measured is not None:
            self._measured = self.generation
            self._reporter.post(
                "measured",
                generation=self.generation,
                world_size=self.world_size,
                memory_bytes=memory_bytes(self._device),
                **measured._asdict(),
            )

    def _look(self) -> None:
        """On the reporter's thread: see whether a newer generation exists."""
        conductor = self._conductor
        if conductor is None or conductor.generation is None or self.rank != 0:
            return
        newest = self._membership.newest(conductor.generation.number)
        if newest is not None:
            self._pending = newest.number

    def say(self, text: str) -> None:
        """Tell whoever reads this worker's log."""
        name = f"{self._worker.job_name} g{self.generation} rank {self.rank}"
        print(f"[eflib] {name}: {text}", file=sys.stderr, flush=True)  # noqa: T201 - a worker's log is its stderr
