"""Which generation a worker belongs to: of fixed size, or as the store says.

A worker acts only for the generation that it belongs to. It moves on when rank 0 has seen a newer
one (the number rides on a collective), or when a peer is lost: then survivors make the next one
themselves, by compare-and-set, so that recovery waits for nobody.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from eflib.errors import PreemptedError, WorkerFailedError
from eflib.messages.generations import Generation, Member, survivors
from eflib.messages.inbox import WorkerReady
from eflib.messages.records import NodeRecord, WorkerExit
from eflib.store import keys
from eflib.trainer import timeouts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from eflib.messages.inbox import Announce
    from eflib.store.signed import SignedStore


_PREEMPTED = PreemptedError.exit_status


class Membership(ABC):
    """What the trainer asks about its generation."""

    worker: str
    elastic = False

    @abstractmethod
    def join(self, announce: Announce) -> Generation:
        """Say that this worker is ready, and return the generation that names it."""

    def newest(self, after: int) -> Generation | None:
        """Return the newest generation with a number above ``after``, or None."""
        del after
        return None

    def recover(self, lost: Generation, missing: frozenset[str] = frozenset()) -> Generation:
        """Return the generation that follows one in which a peer was lost."""
        del missing
        raise WorkerFailedError(
            f"rank {lost.rank_of(self.worker)} lost the connection to another rank",
            hint="the other rank's own error says why; a world of fixed size cannot go on without "
            "it, eflaunch can",
        )

    def ended(self, workers: Iterable[str]) -> list[str]:
        """Return those of the given workers whose exit is on record."""
        del workers
        return []

    def how_ended(self, worker: str) -> str:
        """Return how a worker ended, in a line; "" where no exit is on record."""
        del worker
        return ""

    def are_done(self, workers: Iterable[str]) -> bool:
        """Tell whether one of these workers, members of the newest generation, ended in order."""
        del workers
        return False

    def propose(self, generation: Generation) -> bool:
        """Try to make ``generation`` the next one; False when another was first."""
        del generation
        return False

    def endpoint(self, members: tuple[Member, ...]) -> tuple[str, int]:
        """Return where these members would meet."""
        del members
        return "", 0


class FixedMembership(Membership):
    """A world of fixed size: plain ``python`` (one worker), or torchrun's."""

    def __init__(self, rank: int, world_size: int) -> None:
        self.worker = str(rank)
        self._world_size = world_size

    def join(self, announce: Announce) -> Generation:
        """Return the only generation there is."""
        del announce
        members = tuple(Member(str(rank), "", rank) for rank in range(self._world_size))
        return Generation(number=0, members=members, made_by="fixed")


