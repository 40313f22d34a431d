"""What stands under keys: nodes, assignments, exits, specs, progress."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, field

from eflib.messages.fields import (
    MAX_SLOTS,
    Count,
    Environment,
    Integer,
    Label,
    Message,
    Moment,
    Name,
    Number,
    Path,
    Pid,
    Port,
    Rank,
    Size,
    Slot,
    Slots,
    Status,
    Text,
    Words,
    Workers,
)
from eflib.messages.generations import TRAIN


class NodeRecord(Message, frozen=True, kw_only=True):
    """How an agent describes its node.

    Attributes:
        node: The node's name.
        slots: How many workers it can run at a time.
        device: ``cpu`` or ``cuda``.
        device_name: What the device calls itself.
        host: The machine's name.
        pid: The agent's process.
        agent: The agent's tag: another one after each start.
        store_host: Host of the TCP store for process groups that the agent serves.
        store_port: Its port.
    """

    node: Annotated[str, Meta(max_length=200)] = ""
    slots: Slots
    device: Label = "cpu"
    device_name: Label = ""
    host: Label = ""
    pid: Pid = 0
    agent: Label = ""
    store_host: Label = ""
    store_port: Port = 0


class Heartbeat(Message, frozen=True):
    """An agent's sign of life.

    Attributes:
        count: One more each time; a count that stands still means that the agent is gone.
    """

    count: Integer


class CoordinatorRecord(Message, frozen=True, kw_only=True):
    """The coordinator's sign of life.

    Attributes:
        pid: Its process.
        host: Its machine's name.
        started: When it started.
        managed: Whether eflaunch started it; then it ends when there is nothing to do.
        beats: One more each second.
        stopped: Whether it has ended in order.
    """

    pid: Pid
    host: Label = ""
    started: Moment = 0.0
    managed: bool = False
    beats: Count = 0
    stopped: bool = False


class WorkerAssignment(Message, frozen=True, kw_only=True):
    """One worker that a node should run; ``rank`` and ``world_size`` are what is planned.

    Attributes:
        worker: The worker's id.
        job: The job's id.
        job_name: What a person called the job.
        slot: Which of the node's slots it uses.
        generation: The generation for which it is started.
        rank: Its planned rank.
        world_size: The planned number of workers.
        local_rank: Its place among the job's workers on this node.
        local_world_size: How many workers of the job this node has.
        mode: ``train`` or ``profile``.
        log_dir: Folder of the job's logs.
        checkpoint_dir: Folder of its checkpoints.
        master_addr: Host of the TCP store at which its generation meets.
        master_port: Its port.
    """

    worker: Name
    job: Name
    job_name: Label = ""
    slot: Slot
    generation: Count
    rank: Rank
    world_size: Workers
    local_rank: Rank = 0
    local_world_size: Workers = 1
    mode: Label = TRAIN
    log_dir: Path
    checkpoint_dir: Path = ""
    master_addr: Label = ""
    master_port: Port = 0


class Assignment(Message, frozen=True):
    """The workers that a node should run: all of them, not what has changed.

    Attributes:
        workers: The workers; one that is not named is ended.
        number: Higher in each assignment of a node than in the one before; an agent refuses one
            that is lower than the last it followed, which is an old one written again.
        agent: The tag of the agent that it is for, as in the node's record; another agent of the
            node refuses it. Empty: any.
    """

    workers: Annotated[tuple[WorkerAssignment, ...], Meta(max_length=4 * MAX_SLOTS)] = ()
    number: Count = 0
    agent: Label = ""


class ErrorText(Message, frozen=True):
    """An exception that a worker raised, or why it was ended.

    Attributes:
        message: One line.
        traceback: The script's own frames; empty where there are none.
    """

    message: Text
    traceback: Text | None = ""


class WorkerExit(Message, frozen=True, kw_only=True):
    """How a worker ended.

    Attributes:
        node: Where it ran.
        job: Its job.
        worker: Its id.
        generation: The generation for which it was started.
        rank: The rank that was planned for it.
        pid: Its process; None if it never had one.
        exitcode: Its exit code; None if nobody saw it end.
        signal: The signal that ended it, such as ``SIGKILL``.
        error: What it raised.
        hang: ``silent`` or ``step`` if its agent ended it because it hung.
        log: Where its output is.
    """

    node: Name
    job: Name
    worker: Name
    generation: Count | None = None
    rank: Rank | None = None
    pid: Pid | None = None
    exitcode: Status | None = None
    signal: Label | None = None
    error: ErrorText | None = None
    hang: Label = ""
    log: Path | None = None


class JobSpec(Message, frozen=True, kw_only=True):
    """What a job runs; either ``script`` or ``module`` is set.

    Attributes:
        script: The script's file.
        module: The module that is run in place of a script.
        argv: Arguments of the script.
        cwd: The folder it runs in.
        env: Its environment.
        checkpoint_dir: Folder of its checkpoints.
    """

    script: Path | None = None
    module: Path | None = None
    argv: Words = ()
    cwd: Path = ""
    env: Environment = field(default_factory=dict)
    checkpoint_dir: Path = ""


class Progress(Message, frozen=True, kw_only=True):
    """What rank 0 says of the job once a second.

    Attributes:
        generation: The generation it is in.
        world_size: Its number of workers.
        global_step: Committed steps.
        max_steps: The last step.
        samples: Samples used so far.
        steps_per_s: Recent speed; None before there is one.
        loss: The last step's loss; None if it is not finite.
        digest: Checksum of the model's state after the last change of size.
        checkpoint_step: Step of the newest whole checkpoint.
        checkpoint_at: When that was whole.
    """

    generation: Count = 0
    world_size: Size = 0
    global_step: Count
    max_steps: Count | None = None
    samples: Count | None = None
    steps_per_s: Number | None = None
    loss: Number | None = None
    digest: Label | None = None
    checkpoint_step: Count | None = None
    checkpoint_at: Moment | None = None
