"""The control plane: the scheduler and all jobs, as one pure fold over what happened.

``handle(input, now)`` takes one input and changes the state; what should be done about it is read
off afterwards: assignments, proposals, documents, and the effects that accumulate. The same inputs
give the same state, which is how a coordinator comes back from its journal.
"""

from __future__ import annotations

from collections import OrderedDict
from functools import partial
from typing import TYPE_CHECKING

from eflib import scheduling as core
from eflib.coordinator import assigning, failures, measure, proposing, running
from eflib.coordinator.document import status_of
from eflib.coordinator.effects import (
    Answer,
    Decisions,
    Effect,
    EndJob,
    RecordExit,
    TellCurve,
    WriteSpec,
)
from eflib.coordinator.job import Asked, Job, State
from eflib.coordinator.policy import Policy
from eflib.messages.inbox import (
    Cancel,
    Finished,
    Measured,
    NodeLeft,
    RequestMessage,
    Rescale,
    Switched,
    WorkerExited,
    WorkerStarted,
)
from eflib.messages.journal import (
    MAX_REQUESTS,
    Begin,
    GenerationMade,
    Input,
    NodeLost,
    ProgressMade,
    TakenNodeJoined,
    TakenProfile,
    TakenSubmit,
    TakenWorkerReady,
    TimePassed,
)
from eflib.messages.records import ErrorText, NodeRecord, WorkerExit
from eflib.messages.replies import Refusal, Reply

if TYPE_CHECKING:
    from eflib.coordinator.assigning import Assigned
    from eflib.coordinator.measure import Room
    from eflib.messages.generations import Generation
    from eflib.messages.records import Progress
    from eflib.messages.status import JobStatus

JobInput = (
    WorkerStarted
    | WorkerExited
    | TakenWorkerReady
    | GenerationMade
    | Switched
    | Measured
    | Finished
    | ProgressMade
)
"""Inputs that concern one job."""


