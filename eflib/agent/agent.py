"""The agent's loop: one thread that waits, looks, decides by the roster, and acts."""

from __future__ import annotations

import logging
import os
import signal
import time
from dataclasses import dataclass, replace
from multiprocessing import connection
from typing import TYPE_CHECKING

from eflib.agent import events, texts
from eflib.agent import roster as acts
from eflib.agent.cluster import OutageError
from eflib.agent.exits import Exit
from eflib.agent.order import make_order
from eflib.agent.pool import PoolDiedError
from eflib.agent.timeouts import (
    CHECK_SECONDS,
    HEARTBEAT_SECONDS,
    LINGER_SECONDS,
    POLL_SECONDS,
    SWEEP_SECONDS,
)
from eflib.agent.watch import Watch
from eflib.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable

    from eflib.agent.cluster import Cluster
    from eflib.agent.guardian import Guardian
    from eflib.agent.ledger import Ledger
    from eflib.agent.order import Node
    from eflib.agent.pool import WarmPool
    from eflib.agent.roster import Act, Roster
    from eflib.agent.workers import Workers
    from eflib.messages.records import CoordinatorRecord, NodeRecord, WorkerAssignment

_log = logging.getLogger(__name__)
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


@dataclass(frozen=True)
class Parts:
    """What the loop works with."""

    cluster: Cluster
    roster: Roster
    workers: Workers
    pool: WarmPool
    guardian: Guardian
    ledger: Ledger
    node: Node


