"""What comes in: messages are read from the inbox and completed before they are journaled."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, TypeVar

from eflib import home as places
from eflib.coordinator.requests import refused
from eflib.messages.codec import UnreadableError, decode
from eflib.messages.fields import MAX_RATE, MAX_WORLD, MIN_RATE, extended, shortened
from eflib.messages.inbox import (
    INBOX,
    AnyRequest,
    Inbox,
    JobRequest,
    NodeJoined,
    NodeLeft,
    Profile,
    Release,
    Submit,
    WorkerReady,
)
from eflib.messages.journal import (
    Input,
    SpeedRecord,
    TakenProfile,
    TakenSubmit,
    TakenWorkerReady,
)
from eflib.store import keys

if TYPE_CHECKING:
    from pathlib import Path

    from eflib.coordinator.job import Job
    from eflib.coordinator.nodes import NodeWatch
    from eflib.coordinator.plane import ControlPlane
    from eflib.messages.inbox import Announce
    from eflib.profiler.library import CurveLibrary
    from eflib.store.signed import Batch, SignedStore

T = TypeVar("T", TakenSubmit, TakenProfile)

_log = logging.getLogger(__name__)


class Intake:
    """Reads the inbox, and adds what only the outside knows, so that the journal holds it.

    Args:
        store: The cluster's store.
        home: The folder of eflib's state.
        curves: The curves that are kept.
        nodes: Who knows the nodes' records.

    Attributes:
        read: How many entries of the inbox were read.
    """

    def __init__(
        self, store: SignedStore, home: Path, curves: CurveLibrary, nodes: NodeWatch
    ) -> None:
        self._store = store
        self._home = home
        self._curves = curves
        self._nodes = nodes
        self.read = 0

    def receive(self) -> Batch[Inbox]:
        """Return the new messages; requests that cannot be read are refused.

        They come again until ``done`` is called.
        """
        return self._store.receive(keys.INBOX, self.read, INBOX, self._refuse)

    def done(self, end: int) -> None:
        """Note that what comes before an index is in the journal."""
        self.read = max(self.read, end)

    def trim(self) -> None:
        """Let the store forget what was read."""
        self._store.trim(keys.INBOX, self.read)

    def begin(self) -> None:
        """See that the store is the one that was read before; another one is read from 0."""
        if not self._store.reaches(keys.INBOX, self.read):
            self.read = 0

    def _refuse(self, body: bytes, reason: str) -> None:
        try:
            request = decode(body, AnyRequest).request
        except UnreadableError:
            return  # nobody waits for an answer
        problem = shortened(f"the coordinator cannot read the request: {reason}", 1000)
        hint = "use the same version of eflib everywhere"
        self._store.put(keys.reply(request), refused("usage", problem, hint))

    def completed(self, message: Inbox, plane: ControlPlane) -> Input | None:
        """Return the input that a message makes; None if it is not to be followed."""
        completed: Input | None = None
        match message:
            case Submit():
                completed = self._taken(message, TakenSubmit)
            case Profile():
                completed = self._taken(message, TakenProfile)
            case NodeJoined():
                completed = self._nodes.joined(message.node)
            case NodeLeft():
                completed = message if _is_by_its_agent(message, plane) else None
            case WorkerReady():
                job = plane.jobs.get(message.job)
                known = None if job is None else self._known_curve(job, message.announce)
                completed = extended(message, TakenWorkerReady, known_curve=known)
            case Release():
                pass
            case _:
                completed = message
        return completed

    def _taken(self, asked: JobRequest, kind: type[T]) -> T:
        """Return a job that was asked for, with where its folder goes and whether it is known."""
        root = str(places.jobs_folder(self._home))
        known = self._curves.has_script(asked.target)
        return extended(asked, kind, job_root=root, expects_curve=known)

    def _known_curve(self, job: Job, announce: Announce) -> dict[int, SpeedRecord] | None:
        if job.speed.announce is not None:
            return None
        known = self._curves.find(job.request.target, announce) or {}
        return {
            size: SpeedRecord(one.steps_per_s, one.spread, one.cpu_s, one.memory_bytes)
            for size, one in known.items()
            if MIN_RATE <= one.steps_per_s <= MAX_RATE and 0 < size <= MAX_WORLD
        } or None


def _is_by_its_agent(message: NodeLeft, plane: ControlPlane) -> bool:
    """Tell whether the agent that now has the node says so, and not one before it."""
    record = plane.nodes.get(message.node)
    if record is None or record.agent == message.agent:
        return True
    _log.warning("node %s does not leave: another agent says so than the one it has", message.node)
    return False
