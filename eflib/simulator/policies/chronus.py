"""Chronus: deadlines by admission and leases, chosen by a mixed-integer program; fixed sizes.

A newcomer with a deadline is accepted if, for all accepted jobs at once, there is GPU time enough
before each deadline. The program that says so has a yes or no for each newcomer, and for each job
the time it runs in each stretch between two deadlines; it accepts as many newcomers as it can
without giving up one that was accepted before. GPUs are handed out in leases: first to accepted
jobs that cannot wait any longer, then to accepted jobs in order of deadline, then to the others in
order of arrival. A job that was not accepted runs without a guarantee, and so do best-effort jobs.
Sizes are as their users asked.

Departures from the paper: there is one class of deadlines, the strict one, so that rewards fall
away; time within a stretch is not cut into whole leases, which leaves the program its few yes or
no variables; and jobs are placed in aligned blocks, not by local search. Departure from the
artifact: that uses a commercial solver; this HiGHS, through scipy.

References:
    Gao et al., "Chronus: A Novel Deadline-aware Scheduler for Deep Learning Training Jobs",
    SoCC 2021, sections 3 and 4, https://doi.org/10.1145/3472883.3486978
    Huangfu and Hall, "Parallelizing the dual revised simplex method", Mathematical Programming
    Computation 10, 2018 (HiGHS).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from eflib.scheduling.settings import SchedulerSettings
from eflib.simulator.policies import ClusterShape, Decision, Moment, Policy, SimulatedJob
from eflib.simulator.policies._counts import decide_counts, first_come, requested, seconds_left
from eflib.simulator.policies._selection import Claim, select
from eflib.simulator.policies.edf import by_deadline
from eflib.simulator.policies.placing import Placer

NAME = "chronus"
SUMMARY = "deadlines by a mixed-integer program, GPUs on lease; sizes as asked for"
LEASE = 240.0  # seconds; the artifact's scripts hand out GPUs as often


class Chronus:
    """Accepts deadlines by a program, and leases GPUs to keep them.

    Args:
        shape: The cluster.
        rescale_cost: Pause after a change of GPUs, in seconds.
        lease: How long GPUs are handed out for, in seconds.
    """

    def __init__(self, shape: ClusterShape, rescale_cost: float, lease: float = LEASE) -> None:
        self._shape = shape
        self._placer = Placer(shape)
        self._rescale_cost = rescale_cost
        self._lease = lease
        self._lease_ends = -math.inf
        self._accepted: set[str] = set()

    def decide(self, moment: Moment) -> Decision:
        """Accept newcomers; hand out the GPUs that are under no lease."""
        self._accepted &= set(moment.jobs)
        newcomers = [job for job in moment.arrived if job.request.deadline is not None]
        if newcomers:
            self._accept(newcomers, moment)
        if moment.now >= self._lease_ends:
            self._lease_ends = moment.now + self._lease
            counts = {}
        else:
            counts = {name: len(job.gpus) for name, job in moment.jobs.items() if job.gpus}
        free = self._shape.num_gpus - sum(counts.values())
        is_short = False
        for job in sorted(moment.jobs.values(), key=lambda job: self._rank(job, moment.now)):
            count = requested(job, self._shape)
            if job.job_id in counts:
                continue
            if count > free:
                is_short = True
                continue
            counts[job.job_id] = count
            free -= count
        wakeup = self._lease_ends if is_short else None
        return decide_counts(self._placer, counts, moment, wakeup=wakeup)

    def _accept(self, newcomers: Sequence[SimulatedJob], moment: Moment) -> None:
        """Solve the program, and remember who is accepted."""
        old = [moment.jobs[name] for name in sorted(self._accepted)]
        claims = [self._claim(job, moment.now, is_old=True) for job in old]
        claims += [self._claim(job, moment.now, is_old=False) for job in newcomers]
        chosen = select(claims, self._shape.num_gpus)
        for job, is_chosen in zip(newcomers, chosen[len(old) :], strict=True):
            if is_chosen:
                self._accepted.add(job.job_id)

    def _claim(self, job: SimulatedJob, now: float, *, is_old: bool) -> Claim:
        """Return what a job wants of the future."""
        deadline = job.request.deadline
        count = requested(job, self._shape)
        pause = max(0.0, job.ready_at - now) if job.gpus else self._rescale_cost
        return Claim(
            seconds=seconds_left(job, count) + pause,
            num_gpus=count,
            within=(math.inf if deadline is None else deadline) - now,
            is_old=is_old,
        )

    def _rank(self, job: SimulatedJob, now: float) -> tuple[int, tuple[float, ...]]:
        """Return the place in the queue: cannot wait, accepted, the rest."""
        submitted_at, line, _ = first_come(job)
        if job.job_id not in self._accepted:
            return 2, (submitted_at, line)
        claim = self._claim(job, now, is_old=True)
        deadline = by_deadline(job)[0]
        can_wait = claim.within - claim.seconds >= self._lease + self._rescale_cost
        return int(can_wait), (deadline, submitted_at, line)


def make(shape: ClusterShape, settings: SchedulerSettings) -> Policy:
    """Return the policy; see ``eflib.simulator.policies``."""
    return Chronus(shape, settings.rescale_cost)
