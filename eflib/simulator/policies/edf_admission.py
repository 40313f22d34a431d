"""Earliest deadline first with admission control, an ablation of the paper.

In order of deadline each job takes as many GPUs as make it faster, out of what earlier deadlines
leave. A newcomer is admitted if, played forward from here with every rescale charged, all admitted
jobs and it are in time. What is played forward is what is then done, so an admitted job is never
late. The artifact's version admits or declines all arrivals of one instant together and ignores the
cost of scaling; that is not copied.

References:
    Gu et al., "ElasticFlow: An Elastic Serverless Training Platform for Distributed Deep
    Learning", ASPLOS 2023, section 6.3, https://doi.org/10.1145/3575693.3575721
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

from eflib.scheduling import SchedulerSettings
from eflib.simulator.policies import (
    ClusterShape,
    Decision,
    GpuIds,
    Moment,
    Policy,
    SimulatedJob,
)
from eflib.simulator.policies.placing import Placer

NAME = "edf+admission"
SUMMARY = "earliest deadline first, and only jobs that can be in time so"

TOLERANCE_S = 1e-3


class EdfAdmission:
    """Earliest deadline first among the jobs that a look ahead finds in time.

    Args:
        shape: The cluster.
        settings: For the rescale cost.
    """

    def __init__(self, shape: ClusterShape, settings: SchedulerSettings) -> None:
        self._num_gpus = shape.num_gpus
        self._placer = Placer(shape)
        self._settings = settings

    def decide(self, moment: Moment) -> Decision:
        """Admit newcomers one by one, then give GPUs in order of deadline."""
        newcomers = {job.job_id for job in moment.arrived}
        jobs = {name: job for name, job in moment.jobs.items() if name not in newcomers}
        refused = []
        for job in moment.arrived:
            tried = {**jobs, job.job_id: job}
            if job.request.deadline is None or self._all_in_time(tried, moment.now):
                jobs = tried
            else:
                refused.append(job.job_id)
        return Decision(self._allocate(jobs), tuple(refused))

    def _allocate(self, jobs: Mapping[str, SimulatedJob]) -> dict[str, GpuIds]:
        """Return the GPUs of every job."""
        free = self._num_gpus
        counts: dict[str, int] = {}
        for job in sorted(jobs.values(), key=_by_deadline):
            usable = [count for count, _ in job.curve.usable(free)] if free else []
            if usable:
                counts[job.job_id] = usable[-1]
                free -= usable[-1]
        placed = self._placer.place(counts, jobs)
        return {name: placed.get(name, ()) for name in jobs}

    def _all_in_time(self, jobs: Mapping[str, SimulatedJob], now: float) -> bool:
        """Play forward on copies until all deadline jobs are done, or one is late."""
        copies = {n: replace(j) for n, j in jobs.items() if j.request.deadline is not None}
        while copies:
            self._give(copies, now)
            finish = {name: self._finish(job, now) for name, job in copies.items()}
            now_next = min(finish.values())
            if now_next == math.inf:
                return False
            for name, job in list(copies.items()):
                if finish[name] <= now_next + 1e-7:
                    if finish[name] > _deadline(job) + TOLERANCE_S:
                        return False
                    del copies[name]
                elif now_next > _deadline(job):
                    return False
                elif job.gpus:
                    working = max(now_next - max(now, job.ready_at), 0.0)
                    job.steps_left -= job.curve.throughput(len(job.gpus)) * working
            now = now_next
        return True

    def _give(self, copies: dict[str, SimulatedJob], now: float) -> None:
        """Change who holds what, as the simulator would."""
        for name, gpus in self._allocate(copies).items():
            job = copies[name]
            if gpus and gpus != job.gpus:
                settings = self._settings
                job.ready_at = now + (settings.rescale_cost if job.gpus else settings.cost_of_start)
            job.gpus = gpus

    @staticmethod
    def _finish(job: SimulatedJob, now: float) -> float:
        if not job.gpus:
            return math.inf
        rate = job.curve.throughput(len(job.gpus))
        return max(now, job.ready_at) + max(job.steps_left, 0.0) / rate


def _deadline(job: SimulatedJob) -> float:
    return math.inf if job.request.deadline is None else job.request.deadline


def _by_deadline(job: SimulatedJob) -> tuple[float, float, int]:
    return (_deadline(job), job.request.submitted_at, job.request.line)


def make(shape: ClusterShape, settings: SchedulerSettings) -> Policy:
    """Return the policy; see ``eflib.simulator.policies``."""
    return EdfAdmission(shape, settings)
