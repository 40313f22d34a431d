"""Workers and generations of one job: a pure state machine.

It is told which GPUs the job should hold, and what the workers report. It answers which workers
should run, and which generation to make next. It makes one only when all members are ready, with
at least one member that holds the state, and not before the last one was entered.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

from eflib.coordinator import timeouts
from eflib.messages.generations import TRAIN, Generation
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


@dataclass
class Membership:
    """The workers and generations of one job.

    Attributes:
        job: The job's id.
        newest: The newest generation there is; number 0 is none.
        settled: The newest generation that was entered; its members hold the state.
        target: The GPUs that the job should hold.
        standby: GPUs on which workers should be made ready, to join later.
        known: Generations by number, from the settled one on.
        seats: Workers by id: those that are alive, or in one of the two generations.
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

        Call ``proposing.proposal`` afterwards for the generation to make.
        """
        changed = self._dismiss(now)
        if not self.ending and not self.is_over:
            changed = self._start_missing(now) or changed
        self._drop_past()
        return changed

    def _drop_past(self) -> None:
        """Drop generations that were left and workers that are gone: jobs may rescale for weeks."""
        if self.known and min(self.known) < self.settled.number:
            self.known = {n: one for n, one in self.known.items() if n >= self.settled.number}
        if len(self.seats) > len(self.settled.members) + len(self.newest.members):
            named = {one.worker for one in (*self.settled.members, *self.newest.members)}
            kept = {w: seat for w, seat in self.seats.items() if seat.is_alive or w in named}
            self.seats = kept

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
