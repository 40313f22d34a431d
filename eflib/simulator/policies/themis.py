"""Themis: finish-time fairness by leases; sizes as their users asked.

A job's finish-time fairness is the time it takes in the shared cluster, from submission to its
projected end, over the time it would take with an equal share of the cluster to itself. GPUs whose
lease has run out are offered to the jobs that are worst off by it; a job within its lease is left
alone.

Departures from the paper: its auction among applications is replaced by what it decides when all
bid truthfully and for whole requests only, the worst off first; its filter (the worst 20 % bid
first) falls away with that. Departures from the artifact: that solves for time shares by convex
optimisation and then runs jobs by share over rounds received, but never counts a round, so that the
largest share always goes first.

References:
    Mahajan et al., "Themis: Fair and Efficient GPU Cluster Scheduling", NSDI 2020, sections 4, 5.
"""

from __future__ import annotations

import math

from eflib.scheduling.settings import SchedulerSettings
from eflib.simulator.policies import ClusterShape, Decision, Moment, Policy, SimulatedJob
from eflib.simulator.policies._counts import decide_counts, first_come, requested, seconds_left
from eflib.simulator.policies.placing import Placer

NAME = "themis"
SUMMARY = "GPUs on lease to whom sharing hurts most; sizes as asked for"
LEASE = 1200.0  # seconds; the paper's sensitivity analysis finds 20 minutes best


class Themis:
    """Leases GPUs by finish-time fairness.

    Args:
        shape: The cluster.
        lease: How long a job keeps GPUs once it has them, in seconds.
    """

    def __init__(self, shape: ClusterShape, lease: float = LEASE) -> None:
        self._shape = shape
        self._placer = Placer(shape)
        self._lease = lease
        self._until: dict[str, float] = {}  # end of each running job's lease

    def decide(self, moment: Moment) -> Decision:
        """Renew or hand on what is not under lease, the worst off first."""
        now = moment.now
        self._until = {n: t for n, t in self._until.items() if n in moment.jobs and t > now}
        counts = {name: len(moment.jobs[name].gpus) for name in self._until}
        free = self._shape.num_gpus - sum(counts.values())
        others = [job for name, job in moment.jobs.items() if name not in counts]
        worst = sorted(others, key=lambda job: (-self._unfairness(job, moment), first_come(job)))
        waiting = False
        for job in worst:
            count = requested(job, self._shape)
            if count <= free:
                counts[job.job_id] = count
                free -= count
                self._until[job.job_id] = now + self._lease
            else:
                waiting = True
        wakeup = min(self._until.values(), default=math.inf) if waiting else math.inf
        return decide_counts(
            self._placer, counts, moment, wakeup=None if wakeup == math.inf else wakeup
        )

    def _unfairness(self, job: SimulatedJob, moment: Moment) -> float:
        """Return the time in the shared cluster, if it ran from now on, over that alone."""
        count = requested(job, self._shape)
        share = self._shape.num_gpus / len(moment.jobs)
        alone = job.request.total_steps / job.curve.throughput(count) * max(1.0, count / share)
        return (moment.now - job.request.submitted_at + seconds_left(job, count)) / alone


def make(shape: ClusterShape, settings: SchedulerSettings) -> Policy:
    """Return the policy; see ``eflib.simulator.policies``."""
    del settings  # a lease is long against a pause
    return Themis(shape)
