"""The scheduler's host: hands it what happened, and carries out what it and the parts decide."""

from __future__ import annotations

from typing import TYPE_CHECKING

from eflib import scheduling as core
from eflib.coordinator import measure
from eflib.coordinator.effects import (
    AskAdmission,
    BorrowSlots,
    Decision,
    Decisions,
    Effect,
    EndJob,
    KeepCurve,
    MeasureAgain,
    ReturnSlots,
    TellCurve,
    TellEnd,
    TellProgress,
)
from eflib.coordinator.measure import Room

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from eflib.coordinator.attention import Attention
    from eflib.coordinator.job import Job
    from eflib.messages.records import NodeRecord


class Policy:
    """Stands between jobs and the scheduler.

    Args:
        settings: The policy's costs and margins.
        jobs: All jobs by id, as the control plane holds them.
        nodes: All nodes by name, likewise.
        effects: Where effects are added.
        attention: Told of each job that a command or a decision concerns.
    """

    def __init__(
        self,
        settings: core.SchedulerSettings,
        jobs: Mapping[str, Job],
        nodes: Mapping[str, NodeRecord],
        effects: list[Effect],
        attention: Attention,
    ) -> None:
        self.scheduler = core.Scheduler(settings)
        self._attention = attention
        self._wakeup: float | None = None
        self._jobs = jobs
        self._nodes = nodes
        self._effects = effects

    @property
    def room(self) -> Room:
        """How many slots there are."""
        return Room.of(self._nodes)

    def schedule(self, events: tuple[core.Event, ...], now: float) -> tuple[core.Command, ...]:
        """Hand what happened at one instant to the scheduler and carry out its commands.

        Args:
            events: What happened; nothing is done if it is empty.
            now: When, in seconds since the epoch.
        """
        if not events:
            return ()
        commands = self.scheduler.handle_all(events, now)
        self._wakeup = self.scheduler.next_wakeup(now)
        for command in commands:
            job = self._jobs.get(command.job_id)
            if job is not None:
                self._attention.touch(job)
                self._obey(job, command, now)
        return commands

    def restore(self, state: core.SchedulerState, settings: core.SchedulerSettings) -> None:
        """Go on from a state of the scheduler."""
        self.scheduler = core.Scheduler.restore(state, settings)
        self._wakeup = self.scheduler.next_wakeup(0.0)

    def pass_time(self, now: float) -> bool:
        """Let the scheduler do what has come due; True if there was anything."""
        is_due = self._wakeup is not None and self._wakeup <= now
        if is_due:
            self.schedule((core.TimePassed(),), now)
        return is_due

    def carry_out(self, decisions: Decisions, now: float) -> None:
        """Do what was decided for jobs, in order."""
        for decision in decisions:
            if not isinstance(decision, KeepCurve | TellProgress):
                self._attention.touch(decision.job)
            self.schedule(self._events(decision, now), now)

    def progressed(self, jobs: Iterable[Job], now: float) -> None:
        """Tell the scheduler how far jobs are, all at one instant."""
        live = frozenset(self.scheduler.jobs())
        told = [_progress_of(job) for job in jobs if job.job in live]
        self.schedule(tuple(told), now)

    def _obey(self, job: Job, command: core.Command, now: float) -> None:
        match command:
            case core.Admitted(_, finish):
                job.admit(finish, now)
            case core.Rejected(_, reason, earliest):
                job.reject(reason, earliest, now)
            case core.Assigned(_, gpus):
                is_trained = job.speed.profiling is None and job.run.finished_step is None
                if is_trained and job.is_live:
                    view = self.scheduler.view(job.job, now)
                    job.aim(gpus, view.reason if view else "", now)
            case core.PromiseBroken(_, reason):
                job.tell(now, f"the deadline can no longer be met: {reason}")
                job.reason = reason
            case core.ProfilingExpired():
                self.carry_out(measure.expired(job, self.room, now), now)

    def _events(self, decision: Decision, now: float) -> tuple[core.Event, ...]:
        """Do what was decided; return what the scheduler must hear of it."""
        events: tuple[core.Event, ...] = ()
        match decision:
            case KeepCurve():
                self._effects.append(decision)
            case BorrowSlots():
                self._borrow(decision, now)
            case MeasureAgain(job, reason):
                self.carry_out(measure.begin_again(job, reason, now), now)
            case ReturnSlots(job):
                events = (core.ProfilingEnded(job.job),)
            case AskAdmission(job):
                # One instant: the lent slots come back and the job asks, so nobody grows between.
                events = (core.ProfilingEnded(job.job), core.JobSubmitted(_request(job)))
            case EndJob():
                events = self._end(decision, now)
            case _:
                events = self._if_known(decision.job, _told(decision.job, decision))
        return events

    def _end(self, decision: EndJob, now: float) -> tuple[core.Event, ...]:
        job = decision.job
        was_profiling = job.speed.profiling is not None
        job.close(decision.state, decision.reason, now)
        lent = (core.ProfilingEnded(job.job),) if was_profiling else ()
        return (*lent, *self._if_known(job, core.JobEnded(job.job)))

    def _if_known(self, job: Job, event: core.Event) -> tuple[core.Event, ...]:
        return (event,) if job.job in self.scheduler.jobs() else ()

    def _borrow(self, wish: BorrowSlots, now: float) -> None:
        """Ask for lent slots by one term after another, until some are granted."""
        for seconds in wish.terms:
            event = core.ProfilingRequested(wish.job.job, wish.wanted, seconds)
            for command in self.schedule((event,), now):
                if isinstance(command, core.ProfilingGranted):
                    measure.granted(wish.job, command.gpus, seconds, now)
                    return
                if isinstance(command, core.ProfilingDenied):
                    measure.denied(wish.job, command.reason)


def _told(job: Job, decision: Decision) -> core.Event:
    match decision:
        case TellCurve():
            return core.CurveMeasured(job.job, measure.curve(job))
        case TellEnd():
            return core.JobEnded(job.job)
        case _:
            return _progress_of(job)


def _progress_of(job: Job) -> core.JobProgressed:
    progress = job.run.progress
    return core.JobProgressed(job.job, float(progress.global_step if progress else 0))


def _request(job: Job) -> core.JobRequest:
    announce = job.speed.announce
    return core.JobRequest(
        job.job,
        measure.curve(job),
        total_steps=float(announce.max_steps) if announce else 1.0,
        submitted_at=job.submitted,
        deadline=job.request.deadline,
        soft=job.request.soft,
        max_gpus=job.request.max_gpus,
    )