class Agent:
    """One node's agent.

    Args:
        parts: What it works with, ready for use.
        record: How the node describes itself.
        managed: Whether it ends with its coordinator.
        linger: How long a managed agent without workers waits for a silent coordinator, in seconds.
        clock: Seconds that only grow.
    """

    def __init__(
        self,
        parts: Parts,
        record: NodeRecord,
        *,
        managed: bool = False,
        linger: float = LINGER_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._parts = parts
        self._record = record
        self._managed = managed
        self._linger = linger
        self._clock = clock
        self._known: dict[str, WorkerAssignment] = {}
        self._watch = Watch()
        self._signals = 0
        self._heard = 0
        self._beat_due = 0.0
        self._check_due = 0.0
        self._coordinator: CoordinatorRecord | None = None
        self._coordinator_seen = clock()
        self._is_replaced = False

    def run(self) -> None:
        """Serve until told to end; then drain.

        Raises:
            StoreError: The node cannot be registered.
        """
        self._parts.cluster.join(self._record)
        self._coordinator = self._parts.cluster.coordinator()
        wake, waker = os.pipe()
        for end in (wake, waker):
            os.set_blocking(end, False)
        heeded = [number for number in _SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
        before = {number: signal.signal(number, self._on_signal) for number in heeded}
        signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
        try:
            while not self._is_done():
                self._turn(wake)
        finally:
            signal.set_wakeup_fd(-1)
            for number, handler in before.items():
                signal.signal(number, handler)
            os.close(wake)
            os.close(waker)
        self._say_goodbye()

    def _turn(self, wake: int) -> None:
        workers = self._parts.workers
        if wake in connection.wait([wake, *workers.sentinels()], POLL_SECONDS):
            os.read(wake, 4096)
        self._reap()
        now = self._clock()
        self._heed_signals(now)
        assigned = self._assigned()
        can_start = self._parts.roster.has_new(assigned) and self._parts.pool.is_ready
        for act in self._parts.roster.reconcile(assigned, now, can_start=can_start):
            self._perform(act)
        workers.end_orphans()
        self._periodically(now)

    def _on_signal(self, number: int, _frame: object) -> None:
        _log.info("received %s", signal.Signals(number).name)
        self._signals += 1

    def _heed_signals(self, now: float) -> None:
        """Drain at the first signal; at the next, wait for nobody."""
        while self._heard < self._signals:
            self._heard += 1
            if self._heard == 1:
                self._drain()
            else:
                self._parts.roster.end_grace(now)

    def _drain(self) -> None:
        if not self._parts.roster.is_draining:
            self._parts.roster.drain()
            self._parts.cluster.leave()

    def _is_done(self) -> bool:
        return self._parts.roster.is_draining and not self._parts.roster.alive

    def _reap(self) -> None:
        for worker, end in self._parts.workers.reap():
            self._parts.roster.ended(worker)
            self._report(worker, end)

    def _report(self, worker: str, end: Exit) -> None:
        self._parts.cluster.report_exit(end.as_record(self._known[worker], self._parts.node.name))
        events.worker_ended(self._known[worker], self._parts.node.name, end)
        _log.info("worker %s ended: %s", worker, end.message or "done")

    def _assigned(self) -> list[str] | None:
        workers = self._parts.cluster.assigned()
        if workers is None:
            return None
        for worker in workers:
            self._known.setdefault(worker.worker, worker)
        return [worker.worker for worker in workers]

    def _perform(self, act: Act) -> None:
        if isinstance(act, acts.Start):
            self._start(act.worker)
        elif isinstance(act, acts.Terminate):
            self._parts.workers.terminate(act.worker)
        elif isinstance(act, acts.Kill):
            _log.warning("worker %s does not leave: killing it", act.worker)
            self._parts.workers.kill(act.worker)
        elif isinstance(act, acts.ReportLost):
            self._report_lost(act.worker)

    def _start(self, worker: str) -> None:
        parts, entry, pid = self._parts, self._known[worker], None
        try:
            spec = parts.cluster.spec(entry.job)
            order = make_order(entry, spec, parts.node, parts.ledger.error_file(worker))
            order = replace(order, pulse_file=parts.ledger.pulse_file(worker))
            parts.ledger.note_start(worker)
            pid = parts.workers.start(order)
        except OutageError:
            parts.roster.postpone(worker)
        except PoolDiedError:
            _log.warning("the warm pool died; starting another")
            parts.roster.postpone(worker)
        except (StoreError, OSError) as error:
            parts.roster.ended(worker)
            self._report(worker, Exit(None, None, texts.presentable(f"cannot start: {error}")))
        else:
            parts.cluster.report_start(entry, pid)
            events.worker_started(entry, parts.node.name, pid)
        if pid is None:
            parts.ledger.forget(worker)

    def _report_lost(self, worker: str) -> None:
        if not self._parts.cluster.has_exit(self._known[worker].job, worker):
            self._report(worker, Exit(None, None, "lost with the agent that had started it"))

    def _periodically(self, now: float) -> None:
        if now >= self._beat_due:
            self._beat_due = now + HEARTBEAT_SECONDS
            self._parts.cluster.beat()
        if now >= self._check_due:
            self._check_due = now + CHECK_SECONDS
            self._end_hung(now)
            self._parts.pool.ensure()
            if self._parts.guardian.ensure():
                _log.warning("the guardian had died; started another")
            self._parts.cluster.flush()
            self._check_record()
            if self._managed:
                self._check_coordinator(now)

    def _end_hung(self, now: float) -> None:
        """Kill workers that hang; their peers then go on as after any death."""
        workers = self._parts.workers
        for worker, hang in self._watch.look(now, workers.signs(), workers.used).items():
            _log.warning("worker %s %s: killing it", worker, hang.reason)
            workers.end_hung(worker, hang)

    def _check_record(self) -> None:
        """Keep the node's record where a store has lost it; yield to a later agent."""
        if not self._parts.roster.is_draining and not self._parts.cluster.keep(self._record):
            _log.error("another agent has taken this node: ending")
            self._is_replaced = True
            self._parts.roster.drain()

    def _check_coordinator(self, now: float) -> None:
        """End with the coordinator that this agent was started for."""
        record = self._parts.cluster.coordinator()
        if record != self._coordinator:
            self._coordinator, self._coordinator_seen = record, now
            if record is not None and record.stopped:
                _log.info("the coordinator has shut down: ending")
                self._drain()
        if self._parts.roster.alive:
            self._coordinator_seen = now
        elif now - self._coordinator_seen >= self._linger:
            _log.info("no coordinator for %g s and no workers: ending", self._linger)
            self._drain()

    def _say_goodbye(self) -> None:
        cluster = self._parts.cluster
        if not self._is_replaced:
            cluster.forget()
        if not cluster.flush():
            _log.warning("the store is out: it does not know how this node's workers ended")
        self._parts.guardian.close()
        if not self._parts.guardian.wait(SWEEP_SECONDS):
            _log.warning("the guardian is still ending processes")