class StoreMembership(Membership):
    """The generations of one job, as the store holds them.

    Args:
        store: The cluster's store.
        job: The job's id.
        worker: This worker's id.
        planned: The generation for which this worker was started; it never enters an older one.
        is_leaving: True once this worker was asked to go.
    """

    elastic = True

    def __init__(
        self,
        store: SignedStore,
        job: str,
        worker: str,
        planned: int,
        *,
        is_leaving: Callable[[], bool],
    ) -> None:
        self.worker = worker
        self._is_leaving = is_leaving
        self._store = store
        self._job = job
        self._planned = planned

    def join(self, announce: Announce) -> Generation:
        """Post ``worker_ready`` and wait to be named.

        Raises:
            PreemptedError: No generation named this worker within ``timeouts.ADMISSION``.
        """
        ready = WorkerReady(job=self._job, worker=self.worker, announce=announce)
        self._store.post(keys.INBOX, ready)
        return self.wait_named(self._planned - 1)

    def wait_named(self, after: int) -> Generation:
        """Wait for a generation above ``after`` that names this worker."""
        end = time.monotonic() + timeouts.ADMISSION
        pause = 0.002
        while time.monotonic() < end:
            if self._is_leaving():
                raise SystemExit(_PREEMPTED)  # it was asked to go before anybody needed it
            newest = self.newest(after)
            if newest is not None:
                if newest.rank_of(self.worker) is not None:
                    return newest
                after = newest.number
            time.sleep(pause)
            pause = min(pause * 1.2, 0.01)
        raise PreemptedError(
            f"worker {self.worker} waited {timeouts.ADMISSION:g} s for a generation that names it"
        )

    def newest(self, after: int) -> Generation | None:
        """Return the newest generation above ``after``; numbers have no gaps."""
        found = None
        while True:
            generation = self._store.fetch(keys.generation(self._job, after + 1), Generation)
            if generation is None:
                return found
            after += 1
            found = generation

    def propose(self, generation: Generation) -> bool:
        """Create a generation's record if nobody has made one of this number."""
        key = keys.generation(self._job, generation.number)
        return self._store.claim(key, generation)

    def endpoint(self, members: tuple[Member, ...]) -> tuple[str, int]:
        """Return the TCP store of the agent on rank 0's node.

        Raises:
            WorkerFailedError: That node has no record.
        """
        record = self._store.fetch(keys.node_record(members[0].node), NodeRecord)
        if record is None:
            raise WorkerFailedError(f"node {members[0].node} is not registered any more")
        return record.store_host, record.store_port

    def recover(self, lost: Generation, missing: frozenset[str] = frozenset()) -> Generation:
        """Find out who is gone, and agree with the other survivors on the next generation.

        The first survivor in rank order makes it as soon as an exit is on record; the others wait
        for it, and take their turn when it does not come. Without any news for a while all try
        again together: whoever is gone then does not come, and is left out as missing.

        Raises:
            WorkerFailedError: Nothing came of it within ``timeouts.RECOVERY``.
        """
        begin = time.monotonic()
        while (waited := time.monotonic() - begin) < timeouts.RECOVERY:
            newest = self.newest(lost.number)
            if newest is not None:
                return newest
            dead = missing.union(self.ended(one.worker for one in lost.members))
            if dead or waited > timeouts.RECOVERY / 12:
                alive = [one for one in lost.members if one.worker not in dead]
                turn = [one.worker for one in alive].index(self.worker)
                if waited > 0.5 * turn:
                    self._propose_without(lost, dead)
                    continue
            time.sleep(0.002)
        raise WorkerFailedError(
            f"an exchange in generation {lost.number} failed and no generation followed "
            f"in {timeouts.RECOVERY:g} s"
        )

    def ended(self, workers: Iterable[str]) -> list[str]:
        """Return those of the given workers whose agents have put an exit on record."""
        return [worker for worker, _ in self._exits(workers)]

    def how_ended(self, worker: str) -> str:
        """Return what the worker raised, the signal that ended it, or its exit code."""
        for _, record in self._exits([worker]):
            if record.error is not None and record.error.message:
                return f"ended with {record.error.message.splitlines()[0]}"
            if record.signal:
                return f"killed by {record.signal}"
            return f"exit code {record.exitcode}"
        return ""

    def are_done(self, workers: Iterable[str]) -> bool:
        """Tell whether one of them ended with status 0: no member does before training is over."""
        return any(record.exitcode == 0 for _, record in self._exits(workers))

    def _exits(self, workers: Iterable[str]) -> Iterator[tuple[str, WorkerExit]]:
        """Yield the other workers whose exit is on record, with the record."""
        for worker in workers:
            if worker == self.worker:
                continue
            record = self._store.fetch(keys.worker_exit(self._job, worker), WorkerExit)
            if record is not None:
                yield worker, record

    def _propose_without(self, lost: Generation, dead: set[str] | frozenset[str]) -> None:
        alive = tuple(one for one in lost.members if one.worker not in dead)
        following = survivors(
            lost,
            set(dead),
            number=lost.number + 1,
            endpoint=self.endpoint(alive),
            made_by=self.worker,
        )
        self.propose(following)
