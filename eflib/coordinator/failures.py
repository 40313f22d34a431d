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
SAME_PLACE_LIMIT = 5
"""The same of errors with other words that were raised at the same place of the script."""
CRASH_LIMIT = 5
"""A job ends when its last failures, in so many generations, were all the same crash."""
NO_STEP_LIMIT = 20
"""A job ends when workers have failed or died in so many of its generations without a new step."""
CRASHES = frozenset({"SIGABRT", "SIGBUS", "SIGFPE", "SIGILL", "SIGSEGV", "SIGSYS", "SIGTRAP"})
"""Signals by which a process ends itself; others come from outside."""
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
    died = _died(failure)
    if job.speed.profiling is not None:
        return not died or len(failures) >= SAME_ERROR_LIMIT
    # All ranks of a generation may fail alike: that is one time.
    if _is_stuck(job):
        return True
    if died and failure.signal in CRASHES:
        return _is_crashing(job, failure)
    if died and failure.hang != "step":
        return False  # killed, or lost with its agent: nothing that the script did
    same = {one.generation for one in failures if one.message == failure.message}
    alike = {one.generation for one in failures if _place(one) and _place(one) == _place(failure)}
    return (
        job.members.settled.number == 0
        or len(same) >= SAME_ERROR_LIMIT
        or len(alike) >= SAME_PLACE_LIMIT
    )


def _is_crashing(job: Job, failure: Failure) -> bool:
    """Tell whether nothing but the same crash has happened lately."""
    generations = set()
    for one in reversed(job.run.failures):
        if one.signal != failure.signal:
            return False
        generations.add(one.generation)
        if len(generations) >= CRASH_LIMIT:
            return True
    return False


def _died(failure: Failure) -> bool:
    """Tell whether a worker was ended from outside: it raised nothing.

    Python ends itself with SIGINT after a KeyboardInterrupt: a traceback tells that it raised.
    """
    is_ended = failure.signal is not None or failure.exitcode is None
    return is_ended and not failure.traceback


def _place(failure: Failure) -> str:
    """Return where an error was raised: its traceback without the error's own words."""
    frames = (failure.traceback or "").rstrip().splitlines()
    ends = [number for number, line in enumerate(frames) if line.startswith(" ")]
    return "\n".join(frames[: ends[-1] + 1]) if ends else ""


def _without_a_step(job: Job) -> list[Failure]:
    """Return the failures since the last step that was new."""
    return [one for one in job.run.failures if one.step == job.run.furthest_step]


def _is_stuck(job: Job) -> bool:
    return len({one.generation for one in _without_a_step(job)}) >= NO_STEP_LIMIT


def _fail(job: Job, failure: Failure) -> EndJob:
    """End a job with its first cause: what was raised comes before deaths."""
    place = _place(failure)
    alike = [
        one
        for one in job.run.failures
        if one.message == failure.message or (place and _place(one) == place)
    ]
    if _is_stuck(job):
        alike = _without_a_step(job)
    first = next((one for one in alike if not _died(one)), alike[0])
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
