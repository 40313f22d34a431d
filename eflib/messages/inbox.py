"""Messages to the coordinator; their ``type`` tells them apart."""

from __future__ import annotations

import uuid
from typing import Annotated

from msgspec import Meta, field

from eflib.messages.codec import Form, convert
from eflib.messages.fields import (
    Bytes,
    Count,
    Environment,
    Integer,
    JobName,
    Label,
    Message,
    Moment,
    Name,
    Number,
    Path,
    Pid,
    Points,
    Positive,
    Rate,
    Request,
    Seconds,
    Size,
    Spread,
    Text,
    Words,
    Workers,
    extended,
)
from eflib.messages.records import WorkerExit


class InboxMessage(Message, frozen=True, tag_field="type"):
    """What all messages to the coordinator are: their ``type`` says which one it is."""


class RequestMessage(InboxMessage, frozen=True, kw_only=True):
    """A message that is answered under ``replies/<request>``.

    Attributes:
        request: An id that its sender made for this request alone: it is carried out once.
    """

    request: Request


class GivenCurve(Message, frozen=True):
    """A scaling curve that a person gives with a job.

    Attributes:
        points: Steps per second by world size.
    """

    points: Points


class JobRequest(RequestMessage, frozen=True, kw_only=True):
    """A job to run; either ``script`` or ``module`` is set.

    Attributes:
        name: What the job is called; its id begins with it.
        script: The script's file.
        module: The module that is run in place of a script.
        argv: Arguments of the script.
        cwd: The folder it runs in.
        env: Its environment.
        deadline: When it must have ended; None for best effort.
        soft: Whether the job is wanted even if it ends later.
        max_gpus: The most slots it may have.
        profile: Its curve, if a person gives one; it is measured otherwise.
        log_dir: Folder of its logs; None for one in the coordinator's home.
    """

    name: JobName
    script: Path | None = None
    module: Path | None = None
    argv: Words
    cwd: Path
    env: Environment
    deadline: Moment | None = None
    soft: bool = False
    max_gpus: Workers | None = None
    profile: GivenCurve | None = None
    log_dir: Path | None = None

    @property
    def target(self) -> str:
        """The script or module, whichever is set."""
        return self.script or self.module or ""


class Submit(JobRequest, frozen=True, kw_only=True, tag="submit"):
    """Run a job."""


class Profile(JobRequest, frozen=True, kw_only=True, tag="profile"):
    """Measure a job's scaling curve and end."""


class Cancel(RequestMessage, frozen=True, kw_only=True, tag="cancel"):
    """End a job.

    Attributes:
        job: Its id or name.
        reason: Why, for people.
    """

    job: Label
    reason: Text = ""


class Rescale(RequestMessage, frozen=True, kw_only=True, tag="rescale"):
    """Hold a job at a size.

    Attributes:
        job: Its id or name.
        num_gpus: The size; None gives it back to the policy.
    """

    job: Label
    num_gpus: Integer | None = None


class Release(RequestMessage, frozen=True, kw_only=True, tag="release"):
    """A coordinator that eflaunch started may end if it is idle."""


class NodeJoined(InboxMessage, frozen=True, kw_only=True, tag="node_joined"):
    """A node has an agent; its record is at ``nodes/<node>/record``.

    Attributes:
        node: The node's name.
    """

    node: Name


class NodeLeft(InboxMessage, frozen=True, kw_only=True, tag="node_left"):
    """A node takes no more workers.

    Attributes:
        node: The node's name.
        agent: The tag of the agent that says so; it must be the one in the node's record.
    """

    node: Name
    agent: Label = ""


class WorkerStarted(InboxMessage, frozen=True, kw_only=True, tag="worker_started"):
    """A worker has a process.

    Attributes:
        node: Where it runs.
        job: Its job.
        worker: Its id.
        pid: Its process.
    """

    node: Annotated[str, Meta(max_length=200)] = ""
    job: Name
    worker: Name
    pid: Pid = 0


class WorkerExited(WorkerExit, frozen=True, kw_only=True, tag_field="type", tag="worker_exited"):
    """A worker has ended: the record at ``jobs/<job>/exits/<worker>``."""

    @staticmethod
    def of(record: WorkerExit) -> WorkerExited:
        """Return the message that tells the coordinator of an exit."""
        return extended(record, WorkerExited)


