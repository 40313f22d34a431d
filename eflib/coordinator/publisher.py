"""What the coordinator writes into the store: answers, specs, exits, assignments, documents."""

from __future__ import annotations

import logging
import time
from collections import deque
from typing import TYPE_CHECKING

from eflib.coordinator.effects import (
    Answer,
    Effect,
    ForgetRecords,
    KeepCurve,
    RecordExit,
    WriteSpec,
)
from eflib.errors import TooLargeError
from eflib.messages.codec import InvalidMessageError
from eflib.messages.fields import replace
from eflib.messages.records import Assignment
from eflib.store import keys

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from eflib.coordinator.job import Job
    from eflib.coordinator.plane import ControlPlane
    from eflib.messages.fields import Message
    from eflib.messages.records import Progress, WorkerAssignment
    from eflib.store.signed import SignedStore

_log = logging.getLogger(__name__)


class Publisher:
    """Writes what has changed; all of it may be written again.

    What the store does not take, because it is out, is kept and tried at the next call.

    Args:
        store: The cluster's store.
        keep_curve: Writes the curve of a job, by its id.
    """

    def __init__(self, store: SignedStore, keep_curve: Callable[[str], None]) -> None:
        self._store = store
        self._keep_curve = keep_curve
        self._effects: deque[Effect] = deque()
        self._pending: dict[str, Job] = {}
        self._is_reseated = True
        self._written: dict[str, Message] = {}
        self._numbers: dict[str, int] = {}

    @property
    def is_behind(self) -> bool:
        """True while something waits that the store has not taken yet."""
        return bool(self._effects or self._pending or self._is_reseated)

    def add(self, effects: Iterable[Effect]) -> None:
        """Take effects to carry out."""
        self._effects.extend(effects)

    def forget(self) -> None:
        """Write everything once more: the store has lost what it had."""
        self._written.clear()
        self._is_reseated = True

    def publish(self, plane: ControlPlane, progress: Mapping[str, Progress], now: float) -> None:
        """Carry out all effects, then write assignments and documents that have changed.

        Raises:
            StoreError: The store is out; what is left is done at the next call.
        """
        self._pending.update({job.job: job for job in plane.attention.take_changed()})
        self._write_documents(plane, progress, now)  # who is answered finds the document there
        index = plane.index()
        if self._written.get(keys.JOB_INDEX) != index:
            self._put(keys.JOB_INDEX, index)
            self._written[keys.JOB_INDEX] = index
        while self._effects:
            self._carry_out(self._effects[0])
            self._effects.popleft()
        self._is_reseated = plane.attention.take_reseated() or self._is_reseated
        if self._is_reseated:
            for node, workers in plane.assignments().items():
                record = plane.nodes.get(node)
                self._assign(node, workers, record.agent if record is not None else "")
            self._is_reseated = False

    def refresh(self, jobs: Iterable[Job]) -> None:
        """Look at the documents of these jobs at the next call of ``publish``, changed or not.

        Their progress, and the finish that the scheduler expects, change without any event.
        """
        self._pending.update({job.job: job for job in jobs})

    def _write_documents(
        self, plane: ControlPlane, progress: Mapping[str, Progress], now: float
    ) -> None:
        """Write the status documents that have changed."""
        for job_id, job in list(self._pending.items()):
            document = plane.status(job, progress.get(job_id), now)
            compared = replace(document, updated=0.0)
            key = keys.job_status(job_id)
            if self._written.get(key) != compared:
                self._put(key, document)
                self._written[key] = compared
            if not job.is_present:
                self._written.pop(key)  # the last one
            del self._pending[job_id]

    def _carry_out(self, effect: Effect) -> None:
        match effect:
            case Answer(request, reply):
                self._put(keys.reply(request), reply)
            case WriteSpec(job, spec):
                self._put(keys.job_spec(job), spec)
            case RecordExit(record):
                self._store.claim(keys.worker_exit(record.job, record.worker), record)
            case KeepCurve(job):
                self._keep_curve(job)
            case ForgetRecords(job):
                self._forget_records(job)

    def _forget_records(self, job: str) -> None:
        """Delete the records by which a job's workers found each other."""
        listed = [*self._store.list(keys.generations(job)), *self._store.list(keys.exits(job))]
        for key in (keys.job_progress(job), *listed):
            self._store.delete(key)

    def _assign(self, node: str, workers: tuple[WorkerAssignment, ...], agent: str) -> None:
        """Write a node's assignment under the next number, if it is not what stands there."""
        key = keys.node_assignment(node)
        compared = Assignment(workers, agent=agent)
        if self._written.get(key) == compared:
            return
        number = self._next_number(node)
        self._put(key, replace(compared, number=number))
        self._written[key], self._numbers[node] = compared, number

    def _next_number(self, node: str) -> int:
        """Return a number above all that this node's assignments ever had.

        The store knows the last one. Where it does not, since it began anew, the time does: numbers
        are at least the milliseconds since the epoch.
        """
        last = self._numbers.get(node)
        if last is None:
            held = self._store.fetch(keys.node_assignment(node), Assignment)
            last = held.number if held is not None else 0
        return max(last + 1, int(time.time() * 1000))

    def _put(self, key: str, message: Message) -> None:
        """Write a message; one that its reader would refuse is left out, and costs nothing else."""
        try:
            self._store.put(key, message)
        except (InvalidMessageError, TooLargeError) as error:
            _log.warning("nothing is written at %s: %s", key, error.problem)
