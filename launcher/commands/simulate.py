"""``efctl simulate``."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path

from eflib.errors import UsageError
from eflib.launcher import tables, values
from eflib.profiles import curves
from eflib.scheduling import SchedulerSettings
from eflib.simulator.policies import ClusterShape
from eflib.simulator.simulator import simulate
from eflib.simulator.trace import check_curves, read_trace

MAX_NODES = 16_384


def command(  # noqa: PLR0913 - each is an option
    *,
    trace: str | None = None,
    nodes: str | None = None,
    gpus_per_node: str | None = None,
    profiles: str | None = None,
    policy: str | None = None,
    rescale_cost: str | None = None,
    out: str | None = None,
    json: bool = False,
) -> None:
    """Replay a trace of jobs under a policy, and print the outcome.

    Args:
        trace: CSV file of jobs; efctl trace makes one.
        nodes: Nodes of the cluster.
        gpus_per_node: GPUs of each node; 8 by default.
        profiles: Scaling curves: a device that ships (a100, t4) or a folder; a100 by default.
        policy: elasticflow by default; another one of eflib.simulator.policies, or package.module.
        rescale_cost: Seconds without progress after each change of a job's GPUs; 0 by default.
        out: Folder for jobs.csv, schedule.csv and summary.json; efctl plot draws them.
        json: Print the summary as one JSON object.
    """
    if trace is None or nodes is None:
        missing = "--trace FILE" if trace is None else "--nodes N"
        raise UsageError(
            f"efctl simulate needs {missing}", hint="as in: efctl simulate --trace FILE --nodes 4"
        )
    shape = ClusterShape(
        values.number(nodes, "--nodes", most=MAX_NODES) or 1,
        values.number(gpus_per_node, "--gpus-per-node", most=values.MAX_SLOTS) or 8,
    )
    cost = values.real(rescale_cost, "--rescale-cost", default=0.0)
    settings = SchedulerSettings(rescale_cost=cost)
    jobs, known = read_trace(Path(trace)), curves(profiles or "a100")
    check_curves(jobs, known, Path(trace))
    began = time.perf_counter()
    result = simulate(jobs, shape, known, policy or "elasticflow", settings)
    result = result.timed(time.perf_counter() - began, profiles or "a100")
    if out is not None:
        result.write(Path(out))
    summary = asdict(result.summary)
    if json:
        tables.print_json(summary)
    else:
        tables.print_facts(summary, summary)
