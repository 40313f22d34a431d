"""Replay a trace under a policy: a virtual clock, true progress, and every rescale charged."""

from __future__ import annotations

import math
from collections.abc import Mapping

from eflib.scheduling.settings import SchedulerSettings
from eflib.simulator.policies import (
    ClusterShape,
    Decision,
    GpuIds,
    Moment,
    Policy,
    PolicyError,
    SimulatedJob,
    maker,
)
from eflib.simulator.report import Change, JobOutcome, Result
from eflib.simulator.trace import Curves, Trace, check_curves

SAME_INSTANT = 1e-7
"""Seconds; ends closer than this happen at once."""

STALL_LIMIT = 100_000
"""Moments without any change of the clock after which a policy is said to hang."""


def simulate(
    trace: Trace,
    cluster: ClusterShape,
    curves: Curves,
    policy: str | Policy,
    settings: SchedulerSettings | None = None,
) -> Result:
    """Replay a trace and return what became of each job and who held which GPUs when.

    Args:
        trace: Jobs in the order of submission.
        cluster: Nodes and GPUs.
        curves: Scaling curves by model and global batch size.
        policy: Name of a policy, or one that is made already.
        settings: Rescale cost and the rest; the default charges nothing.

    Raises:
        UsageError: The policy is not known, or a job has no scaling curve.
        PolicyError: The policy gave a GPU twice, or one that is not there.

    Examples:
        >>> from eflib.scheduling import ScalingCurve
        >>> from eflib.simulator.trace import TraceJob
        >>> curves = {("m", 8): ScalingCurve({1: 1.0, 2: 2.0})}
        >>> trace = Trace((TraceJob("a", 0.0, 60.0, "m", 8, deadline=40.0),))
        >>> result = simulate(trace, ClusterShape(1, 2), curves, "elasticflow")
        >>> result.outcomes[0].finished_at, result.summary.met
        (30.0, 1)
    """
    check_curves(trace, curves)
    settings = settings or SchedulerSettings()
    made = maker(policy)(cluster, settings) if isinstance(policy, str) else policy
    run = _Run(trace, cluster, curves, made, settings)
    run.replay()
    name = policy if isinstance(policy, str) else type(policy).__name__
    return Result.of(trace, cluster, name, settings.rescale_cost, run.outcomes(), run.changes)


