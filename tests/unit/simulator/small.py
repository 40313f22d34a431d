"""Traces of a few jobs on a small cluster, and how to run a policy on them."""

from dataclasses import replace

from eflib.scheduling import ScalingCurve
from eflib.scheduling.settings import SchedulerSettings
from eflib.simulator.policies import ClusterShape
from eflib.simulator.simulator import simulate
from eflib.simulator.trace import Trace, TraceJob

# A step takes a second on one GPU; "good" scales perfectly, "peak" is fastest on two.
CURVES = {
    ("good", 64): ScalingCurve({1: 1.0, 2: 2.0, 4: 4.0, 8: 8.0}),
    ("peak", 64): ScalingCurve({1: 1.0, 2: 1.5, 4: 1.2, 8: 1.0}),
}


def a_job(name, at=0.0, steps=100.0, deadline=None, gpus=1, model="good"):
    """A job whose user asked for ``gpus`` GPUs; ``deadline`` is absolute, None is best effort."""
    rate = CURVES[model, 64].throughput(gpus)
    return TraceJob(name, at, steps, model, 64, deadline, num_gpus=gpus, duration=steps / rate)


def run(policy, *jobs, nodes=1, gpus_per_node=4, rescale_cost=0.0):
    """Simulate and return the result; ``policy`` is a name, or made from a shape."""
    shape = ClusterShape(nodes, gpus_per_node)
    settings = SchedulerSettings(rescale_cost=rescale_cost)
    made = policy if isinstance(policy, str) else policy(shape)
    numbered = [replace(job, line=line) for line, job in enumerate(jobs, start=2)]
    ordered = tuple(sorted(numbered, key=lambda job: job.submitted_at))
    return simulate(Trace(ordered), shape, CURVES, made, settings)


def ends(result):
    """Finish times in seconds by job, rounded to a hundredth."""
    return {o.request.job_id: round(o.finished_at, 2) for o in result.outcomes}


def counts_of(result, job_id):
    """The GPU counts that a job went through, zeros included."""
    return [len(change.gpus) for change in result.changes if change.job_id == job_id]
