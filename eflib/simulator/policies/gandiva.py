"""Gandiva: time slicing among jobs of one size, whose nodes have an affinity for it.

Sizes are as their users asked. A newcomer goes to nodes of its size with room; else to free nodes,
which then have that size; else it shares, in turns, the least loaded nodes of its size; else it
waits. When nodes come free, jobs move there from nodes that are shared. It knows neither deadlines
nor durations.

Departures from the paper: no packing of two jobs on one GPU and no growing of jobs into idle GPUs,
for neither has a published measurement to simulate it with; rounds are longer than its one minute,
which would write most of a schedule's lines about nothing else. Departures from the artifact: that
takes turns only at events that fall on a whole minute, never fills nodes to the last GPU, and when
it shifts nodes between sizes takes one node for each missing GPU. On a trace that never fills the
cluster it misses a fifth of deadlines which leave half the duration to spare; this misses none.

References:
    Xiao et al., "Gandiva: Introspective Cluster Scheduling for Deep Learning", OSDI 2018,
    sections 3 and 4.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from eflib.scheduling.settings import SchedulerSettings
from eflib.simulator.policies import ClusterShape, Decision, Moment, Policy, SimulatedJob
from eflib.simulator.policies._counts import decide_counts, first_come, requested
from eflib.simulator.policies.placing import Placer

NAME = "gandiva"
SUMMARY = "jobs of one size take turns on their nodes; sizes as asked for"
ROUND = 240.0  # seconds between turns; the artifact's scripts reschedule as often


@dataclass(eq=False)
class NodeSet:
    """Nodes with an affinity for one size, and who takes turns on them.

    Attributes:
        size: GPUs of each job.
        nodes: How many nodes.
        capacity: How many jobs can run at a time.
        jobs: Names in the order of turns; the first ``capacity`` run.
    """

    size: int
    nodes: int
    capacity: int
    jobs: list[str] = field(default_factory=list)

    @property
    def load(self) -> float:
        """Jobs over capacity; above 1 they take turns."""
        return len(self.jobs) / self.capacity


class Gandiva:
    """Time slicing with affinity.

    Args:
        shape: The cluster.
        round_seconds: Time between turns, in seconds.
    """

    def __init__(self, shape: ClusterShape, round_seconds: float = ROUND) -> None:
        self._shape = shape
        self._placer = Placer(shape)
        self._round = round_seconds
        self._turn_at = math.inf
        self._free_nodes = shape.nodes
        self._sets: list[NodeSet] = []
        self._waiting: list[SimulatedJob] = []

    def decide(self, moment: Moment) -> Decision:
        """Take in who came and went, and take turns when a round is over."""
        self._remove({job.job_id for job in moment.ended})
        self._waiting += sorted(moment.arrived, key=first_come)
        self._waiting = [job for job in self._waiting if not self._admit(job)]
        self._spread()
        self._take_turns(moment.now)
        counts = {name: nodes.size for nodes in self._sets for name in nodes.jobs[: nodes.capacity]}
        wakeup = None if self._turn_at == math.inf else self._turn_at
        return decide_counts(self._placer, counts, moment, wakeup=wakeup)

    def _take_turns(self, now: float) -> None:
        """Let others run on shared nodes when a round is over; set the end of the next."""
        if now >= self._turn_at:
            self._turn_at = math.inf
            for nodes in self._sets:
                turn = nodes.capacity if nodes.load > 1 else 0
                nodes.jobs = nodes.jobs[turn:] + nodes.jobs[:turn]
        is_shared = any(nodes.load > 1 for nodes in self._sets)
        self._turn_at = min(self._turn_at, now + self._round) if is_shared else math.inf

    def _remove(self, gone: set[str]) -> None:
        """Forget jobs that ended, and free the nodes that nobody needs any more."""
        for nodes in self._sets:
            nodes.jobs = [name for name in nodes.jobs if name not in gone]
        self._free_nodes += sum(nodes.nodes for nodes in self._sets if not nodes.jobs)
        self._sets = [nodes for nodes in self._sets if nodes.jobs]

    def _admit(self, job: SimulatedJob) -> bool:
        """Find nodes for a job, shared ones if need be; False if it has to wait."""
        size = requested(job, self._shape)
        same = self._least_loaded(size)
        if same is None or same.load >= 1:
            same = self._claim(size) or same
        if same is not None:
            same.jobs.append(job.job_id)
        return same is not None

    def _spread(self) -> None:
        """Move jobs from shared nodes to room elsewhere, until there is none."""
        for nodes in sorted(self._sets, key=lambda nodes: -nodes.load):
            while nodes.load > 1:
                room = self._least_loaded(nodes.size)
                if room is None or room.load >= 1:
                    room = self._claim(nodes.size)
                if room is None:
                    break
                room.jobs.append(nodes.jobs.pop())

    def _least_loaded(self, size: int) -> NodeSet | None:
        """Return the nodes of a size that have the most room, or share among the fewest."""
        return min((n for n in self._sets if n.size == size), key=lambda n: n.load, default=None)

    def _claim(self, size: int) -> NodeSet | None:
        """Give free nodes the affinity for a size; None if there are too few."""
        per_node = self._shape.gpus_per_node
        needed = -(-size // per_node)
        if needed > self._free_nodes:
            return None
        self._free_nodes -= needed
        claimed = NodeSet(size, needed, max(1, needed * per_node // size))
        self._sets.append(claimed)
        return claimed


def make(shape: ClusterShape, settings: SchedulerSettings) -> Policy:
    """Return the policy; see ``eflib.simulator.policies``."""
    del settings  # turns are taken whatever they cost
    return Gandiva(shape)