class _Run:
    """One replay under way."""

    def __init__(
        self,
        trace: Trace,
        cluster: ClusterShape,
        curves: Curves,
        policy: Policy,
        settings: SchedulerSettings,
    ) -> None:
        self._trace, self._cluster, self._curves = trace, cluster, curves
        self._policy, self._settings = policy, settings
        self._live: dict[str, SimulatedJob] = {}
        self._finish: dict[str, float] = {}
        self._rates: dict[str, float] = {}
        self._owner: dict[int, str] = {}
        self._outcomes: dict[str, JobOutcome] = {}
        self.changes: list[Change] = []
        self._now = -math.inf

    def outcomes(self) -> tuple[JobOutcome, ...]:
        """Return what became of each job, in the order of the trace."""
        for job in self._live.values():
            self._outcomes[job.job_id] = JobOutcome(job.request, admitted=True, finished_at=None)
        return tuple(self._outcomes[job.job_id] for job in self._trace.jobs)

    def replay(self) -> None:
        """Go from instant to instant until nothing is left to happen.

        Raises:
            PolicyError: The policy asks for the same instant again and again.
        """
        waiting = list(reversed(self._trace.jobs))
        wakeup: float | None = None
        stalled = 0
        while waiting or self._live:
            arrival = waiting[-1].submitted_at if waiting else math.inf
            end = min(self._finish.values(), default=math.inf)
            now = min(arrival, end, math.inf if wakeup is None else wakeup)
            if now == math.inf:
                break
            stalled = stalled + 1 if now <= self._now else 0
            if stalled > STALL_LIMIT:
                raise PolicyError(
                    f"the policy asks again and again for {now:g} and changes nothing"
                )
            ended = self._end_until(now + SAME_INSTANT)
            now = max([now, *(self._outcomes[j.job_id].finished_at or now for j in ended)])
            self._advance(now)
            arrived = []
            while waiting and waiting[-1].submitted_at <= now:
                request = waiting.pop()
                curve = self._curves[request.model, request.global_batch_size]
                job = SimulatedJob(request, curve, request.total_steps)
                self._live[job.job_id] = job
                arrived.append(job)
            moment = Moment(now, tuple(arrived), tuple(ended), self._live)
            decision = self._policy.decide(moment)
            self._refuse(decision, {job.job_id for job in arrived})
            self._apply(decision.gpus)
            wakeup = decision.wakeup

    def _advance(self, now: float) -> None:
        """Bring every live job up to ``now``."""
        span = now - self._now
        if span > 0 and self._now > -math.inf:
            for job in self._live.values():
                if job.gpus:
                    working = min(span, now - job.ready_at)
                    if working > 0:
                        job.steps_left -= self._rates[job.job_id] * working
                    job.gpu_seconds += len(job.gpus) * span
        self._now = max(now, self._now)

    def _end_until(self, time: float) -> list[SimulatedJob]:
        """Take out the jobs that are done by ``time``, in order of their end."""
        done = sorted((t, name) for name, t in self._finish.items() if t <= time)
        ended = []
        for finish, name in done:
            job = self._live.pop(name)
            self._outcomes[name] = JobOutcome(job.request, admitted=True, finished_at=finish)
            job.gpu_seconds += len(job.gpus) * max(finish - self._now, 0.0)
            job.steps_left = 0.0
            self._set_gpus(job, (), finish)
            ended.append(job)
        return ended

    def _refuse(self, decision: Decision, arrived: set[str]) -> None:
        """Take out the newcomers that the policy does not want."""
        for name in decision.refused:
            if name not in arrived or self._live[name].gpus:
                raise PolicyError(f"the policy refuses job {name!r}, which is in already")
            job = self._live.pop(name)
            self._outcomes[name] = JobOutcome(job.request, admitted=False, finished_at=None)

    def _apply(self, wanted: Mapping[str, GpuIds]) -> None:
        """Change who holds what: first all give up, then all take."""
        changed = []
        for name, gpus in wanted.items():
            job = self._live.get(name)
            if job is None:
                raise PolicyError(f"the policy gives GPUs to job {name!r}, which is not here")
            if gpus != job.gpus:
                changed.append((job, gpus))
        for job, _ in changed:
            for gpu in job.gpus:
                del self._owner[gpu]
        for job, gpus in changed:
            for gpu in gpus:
                other = self._owner.setdefault(gpu, job.job_id)
                if other != job.job_id or not 0 <= gpu < self._cluster.num_gpus:
                    raise PolicyError(f"GPU {gpu} is given to {job.job_id!r} and {other!r}")
            job_gpus, job.gpus = job.gpus, ()
            self._set_gpus(job, gpus, self._now, before=job_gpus)

    def _set_gpus(
        self, job: SimulatedJob, gpus: GpuIds, time: float, before: GpuIds | None = None
    ) -> None:
        """Give a job other GPUs and work out when it will be done with them."""
        if before is None:
            before = job.gpus
            for gpu in before:
                del self._owner[gpu]
        job.gpus = gpus
        self._finish.pop(job.job_id, None)
        if gpus:
            cost = self._settings.rescale_cost if before else self._settings.cost_of_start
            job.ready_at = time + cost
            job.started_at = time if job.started_at is None else job.started_at
            job.changes += 1
            rate = job.curve.throughput(len(gpus))
            self._rates[job.job_id] = rate
            self._finish[job.job_id] = job.ready_at + max(job.steps_left, 0.0) / rate
        self.changes.append(Change(time, job.job_id, gpus))
