"""Laws of whole simulations: what is admitted is in time, and no GPU is held twice."""

import csv
import math
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eflib.scheduling import ScalingCurve, SchedulerSettings
from eflib.simulator import ClusterShape, Trace, TraceJob, simulate
from tests.properties.worlds import Wish, wishes

SHAPES = [(1, 4), (2, 8), (1, 3), (5, 2), (3, 8), (10, 1)]


def world(drawn: list[Wish]) -> tuple[Trace, dict[tuple[str, int], ScalingCurve]]:
    """Make a trace and its curves."""
    now, jobs, known = 1000.0, [], {}
    for number, wish in enumerate(drawn):
        now += wish.gap
        known[f"m{number}", 8] = wish.curve
        deadline = None if wish.tightness is None else now + wish.seconds * wish.tightness
        jobs.append(TraceJob(f"j{number}", now, wish.steps, f"m{number}", 8, deadline))
    return Trace(tuple(jobs)), known


def held_gpus(result) -> list[tuple[float, float, str, tuple[int, ...]]]:
    """Return every stay on GPUs as (start, end, job_id, ids)."""
    last: dict[str, tuple[float, tuple[int, ...]]] = {}
    stays = []
    for change in result.changes:
        start, gpus = last.get(change.job_id, (change.time, ()))
        if gpus and change.time > start:
            stays.append((start, change.time, change.job_id, gpus))
        last[change.job_id] = (change.time, change.gpus)
    return stays


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    st.lists(wishes(), min_size=1, max_size=12),
    st.sampled_from(SHAPES),
    st.sampled_from([0.0, 5.0, 30.0]),
)
def test_every_admitted_job_is_in_time_on_aligned_blocks_of_its_own(drawn, shape, cost):
    trace, known = world(drawn)
    cluster = ClusterShape(*shape)
    result = simulate(trace, cluster, known, "elasticflow", SchedulerSettings(rescale_cost=cost))
    assert result.summary.late == 0
    assert all(o.finished_at is not None for o in result.outcomes if o.admitted)
    stays = held_gpus(result)
    for start, end, job_id, gpus in stays:
        size = len(gpus)
        assert size & (size - 1) == 0, (job_id, gpus)
        assert gpus[0] % size == 0, (job_id, gpus)
        assert gpus[-1] - gpus[0] == size - 1, (job_id, gpus)
        assert gpus[-1] < cluster.num_gpus
        for other_start, other_end, other, others in stays:
            if other != job_id and other_start < end and start < other_end:
                assert not set(gpus) & set(others), (start, job_id, other)


@settings(max_examples=15, deadline=None, derandomize=True)
@given(st.lists(wishes(), min_size=2, max_size=8), st.sampled_from(SHAPES))
def test_the_same_trace_gives_the_same_schedule(drawn, shape):
    trace, known = world(drawn)
    costs = SchedulerSettings(rescale_cost=10.0)
    runs = [simulate(trace, ClusterShape(*shape), known, "elasticflow", costs) for _ in range(2)]
    assert runs[0].changes == runs[1].changes


@settings(max_examples=25, deadline=None, derandomize=True)
@given(st.lists(wishes(), min_size=2, max_size=8), st.randoms(use_true_random=False))
def test_best_effort_jobs_cost_no_promise(drawn, random):
    trace, known = world(drawn)
    shape = ClusterShape(1, 8)
    extra = [
        TraceJob(f"e{n}", job.submitted_at - 1.0, 5000.0, job.model, 8, None)
        for n, job in enumerate(trace.jobs)
        if random.random() < 0.5
    ]
    together = Trace(tuple(sorted((*trace.jobs, *extra), key=lambda j: (j.submitted_at, j.job_id))))
    result = simulate(together, shape, known, "elasticflow", SchedulerSettings(rescale_cost=5.0))
    assert result.summary.late == 0


def test_what_is_written_passes_the_independent_checker(tmp_path):
    checker = Path(__file__).parents[3] / "shared" / "tools" / "check_schedule.py"
    if not checker.is_file():
        pytest.skip("no check_schedule.py beside the checkout")
    curve = ScalingCurve({1: 1.0, 2: 1.8, 4: 3.0})
    jobs = tuple(
        TraceJob(f"j{n}", 10.0 * n, 100.0, "m", 8, 10.0 * n + 150.0 + 7 * n) for n in range(12)
    )
    shape = ClusterShape(1, 6)
    settings_ = SchedulerSettings(rescale_cost=3.0)
    simulate(Trace(jobs), shape, {("m", 8): curve}, "elasticflow", settings_).write(
        tmp_path / "out"
    )
    with (tmp_path / "trace.csv").open("w", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(["job_id", "submit_time", "iteration", "model_name", "ddl", "batch_size"])
        for job in jobs:
            writer.writerow([job.job_id, job.submitted_at, job.total_steps, "m", job.deadline, 8])
    tables = tmp_path / "tables"
    tables.mkdir()
    (tables / "m.csv").write_text("global_batch_size,1,2,4\n8,1.0,1.8,3.0\n")
    command = [
        sys.executable,
        checker,
        tmp_path / "trace.csv",
        tmp_path / "out",
        "--tables",
        tables,
    ]
    command += ["--nodes", "1", "--gpus-per-node", "6", "--rescale-cost", "3"]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "admitted_missed 0" in done.stdout
    assert math.isfinite(float(done.stdout.split("gpu_hours ")[1].split()[0]))
