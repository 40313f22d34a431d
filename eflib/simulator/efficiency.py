"""How well a run used its cluster, over time."""

from collections.abc import Iterable, Mapping

from eflib.errors import UsageError
from eflib.scheduling.scaling import ScalingCurve
from eflib.simulator.results import RunResult

Steps = tuple[tuple[float, float], ...]  # (time in seconds, value from then on)


def accumulate_changes(changes: Iterable[tuple[float, float]]) -> Steps:
    """Sum (time, change) pairs up to a step function; changes at one time are one step."""
    totals: dict[float, float] = {}
    level = 0.0
    for time, change in sorted(changes):
        level += change
        totals[time] = level
    return tuple(totals.items())


def used_gpus(run: RunResult) -> Steps:
    """Return how many GPUs were held, over time."""
    return accumulate_changes(
        change
        for holding in run.holdings
        for change in ((holding.start, holding.num_gpus), (holding.end, -holding.num_gpus))
    )


def cluster_efficiency(run: RunResult, curves: Mapping[tuple[str, int], ScalingCurve]) -> Steps:
    r"""Return the cluster efficiency over time: speed-ups of all running jobs over all GPUs.

    At each moment it is :math:`\frac{1}{M} \sum_i T_i(g_i) / T_i(1)` for jobs that hold
    :math:`g_i` of :math:`M` GPUs: 1 if every GPU does as much as a job's only one. Pauses for
    rescales are not taken off.

    Args:
        run: The run.
        curves: Scaling curves by (model, global batch size).

    Raises:
        UsageError: There is no curve for a job.

    References:
        Gu et al., "ElasticFlow", ASPLOS 2023, section 6.1, "cluster efficiency".
    """
    changes = []
    for holding in run.holdings:
        job = run.jobs[holding.job_id]
        curve = curves.get((job.model, job.global_batch_size))
        if curve is None:
            raise UsageError(
                f"no scaling curve for {job.model!r} with a global batch size of "
                f"{job.global_batch_size} in {run.profiles}"
            )
        speed_up = curve.throughput(holding.num_gpus) / curve.throughput(1) / run.num_gpus
        changes += [(holding.start, speed_up), (holding.end, -speed_up)]
    return accumulate_changes(changes)
