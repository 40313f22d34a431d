"""Inputs of the control plane as the journal keeps them.

Messages from the inbox are kept with what only the coordinator knew when it took them in; beside
them stand the inputs that it makes itself. Folding the same inputs gives the same state.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from eflib.messages.fields import (
    Bytes,
    Count,
    Message,
    Name,
    Path,
    Rate,
    Request,
    Seconds,
    Spread,
    Workers,
)
from eflib.messages.generations import Generation
from eflib.messages.inbox import (
    Cancel,
    Finished,
    InboxMessage,
    Measured,
    NodeJoined,
    NodeLeft,
    Profile,
    Rescale,
    Submit,
    Switched,
    WorkerExited,
    WorkerReady,
    WorkerStarted,
)
from eflib.messages.records import NodeRecord, Progress

MAX_REQUESTS = 4096
"""So many requests are remembered, so that none is carried out twice."""


class SpeedRecord(Message, frozen=True, omit_defaults=True):
    """What was measured at one world size.

    Attributes:
        steps_per_s: By the median step.
        spread: Distance of the quartiles of step times over their median.
        cpu_s: Processor seconds of one worker for a step.
        memory_bytes: Memory of one worker.
    """

    steps_per_s: Rate
    spread: Spread | None = None
    cpu_s: Seconds | None = None
    memory_bytes: Bytes | None = None


Speeds = Annotated[dict[Workers, SpeedRecord], Meta(max_length=256)]


class TakenSubmit(Submit, frozen=True, kw_only=True, tag="submit"):
    """A submitted job, as it was taken in.

    Attributes:
        job_root: Folder below which the job gets its own.
        expects_curve: Whether a curve of this script is kept.
    """

    job_root: Path = ""
    expects_curve: bool = False


class TakenProfile(Profile, frozen=True, kw_only=True, tag="profile"):
    """A job to measure, as it was taken in.

    Attributes:
        job_root: Folder below which the job gets its own.
        expects_curve: Whether a curve of this script is kept.
    """

    job_root: Path = ""
    expects_curve: bool = False


class TakenNodeJoined(NodeJoined, frozen=True, kw_only=True, tag="node_joined"):
    """A node that joined.

    Attributes:
        record: Its record of that moment.
    """

    record: NodeRecord


class TakenWorkerReady(WorkerReady, frozen=True, kw_only=True, tag="worker_ready"):
    """A worker that is ready, with the curve that is kept of its model.

    Attributes:
        known_curve: By world size; None if there is none, or nobody needs it.
    """

    known_curve: Speeds | None = None


class Begin(InboxMessage, frozen=True, kw_only=True, tag="begin"):
    """The journal begins anew: all jobs before it have ended.

    Attributes:
        num_jobs: How many jobs there were: their ids are not used again.
        requests: The last requests that were carried out.
    """

    num_jobs: Count = 0
    requests: Annotated[tuple[Request, ...], Meta(max_length=MAX_REQUESTS)] = ()


class GenerationMade(InboxMessage, frozen=True, kw_only=True, tag="generation"):
    """A generation is in the store, whoever made it.

    Attributes:
        job: The job.
        record: The generation.
    """

    job: Name
    record: Generation


class ProgressMade(InboxMessage, frozen=True, kw_only=True, tag="progress"):
    """What a job's rank 0 has last said.

    Attributes:
        job: The job.
        progress: What it said.
    """

    job: Name
    progress: Progress


class NodeLost(InboxMessage, frozen=True, kw_only=True, tag="node_lost"):
    """An agent's heartbeat has stood still for too long.

    Attributes:
        node: The agent's node.
    """

    node: Name


class TimePassed(InboxMessage, frozen=True, kw_only=True, tag="time"):
    """Something came due by time alone."""


Input = (
    TakenSubmit
    | TakenProfile
    | Cancel
    | Rescale
    | TakenNodeJoined
    | NodeLeft
    | NodeLost
    | WorkerStarted
    | WorkerExited
    | TakenWorkerReady
    | Switched
    | Measured
    | Finished
    | Begin
    | GenerationMade
    | ProgressMade
    | TimePassed
)
"""Every input of the control plane."""


class Entry(Message, frozen=True, kw_only=True, rename={"time": "t", "input": "in"}):
    """One line of the journal.

    Attributes:
        v: The journal's schema.
        time: When the input was taken in, in seconds since the epoch.
        input: What happened.
        inbox: The index of the message in the inbox it came from.
        read: In a first entry: how many messages of the inbox were read before it.
    """

    v: int
    time: float
    input: Input
    inbox: Count | None = None
    read: Count | None = None


class EntryHead(Message, frozen=True, kw_only=True, rename={"input": "in"}):
    """The part of a line that says what it is, when the rest cannot be read."""

    class _Tag(msgspec.Struct, frozen=True):
        type: str

    v: int
    input: _Tag
