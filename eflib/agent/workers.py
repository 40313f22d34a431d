"""The agent's hands: it starts workers, signals them, and sees how they end and what they leave."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from eflib import pulse
from eflib.agent import context, exits, process_tree

if TYPE_CHECKING:
    from collections.abc import Callable

    from eflib.agent.context import WorkerContext
    from eflib.agent.exits import Exit
    from eflib.agent.order import Order
    from eflib.agent.pool import WarmPool
    from eflib.agent.watch import Hang

    Sentinels = list[int]
    Ends = list[tuple[str, Exit]]

_REAP_SECONDS = 1.0  # how long a worker that was killed with its pool may take to be gone


class Workers:
    """The workers that this agent started.

    Args:
        pool: What they are forked from.
        helper: Returns the pid of the agent's guardian, which is no worker's orphan.
    """

    def __init__(self, pool: WarmPool, helper: Callable[[], int | None]) -> None:
        self._pool = pool
        self._helper = helper
        self._running: dict[str, WorkerContext] = {}
        self._hung: dict[str, Hang] = {}
        self._orphaned_since: float | None = None

    def start(self, order: Order) -> int:
        """Start a worker; returns its pid.

        Raises:
            OSError: The log cannot be written.
            PoolDiedError: The pool died; the worker has not run.
        """
        started = context.start(order, self._pool)
        self._running[order.worker] = started
        return started.pid

    def terminate(self, worker: str) -> None:
        """Ask a worker to leave."""
        with suppress(ProcessLookupError):
            os.kill(self._running[worker].pid, signal.SIGTERM)

    def kill(self, worker: str) -> None:
        """End a worker with its process group; what else it leaves goes when it has ended."""
        process_tree.signal_group(self._running[worker].pid, signal.SIGKILL)

    def end_hung(self, worker: str, hang: Hang) -> None:
        """End a worker that hangs; its exit says so."""
        self._hung[worker] = hang
        self.kill(worker)

    def signs(self) -> dict[str, pulse.Sign | None]:
        """Return the pulses of the workers that are not being ended for a hang already."""
        return {
            worker: pulse.read(running.order.pulse_file)
            for worker, running in self._running.items()
            if worker not in self._hung
        }

    def used(self, worker: str) -> float:
        """Return the processor time that a worker has used, in seconds; 0 if it has just ended."""
        try:
            times = psutil.Process(self._running[worker].pid).cpu_times()
        except psutil.Error:
            return 0.0
        return float(times.user + times.system)

    def sentinels(self) -> Sentinels:
        """Return file descriptors that become readable when a worker ends."""
        return [running.sentinel for running in self._running.values()]

    def reap(self) -> Ends:
        """Return who has ended since the last call, and how."""
        ends = []
        for worker, running in list(self._running.items()):
            code = running.exitcode
            if code is None:
                continue
            if code == context.LOST:
                code = _end_of_lost(running.pid)
            ends.append((worker, self._observed(worker, running, code)))
            del self._running[worker]
            running.release()
            self._orphaned_since = time.monotonic()
        return ends

    def _observed(self, worker: str, running: WorkerContext, code: int) -> Exit:
        end = exits.observed(running.pid, code, running.order.error_file)
        if running.order.pulse_file:
            Path(running.order.pulse_file).unlink(missing_ok=True)
        hang = self._hung.pop(worker, None)
        return end if hang is None else replace(end, message=hang.reason, hang=hang.kind)

    def end_orphans(self) -> None:
        """Kill what ended workers left behind; to be called again and again.

        Orphans of a living worker stay with it (see ``worker.main``). So what has become a child of
        the agent, in a session that is not the agent's, belongs to a worker that has ended.
        """
        if self._orphaned_since is not None:
            orphans = self._orphans()
            is_patient = time.monotonic() < self._orphaned_since + process_tree.TRACKER_SECONDS
            for orphan in orphans:
                with suppress(psutil.Error, ChildProcessError):
                    os.waitpid(orphan.pid, os.WNOHANG)
                    if not (is_patient and process_tree.is_tracker(orphan)):
                        orphan.kill()
            if not orphans:
                self._orphaned_since = None

    def _orphans(self) -> list[psutil.Process]:
        own = {running.pid for running in self._running.values()} | {self._helper()}
        session = os.getsid(0)
        found = []
        for child in psutil.Process().children():
            with suppress(ProcessLookupError):
                if child.pid not in own and os.getsid(child.pid) != session:
                    found.append(child)
        return found


def _end_of_lost(pid: int) -> int:
    """Return the true exit code of a worker of which the pool said nothing, or said ``LOST``.

    A living pool has reaped the worker, so there is no such process any more. If the pool was
    killed, the system kills the worker too and makes it our child, in this order or the other.
    """
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return context.LOST
    end = time.monotonic() + _REAP_SECONDS
    while time.monotonic() < end:
        with suppress(ChildProcessError):
            reaped, status = os.waitpid(pid, os.WNOHANG)
            if reaped:
                return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    return -signal.SIGKILL
