"""What people ask for: jobs to run, to end, to hold at a size. Each request is carried out once."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from eflib import scheduling as core
from eflib.coordinator.effects import Answer, Effect, EndJob, WriteSpec
from eflib.coordinator.job import Asked, Job, State
from eflib.messages.inbox import Cancel, RequestMessage, Rescale
from eflib.messages.journal import MAX_REQUESTS, Begin, TakenProfile, TakenSubmit
from eflib.messages.replies import Refusal, Reply

if TYPE_CHECKING:
    from collections.abc import Mapping

    from eflib.coordinator.attention import Attention
    from eflib.coordinator.ended import EndedJobs
    from eflib.coordinator.policy import Policy
    from eflib.messages.records import NodeRecord


class Requests:
    """Carries requests out on the parts of a control plane.

    Args:
        jobs: All jobs by id.
        nodes: All nodes by name.
        policy: Stands before the scheduler.
        attention: Told of each new job.
        ended: Jobs that have ended.
        effects: Where answers are added.

    Attributes:
        num_jobs: How many jobs there were, with those that have ended.
    """

    def __init__(
        self,
        jobs: dict[str, Job],
        nodes: Mapping[str, NodeRecord],
        policy: Policy,
        attention: Attention,
        ended: EndedJobs,
        effects: list[Effect],
    ) -> None:
        self.num_jobs = 0
        self._jobs = jobs
        self._nodes = nodes
        self._policy = policy
        self._attention = attention
        self._ended = ended
        self._effects = effects
        self._seen: OrderedDict[str, None] = OrderedDict()

    @property
    def begin(self) -> Begin:
        """How many jobs there were, and the last requests, oldest first."""
        return Begin(num_jobs=self.num_jobs, requests=tuple(self._seen))

    def go_on(self, begin: Begin) -> None:
        """Go on from what a journal begins with."""
        self.num_jobs = begin.num_jobs
        self._seen = OrderedDict.fromkeys(begin.requests)

    def carry_out(self, message: RequestMessage, now: float) -> None:
        """Carry out a request, unless it was before: then somebody has written it again."""
        if message.request in self._seen:
            return
        self._seen[message.request] = None
        while len(self._seen) > MAX_REQUESTS:
            self._seen.popitem(last=False)
        match message:
            case TakenSubmit() | TakenProfile():
                reply = self._submit(message, now)
            case Cancel():
                reply = self._cancel(message, now)
            case Rescale():
                reply = self._rescale(message, now)
            case _:
                return
        self._effects.append(Answer(message.request, reply))

    def _submit(self, message: Asked, now: float) -> Reply:
        self.num_jobs += 1
        job = Job.of(message, self.num_jobs, now)
        self._jobs[job.job] = job
        self._attention.add(job)
        self._effects.append(WriteSpec(job.job, job.spec))
        if not self._nodes:
            job.reason = "waiting for a node: none has joined yet"
        return Reply(job=job.job, name=job.name, log_dir=job.log_dir)

    def _cancel(self, message: Cancel, now: float) -> Reply:
        job = find(self._jobs, message.job)
        if job is None or not job.is_live:
            has_ended = job is not None or self._ended.knows(message.job)
            what = "this job has ended:" if has_ended else "there is no running job"
            return refused("usage", f"{what} {message.job!r}")
        job.cancelling = True
        self._policy.carry_out((EndJob(job, State.CANCELLED, message.reason),), now)
        return Reply(job=job.job, state=job.state.value)

    def _rescale(self, message: Rescale, now: float) -> Reply:
        job = find(self._jobs, message.job)
        if job is None or not job.is_live:
            return refused("usage", f"there is no running job {message.job!r}")
        if job.job not in self._policy.scheduler.jobs():
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


def find(jobs: dict[str, Job], name: str) -> Job | None:
    """Return a job by id, or the newest live one of this name."""
    if name in jobs:
        return jobs[name]
    named = [job for job in jobs.values() if job.name == name]
    return max(named, key=lambda job: (job.is_live, job.submitted), default=None)


def refused(code: str, problem: str, hint: str = "") -> Reply:
    """Return the answer to a request that is not carried out."""
    return Reply(error=Refusal(code, problem, hint))