class Announce(Message, frozen=True, kw_only=True):
    """What a script's trainer says of itself when it reaches ``fit()``.

    Attributes:
        max_steps: The last step.
        global_batch_size: Samples of a step, over all workers.
        model: A signature of the model's state.
        model_name: The model's class.
        num_parameters: How many it has.
        dataset_size: Samples of an epoch; None if nobody knows.
        least_share: The fewest samples that a rank may get in a step.
        device: What a curve depends on: the GPU's name, or the number of cores.
        cores: Cores that the workers of a node share; None on GPUs.
        threads: Threads of a worker; None on GPUs.
    """

    max_steps: Positive
    global_batch_size: Positive
    model: Label = ""
    model_name: Label = ""
    num_parameters: Count | None = None
    dataset_size: Count | None = None
    least_share: Count = 1
    device: Label = ""
    cores: Annotated[int, Meta(ge=1, le=1_000_000)] | None = None
    threads: Annotated[int, Meta(ge=1, le=1_000_000)] | None = None


class WorkerReady(InboxMessage, frozen=True, kw_only=True, tag="worker_ready"):
    """A worker has reached ``fit()`` and waits for a generation that names it.

    Attributes:
        job: Its job.
        worker: Its id.
        announce: What its trainer says of itself.
    """

    job: Name
    worker: Name
    announce: Announce


class RescaleRecord(Message, frozen=True, kw_only=True, rename={"from_": "from"}):
    """One change of a job's size, told after the first step at the new one.

    Attributes:
        generation: The generation that was entered.
        step: Committed steps at the change.
        from_: Number of workers before; 0 at a start.
        to: Number of workers after.
        pause_s: Seconds without a step.
        parts: What these seconds went into, by name.
        reason: Why, for people.
        shares: Samples of each rank, before and after.
        passes: Forward passes that rank 0 takes for its own, before and after.
    """

    generation: Count
    step: Count
    from_: Size
    to: Size
    pause_s: Seconds
    parts: Annotated[dict[Label, Number], Meta(max_length=64)] = field(default_factory=dict)
    reason: Text = ""
    shares: Text = ""
    passes: Text = ""


class Switched(RescaleRecord, frozen=True, kw_only=True, tag_field="type", tag="switched"):
    """A generation was entered and has made its first step.

    Attributes:
        job: The job.
    """

    job: Name

    @property
    def record(self) -> RescaleRecord:
        """The change of size, as the status document keeps it."""
        fields = {name: getattr(self, name) for name in RescaleRecord.__struct_fields__}
        return RescaleRecord(**fields)


class Measured(InboxMessage, frozen=True, kw_only=True, tag="measured"):
    """The speed of one world size in a profiling run.

    Attributes:
        job: The job.
        generation: The generation that was measured.
        world_size: Its number of workers.
        steps_per_s: By the median step.
        spread: Distance of the quartiles of step times over their median.
        cpu_s: Processor seconds of one worker for a step.
        memory_bytes: Memory of one worker.
        steps: How many steps were counted.
        seconds: How long they took together.
    """

    job: Name
    generation: Count
    world_size: Workers
    steps_per_s: Rate
    spread: Spread | None = None
    cpu_s: Seconds | None = None
    memory_bytes: Bytes | None = None
    steps: Count = 0
    seconds: Seconds = 0.0


class Finished(InboxMessage, frozen=True, kw_only=True, tag="finished"):
    """Training has ended by its own account.

    Attributes:
        job: The job.
        generation: The last generation.
        step: The last step.
    """

    job: Name
    generation: Count
    step: Count


Inbox = (
    Submit
    | Profile
    | Cancel
    | Rescale
    | Release
    | NodeJoined
    | NodeLeft
    | WorkerStarted
    | WorkerExited
    | WorkerReady
    | Switched
    | Measured
    | Finished
)
"""Every message that the coordinator takes."""
INBOX: Form[Inbox] = Form(Inbox)


def new_request() -> str:
    """Return an id for a request that no other request has."""
    return uuid.uuid4().hex


REQUESTS: dict[str, type[RequestMessage]] = {
    "submit": Submit,
    "profile": Profile,
    "cancel": Cancel,
    "rescale": Rescale,
    "release": Release,
}


def make_request(kind: str, **fields: object) -> RequestMessage:
    """Return a new request, with values as JSON has them.

    Raises:
        InvalidMessageError: A value is of a wrong type or out of its bounds.
    """
    return convert({**fields, "request": new_request()}, REQUESTS[kind])


class AnyRequest(Message, frozen=True):
    """The part of a request that is needed to refuse it, when the rest cannot be read."""

    request: Request
