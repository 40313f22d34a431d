"""What a job's rank 0 reports while it trains. Concerns one job at a time; see ``effects``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from eflib.coordinator import measure
from eflib.coordinator.effects import Decisions, TellEnd, TellProgress
from eflib.coordinator.job import Job, State
from eflib.profiler import refine

if TYPE_CHECKING:
    from eflib.coordinator.measure import Room
    from eflib.messages.inbox import Finished, Switched
    from eflib.messages.records import Progress


def on_switched(job: Job, message: Switched, now: float) -> Decisions:
    """A generation was entered and has made its first step."""
    job.run.came_to(message.step + 1)
    job.members.switched(message.generation, now)
    is_newest = message.generation == job.members.newest.number
    if not is_newest or job.speed.profiling is not None:
        return ()  # it was left again already, or belongs to a profiling run
    job.speed.deviations = 0  # of reports in a row, at one size
    if message.from_:
        job.run.rescaled(message.record)
        job.tell(
            now,
            f"rescaled {message.from_} -> {message.to} at step {message.step}, "
            f"pause {message.pause_s:.3f} s",
        )
    if job.is_live and job.state is not State.RUNNING and job.members.target:
        job.move(State.RUNNING, "", now)
    return ()


def on_finished(job: Job, message: Finished, now: float) -> Decisions:
    """Training has ended by its own account; its workers leave by themselves."""
    if not job.is_live or job.state in {State.SUBMITTED, State.PROFILING}:
        return ()
    is_news = job.run.finished_step is None  # survivors of a loss in the last step say it again
    job.run.finished_step = message.step
    job.members.is_over = True
    if not is_news:
        return ()
    job.tell(now, f"training ended at step {message.step}")
    return (TellEnd(job),)


def on_progress(job: Job, progress: Progress, room: Room, now: float) -> Decisions:
    """Take in a trainer's progress; correct the curve when live steps say otherwise."""
    if job.speed.profiling is not None or not job.is_live:
        return ()
    job.run.progress = progress
    job.run.came_to(progress.global_step)
    told: Decisions = (TellProgress(job),)
    size, rate = progress.world_size, progress.steps_per_s
    if rate is None or rate <= 0 or size not in job.speed.known:
        job.speed.deviations = 0
        return told
    factor = refine.drift(job.speed.points, size, rate)
    is_news = size in job.speed.guessed or refine.is_drift(factor)
    if job.speed.counts(is_news=is_news, patience=refine.PATIENCE):
        return (*told, *measure.learn(job, room, size, rate, now))
    return told
