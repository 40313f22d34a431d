"""What can happen to the scheduler: frozen values, each handled by ``Scheduler.handle``."""

from __future__ import annotations

import math
from dataclasses import dataclass

from eflib.errors import UsageError
from eflib.scheduling.scaling import ScalingCurve


@dataclass(frozen=True, order=True, slots=True)
class Gpu:
    """One GPU, or its CPU stand-in: a slot of a node.

    Attributes:
        node: Name of the node.
        index: Slot on that node, from 0.
    """

    node: str
    index: int


@dataclass(frozen=True, slots=True)
class JobRequest:
    """What a person asks for: an end and a deadline, no number of GPUs.

    Attributes:
        job_id: Unique name of the job.
        curve: Throughput by GPU count, steps per second.
        total_steps: Steps to train, above 0; need not be whole.
        submitted_at: Scheduler time in seconds; orders equals.
        deadline: Scheduler time in seconds to be done by; None means best effort.
        soft: The deadline is a wish: admitted even if late, and yields to hard ones.
        max_gpus: Never hold more than this; None means no bound.

    Raises:
        UsageError: A value out of range.
    """

    job_id: str
    curve: ScalingCurve
    total_steps: float
    submitted_at: float
    deadline: float | None = None
    soft: bool = False
    max_gpus: int | None = None

    def __post_init__(self) -> None:
        if not (self.total_steps > 0 and math.isfinite(self.total_steps)):
            raise UsageError(f"job {self.job_id!r} asks for {self.total_steps} steps")
        if self.max_gpus is not None and self.max_gpus < 1:
            raise UsageError(f"job {self.job_id!r} allows at most {self.max_gpus} GPUs")
        if self.deadline is not None and math.isnan(self.deadline):
            raise UsageError(f"job {self.job_id!r} has a deadline that is not a number")


@dataclass(frozen=True, slots=True)
class NodeJoined:
    """A node offers its GPUs; the same name again replaces what it offered before.

    Attributes:
        node: Name of the node.
        num_gpus: Slots it has, at least 1; need not be a power of two.
    """

    node: str
    num_gpus: int


@dataclass(frozen=True, slots=True)
class NodeLost:
    """A node and all its GPUs are gone."""

    node: str


@dataclass(frozen=True, slots=True)
class JobSubmitted:
    """A person asks for a job; the answer is ``Admitted`` or ``Rejected``."""

    request: JobRequest


@dataclass(frozen=True, slots=True)
class JobProgressed:
    """True progress of a job; may lag or lead what the plan expects.

    Attributes:
        job_id: The job.
        steps_done: Steps committed since its start.
    """

    job_id: str
    steps_done: float


@dataclass(frozen=True, slots=True)
class JobEnded:
    """A job is over (done, failed or cancelled, early or late) and holds nothing any more."""

    job_id: str


@dataclass(frozen=True, slots=True)
class CurveMeasured:
    """A better knowledge of a job's throughput."""

    job_id: str
    curve: ScalingCurve


@dataclass(frozen=True, slots=True)
class SizePinned:
    """An operator's override: hold exactly this many GPUs until unpinned.

    Attributes:
        job_id: The job.
        num_gpus: Any count of at least 0 (0: the job waits); None ends the override.
    """

    job_id: str
    num_gpus: int | None


@dataclass(frozen=True, slots=True)
class ProfilingRequested:
    """Ask for GPUs to measure a job's curve on; the job need not be submitted yet.

    Attributes:
        job_id: Name of the run.
        max_gpus: At most this many, at least 1.
        seconds: For at most this long.
    """

    job_id: str
    max_gpus: int
    seconds: float


@dataclass(frozen=True, slots=True)
class ProfilingEnded:
    """The GPUs lent for profiling are back."""

    job_id: str


@dataclass(frozen=True, slots=True)
class TimePassed:
    """Nothing happened but time; due at ``Scheduler.next_wakeup``."""


Event = (
    NodeJoined
    | NodeLost
    | JobSubmitted
    | JobProgressed
    | JobEnded
    | CurveMeasured
    | SizePinned
    | ProfilingRequested
    | ProfilingEnded
    | TimePassed
)
