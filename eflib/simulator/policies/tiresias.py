"""Tiresias: least attained service first, in discretised queues; sizes as their users asked.

A job starts in the first queue and sinks when the GPU time it has had (GPUs times seconds) passes a
limit. Higher queues go first; within a queue, jobs go in the order in which they first started and
then in that of arrival; one that does not fit is passed over. It knows no deadlines and no
durations.

Departures: no promotion of starved jobs (the paper's PROMOTEKNOB is off in the artifact too), and
no profile of which models want to be on few nodes: every job gets an aligned block here.

References:
    Gu et al., "Tiresias: A GPU Cluster Manager for Distributed Deep Learning", NSDI 2019,
    section 3.2 (Discretized 2D-LAS).
"""

from __future__ import annotations

import math

from eflib.scheduling.settings import SchedulerSettings
from eflib.simulator.policies import ClusterShape, Decision, Moment, Policy, SimulatedJob
from eflib.simulator.policies._counts import decide_counts, first_come, requested
from eflib.simulator.policies.placing import Placer

NAME = "tiresias"
SUMMARY = "least attained GPU time first, in queues; sizes as asked for"
LIMITS = (3250.0, 7200.0)  # GPU-seconds at which a job sinks; the artifact's and Tiresias' own
ROUNDING = 1e-3  # seconds by which the next look lies behind the crossing of a limit


class Tiresias:
    """Two-dimensional least attained service.

    Args:
        shape: The cluster.
        limits: GPU-seconds at which a job sinks to the next queue, ascending.
    """

    def __init__(self, shape: ClusterShape, limits: tuple[float, ...] = LIMITS) -> None:
        self._shape = shape
        self._placer = Placer(shape)
        self._limits = limits

    def decide(self, moment: Moment) -> Decision:
        """Fill the cluster queue by queue, and look again when a running job sinks."""
        free = self._shape.num_gpus
        counts: dict[str, int] = {}
        wakeup = math.inf
        for job in sorted(moment.jobs.values(), key=self._key):
            count = requested(job, self._shape)
            if count > free:
                continue
            counts[job.job_id] = count
            free -= count
            queue = self._queue(job)
            if queue < len(self._limits):
                left = (self._limits[queue] - job.gpu_seconds) / count
                wakeup = min(wakeup, moment.now + left + ROUNDING)
        return decide_counts(
            self._placer, counts, moment, wakeup=None if wakeup == math.inf else wakeup
        )

    def _queue(self, job: SimulatedJob) -> int:
        return sum(job.gpu_seconds >= limit for limit in self._limits)

    def _key(self, job: SimulatedJob) -> tuple[int, float, tuple[float, int, str]]:
        started_at = math.inf if job.started_at is None else job.started_at
        return self._queue(job), started_at, first_come(job)


def make(shape: ClusterShape, settings: SchedulerSettings) -> Policy:
    """Return the policy; see ``eflib.simulator.policies``."""
    del settings  # preemption is charged by the simulator, and not planned for
    return Tiresias(shape)
