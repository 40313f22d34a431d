"""What the agent reads and writes in the store, in the agent's words.

Reports are kept in order until the store has taken them: an outage delays them and loses none.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from typing import TYPE_CHECKING, Any, TypeVar

from eflib.agent.timeouts import RETRY_SECONDS
from eflib.errors import StoreError
from eflib.store import keys

if TYPE_CHECKING:
    from collections.abc import Callable

    from eflib.store import SignedStore

    Message = dict[str, Any]
    Workers = list[dict[str, Any]]

T = TypeVar("T")

_log = logging.getLogger(__name__)


class OutageError(Exception):
    """The store is out just now; what was asked can be asked again."""


class Cluster:
    """A node's place in the store.

    While the store is out, calls return at once most of the time: an attempt may take seconds, and
    as long as one took, none is made. So the agent still sees its workers end, and its signals.

    Args:
        store: The cluster's store.
        node: The node's name.
        clock: Seconds that only grow.
    """

    def __init__(
        self, store: SignedStore, node: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._store = store
        self._clock = clock
        self._retry_due = 0.0
        self.node = node
        self._unsent: deque[Callable[[], object]] = deque()
        self._beats = 0
        self._assignment_raw: bytes | None = None
        self._assignment: Workers = []
        self._is_out = False

    def join(self, record: Message) -> None:
        """Describe the node and tell the coordinator.

        Raises:
            StoreError: The store does not take it.
        """
        self._store.put(keys.node_record(self.node), record)
        self.beat()
        self._store.post(keys.INBOX, {"type": "node_joined", "node": self.node})

    def leave(self) -> None:
        """Tell the coordinator that this node takes no more workers."""
        message = {"type": "node_left", "node": self.node}
        self._send(lambda: self._store.post(keys.INBOX, message))

    def forget(self) -> None:
        """Take the node's record away."""
        self._send(lambda: self._store.delete(keys.node_record(self.node)))

    def beat(self) -> None:
        """Count one on."""
        self._beats += 1
        self._tried(lambda: self._store.put(keys.node_heartbeat(self.node), {"count": self._beats}))

    def assigned(self) -> Workers | None:
        """Return the workers that this node should run; None if that cannot be told just now.

        Asked many times a second, so what has not changed is not verified again.
        """
        key = keys.node_assignment(self.node)
        raw = self._tried(lambda: self._store.store.get(key))
        if raw is None or raw == self._assignment_raw:
            return None if raw is None else self._assignment
        message = self._tried(lambda: self._store.fetch(key))
        if message is None:
            return None
        entries = message.get("workers") or []
        self._assignment_raw = raw
        self._assignment = [entry for entry in entries if {"worker", "job"} <= set(entry)]
        if len(entries) > len(self._assignment):
            _log.error("the assignment names workers without a name or a job; left out")
        return self._assignment

    def keep(self, record: Message) -> bool:
        """Put the node's record back where the store has lost it; False if another agent's stands.

        While the store is out, nothing is known of another agent.
        """

        def act() -> bool:
            held = self._store.fetch(keys.node_record(self.node))
            if held is None:
                self.join(record)
            return held is None or held.get("agent") == record["agent"]

        return self._tried(act) is not False

    def coordinator(self) -> Message | None:
        """Return the coordinator's record, or None."""
        return self._tried(lambda: self._store.fetch(keys.COORDINATOR))

    def spec(self, job: str) -> Message:
        """Return what a job runs.

        Raises:
            OutageError: The store is out.
            StoreError: There is none.
        """
        answer = self._tried(lambda: (self._store.fetch(keys.job_spec(job)),))
        if answer is None:
            raise OutageError
        if answer[0] is None:
            raise StoreError(f"job {job} has no spec in the store")
        return answer[0]

    def has_exit(self, job: str, worker: str) -> bool:
        """Tell whether an exit of the worker is on record."""
        return self._tried(lambda: self._store.fetch(keys.worker_exit(job, worker))) is not None

    def report_start(self, worker: Message, pid: int) -> None:
        """Tell the coordinator that a worker has a process."""
        message = {"type": "worker_started", "node": self.node, "pid": pid}
        message.update(job=worker["job"], worker=worker["worker"])
        self._send(lambda: self._store.post(keys.INBOX, message))

    def report_exit(self, message: Message) -> None:
        """Put how a worker ended on record, where its peers look, and tell the coordinator."""
        key = keys.worker_exit(message["job"], message["worker"])
        self._send(lambda: self._store.claim(key, message))
        self._send(lambda: self._store.post(keys.INBOX, {"type": "worker_exited", **message}))

    def flush(self) -> bool:
        """Hand over what the store has not taken yet; True if nothing is left."""
        while self._unsent:
            if self._tried(lambda: (self._unsent[0](),)) is None:
                return False
            self._unsent.popleft()
        return True

    def _send(self, act: Callable[[], object]) -> None:
        self._unsent.append(act)
        self.flush()

    def _tried(self, act: Callable[[], T]) -> T | None:
        """Return what the act returns, or None if the store is out; say so once per outage."""
        begin = self._clock()
        if self._is_out and begin < self._retry_due:
            return None
        try:
            answer = act()
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
