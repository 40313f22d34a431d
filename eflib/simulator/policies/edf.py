"""Earliest deadline first: each job takes as many GPUs as make it faster, in order of deadline.

The job with the next deadline gets the count at which its throughput peaks, or the best that is
free; then the next. Nobody is refused, and a job that is late already keeps its place in the order,
so one hopeless job can cost many others their deadlines. Best-effort jobs come last.

Departure from the artifact: that gives each job the *largest measured* count, up to 64, although
many curves fall again before it. The paper has jobs scale out only while throughput grows, and so
has this. ``widest=True`` does as the artifact does and meets what it meets; the difference between
the two is that fault's price.

References:
    Liu and Layland, "Scheduling Algorithms for Multiprogramming in a Hard-Real-Time Environment",
    Journal of the ACM 20(1), 1973, https://doi.org/10.1145/321738.321743
    Gu et al., "ElasticFlow", ASPLOS 2023, section 6.1, baseline "EDF".
"""

from __future__ import annotations

import math

from eflib.scheduling.settings import SchedulerSettings
from eflib.simulator.policies import ClusterShape, Decision, Moment, Policy, SimulatedJob
from eflib.simulator.policies._counts import decide_counts, first_come
from eflib.simulator.policies.placing import Placer

NAME = "edf"
SUMMARY = "earliest deadline first, each job as wide as it gets faster"
LARGEST = 64  # of the counts in the published tables


class Edf:
    """Gives GPUs in order of deadline.

    Args:
        shape: The cluster.
        widest: Give the largest measured count in place of the fastest, as the artifact does.
    """

    def __init__(self, shape: ClusterShape, *, widest: bool = False) -> None:
        self._shape = shape
        self._placer = Placer(shape)
        self._widest = widest

    def decide(self, moment: Moment) -> Decision:
        """Fill the cluster from the next deadline on."""
        free = self._shape.num_gpus
        counts: dict[str, int] = {}
        for job in sorted(moment.jobs.values(), key=by_deadline):
            count = self._count(job, free)
            if count:
                counts[job.job_id] = count
                free -= count
        return decide_counts(self._placer, counts, moment)

    def _count(self, job: SimulatedJob, free: int) -> int:
        """Return what a job takes of the free GPUs."""
        if free < 1:
            return 0
        if self._widest:
            bound = min(free, LARGEST, job.request.global_batch_size)
            return max((count for count in job.curve.counts if count <= bound), default=0)
        return max((count for count, _ in job.curve.usable(free)), default=0)


def by_deadline(job: SimulatedJob) -> tuple[float, float, int, str]:
    """Return the key of earliest deadline first; best-effort jobs come last."""
    deadline = job.request.deadline
    return (math.inf if deadline is None else deadline, *first_come(job))


def make(shape: ClusterShape, settings: SchedulerSettings) -> Policy:
    """Return the policy; see ``eflib.simulator.policies``."""
    del settings  # the plan of EDF is the next instant only
    return Edf(shape)
