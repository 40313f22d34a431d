"""Pollux: GPUs to whom they speed up most, in a weighted mean over all jobs; elastic, no deadlines.

Each job's speed-up is its goodput over that with a fair share of the cluster. The allocation goes
for the best power mean with p = -1 (the harmonic mean) of all speed-ups, weighted by how little GPU
time a job has had, with the price of restarts taken off. It is computed anew every round.

Departures from the paper: the batch size is the job's own and stays (a deadline is given for a
number of steps of that batch), so statistical efficiency is 1 and goodput is throughput, which is
known here and not fitted. The allocation is grown from nothing by the best doubling per GPU, in
place of a genetic search. Rounds without arrivals or ends are ten minutes apart, not one, since
nothing but weights changes in them.

References:
    Qiao et al., "Pollux: Co-adaptive Cluster Scheduling for Goodput-Optimized Deep Learning",
    OSDI 2021, sections 4.2 (fitness, weights, restart penalty) and 5.1 (settings).
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass

from eflib.scheduling.settings import SchedulerSettings
from eflib.simulator.policies import ClusterShape, Decision, Moment, Policy, SimulatedJob
from eflib.simulator.policies._counts import decide_counts, first_come
from eflib.simulator.policies.placing import Placer

NAME = "pollux"
SUMMARY = "elastic, for the best weighted mean speed-up; no deadlines"
WEIGHT_DECAY = 0.5  # the paper's lambda: how fast attained GPU time lowers a job's weight
WEIGHT_GPU_SECONDS = 4 * 3600.0  # GPU time up to which a job has full weight: the paper's 4 hours
ROUND = 60.0  # seconds at the least between two allocations: the paper's interval
QUIET_ROUND = 600.0  # seconds between two allocations while nobody comes or goes
NOTHING = 1e9  # stands for the infinite loss of a job without GPUs


@dataclass(frozen=True, order=True)
class Offer:
    """A job's next larger count; the least offer is the best.

    Attributes:
        cost: Minus the loss that it takes away, per GPU added.
        order: The job's place in order of arrival, for ties.
        count: The larger count.
    """

    cost: float
    order: int
    count: int


class Pollux:
    """Goes for the best weighted harmonic mean of speed-ups.

    Args:
        shape: The cluster.
        rescale_cost: Pause after a change of GPUs, in seconds.
    """

    def __init__(self, shape: ClusterShape, rescale_cost: float) -> None:
        self._shape = shape
        self._placer = Placer(shape)
        self._rescale_cost = rescale_cost
        self._allocated_at = -ROUND

    def decide(self, moment: Moment) -> Decision:
        """Allocate anew if the last round is over; a newcomer waits for that."""
        now = moment.now
        if now < self._allocated_at + ROUND:
            return Decision(wakeup=self._allocated_at + ROUND)
        self._allocated_at = now
        counts = self._allocation(sorted(moment.jobs.values(), key=first_come), now)
        wakeup = now + QUIET_ROUND if moment.jobs else None
        return decide_counts(self._placer, counts, moment, wakeup=wakeup)

    def _allocation(self, jobs: list[SimulatedJob], now: float) -> dict[str, int]:
        """Return counts by job_id: the best offer, again and again, until no other fits."""
        free = self._shape.num_gpus
        share = max(1, free // max(1, len(jobs)))
        held = [0] * len(jobs)
        offers = [self._offer(job, order, 0, (now, share)) for order, job in enumerate(jobs)]
        queue = [offer for offer in offers if offer is not None]
        heapq.heapify(queue)
        while queue and free:
            offer = heapq.heappop(queue)
            if offer.count - held[offer.order] > free:
                continue
            free -= offer.count - held[offer.order]
            held[offer.order] = offer.count
            following = self._offer(jobs[offer.order], offer.order, offer.count, (now, share))
            if following is not None:
                heapq.heappush(queue, following)
        return {job.job_id: count for job, count in zip(jobs, held, strict=True) if count}

    def _offer(
        self, job: SimulatedJob, order: int, held: int, moment: tuple[float, int]
    ) -> Offer | None:
        """Return what the next larger count would bring, at a time and with a fair share."""
        counts = [count for count, _ in job.curve.usable(self._shape.num_gpus) if count > held]
        if not counts:
            return None
        now, share = moment
        weight = min(1.0, (WEIGHT_GPU_SECONDS / max(job.gpu_seconds, 1.0)) ** WEIGHT_DECAY)
        fair = job.curve.throughput(share)
        before = fair / self._goodput(job, held, now) if held else NOTHING
        after = fair / self._goodput(job, counts[0], now)
        return Offer(-weight * (before - after) / (counts[0] - held), order, counts[0])

    def _goodput(self, job: SimulatedJob, count: int, now: float) -> float:
        """Return throughput at a count, less the share of its age that a job's restarts cost."""
        rate = job.curve.throughput(count)
        if count == len(job.gpus) or not self._rescale_cost:
            return rate
        age = now - job.request.submitted_at
        worked = (age - job.changes * self._rescale_cost) / (age + self._rescale_cost)
        return rate * max(worked, 1 / NOTHING)


def make(shape: ClusterShape, settings: SchedulerSettings) -> Policy:
    """Return the policy; see ``eflib.simulator.policies``."""
    return Pollux(shape, settings.rescale_cost)