class ControlPlane:
    """All that the coordinator knows and decides.

    Args:
        settings: The policy's costs and margins.
    """

    def __init__(self, settings: core.SchedulerSettings) -> None:
        self.jobs: dict[str, Job] = {}
        self.nodes: dict[str, NodeRecord] = {}
        self.num_jobs = 0
        self.effects: list[Effect] = []
        self._policy = Policy(settings, self.jobs, self.nodes, self.effects)
        self.scheduler = self._policy.scheduler
        self._requests: OrderedDict[str, None] = OrderedDict()

    # In ------------------------------------------------------------------------------------------

    def handle(self, message: Input, now: float) -> None:
        """Take in one input, then let time pass.

        Args:
            message: What happened.
            now: When, in seconds since the epoch.
        """
        match message:
            case Begin():
                self.num_jobs = message.num_jobs
                self._requests = OrderedDict.fromkeys(message.requests)
            case RequestMessage():
                self._on_request(message, now)
            case TakenNodeJoined():
                self._on_node_joined(message, now)
            case NodeLeft() | NodeLost():
                self._on_node_gone(message, now)
            case TimePassed():
                pass
            case _:
                if (job := self.jobs.get(message.job)) is not None:
                    decisions = _on_job(job, message, self._policy.room, now)
                    self._policy.carry_out(decisions, now)
        self.pass_time(now)

    def pass_time(self, now: float) -> bool:
        """Do what has come due; True if anything changed."""
        changed = False
        wakeup = self.scheduler.next_wakeup(now)
        if wakeup is not None and wakeup <= now:
            self._policy.schedule((core.TimePassed(),), now)
            changed = True
        for job in self.present_jobs():
            if job.is_live:
                changed = self._judge(job, now) or changed
            changed = job.members.step(now) or changed
        return changed

    def _judge(self, job: Job, now: float) -> bool:
        """Go on with measuring, and end what is over; True if anything changed."""
        due = measure.pass_time(job, self._policy.room, now)
        if due is not None:
            self._policy.carry_out(due, now)
        end = failures.settle(job) if job.is_live else ()
        self._policy.carry_out(end, now)
        return due is not None or bool(end)

    # Out -----------------------------------------------------------------------------------------

    @property
    def requests(self) -> tuple[str, ...]:
        """The last requests that were carried out, oldest first."""
        return tuple(self._requests)

    def has_seen(self, request: str) -> bool:
        """Tell whether a request was carried out before."""
        return request in self._requests

    def live_jobs(self) -> list[Job]:
        """Return the jobs that have not ended, in order of submission."""
        return [job for job in self.jobs.values() if job.is_live]

    def present_jobs(self) -> list[Job]:
        """Return the jobs that are live or still have workers."""
        return [job for job in self.jobs.values() if job.is_present]

    def is_idle(self) -> bool:
        """True when no job is live and no worker of any job has a process."""
        return not self.present_jobs()

    def proposals(self, now: float) -> list[tuple[Job, Generation]]:
        """Return the generations to make; what becomes of each comes back as ``generation``."""
        found = []
        present = self.present_jobs()
        for job in present:
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

    def status(self, job: Job, progress: Progress | None, now: float) -> JobStatus:
        """Return a job's status document."""
        return status_of(job, self.scheduler.view(job.job, now), progress, now)

    def take_effects(self) -> list[Effect]:
        """Return what should be done, once."""
        effects = list(self.effects)
        self.effects.clear()
        return effects

    # Requests ------------------------------------------------------------------------------------

    def _on_request(self, message: RequestMessage, now: float) -> None:
        """Carry out a request, unless it was before: then somebody has written it again."""
        if self.has_seen(message.request):
            return
        self._requests[message.request] = None
        while len(self._requests) > MAX_REQUESTS:
            self._requests.popitem(last=False)
        match message:
            case TakenSubmit() | TakenProfile():
                reply = self._submit(message, now)
            case Cancel():
                reply = self._cancel(message, now)
            case Rescale():
                reply = self._rescale(message, now)
            case _:
                return
        self.effects.append(Answer(message.request, reply))

    def _submit(self, message: Asked, now: float) -> Reply:
        self.num_jobs += 1
        job = self.jobs[f"{message.name}-{self.num_jobs}"] = Job.of(message, self.num_jobs, now)
        self.effects.append(WriteSpec(job.job, job.spec))
        if not self.nodes:
            job.reason = "waiting for a node: none has joined yet"
        return Reply(job=job.job, name=job.name, log_dir=job.log_dir)

    def _cancel(self, message: Cancel, now: float) -> Reply:
        job = find(self.jobs, message.job)
        if job is None or not job.is_live:
            what = "there is no running job" if job is None else f"job {job.name!r} has ended:"
            return refused("usage", f"{what} {message.job!r}")
        job.cancelling = True
        self._policy.carry_out((EndJob(job, State.CANCELLED, message.reason),), now)
        return Reply(job=job.job, state=job.state.value)

    def _rescale(self, message: Rescale, now: float) -> Reply:
        job = find(self.jobs, message.job)
        if job is None or not job.is_live:
            return refused("usage", f"there is no running job {message.job!r}")
        if job.job not in self.scheduler.jobs():
            state = job.state.value.lower()
            return refused(
                "usage",
                f"job {job.name!r} is {state}: it cannot be rescaled yet",
                "wait until it is admitted",
            )
        num = message.num_gpus
        for command in self._policy.schedule((core.SizePinned(job.job, num),), now):
            if isinstance(command, core.PinRefused):
                return refused("rescale-refused", command.reason)
        job.run.pinned = num
        job.tell(
            now, "sized by the scheduler again" if num is None else f"held at {num} by an operator"
        )
        return Reply(job=job.job, num_gpus=num, target=len(job.members.target))

    # Nodes ---------------------------------------------------------------------------------------

    def _on_node_joined(self, message: TakenNodeJoined, now: float) -> None:
        self.nodes[message.node] = message.record
        self._policy.schedule((core.NodeJoined(message.node, message.record.slots),), now)
        for job in self.live_jobs():
            if measure.complete(
                job, self._policy.room
            ):  # there are more sizes now that it could have
                self._policy.carry_out((TellCurve(job),), now)

    def _on_node_gone(self, message: NodeLeft | NodeLost, now: float) -> None:
        node = message.node
        if self.nodes.pop(node, None) is None:
            return
        if isinstance(message, NodeLost):
            self._lose_workers(node)
        self._policy.schedule((core.NodeLost(node),), now)
        for job in self.live_jobs():
            self._policy.carry_out(measure.node_gone(job, node, now), now)

    def _lose_workers(self, node: str) -> None:
        """Let peers on other nodes know of ends that no agent can tell any more."""
        error = ErrorText(f"lost with node {node}, which gave no sign of life")
        for job in self.jobs.values():
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
        case ProgressMade():
            decisions = running.on_progress(job, message.progress, room, now)
    return decisions


def find(jobs: dict[str, Job], name: str) -> Job | None:
    """Return a job by id, or the newest live one of this name."""
    if name in jobs:
        return jobs[name]
    named = [job for job in jobs.values() if job.name == name]
    return max(named, key=lambda job: (job.is_live, job.submitted), default=None)


def refused(code: str, problem: str, hint: str = "") -> Reply:
    """Return the answer to a request that is not carried out."""
    return Reply(error=Refusal(code, problem, hint))
