"""What a journal came to: the state of the control plane in one line, to be gone on from."""

from __future__ import annotations

from eflib.coordinator.job import Job
from eflib.messages.fields import Count, Label, Message, Name
from eflib.messages.journal import Begin
from eflib.messages.records import NodeRecord
from eflib.scheduling import SchedulerState


class EndedJob(Message, frozen=True, kw_only=True):
    """A job that has ended.

    Attributes:
        job: Its id.
        name: What a person called it.
        since: When its workers had gone; None once it was dropped.
    """

    job: Name
    name: Label
    since: float | None = None


class PlaneState(Message, frozen=True, kw_only=True):
    """All that a control plane's next decisions depend on, besides its settings.

    Attributes:
        nodes: Their records, by name.
        jobs: In the order of their submission; ended ones among them for a moment.
        scheduler: The scheduler's part.
    """

    nodes: dict[str, NodeRecord]
    jobs: tuple[Job, ...]
    scheduler: SchedulerState


class Snapshot(Message, frozen=True, kw_only=True, rename={"time": "t"}):
    """What all entries before it come to.

    Attributes:
        v: The journal's schema.
        time: When it was taken, in seconds since the epoch.
        read: How many messages of the inbox were read before it.
        begin: How many jobs there were, and which requests were carried out.
        ended: The last jobs that have ended.
        plane: The rest; None if nothing of it is alive, so that another version of eflib can read
            a snapshot that an idle coordinator left.
    """

    v: int
    time: float
    read: Count = 0
    begin: Begin
    ended: tuple[EndedJob, ...] = ()
    plane: PlaneState | None = None
