"""What the scheduler answers: facts about the wish, safe to carry out twice."""

from __future__ import annotations

from dataclasses import dataclass

from eflib.scheduling.events import Gpu


@dataclass(frozen=True, slots=True)
class Admitted:
    """The job may run. For a hard deadline this is a promise.

    Attributes:
        job_id: The job.
        projected_finish: Scheduler time in seconds at which it will be done as planned now;
            infinite while no GPU can be foreseen for it.
    """

    job_id: str
    projected_finish: float


@dataclass(frozen=True, slots=True)
class Rejected:
    """The job cannot be promised its deadline, and so does not run.

    Attributes:
        job_id: The job.
        reason: For a person.
        earliest_deadline: Scheduler time in seconds that would be admitted if asked for at once;
            None when no deadline would (the cluster has no GPU the job can use).
    """

    job_id: str
    reason: str
    earliest_deadline: float | None


@dataclass(frozen=True, slots=True)
class Assigned:
    """The GPUs of a job changed.

    Attributes:
        job_id: The job.
        gpus: All it holds from now on, in a fixed order; empty: it waits.
    """

    job_id: str
    gpus: tuple[Gpu, ...]


@dataclass(frozen=True, slots=True)
class PinRefused:
    """An operator's size cannot be held; the job goes on as before.

    Attributes:
        job_id: The job.
        reason: For a person.
    """

    job_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class ProfilingGranted:
    """GPUs lent for profiling, until ``ProfilingEnded`` or the asked-for seconds are over."""

    job_id: str
    gpus: tuple[Gpu, ...]


@dataclass(frozen=True, slots=True)
class ProfilingDenied:
    """No GPU can be lent without breaking a promise."""

    job_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class ProfilingExpired:
    """The seconds asked for are over: the lent GPUs count as free from now on."""

    job_id: str


@dataclass(frozen=True, slots=True)
class PromiseBroken:
    """An admitted deadline can no longer be kept; said once, the job goes on as best it can."""

    job_id: str
    reason: str


Command = (
    Admitted
    | Rejected
    | Assigned
    | PinRefused
    | ProfilingGranted
    | ProfilingDenied
    | ProfilingExpired
    | PromiseBroken
)
