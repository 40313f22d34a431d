"""The control plane: the scheduler and all jobs, as one pure fold over what happened.

``handle(input, now)`` takes one input and changes the state; what should be done about it is read
off afterwards: assignments, proposals, documents, and the effects that accumulate. The same inputs
give the same state, which is how a coordinator comes back from its journal.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from eflib import scheduling as core
from eflib.coordinator import assigning, failures, measure, proposing, running
from eflib.coordinator.attention import Attention, calm_until
from eflib.coordinator.document import status_of
from eflib.coordinator.effects import (
    Decisions,
    Effect,
    ForgetRecords,
    RecordExit,
    TellCurve,
    TellProgress,
)
from eflib.coordinator.ended import MAX_LISTED, EndedJobs
from eflib.coordinator.job import Job
from eflib.coordinator.policy import Policy
from eflib.coordinator.requests import Requests
from eflib.coordinator.snapshot import PlaneState, Snapshot
from eflib.messages.inbox import (
    Finished,
    Measured,
    NodeLeft,
    RequestMessage,
    Switched,
    WorkerExited,
    WorkerStarted,
)
from eflib.messages.journal import (
    Begin,
    GenerationMade,
    Input,
    NodeLost,
    ProgressMade,
    TakenNodeJoined,
    TakenWorkerReady,
    TimePassed,
)
from eflib.messages.records import ErrorText, NodeRecord, WorkerExit
from eflib.messages.status import JobIndex, JobStatus

if TYPE_CHECKING:
    from collections.abc import Sequence

    from eflib.coordinator.assigning import Assigned
    from eflib.coordinator.measure import Room
    from eflib.messages.generations import Generation
    from eflib.messages.records import Progress

JobInput = (
    WorkerStarted
    | WorkerExited
    | TakenWorkerReady
    | GenerationMade
    | Switched
    | Measured
    | Finished
)
"""Inputs that concern one job and may change its workers."""


class ControlPlane:
    """All that the coordinator knows and decides.

    Args:
        settings: The policy's costs and margins.
    """

    def __init__(self, settings: core.SchedulerSettings) -> None:
        self.jobs: dict[str, Job] = {}
        self.nodes: dict[str, NodeRecord] = {}
        self.effects: list[Effect] = []
        self.attention = Attention()
        self.ended = EndedJobs()
        self._policy = Policy(settings, self.jobs, self.nodes, self.effects, self.attention)
        self.requests = Requests(
            self.jobs, self.nodes, self._policy, self.attention, self.ended, self.effects
        )

    @property
    def scheduler(self) -> core.Scheduler:
        """The scheduler, to be asked."""
        return self._policy.scheduler

    # State ---------------------------------------------------------------------------------------

    def state(self) -> PlaneState:
        """Return what its next decisions depend on besides ``requests.begin``; not a copy."""
        return PlaneState(
            nodes=dict(self.nodes),
            jobs=tuple(self.jobs.values()),
            scheduler=self.scheduler.state(),
        )

    @staticmethod
    def restore(snapshot: Snapshot, settings: core.SchedulerSettings) -> ControlPlane:
        """Return a plane that goes on from a snapshot as the one would have that it was taken of.

        Args:
            snapshot: It, as it was read; the plane takes its jobs over.
            settings: The policy's costs and margins.

        Raises:
            UsageError: A value of it is out of range.
        """
        plane = ControlPlane(settings)
        plane.requests.go_on(snapshot.begin)
        plane.ended.restore(snapshot.ended)
        if snapshot.plane is not None:
            plane.nodes.update(snapshot.plane.nodes)
            for job in snapshot.plane.jobs:
                plane.jobs[job.job] = job
                if not plane.ended.has(job.job):
                    plane.attention.resume(job)
            plane._policy.restore(snapshot.plane.scheduler, settings)
        return plane

    # In ------------------------------------------------------------------------------------------

    def handle(self, message: Input, now: float) -> None:
        """Take in one input, then let time pass.

        Args:
            message: What happened.
            now: When, in seconds since the epoch.
        """
        match message:
            case Begin():
                self.requests.go_on(message)
            case RequestMessage():
                self.requests.carry_out(message, now)
            case TakenNodeJoined():
                self._on_node_joined(message, now)
            case NodeLeft() | NodeLost():
                self._on_node_gone(message, now)
            case TimePassed():
                pass
            case ProgressMade():
                self._on_progress([message], now)
            case _:
                if (job := self.jobs.get(message.job)) is not None:
                    self.attention.touch(job)
                    decisions = _on_job(job, message, self._policy.room, now)
                    self._policy.carry_out(decisions, now)
        self.pass_time(now)

    def handle_all(self, messages: Sequence[Input], now: float) -> None:
        """Take in one input, or what many jobs have said of their progress at one instant.

        Args:
            messages: What happened.
            now: When, in seconds since the epoch.
        """
        told = [message for message in messages if isinstance(message, ProgressMade)]
        if len(told) == len(messages):
            self._on_progress(told, now)
            self.pass_time(now)
            return
        for message in messages:
            self.handle(message, now)

    def _on_progress(self, messages: Sequence[ProgressMade], now: float) -> None:
        room = self._policy.room
        told: list[Job] = []
        for message in messages:
            job = self.jobs.get(message.job)
            if job is None:
                continue
            decisions = running.on_progress(job, message.progress, room, now)
            told += [job for one in decisions if isinstance(one, TellProgress)]
            rest = tuple(one for one in decisions if not isinstance(one, TellProgress))
            self._policy.carry_out(rest, now)
        self._policy.progressed(told, now)

    def pass_time(self, now: float) -> bool:
        """Do what has come due; True if anything changed."""
        changed = self._policy.pass_time(now)
        room = self._policy.room
        self.attention.wake(now)
        for job in self.attention.in_turn():
            is_new = job.is_live and self._judge(job, room, now)
            is_new = job.members.step(now) or is_new
            if is_new:
                self.attention.touch(job)
            elif not job.is_present:
                self.ended.add(job, now)
                self.attention.drop(job)
                is_new = True
            elif (until := calm_until(job, has_room=room.largest > 0)) is not None:
                self.attention.rest(job, until)
            changed = changed or is_new
        for job_id in self.ended.due(now):
            self.jobs.pop(job_id, None)
            self.effects.append(ForgetRecords(job_id))
            changed = True
        return changed

    def _judge(self, job: Job, room: Room, now: float) -> bool:
        """Go on with measuring, and end what is over; True if anything changed."""
        due = measure.pass_time(job, room, now)
        if due is not None:
            self._policy.carry_out(due, now)
        end = failures.settle(job) if job.is_live else ()
        self._policy.carry_out(end, now)
        return due is not None or bool(end)

    # Out -----------------------------------------------------------------------------------------

    def live_jobs(self) -> list[Job]:
        """Return the jobs that have not ended, in order of submission."""
        return [job for job in self.attention.present.values() if job.is_live]

    def present_jobs(self) -> list[Job]:
        """Return the jobs that are live or still have workers."""
        return [job for job in self.attention.present.values() if job.is_present]

    def is_idle(self) -> bool:
        """True when no job is live and no worker of any job has a process."""
        return not any(job.is_present for job in self.attention.present.values())

    def proposals(self, now: float) -> list[tuple[Job, Generation]]:
        """Return the generations to make; what becomes of each comes back as ``generation``."""
        found = []
        restless = self.attention.restless()
        present = self.present_jobs() if restless else []
        for job in restless:
            generation = proposing.proposal(
                job.members,
                now,
                partial(assigning.is_free, job=job, jobs=present),
                partial(assigning.endpoint_of, nodes=self.nodes),
            )
            if generation is not None:
                found.append((job, generation))
        return found

    def assignments(self) -> Assigned:
        """Return the workers that each node should run."""
        return assigning.assignments(self.present_jobs(), self.nodes)

    def index(self) -> JobIndex:
        """Return which jobs there are, without those that ended long ago."""
        return JobIndex(tuple(self.attention.present), self.ended.last(MAX_LISTED))

    def status(self, job: Job, progress: Progress | None, now: float) -> JobStatus:
        """Return a job's status document."""
        return status_of(job, self.scheduler.view(job.job, now), progress, now)

    def take_effects(self) -> list[Effect]:
        """Return what should be done, once."""
        effects = list(self.effects)
        self.effects.clear()
        return effects

    # Nodes ---------------------------------------------------------------------------------------

    def _on_node_joined(self, message: TakenNodeJoined, now: float) -> None:
        self.nodes[message.node] = message.record
        self.attention.reseat()
        self._policy.schedule((core.NodeJoined(message.node, message.record.slots),), now)
        room = self._policy.room
        for job in self.live_jobs():
            if measure.complete(job, room):  # there are more sizes now that it could have
                self._policy.carry_out((TellCurve(job),), now)
            self.attention.touch(job)

    def _on_node_gone(self, message: NodeLeft | NodeLost, now: float) -> None:
        node = message.node
        if self.nodes.pop(node, None) is None:
            return
        if isinstance(message, NodeLost):
            self._lose_workers(node)
        self._policy.schedule((core.NodeLost(node),), now)
        for job in self.live_jobs():
            self._policy.carry_out(measure.node_gone(job, node, now), now)
        for job in self.present_jobs():
            self.attention.touch(job)

    def _lose_workers(self, node: str) -> None:
        """Let peers on other nodes know of ends that no agent can tell any more."""
        error = ErrorText(f"lost with node {node}, which gave no sign of life")
        for job in self.attention.present.values():
            for seat in job.members.alive():
                if seat.gpu.node == node:
                    job.members.exited(seat.worker)
                    record = WorkerExit(node=node, job=job.job, worker=seat.worker, error=error)
                    self.effects.append(RecordExit(record))


def _on_job(job: Job, message: JobInput, room: Room, now: float) -> Decisions:
    decisions: Decisions = ()
    match message:
        case WorkerStarted():
            job.members.started(message.worker)
        case WorkerExited():
            decisions = failures.on_worker_exited(job, message, now)
        case TakenWorkerReady():
            job.members.ready(message.worker, now)
            decisions = measure.on_ready(job, message, room, now)
        case GenerationMade():
            job.members.saw(message.record, now)
        case Switched():
            decisions = running.on_switched(job, message, now)
        case Measured():
            decisions = measure.on_measured(job, message, room, now)
        case Finished():
            decisions = running.on_finished(job, message, now)
    return decisions
