"""Which generation a job should have next: a table of rules over named conditions.

A generation is made only when all its members are ready, with at least one member that holds the
state, and not before the last one was entered.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from functools import cached_property
from operator import attrgetter
from typing import TYPE_CHECKING

from eflib.coordinator import timeouts
from eflib.coordinator.membership import Stage
from eflib.messages.generations import PAUSE, STOP, TRAIN, Generation, Member

if TYPE_CHECKING:
    from eflib.coordinator.membership import Membership, Seat
    from eflib.scheduling import Gpu

Endpoint = Callable[[str], tuple[str, int]]
"""Gives the address of a node's store for process groups."""


class Situation:
    """One job's workers at one moment, as far as they decide on its next generation.

    Args:
        job: The job's membership.
        now: The present, in seconds.
        is_free: Tells whether no other job's worker trains on a slot.
    """

    def __init__(self, job: Membership, now: float, is_free: Callable[[Gpu], bool]) -> None:
        self._job = job
        self._now = now
        self._is_free = is_free

    # The conditions, by name ---------------------------------------------------------------------

    @property
    def training_is_over(self) -> bool:
        """Training has ended by its own account: workers leave without being told."""
        return self._job.is_over and not self._job.ending

    @property
    def all_must_leave(self) -> bool:
        """The job ends, waits for slots, or goes from measuring to training."""
        return bool(self._job.ending) or not self._job.target or self.is_of_other_mode

    @property
    def members_live(self) -> bool:
        """A member of the newest generation has not exited yet."""
        return any(seat.is_alive for seat in self._current)

    @property
    def all_must_leave_and_some_live(self) -> bool:
        """Somebody must be told to leave."""
        return self.all_must_leave and self.members_live

    @property
    def members_are_entering(self) -> bool:
        """The newest generation was not entered yet, and all its members live."""
        is_settled = self._job.settled == self._job.newest
        return not is_settled and all(seat.is_alive for seat in self._current)

    @property
    def members_are_saving(self) -> bool:
        """The job was paused, and some workers have not left with their checkpoint yet."""
        return self._job.newest.action == PAUSE and any(
            seat.stage is Stage.MEMBER and not self._job.is_member(seat)
            for seat in self._job.alive()
        )

    @property
    def joiners_are_awaited(self) -> bool:
        """Some that should join are not ready, and it is too early to go on without them."""
        return self.joiners is None

    @property
    def nobody_would_be_in_it(self) -> bool:
        """No worker holds a slot of the target and is ready."""
        return not self.members

    @property
    def nothing_would_change(self) -> bool:
        """The newest generation has the same members in the same order."""
        named = [member.worker for member in self._job.newest.members]
        return named == [seat.worker for seat in self.members]

    @property
    def it_would_be_the_bridge_alone(self) -> bool:
        """Only the worker that brings the state along would be in it: nothing is gained."""
        return (
            bool(self.stateful)
            and len(self.members) == 1
            and self.members[0].gpu not in self._job.target
        )

    @property
    def always(self) -> bool:
        """No rule before applies."""
        return True

    # What they are told from ---------------------------------------------------------------------

    @property
    def is_of_other_mode(self) -> bool:
        """The members measure while the job should train, or the other way round."""
        newest = self._job.newest
        return bool(newest.members) and newest.mode != self._job.mode

    @cached_property
    def _current(self) -> list[Seat]:
        return [self._job.seats[one.worker] for one in self._job.newest.members]

    @cached_property
    def stateful(self) -> list[Seat]:
        """The workers that hold the state: they were in the last generation that was entered."""
        seats = [self._job.seats[one.worker] for one in self._job.settled.members]
        return [seat for seat in seats if seat.is_alive and not seat.dismissed]

    @cached_property
    def joiners(self) -> list[Seat] | None:
        """Those that can join now; None to wait for the others."""
        job, now = self._job, self._now
        coming = [
            seat
            for seat in job.wanted()
            if seat not in self.stateful and seat.gpu in job.target and seat.mode == job.mode
            if seat.stage is not Stage.MEMBER or job.is_member(seat)  # a leaver is on its way out
        ]
        able = [seat for seat in coming if self._is_able(seat)]
        if len(able) == len(coming):
            return able
        oldest = min((seat.ready_at for seat in able), default=now)
        if able and now - oldest > timeouts.JOINERS:
            return able
        lost = any(not seat.is_alive for seat in self._current)
        return [] if lost and self.stateful else None

    def _is_able(self, seat: Seat) -> bool:
        """Tell whether a worker is ready, and another job's leaver is gone from its slot."""
        waited = self._now - seat.ready_at > timeouts.HANDOVER
        return seat.stage is not Stage.STARTING and (waited or self._is_free(seat.gpu))

    @cached_property
    def members(self) -> list[Seat]:
        """Who would be in the next generation: those that stay first, then those that join."""
        staying = [seat for seat in self.stateful if seat.gpu in self._job.target]
        members = staying + (self.joiners or [])
        if self.stateful and not any(seat in self.stateful for seat in members):
            return self.stateful[:1] + members  # somebody must bring the state along
        return members


class Outcome(enum.Enum):
    """What a rule leads to."""

    WAIT = "make none now"
    LEAVE = "make one without members, which tells all to leave"
    FORM = "make one of the workers that are ready"


RULES: tuple[tuple[str, Outcome], ...] = (
    ("training_is_over", Outcome.WAIT),
    ("all_must_leave_and_some_live", Outcome.LEAVE),
    ("all_must_leave", Outcome.WAIT),
    ("members_are_entering", Outcome.WAIT),
    ("members_are_saving", Outcome.WAIT),
    ("joiners_are_awaited", Outcome.WAIT),
    ("nobody_would_be_in_it", Outcome.WAIT),
    ("nothing_would_change", Outcome.WAIT),
    ("it_would_be_the_bridge_alone", Outcome.WAIT),
    ("always", Outcome.FORM),
)
"""The first condition of a ``Situation`` that holds decides."""


def decide(situation: Situation) -> Outcome:
    """Return what to do about the next generation."""
    return next(outcome for condition, outcome in RULES if attrgetter(condition)(situation))


def proposal(
    job: Membership, now: float, is_free: Callable[[Gpu], bool], endpoint: Endpoint
) -> Generation | None:
    """Return the generation to make now, or None.

    Args:
        job: The job's membership.
        now: The present, in seconds.
        is_free: Tells whether no other job's worker trains on a slot.
        endpoint: Gives the address of a node's store for process groups.
    """
    situation = Situation(job, now, is_free)
    outcome = decide(situation)
    if outcome is Outcome.WAIT:
        return None
    members = situation.members if outcome is Outcome.FORM else []
    host, port = endpoint(members[0].gpu.node) if members else ("", 0)
    farewell = job.ending or (STOP if situation.is_of_other_mode else PAUSE)
    return Generation(
        number=job.newest.number + 1,
        members=tuple(Member(one.worker, one.gpu.node, one.gpu.index) for one in members),
        master_addr=host,
        master_port=port,
        mode=job.mode,
        action=TRAIN if members else farewell,
        reason=job.reason,
        made_by="coordinator",
    )
