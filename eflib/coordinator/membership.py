"""Workers and generations of one job: a pure state machine.

It is told which GPUs the job should hold, and what the workers report. It answers which workers
should run, and which generation to make next. It makes one only when all members are ready, with
at least one member that holds the state, and not before the last one was entered.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass, field

from eflib.coordinator import timeouts
from eflib.messages.generations import PAUSE, STOP, TRAIN, Generation, Member
from eflib.scheduling import Gpu


class Stage(enum.Enum):
    """Where a worker is in its life."""

    STARTING = "starting"
    READY = "ready"
    MEMBER = "member"
    ENDED = "ended"


@dataclass
class Seat:
    """One worker as the coordinator knows it."""

    worker: str
    gpu: Gpu
    generation: int
    rank: int
    world_size: int
    mode: str
    started_at: float
    stage: Stage = Stage.STARTING
    ready_at: float = 0.0
    has_process: bool = False
    dismissed: bool = False
    dismissed_at: float = 0.0

    @property
    def is_alive(self) -> bool:
        """False once its exit was reported."""
        return self.stage is not Stage.ENDED


Endpoint = Callable[[str], tuple[str, int]]
"""Gives the address of a node's store for process groups."""


@dataclass
class Membership:
    """The workers and generations of one job.

    Attributes:
        job: The job's id.
        newest: The newest generation there is; number 0 is none.
        settled: The newest generation that was entered; its members hold the state.
        target: The GPUs that the job should hold.
        standby: GPUs on which workers should be made ready, to join later.
        known: Generations by number.
        ending: ``pause`` or ``stop`` when the workers should go, else empty.
        is_over: Training has ended by its own account: workers go by themselves.
    """

    job: str
    mode: str = TRAIN
    newest: Generation = field(default_factory=lambda: Generation(0, ()))
    settled: Generation = field(default_factory=lambda: Generation(0, ()))
    settled_at: float = 0.0
    target: tuple[Gpu, ...] = ()
    standby: tuple[Gpu, ...] = ()
    known: dict[int, Generation] = field(default_factory=dict)
    seats: dict[str, Seat] = field(default_factory=dict)
    num_started: int = 0
    ending: str = ""
    reason: str = ""
    is_over: bool = False

    # What happened -------------------------------------------------------------------------------

    def aim(self, target: tuple[Gpu, ...], reason: str = "") -> None:
        """Set the GPUs that the job should hold; nothing stands by any more."""
        self.target = target
        self.standby = ()
        self.reason = reason

    def started(self, worker: str) -> None:
        """A worker has a process."""
        if worker in self.seats:
            self.seats[worker].has_process = True

    def ready(self, worker: str, now: float) -> None:
        """A worker has reached ``fit()`` and waits to be named."""
        self.started(worker)
        seat = self.seats.get(worker)
        if seat is not None and seat.stage is Stage.STARTING:
            seat.stage, seat.ready_at = Stage.READY, now

    def exited(self, worker: str) -> None:
        """A worker's process is gone."""
        if worker in self.seats:
            self.seats[worker].stage = Stage.ENDED

    def saw(self, generation: Generation, now: float) -> None:
        """A generation is in the store, whoever made it."""
        if generation.number <= self.newest.number:
            return
        self.newest = self.known[generation.number] = generation
        for member in generation.members:
            if member.worker in self.seats and self.seats[member.worker].is_alive:
                self.seats[member.worker].stage = Stage.MEMBER
        if not generation.members:
            self.switched(generation.number, now)

    def switched(self, number: int, now: float) -> None:
        """A generation was entered: its members train."""
        if number > self.settled.number and number in self.known:
            self.settled, self.settled_at = self.known[number], now

    # What should be ------------------------------------------------------------------------------

    def alive(self) -> list[Seat]:
        """Return the workers whose exit was not reported, oldest first."""
        return [seat for seat in self.seats.values() if seat.is_alive]

    def wanted(self) -> list[Seat]:
        """Return the workers that should have a process."""
        return [seat for seat in self.alive() if not seat.dismissed]

    def is_member(self, seat: Seat) -> bool:
        """Tell whether a worker is in the newest generation."""
        return self.newest.rank_of(seat.worker) is not None

    def step(self, now: float) -> bool:
        """Start and dismiss workers as the target asks; True if anything changed.

        Call ``proposal`` afterwards for the generation to make.
        """
        changed = self._dismiss(now)
        if not self.ending and not self.is_over:
            changed = self._start_missing(now) or changed
        return changed

    def _dismiss(self, now: float) -> bool:
        """Give up workers that are not needed; leavers go by themselves, within a bound."""
        overdue = self.settled == self.newest and now - self.settled_at > timeouts.LEAVERS
        changed = False
        for seat in self.wanted():
            if seat.stage is Stage.MEMBER:
                gone = overdue and not self.is_member(seat)
            else:
                needed = seat.gpu in self.target or seat.gpu in self.standby
                gone = not needed or seat.mode != self.mode or bool(self.ending) or self.is_over
            if gone:
                seat.dismissed, seat.dismissed_at = True, now
                changed = True
        return self._forget(now) or changed

    def _forget(self, now: float) -> bool:
        """Count dismissed workers as ended of which no exit will be heard.

        One that has no process yet may never get one. If its agent was just about to start it,
        the agent ends it again, because the worker is no longer in the node's assignment.
        """
        changed = False
        for seat in self.alive():
            overdue = now - seat.dismissed_at > timeouts.DISMISSED
            if seat.dismissed and (overdue or not seat.has_process):
                seat.stage = Stage.ENDED
                changed = True
        return changed

    def _start_missing(self, now: float) -> bool:
        taken = {seat.gpu for seat in self.wanted() if seat.stage is not Stage.MEMBER}
        taken |= {seat.gpu for seat in self.wanted() if self.is_member(seat)}
        asked = self.target + self.standby
        missing = [gpu for gpu in asked if gpu not in taken]
        first = len(asked) - len(missing)
        for place, gpu in enumerate(missing):
            self.num_started += 1
            seat = Seat(
                worker=f"{self.job}.{self.num_started}",
                gpu=gpu,
                generation=self.newest.number + 1,
                rank=first + place,
                world_size=len(asked),
                mode=self.mode,
                started_at=now,
            )
            self.seats[seat.worker] = seat
        return bool(missing)

    def proposal(
        self, now: float, is_free: Callable[[Gpu], bool], endpoint: Endpoint
    ) -> Generation | None:
        """Return the generation to make now, or None."""
        members = None if self.is_over and not self.ending else self._members(now, is_free)
        if members is None:
            return None
        host, port = endpoint(members[0].gpu.node) if members else ("", 0)
        action = TRAIN if members else self._farewell()
        return Generation(
            number=self.newest.number + 1,
            members=tuple(Member(one.worker, one.gpu.node, one.gpu.index) for one in members),
            master_addr=host,
            master_port=port,
            mode=self.mode,
            action=action,
            reason=self.reason,
            made_by="coordinator",
        )

    def _farewell(self) -> str:
        """Return why all leave: the job ends, waits, or goes from profiling to training."""
        return self.ending or (STOP if self._is_of_other_mode() else PAUSE)

    def _is_of_other_mode(self) -> bool:
        return bool(self.newest.members) and self.newest.mode != self.mode

    def _members(self, now: float, is_free: Callable[[Gpu], bool]) -> list[Seat] | None:
        current = [self.seats[one.worker] for one in self.newest.members]
        current_alive = [seat for seat in current if seat.is_alive]
        if self.ending or not self.target or self._is_of_other_mode():
            return [] if current_alive else None
        is_entering = self.settled != self.newest and len(current_alive) == len(current)
        is_saving = self.newest.action == PAUSE and self._is_anyone_leaving()
        if is_entering or is_saving:
            return None
        stateful = [
            seat
            for one in self.settled.members
            if (seat := self.seats[one.worker]).is_alive and not seat.dismissed
        ]
        joiners = self._joiners(now, is_free, stateful)
        if joiners is None:
            return None
        members = [seat for seat in stateful if seat.gpu in self.target] + joiners
        if stateful and not any(seat in stateful for seat in members):
            members = stateful[:1] + members  # somebody must bring the state along
        if not members or [one.worker for one in self.newest.members] == [
            seat.worker for seat in members
        ]:
            return None
        if stateful and len(members) == 1 and members[0].gpu not in self.target:
            return None  # the bridge alone gains nothing
        return members

    def _is_anyone_leaving(self) -> bool:
        return any(seat.stage is Stage.MEMBER and not self.is_member(seat) for seat in self.alive())

    def _joiners(
        self, now: float, is_free: Callable[[Gpu], bool], stateful: list[Seat]
    ) -> list[Seat] | None:
        """Return those that can join now; None to wait for the others."""
        coming = [
            seat
            for seat in self.wanted()
            if seat not in stateful and seat.gpu in self.target and seat.mode == self.mode
            if seat.stage is not Stage.MEMBER or self.is_member(seat)  # a leaver is on its way out
        ]
        ready = [seat for seat in coming if seat.stage is not Stage.STARTING]
        able = [
            seat for seat in ready if is_free(seat.gpu) or now - seat.ready_at > timeouts.HANDOVER
        ]
        if len(able) == len(coming):
            return able
        oldest = min((seat.ready_at for seat in able), default=now)
        if able and now - oldest > timeouts.JOINERS:
            return able
        lost = any(not self.seats[one.worker].is_alive for one in self.newest.members)
        return [] if lost and stateful else None
