"""What survivors of a lost peer know: who is gone and how, and when trying again has no sense."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from eflib.errors import WorkerFailedError
from eflib.trainer import timeouts
from eflib.trainer.elastic.interrupt import end_links

if TYPE_CHECKING:
    from eflib.messages.generations import Generation
    from eflib.trainer.elastic.formation import GroupKeeper
    from eflib.trainer.elastic.membership import Membership

ATTEMPTS = 3
"""So many failed exchanges in a row, with every worker alive and no step done, end the worker."""


class Attempts:
    """Counts exchanges that failed while every worker lives: trying again does not mend these."""

    def __init__(self) -> None:
        self._problems: list[str] = []
        self._told: list[str] = []

    @property
    def problem(self) -> str:
        """What failed on this rank the last time; "" if nothing did since the last step."""
        return self._problems[-1] if self._problems else ""

    def hear(self, problems: list[str]) -> None:
        """Note what failed on each rank, in rank order: one of them knows the cause.

        The others know no more than that a connection was closed.
        """
        if not self._told and any(problems):
            self._told = [f"rank {rank}: {one}" for rank, one in enumerate(problems) if one]

    def fail(self, problem: str) -> None:
        """Note that an exchange between the ranks failed.

        Raises:
            WorkerFailedError: It was one too many; names what failed first, on all ranks where
                they could still tell each other.
        """
        self._problems.append(problem)
        if len(self._problems) >= ATTEMPTS:
            told = "; ".join(self._told) or self._problems[0]
            raise WorkerFailedError(
                f"ranks cannot exchange data: {told}",
                detail=f"{len(self._problems)} attempts in a row failed while every worker lives, "
                "without a step in between",
                hint="does the script do something on some ranks only, such as a collective "
                "operation of its own? Each rank's log says what failed there",
            )

    def follow(self, lost: Generation, following: Generation) -> None:
        """Note which generation follows; where a worker is gone, that was the reason."""
        if departed(lost, following):
            self.succeed()

    def succeed(self) -> None:
        """Note that a step was done."""
        self._problems.clear()
        self._told.clear()


def departed(lost: Generation, following: Generation) -> list[int]:
    """Return the ranks of a generation whose workers the following one does not name."""
    workers = {one.worker for one in following.members}
    return [rank for rank, one in enumerate(lost.members) if one.worker not in workers]


def describe_loss(
    lost: Generation, following: Generation, membership: Membership, failure: str
) -> str:
    """Say in a line why a generation ended, with what is on record of those who left it.

    Args:
        lost: The generation in which an exchange failed.
        following: The one that follows it.
        membership: Knows how workers ended.
        failure: What torch said of the exchange.
    """
    gone = []
    for rank in departed(lost, following):
        member = lost.members[rank]
        how = membership.how_ended(member.worker) or "left, with no exit on record"
        gone.append(f"rank {rank} on {member.node}: {how}")
    if not gone:
        return f"an exchange between ranks failed while every worker lives ({failure}); again"
    return f"{'; '.join(gone)}; going on with {following.world_size} of {lost.world_size} workers"


class NeighbourWatch:
    """Ends this rank's waiting for a peer whose exit is on record.

    A worker that ends closes its connections, and its peers see that. One whose machine is gone
    does not; its exit is put on record when the machine's heartbeat is missed. Each rank watches
    the next, and closes its own connections then, which the others see.

    Args:
        membership: Knows of exits.
        keeper: Owns the connections.
    """

    def __init__(self, membership: Membership, keeper: GroupKeeper) -> None:
        self._membership = membership
        self._keeper = keeper
        self._due = 0.0
        self.step_done()

    def step_done(self) -> None:
        """Note that the peers were there a moment ago: there is nothing to look for."""
        self._due = time.monotonic() + timeouts.WATCH

    def look(self, generation: Generation, rank: int) -> None:
        """Look whether the neighbour is gone, where no step was done for a while; any thread may.

        Raises:
            StoreError: The store does not answer.
        """
        if generation.world_size < 2 or time.monotonic() < self._due:
            return
        self._due = time.monotonic() + timeouts.WATCH
        links = self._keeper.links
        neighbour = generation.members[(rank + 1) % generation.world_size]
        if self._membership.ended([neighbour.worker]):
            end_links(links)
