"""What the control plane asks for: effects on the store, and decisions of its parts.

The parts of the plane that judge one job (``measure``, ``failures``, ``running``) change that job
and return decisions; the plane carries them out, since they concern the scheduler and other jobs.
Effects leave the plane: the coordinator carries them out once the inputs are in the journal.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from eflib.coordinator.job import Job, State
    from eflib.messages.records import JobSpec, WorkerExit
    from eflib.messages.replies import Reply

# Effects ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Answer:
    """Write the answer to a request."""

    request: str
    reply: Reply


@dataclass(frozen=True)
class WriteSpec:
    """Write what a job runs, where agents look."""

    job: str
    spec: JobSpec


@dataclass(frozen=True)
class RecordExit:
    """Put the end of a worker on record that no agent can tell any more."""

    record: WorkerExit


@dataclass(frozen=True)
class ForgetRecords:
    """Delete what is no longer needed of a job that has ended: all but its spec and its status."""

    job: str


@dataclass(frozen=True)
class KeepCurve:
    """Write a job's measured curve to the folder of curves."""

    job: str


Effect = Answer | WriteSpec | RecordExit | KeepCurve | ForgetRecords

# Decisions ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class EndJob:
    """End a job; its slots are free for others as soon as its workers have gone."""

    job: Job
    state: State
    reason: str = ""


@dataclass(frozen=True)
class BorrowSlots:
    """Ask the scheduler to lend slots for a profiling run.

    Attributes:
        job: The job that is to be measured.
        wanted: How many slots, at most.
        terms: For how many seconds; the first that is granted is taken.
    """

    job: Job
    wanted: int
    terms: tuple[float, ...]


@dataclass(frozen=True)
class ReturnSlots:
    """Tell the scheduler that a profiling run is over without a result."""

    job: Job


@dataclass(frozen=True)
class MeasureAgain:
    """Begin a profiling run anew that was cut short by no fault of the script."""

    job: Job
    reason: str


@dataclass(frozen=True)
class AskAdmission:
    """Ask the scheduler whether a job whose curve and end are known may run."""

    job: Job


@dataclass(frozen=True)
class TellCurve:
    """Tell the scheduler of a job's newest curve."""

    job: Job


@dataclass(frozen=True)
class TellProgress:
    """Tell the scheduler how far a job is."""

    job: Job


@dataclass(frozen=True)
class TellEnd:
    """Tell the scheduler that a job trains no more: its future is free for others."""

    job: Job


Decision = (
    EndJob
    | BorrowSlots
    | ReturnSlots
    | MeasureAgain
    | AskAdmission
    | TellCurve
    | TellProgress
    | TellEnd
    | KeepCurve
)
Decisions = tuple[Decision, ...]
