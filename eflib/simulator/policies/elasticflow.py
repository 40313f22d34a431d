"""ElasticFlow: admission by minimum satisfactory share, spare GPUs by marginal return.

The very scheduler that a live cluster runs, driven by the simulator.

References:
    Gu et al., "ElasticFlow: An Elastic Serverless Training Platform for Distributed Deep
    Learning", ASPLOS 2023, https://doi.org/10.1145/3575693.3575721
"""

from __future__ import annotations

from dataclasses import replace

from eflib.scheduling import (
    Assigned,
    Event,
    Gpu,
    JobEnded,
    JobRequest,
    JobSubmitted,
    NodeJoined,
    Rejected,
    Scheduler,
    SchedulerSettings,
    TimePassed,
)
from eflib.simulator.policies import ClusterShape, Decision, GpuIds, Moment, Policy

NAME = "elasticflow"
SUMMARY = "deadlines by minimum satisfactory share, spare GPUs by marginal return"


class ElasticFlow:
    """Drives a ``Scheduler`` from the simulator's moments.

    Args:
        shape: The cluster.
        settings: Of the scheduler.
    """

    def __init__(self, shape: ClusterShape, settings: SchedulerSettings) -> None:
        self.scheduler = Scheduler(replace(settings, quotes=False))
        self._ids: dict[Gpu, int] = {}
        self._shape = shape

    def _join(self, now: float) -> None:
        """Tell the scheduler of the nodes, at the first moment."""
        for node in range(self._shape.nodes):
            name = f"{node:06d}"
            self.scheduler.handle(NodeJoined(name, self._shape.gpus_per_node), now)
            for index in range(self._shape.gpus_per_node):
                self._ids[Gpu(name, index)] = node * self._shape.gpus_per_node + index

    def decide(self, moment: Moment) -> Decision:
        """Pass on what happened, and what the scheduler wants."""
        if not self._ids:
            self._join(moment.now)
        events: list[Event] = [JobEnded(job.job_id) for job in moment.ended]
        for job in moment.arrived:
            request = JobRequest(
                job_id=job.job_id,
                curve=job.curve,
                total_steps=job.request.total_steps,
                submitted_at=job.request.submitted_at,
                deadline=job.request.deadline,
            )
            events.append(JobSubmitted(request))
        gpus: dict[str, GpuIds] = {}
        refused = []
        for command in self.scheduler.handle_all(events or [TimePassed()], moment.now):
            if isinstance(command, Assigned):
                gpus[command.job_id] = tuple(self._ids[gpu] for gpu in command.gpus)
            elif isinstance(command, Rejected):
                refused.append(command.job_id)
        wakeup = self.scheduler.next_wakeup(moment.now)
        return Decision(gpus, tuple(refused), wakeup)


def make(shape: ClusterShape, settings: SchedulerSettings) -> Policy:
    """Return the policy; see ``eflib.simulator.policies``."""
    return ElasticFlow(shape, settings)
