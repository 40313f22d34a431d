"""What the policies that decide by counts of GPUs have in common."""

from __future__ import annotations

from collections.abc import Mapping

from eflib.simulator.policies import ClusterShape, Decision, Moment, SimulatedJob
from eflib.simulator.policies.placing import Placer


def decide_counts(
    placer: Placer, counts: Mapping[str, int], moment: Moment, *, wakeup: float | None = None
) -> Decision:
    """Turn the counts that every job should have now into a decision.

    Args:
        placer: Chooses the GPUs.
        counts: GPUs by job_id, most important first; who is not in it waits.
        moment: The instant.
        wakeup: When to be asked again at the latest, in seconds of trace time.
    """
    placed = placer.place(counts, moment.jobs)
    changed = {
        name: placed.get(name, ())
        for name, job in moment.jobs.items()
        if placed.get(name, ()) != job.gpus
    }
    return Decision(changed, wakeup=wakeup)


def requested(job: SimulatedJob, shape: ClusterShape) -> int:
    """Return the GPUs that a job's user asked for, at most those of the cluster.

    A request beyond the cluster would wait for ever; it is cut to the largest power of two there.
    """
    largest = 1 << (shape.num_gpus.bit_length() - 1)
    return min(job.request.num_gpus, largest)


def first_come(job: SimulatedJob) -> tuple[float, int, str]:
    """Return the key of first come, first served."""
    return job.request.submitted_at, job.request.line, job.job_id


def seconds_left(job: SimulatedJob, num_gpus: int) -> float:
    """Return how long a job still runs on a constant number of GPUs, without pauses."""
    return max(job.steps_left, 0.0) / job.curve.throughput(num_gpus)
