"""What holds for every policy, and what each reaches on published traces."""

from itertools import pairwise

import pytest

from eflib.profiles import curves
from eflib.scheduling.settings import SchedulerSettings
from eflib.simulator.generate import Draws, generate, write
from eflib.simulator.policies import ClusterShape, maker, names
from eflib.simulator.policies.edf import Edf
from eflib.simulator.simulator import simulate
from eflib.simulator.trace import read_trace
from tests.unit.shared_data import shared_data

BASELINES = ["chronus", "edf", "gandiva", "pollux", "themis", "tiresias"]
A100 = curves("a100")


@pytest.fixture(scope="module")
def trace(tmp_path_factory):
    jobs = generate(A100, num_jobs=60, mean_gap=300.0, draws=Draws(seed=1, best_effort_share=0.2))
    return read_trace(write(jobs, tmp_path_factory.mktemp("trace") / "trace.csv"))


def test_every_baseline_is_there():
    assert set(BASELINES) <= set(names())


@pytest.mark.parametrize("cost", [0.0, 30.0])
@pytest.mark.parametrize("policy", BASELINES)
def test_every_job_ends_and_no_gpu_is_given_twice(trace, policy, cost):
    result = simulate(trace, ClusterShape(2, 8), A100, policy, SchedulerSettings(rescale_cost=cost))

    assert all(outcome.finished_at is not None for outcome in result.outcomes)
    held = {}
    for before, change in pairwise([None, *result.changes]):
        held[change.job_id] = change.gpus
        if before is None or before.time < change.time:
            assert all(len(gpus) == len(set(gpus)) for gpus in held.values())
    assert not any(held.values())


@pytest.mark.parametrize("policy", BASELINES)
def test_the_same_trace_gives_the_same_schedule(trace, policy):
    shape, settings = ClusterShape(2, 8), SchedulerSettings(rescale_cost=10.0)

    first = simulate(trace, shape, A100, policy, settings)

    assert simulate(trace, shape, A100, policy, settings).changes == first.changes


@pytest.mark.parametrize("policy", ["chronus", "gandiva", "themis", "tiresias"])
def test_server_centric_policies_give_what_was_asked_for_or_nothing(trace, policy):
    asked = {job.job_id: job.num_gpus for job in trace.jobs}
    result = simulate(trace, ClusterShape(2, 8), A100, policy)

    assert {len(c.gpus) for c in result.changes} > {0, 1}
    assert all(len(c.gpus) in {0, asked[c.job_id]} for c in result.changes)


@pytest.mark.parametrize("policy", BASELINES)
def test_a_request_beyond_the_cluster_is_cut_to_it(policy, tmp_path):
    text = (
        "job_id,submission_time,num_iteration,model_name,deadline,batch_size,num_gpu,duration\n"
        "a,0,1000,resnet50,9000,256,64,60\n"
    )
    (tmp_path / "trace.csv").write_text(text, encoding="utf-8")
    result = simulate(read_trace(tmp_path / "trace.csv"), ClusterShape(1, 8), A100, policy)

    assert max(len(change.gpus) for change in result.changes) == 8


# Jobs in time on published traces, without rescale cost: what the artifact's simulator reached
# (it charges 2 to 20 s per event), and how far off we may be.
PUBLISHED = [
    ("tiresias", "195job", (16, 8), "a100", 90, 8),
    ("tiresias", "elasticVpollux_e", (16, 4), "t4", 56, 8),
    ("tiresias", "100jobs_1500lam", (16, 8), "a100", 100, 0),
    ("tiresias", "200jobs_900lam_0.1", (8, 8), "a100", 82, 8),
    ("tiresias", "cluster10", (32, 8), "a100", 124, 2),
    ("themis", "195job", (16, 8), "a100", 80, 16),
    ("themis", "100jobs_1500lam", (16, 8), "a100", 99, 1),
    ("themis", "200jobs_900lam_0.5", (8, 8), "a100", 41, 8),
    ("edf as the artifact", "195job", (16, 8), "a100", 17, 3),
    ("edf as the artifact", "elasticVpollux_e", (16, 4), "t4", 23, 3),
    ("edf as the artifact", "100jobs_1500lam", (16, 8), "a100", 92, 2),
    ("edf as the artifact", "200jobs_900lam_0.1", (8, 8), "a100", 11, 2),
    ("edf as the artifact", "cluster10", (32, 8), "a100", 202, 2),
]


@pytest.mark.parametrize(("policy", "name", "shape", "device", "published", "distance"), PUBLISHED)
def test_what_was_published_is_within_reach(policy, name, shape, device, published, distance):
    file = shared_data("traces") / f"{name}.csv"
    cluster = ClusterShape(*shape)
    made = Edf(cluster, widest=True) if policy.startswith("edf") else policy

    result = simulate(read_trace(file), cluster, curves(device), made)

    assert abs(result.summary.met - published) <= distance


def test_best_effort_jobs_under_tiresias_take_as_long_as_published():
    file = shared_data("traces") / "200jobs_900lam_0.5.csv"

    summary = simulate(read_trace(file), ClusterShape(8, 8), A100, "tiresias").summary

    assert summary.best_effort_completion_s == pytest.approx(35_310, rel=0.02)


def test_a_baseline_says_which_paper_it_is_from():
    for policy in BASELINES:
        text = maker(policy).__globals__["__doc__"]
        assert "References:" in text
        assert "Departure" in text
