"""The status document of a job: what ``efctl status JOB --json`` prints."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, field

from eflib.messages.fields import (
    MAX_WORLD,
    Bytes,
    Count,
    Integer,
    JobName,
    Label,
    Message,
    Moment,
    Name,
    Number,
    Path,
    Rank,
    Seconds,
    Size,
    Slot,
    Spread,
    Status,
    Text,
    Words,
    Workers,
)
from eflib.messages.inbox import RescaleRecord

MAX_STORY = 200
MAX_RESCALES = 10_000
MAX_JOBS = 100_000
"""Jobs in the index."""


class Failure(Message, frozen=True, kw_only=True):
    """How a worker failed, as a person reads it.

    Attributes:
        node: Where it ran.
        rank: Its rank.
        message: Why, in a line.
        traceback: The script's own frames.
        log: Where its output is.
        exitcode: Its exit code; None if nobody saw it end.
        signal: The signal that ended it.
        hang: ``silent`` or ``step`` if its agent ended it because it hung.
        generation: The generation that had been entered.
        step: The furthest step that had been reported.
    """

    node: Label
    rank: Rank
    message: Text
    traceback: Text | None = None
    log: Path | None = None
    exitcode: Status | None = None
    signal: Label | None = None
    hang: Label = ""
    generation: Count = 0
    step: Count = 0


class WorkerPlace(Message, frozen=True):
    """A worker that has a process, and where.

    Attributes:
        worker: Its id.
        slot: Which of the node's slots it uses.
        node: Where it runs.
    """

    worker: Name
    slot: Slot
    node: Name


class StoryLine(Message, frozen=True):
    """What happened to a job, and when.

    Attributes:
        time: When.
        text: What.
    """

    time: Moment
    text: Text


class SpeedDetails(Message, frozen=True, omit_defaults=True):
    """What is known of a measured world size beside its speed.

    Attributes:
        spread: Distance of the quartiles of step times over their median.
        cpu_s: Processor seconds of one worker for a step.
        memory_bytes: Memory of one worker.
    """

    spread: Spread | None = None
    cpu_s: Seconds | None = None
    memory_bytes: Bytes | None = None


class GuessedSpeed(Message, frozen=True):
    """The speed at a size that was not measured.

    Attributes:
        steps_per_s: Steps per second.
        margin: By what share that may be too high.
    """

    steps_per_s: Number
    margin: Number


class JobIndex(Message, frozen=True):
    """Which jobs there are, without those that ended long ago.

    Attributes:
        present: Jobs that have not ended, or still have workers, in the order of submission.
        ended: The last jobs that have ended, in the order of their ends.
    """

    present: Annotated[tuple[Name, ...], Meta(max_length=MAX_JOBS)] = ()
    ended: Annotated[tuple[Name, ...], Meta(max_length=MAX_JOBS)] = ()


class JobStatus(Message, frozen=True, kw_only=True):
    """All that the coordinator tells of a job.

    Attributes:
        job: Its id.
        name: What a person called it.
        state: Where it is in its life, such as ``RUNNING``.
        world_size: Its workers; 0 unless it runs.
        generation: The newest generation that was entered.
        global_step: Committed steps.
        max_steps: The last step.
        global_batch_size: Samples of a step.
        steps_per_s: Recent speed; None unless it runs.
        samples: Samples used so far.
        loss: The last step's loss.
        digest: Checksum of the model's state after the last change of size.
        checkpoint_step: Step of the newest whole checkpoint.
        checkpoint_at: When that was whole.
        submitted: When it was submitted.
        started: When it first trained.
        ended: When it ended.
        deadline: When it must have ended.
        soft: Whether it is wanted even if it ends later.
        projected_finish: When it will end, by the plan.
        earliest_deadline: For a job that was refused: the earliest that could be kept.
        slack_s: Seconds between the projected finish and the deadline.
        reason: Why it is in its state.
        error: The failure that ended it.
        log_dir: Folder of its logs.
        rescales: Its changes of size.
        pinned: The size at which an operator holds it.
        slots: Its slots, as ``node:index``.
        workers: Its workers that have a process.
        curve: Steps per second by measured world size.
        curve_details: What else was measured.
        measuring_s: How long measuring took.
        curve_guesses: Extrapolated speeds.
        minimum_share: The least slots with which the deadline can be kept.
        script: Its script or module.
        argv: Arguments of the script.
        story: What happened to it.
        updated: When this was written.
    """

    job: Name
    name: JobName | None = None
    state: Label
    world_size: Size = 0
    generation: Count = 0
    global_step: Count = 0
    max_steps: Count | None = None
    global_batch_size: Count | None = None
    steps_per_s: Number | None = None
    samples: Count | None = None
    loss: Number | None = None
    digest: Label | None = None
    checkpoint_step: Count | None = None
    checkpoint_at: Moment | None = None
    submitted: Moment | None = None
    started: Moment | None = None
    ended: Moment | None = None
    deadline: Moment | None = None
    soft: bool = False
    projected_finish: Moment | None = None
    earliest_deadline: Moment | None = None
    slack_s: Number | None = None
    reason: Text = ""
    error: Failure | None = None
    log_dir: Path | None = None
    rescales: Annotated[tuple[RescaleRecord, ...], Meta(max_length=MAX_RESCALES)] = ()
    pinned: Integer | None = None
    slots: Annotated[tuple[Label, ...], Meta(max_length=MAX_WORLD)] = ()
    workers: Annotated[tuple[WorkerPlace, ...], Meta(max_length=MAX_WORLD)] = ()
    curve: Annotated[dict[Workers, Number], Meta(max_length=256)] = field(default_factory=dict)
    curve_details: Annotated[dict[Workers, SpeedDetails], Meta(max_length=256)] = field(
        default_factory=dict
    )
    measuring_s: Seconds | None = None
    curve_guesses: Annotated[dict[Workers, GuessedSpeed], Meta(max_length=256)] = field(
        default_factory=dict
    )
    minimum_share: Size | None = None
    script: Path | None = None
    argv: Words = ()
    story: Annotated[tuple[StoryLine, ...], Meta(max_length=MAX_STORY)] = ()
    updated: Moment = 0.0
