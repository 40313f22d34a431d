import json

import pytest

from eflib.errors import UsageError
from eflib.profiles import curves
from eflib.simulator.efficiency import accumulate_changes, cluster_efficiency, used_gpus
from eflib.simulator.results import Holding, load
from tests.unit.simulator.runs import write_run

JOBS = """job_id,admitted,finish_time,met,submission_time,best_effort,model_name,batch_size
a,1,300,1,100,0,resnet50,256
b,1,400,0,100,0,bert,64
c,0,,0,120,0,bert,64
d,1,500,0,150,1,bert,64
"""
SCHEDULE = """time,job_id,gpus
100,a,0-3
100,b,4
200,a,0-1;6-7
300,a,
400,b,
450,d,0
450,d,1
500,d,
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "jobs.csv").write_text(JOBS, encoding="utf-8")
    (tmp_path / "schedule.csv").write_text(SCHEDULE, encoding="utf-8")
    summary = {
        "policy": "edf",
        "trace": "x/t.csv",
        "profiles": "a100",
        "nodes": 2,
        "gpus_per_node": 4,
    }
    (tmp_path / "summary.json").write_text(json.dumps(summary), encoding="utf-8")
    return tmp_path


def test_a_run_is_read_whole(folder):
    run = load(folder)

    assert (run.policy, run.trace, run.num_gpus, run.gpus_per_node) == ("edf", "t", 8, 4)
    assert (run.start, run.end) == (100.0, 500.0)
    assert run.holdings == (
        Holding("a", 100.0, 200.0, ((0, 4),)),
        Holding("b", 100.0, 400.0, ((4, 1),)),
        Holding("a", 200.0, 300.0, ((0, 2), (6, 2))),
        Holding("d", 450.0, 500.0, ((1, 1),)),
    )


def test_satisfaction_counts_refused_jobs_and_leaves_out_best_effort_ones(folder):
    run = load(folder)

    assert run.satisfaction == pytest.approx(1 / 3)
    assert run.best_effort_share == 0.25
    assert run.best_effort_completion_time == 350.0


def test_gpus_in_use_follow_the_schedule(folder):
    assert used_gpus(load(folder)) == ((100, 5), (200, 5), (300, 1), (400, 0), (450, 1), (500, 0))


def test_cluster_efficiency_is_the_sum_of_speed_ups_over_all_gpus(folder):
    resnet = curves("a100")["resnet50", 256].points
    steps = dict(cluster_efficiency(load(folder), curves("a100")))

    assert steps[100] == pytest.approx((resnet[4] / resnet[1] + 1) / 8)
    assert steps[300] == pytest.approx(1 / 8)
    assert steps[500] == pytest.approx(0)


def test_a_missing_curve_is_named(folder):
    with pytest.raises(
        UsageError, match="no scaling curve for 'resnet50' with a global batch size"
    ):
        cluster_efficiency(load(folder), {})


def test_changes_at_one_time_are_one_step():
    assert accumulate_changes([(2, -1), (1, 2), (2, 3)]) == ((1, 2), (2, 4))


@pytest.mark.parametrize("name", ["jobs.csv", "schedule.csv", "summary.json"])
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()

    with pytest.raises(UsageError, match=f"cannot read the file of a simulated run .*{name}"):
        load(folder)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("jobs.csv", "job_id,admitted\na,1\n", "jobs.csv:2: not a row of jobs.csv"),
        ("jobs.csv", JOBS.replace("300", "soon"), "jobs.csv:2: not a row of jobs.csv"),
        ("schedule.csv", SCHEDULE.replace("6-7", "six"), "schedule.csv:4: not a row of"),
        ("schedule.csv", "time\n1\n", "schedule.csv:2: not a row of schedule.csv: 'job_id'"),
        ("summary.json", "{", "summary.json:1: not JSON"),
        ("summary.json", "[]", "summary.json is not a summary: expected an object"),
        ("summary.json", "{}", "summary.json is not a summary: 'policy'"),
    ],
)
def test_a_file_of_another_form_is_refused(folder, name, text, message):
    (folder / name).write_text(text, encoding="utf-8")

    with pytest.raises(UsageError, match=message):
        load(folder)


def test_runs_made_for_these_tests_use_no_gpu_twice(tmp_path):
    run = load(write_run(tmp_path / "run", nodes=1))
    changes = sorted(
        change
        for holding in run.holdings
        for low, count in holding.ranges
        for gpu in range(low, low + count)
        for change in ((holding.start, 1, gpu), (holding.end, -1, gpu))
    )
    held = set()
    for _, sign, gpu in changes:
        assert (gpu in held) == (sign < 0)
        held ^= {gpu}
