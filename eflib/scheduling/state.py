"""The scheduler's state as plain frozen values, to be written down and gone on from.

Everything that a later decision depends on is in here, and nothing else. The values are those that
JSON has: no infinite number (None stands for it) and no integer of more than 64 bits (a set of GPU
positions is a hexadecimal text).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from eflib.scheduling.book import Book, Loan
from eflib.scheduling.events import JobRequest
from eflib.scheduling.jobs import Job
from eflib.scheduling.plan import Row, Segment
from eflib.scheduling.scaling import ScalingCurve
from eflib.scheduling.settings import SchedulerSettings


@dataclass(frozen=True, slots=True)
class NodeState:
    """A node that is there, or the positions that a lost one had.

    Attributes:
        node: Its name.
        first: Its first position in the cluster's line.
        num_gpus: Its size; 0 if it is lost.
    """

    node: str
    first: int
    num_gpus: int


@dataclass(frozen=True, slots=True)
class LoanState:
    """GPUs lent for profiling.

    Attributes:
        job_id: Name of the run.
        mask: Positions, in hexadecimal.
        until: Scheduler time in seconds at which they count as back; None: never.
    """

    job_id: str
    mask: str
    until: float | None


@dataclass(frozen=True, slots=True)
class SegmentState:
    """A stay on one set of GPUs.

    Attributes:
        start: Scheduler time in seconds.
        end: Scheduler time in seconds; None: no end.
        mask: Positions, in hexadecimal.
        size: How many.
    """

    start: float
    end: float | None
    mask: str
    size: int


@dataclass(frozen=True, slots=True)
class JobSchedulerState:
    """A live job.

    Attributes:
        job_id: Unique name.
        order: Number in the order of submission.
        curve: ``(GPU count, steps per second)`` of the best known curve.
        total_steps: Steps asked for.
        submitted_at: Scheduler time in seconds.
        deadline: Scheduler time in seconds; None for best effort.
        soft: The deadline is a wish.
        max_gpus: Never hold more; None for no bound.
        left: Steps to do at ``synced_at``.
        synced_at: Scheduler time in seconds.
        mask: Positions held, in hexadecimal.
        ready_at: Scheduler time in seconds at which the last change's pause is over; None if it has
            held none yet.
        promise: Promised deadline in seconds; None if none is promised.
        row: Its row of the standing plan.
        base: The row before spare GPUs were added; None if it is the same.
        finish: Scheduler time in seconds to which the row leads; None if to no end.
        pinned: The operator's size; None if there is none.
        told: Positions of the last ``Assigned``, in hexadecimal.
    """

    job_id: str
    order: int
    curve: tuple[tuple[int, float], ...]
    total_steps: float
    submitted_at: float
    deadline: float | None
    soft: bool
    max_gpus: int | None
    left: float
    synced_at: float
    mask: str
    ready_at: float | None
    promise: float | None
    row: tuple[SegmentState, ...]
    base: tuple[SegmentState, ...] | None
    finish: float | None
    pinned: int | None
    told: str


@dataclass(frozen=True, slots=True)
class SchedulerState:
    """All that a scheduler's next decisions depend on, besides its settings.

    Attributes:
        now: Scheduler time in seconds of the last event; None before the first.
        submitted: Number of jobs submitted so far.
        surprised: True if something happened that the standing plan did not foresee.
        nodes: Those that are there in the order in which they joined, then those that are lost.
        loans: GPUs lent for profiling.
        jobs: The live jobs in the order of submission.
    """

    now: float | None
    submitted: int
    surprised: bool
    nodes: tuple[NodeState, ...]
    loans: tuple[LoanState, ...]
    jobs: tuple[JobSchedulerState, ...]


def state_of(book: Book, submitted: int) -> SchedulerState:
    """Return the state of a scheduler.

    Args:
        book: All it knows.
        submitted: Number of jobs submitted so far.
    """
    return SchedulerState(
        now=_finite(book.now),
        submitted=submitted,
        surprised=book.surprised,
        nodes=tuple(NodeState(*known) for known in book.cluster.known()),
        loans=tuple(
            LoanState(name, f"{loan.mask:x}", _finite(loan.until))
            for name, loan in book.loans.items()
        ),
        jobs=tuple(map(_job_state, book.jobs.values())),
    )


def book_of(state: SchedulerState, settings: SchedulerSettings) -> Book:
    """Return the book of a scheduler that is in a state.

    Args:
        state: As returned by ``state_of``.
        settings: Costs, margins and the rest.

    Raises:
        UsageError: A value is out of range.
    """
    book = Book(settings)
    book.now = -math.inf if state.now is None else state.now
    book.surprised = state.surprised
    for known in state.nodes:
        book.cluster.restore(known.node, known.first, known.num_gpus)
    for loan in state.loans:
        book.loans[loan.job_id] = Loan(int(loan.mask, 16), _infinite(loan.until))
    for one in state.jobs:
        book.jobs[one.job_id] = _job(one)
    return book


def _job_state(job: Job) -> JobSchedulerState:
    request = job.request
    return JobSchedulerState(
        job_id=job.job_id,
        order=job.order,
        curve=tuple(job.curve.points.items()),
        total_steps=float(request.total_steps),
        submitted_at=float(request.submitted_at),
        deadline=request.deadline,
        soft=request.soft,
        max_gpus=request.max_gpus,
        left=float(job.left),
        synced_at=float(job.synced_at),
        mask=f"{job.mask:x}",
        ready_at=_finite(job.ready_at),
        promise=_finite(job.promise),
        row=_row_state(job.row),
        base=None if job.base == job.row else _row_state(job.base),
        finish=_finite(job.finish),
        pinned=job.pinned,
        told=f"{job.told:x}",
    )


def _job(state: JobSchedulerState) -> Job:
    curve = ScalingCurve(dict(state.curve))
    request = JobRequest(
        state.job_id,
        curve,
        state.total_steps,
        state.submitted_at,
        state.deadline,
        state.soft,
        state.max_gpus,
    )
    job = Job(request, state.order, curve, state.left, state.synced_at)
    job.set_curve(curve)
    job.mask, job.told = int(state.mask, 16), int(state.told, 16)
    job.ready_at = -math.inf if state.ready_at is None else state.ready_at
    job.promise, job.finish = _infinite(state.promise), _infinite(state.finish)
    job.row = _row(state.row)
    job.base = job.row if state.base is None else _row(state.base)
    job.pinned = state.pinned
    return job


def _row_state(row: Row) -> tuple[SegmentState, ...]:
    return tuple(
        SegmentState(float(start), _finite(end), f"{mask:x}", int(size))
        for start, end, mask, size in row
    )


def _row(states: Iterable[SegmentState]) -> Row:
    return [Segment(s.start, _infinite(s.end), int(s.mask, 16), s.size) for s in states]


def _finite(value: float) -> float | None:
    """Return a number as JSON can hold it."""
    return float(value) if math.isfinite(value) else None


def _infinite(value: float | None) -> float:
    """Return a number in which None stood for infinity."""
    return math.inf if value is None else value
