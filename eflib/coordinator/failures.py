"""How a job ends, and when a failed worker ends it. Concerns one job at a time; see ``effects``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from eflib.coordinator.effects import Decisions, EndJob, MeasureAgain
from eflib.coordinator.job import Job, State
from eflib.coordinator.membership import Seat, Stage
from eflib.errors import PreemptedError
from eflib.messages.fields import shortened
from eflib.messages.status import Failure

if TYPE_CHECKING:
    from eflib.messages.records import WorkerExit

SAME_ERROR_LIMIT = 3
"""A job ends when the same error has been raised in so many of its generations."""
DEATH_LIMIT = 100
"""A job ends when so many of its workers have failed or died and it has not come further since."""
NO_TRAINER = (
    "the script ended without training: it never reached ElasticTrainer.fit() or its loop form"
)
LEFT_EARLY = "a worker ended with exit code 0 before training was over"


def on_worker_exited(job: Job, exit_: WorkerExit, now: float) -> Decisions:
    """A worker is gone: as it should, or not."""
    seat = job.members.seats.get(exit_.worker)
    if seat is None:
        return ()
    was_alive, expected = seat.is_alive, _is_expected(job, seat, exit_)
    job.members.exited(seat.worker)
    if not was_alive or not job.is_live or expected:
        return ()
    failure = _failure(job, seat, exit_)
    job.run.failed(failure)
    job.tell(now, f"rank {failure.rank} on {failure.node}: {failure.message}")
    if _ends_job(job, failure):
        return (_fail(job, failure),)
    if job.speed.profiling is not None:
        return (MeasureAgain(job, f"a worker was lost: {failure.message}"),)
    return ()


def settle(job: Job) -> Decisions:
    """End a job whose workers have all gone after training was over."""
    if job.run.finished_step is None or job.members.alive():
        return ()
    return (EndJob(job, State.SUCCEEDED),)


def _failure(job: Job, seat: Seat, exit_: WorkerExit) -> Failure:
    rank = job.members.newest.rank_of(seat.worker)
    return Failure(
        node=exit_.node,
        rank=seat.rank if rank is None else rank,
        message=describe_exit(exit_, was_ready=bool(seat.ready_at)),
        traceback=exit_.error.traceback if exit_.error else None,
        log=exit_.log,
        exitcode=exit_.exitcode,
        signal=exit_.signal,
        hang=exit_.hang,
        generation=job.members.settled.number,
        step=job.run.furthest_step,
    )


def _is_expected(job: Job, seat: Seat, exit_: WorkerExit) -> bool:
    """Tell whether an exit belongs to the plan: a leaver, a dismissed one, the end."""
    status = exit_.exitcode
    if seat.dismissed or job.members.ending or status == PreemptedError.exit_status:
        return True
    left = seat.stage is Stage.MEMBER and not job.members.is_member(seat)
    if job.run.finished_step is not None:  # rank 0 may be saving the model; the others are not
        return status == 0 or job.members.newest.rank_of(seat.worker) != 0
    return status == 0 and left


def _ends_job(job: Job, failure: Failure) -> bool:
    """Decide whether a failure ends the job or is survived."""
    failures = job.run.failures
    if job.run.finished_step is not None:
        return True
    died = failure.signal is not None or failure.exitcode is None
    if job.speed.profiling is not None:
        return not died or len(failures) >= SAME_ERROR_LIMIT
    if sum(one.step == job.run.furthest_step for one in failures) >= DEATH_LIMIT:
        return True
    if died and failure.hang != "step":
        return False  # killed, or lost with its agent: nothing that the script did
    # All ranks of a generation may raise the same: that is one time.
    times = {one.generation for one in failures if one.message == failure.message}
    return job.members.settled.number == 0 or len(times) >= SAME_ERROR_LIMIT


def _fail(job: Job, failure: Failure) -> EndJob:
    first = next(one for one in job.run.failures if one.message == failure.message)
    job.run.error = first
    reason = f"rank {first.rank} on {first.node}: {first.message}"
    return EndJob(job, State.FAILED, shortened(reason))


def describe_exit(exit_: WorkerExit, *, was_ready: bool) -> str:
    """Say in a line how a worker ended."""
    if exit_.error is not None and exit_.error.message:
        return exit_.error.message
    if exit_.signal is not None:
        return f"killed by {exit_.signal}"
    if exit_.exitcode == 0:
        return LEFT_EARLY if was_ready else NO_TRAINER
    return f"exit code {exit_.exitcode}"
