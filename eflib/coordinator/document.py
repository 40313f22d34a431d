"""The status document of a job: what ``efctl status`` prints."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from eflib.coordinator.job import Job, State
from eflib.messages.fields import LATEST, shortened
from eflib.messages.records import Progress
from eflib.messages.status import (
    GuessedSpeed,
    JobStatus,
    SpeedDetails,
    StoryLine,
    WorkerPlace,
)

if TYPE_CHECKING:
    from eflib.scheduling import JobView

_NO_PROGRESS = Progress(global_step=0)


def status_of(job: Job, view: JobView | None, progress: Progress | None, now: float) -> JobStatus:
    """Return a job's status document.

    Args:
        job: The job.
        view: The scheduler's view of it, if it has one.
        progress: What its rank 0 said last; None for what the plane knows.
        now: The present, in seconds since the epoch.
    """
    running = job.state is State.RUNNING
    told = progress or job.run.progress or _NO_PROGRESS
    asked, announce = job.request, job.speed.announce
    finish, deadline = _finish(job, view), asked.deadline
    return JobStatus(
        job=job.job,
        name=job.name,
        state=job.state.value,
        world_size=job.members.settled.world_size if running else 0,
        generation=job.members.settled.number,
        global_step=told.global_step,
        max_steps=announce.max_steps if announce else None,
        global_batch_size=announce.global_batch_size if announce else None,
        steps_per_s=told.steps_per_s if running else None,
        samples=told.samples,
        loss=told.loss,
        digest=told.digest,
        checkpoint_step=told.checkpoint_step,
        checkpoint_at=told.checkpoint_at,
        submitted=job.submitted,
        started=job.run.started,
        ended=job.run.ended,
        deadline=deadline,
        soft=asked.soft,
        projected_finish=finish,
        earliest_deadline=_moment(job.run.earliest_deadline),
        slack_s=None if deadline is None or finish is None else deadline - finish,
        reason=shortened(job.reason),
        error=job.run.error,
        log_dir=job.log_dir,
        rescales=tuple(job.run.rescales),
        pinned=job.run.pinned,
        slots=tuple(f"{gpu.node}:{gpu.index}" for gpu in job.members.target),
        workers=tuple(
            WorkerPlace(seat.worker, seat.gpu.index, seat.gpu.node) for seat in job.members.alive()
        ),
        curve=job.speed.points,
        curve_details={
            size: SpeedDetails(one.spread, one.cpu_s, one.memory_bytes)
            for size, one in job.speed.observed.items()
        },
        measuring_s=job.speed.measuring_s,
        curve_guesses={n: GuessedSpeed(*guess) for n, guess in job.speed.guessed.items()},
        minimum_share=view.minimum_share if view else None,
        script=asked.target or None,
        argv=asked.argv,
        story=tuple(StoryLine(time, text) for time, text in job.story),
        updated=now,
    )


def _finish(job: Job, view: JobView | None) -> float | None:
    if not job.is_live:
        return job.run.ended if job.state is State.SUCCEEDED else None
    if view is not None and math.isfinite(view.projected_finish):
        return _moment(view.projected_finish)
    return _moment(job.run.projected_finish)


def _moment(seconds: float | None) -> float | None:
    """Return a moment that can be written as a date, else None."""
    return seconds if seconds is not None and 0 <= seconds <= LATEST else None
