"""What the agent reads and writes in the store, in the agent's words.

Reports are kept in order until the store has taken them: an outage delays them and loses none.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from typing import TYPE_CHECKING, TypeVar

from eflib.agent.timeouts import ABSENCE_SECONDS, RETRY_SECONDS
from eflib.errors import StoreError, TooLargeError
from eflib.messages.codec import InvalidMessageError
from eflib.messages.inbox import NodeJoined, NodeLeft, WorkerExited, WorkerStarted
from eflib.messages.records import (
    Assignment,
    CoordinatorRecord,
    Heartbeat,
    JobSpec,
    NodeRecord,
    WorkerAssignment,
    WorkerExit,
)
from eflib.store import keys

if TYPE_CHECKING:
    from collections.abc import Callable

    from eflib.store import SignedStore

    Workers = tuple[WorkerAssignment, ...]

T = TypeVar("T")

_log = logging.getLogger(__name__)


class OutageError(Exception):
    """The store is out just now; what was asked can be asked again."""


class Cluster:
    """A node's place in the store.

    While the store is out, calls return at once most of the time: an attempt may take seconds, and
    as long as one took, none is made. So the agent still sees its workers end, and its signals.

    What cannot be read or verified counts as absent; of an assignment, the last one that could be
    read holds.

    Args:
        store: The cluster's store.
        node: The node's name.
        tag: This agent's tag: another one after each start.
        clock: Seconds that only grow.
    """

    def __init__(
        self,
        store: SignedStore,
        node: str,
        tag: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._clock = clock
        self._retry_due = 0.0
        self.node = node
        self._tag = tag
        self._unsent: deque[Callable[[], object]] = deque()
        self._beats = 0
        self._assignment_raw: bytes | None = None
        self._assignment: Assignment | None = None
        self._is_out = False
        self._beaten = clock()
        self._was_absent = False

    def join(self, record: NodeRecord) -> None:
        """Describe the node and tell the coordinator.

        Raises:
            StoreError: The store does not take it.
        """
        self._store.put(keys.node_record(self.node), record)
        self.beat()
        self._store.post(keys.INBOX, NodeJoined(node=self.node))

    def leave(self) -> None:
        """Tell the coordinator that this node takes no more workers."""
        message = NodeLeft(node=self.node, agent=self._tag)
        self._send(lambda: self._store.post(keys.INBOX, message))

    def forget(self) -> None:
        """Take the node's record away."""
        self._send(lambda: self._store.delete(keys.node_record(self.node)))

    def beat(self) -> None:
        """Count one on, and note when that has not been possible for long."""
        self._beats += 1
        beat = Heartbeat(self._beats)
        self._tried(lambda: self._beat(beat))

    def _beat(self, beat: Heartbeat) -> None:
        self._store.put(keys.node_heartbeat(self.node), beat)
        now = self._clock()
        self._was_absent |= now - self._beaten > ABSENCE_SECONDS
        self._beaten = now

    def assigned(self) -> Workers | None:
        """Return the workers that this node should run; None if that cannot be told just now.

        Asked many times a second, so what has not changed is not verified again.
        """
        key = keys.node_assignment(self.node)
        raw = self._tried(lambda: self._store.store.get(key))
        if raw is None:
            return None
        if raw != self._assignment_raw:
            self._assignment_raw = raw
            latest = self._store.read(key, raw, Assignment)
            if latest is not None and self._is_for_now(latest):
                self._assignment = latest
        return None if self._assignment is None else self._assignment.workers

    def keep(self, record: NodeRecord) -> bool:
        """Put the node's record back where the store has lost it; False if another agent's stands.

        An agent that gave no sign of life for a while may have been taken for dead: it joins again.
        While the store is out, nothing is known of another agent.
        """

        def act() -> bool:
            held = self._store.fetch(keys.node_record(self.node), NodeRecord)
            if held is not None and held.agent != record.agent:
                return False
            if held is None or self._was_absent:
                self.join(record)
                self._was_absent = False
            return True

        return self._tried(act) is not False

    def coordinator(self) -> CoordinatorRecord | None:
        """Return the coordinator's record, or None."""
        return self._tried(lambda: self._store.fetch(keys.COORDINATOR, CoordinatorRecord))

    def spec(self, job: str) -> JobSpec:
        """Return what a job runs.

        Raises:
            OutageError: The store is out.
            StoreError: There is none.
        """
        answer = self._tried(lambda: (self._store.fetch(keys.job_spec(job), JobSpec),))
        if answer is None:
            raise OutageError
        if answer[0] is None:
            raise StoreError(f"job {job} has no spec in the store that can be read")
        return answer[0]

    def has_exit(self, job: str, worker: str) -> bool:
        """Tell whether an exit of the worker is on record."""
        key = keys.worker_exit(job, worker)
        return self._tried(lambda: self._store.fetch(key, WorkerExit)) is not None

    def report_start(self, worker: WorkerAssignment, pid: int) -> None:
        """Tell the coordinator that a worker has a process."""
        message = WorkerStarted(node=self.node, job=worker.job, worker=worker.worker, pid=pid)
        self._send(lambda: self._store.post(keys.INBOX, message))

    def report_exit(self, record: WorkerExit) -> None:
        """Put how a worker ended on record, where its peers look, and tell the coordinator."""
        key = keys.worker_exit(record.job, record.worker)
        self._send(lambda: self._store.claim(key, record))
        self._send(lambda: self._store.post(keys.INBOX, WorkerExited.of(record)))

    def flush(self) -> bool:
        """Hand over what the store has not taken yet; True if nothing is left.

        What the store will never take, because it is too large or not a message, is given up and
        said: it must not keep back what follows.
        """
        while self._unsent:
            try:
                if self._tried(lambda: (self._unsent[0](),)) is None:
                    return False
            except (TooLargeError, InvalidMessageError) as error:
                _log.error("a report cannot be sent: %s", error.problem)
            self._unsent.popleft()
        return True

    def _is_for_now(self, latest: Assignment) -> bool:
        """Tell whether an assignment is meant for this agent and no older than the last one."""
        if latest.agent not in ("", self._tag):
            return False  # of the agent before this one: its successor's will follow
        if self._assignment is not None and latest.number < self._assignment.number:
            numbers = (latest.number, self._assignment.number)
            _log.warning("ignored assignment %d: it is older than %d, the last one", *numbers)
            return False
        return True

    def _send(self, act: Callable[[], object]) -> None:
        self._unsent.append(act)
        self.flush()

    def _tried(self, act: Callable[[], T]) -> T | None:
        """Return what the act returns, or None if the store is out; say so once per outage.

        Raises:
            TooLargeError: The store does not take such a message, and never will.
        """
        begin = self._clock()
        if self._is_out and begin < self._retry_due:
            return None
        try:
            answer = act()
        except TooLargeError:
            raise
        except StoreError as error:
            if not self._is_out:
                _log.warning("going on without the store: %s", error.problem)
            self._is_out = True
            end = self._clock()
            self._retry_due = end + max(RETRY_SECONDS, end - begin)
            return None
        if self._is_out:
            _log.warning("the store answers again")
        self._is_out = False
        return answer
