import statistics
from collections import Counter
from dataclasses import replace
from itertools import pairwise

import pytest

from eflib.errors import UsageError
from eflib.profiles import curves
from eflib.scheduling.scaling import ScalingCurve
from eflib.simulator.generate import COLUMNS, GPU_REQUESTS, Draws, convert, generate, write

A100 = curves("a100")
TINY = {("net", 8): ScalingCurve({1: 2.0, 2: 3.0}), ("wide", 8): ScalingCurve({1: 1.0, 64: 9.0})}


def test_the_same_seed_gives_the_same_trace():
    first = generate(A100, num_jobs=50, mean_gap=900.0, draws=Draws(seed=7))

    assert first == generate(A100, num_jobs=50, mean_gap=900.0, draws=Draws(seed=7))
    assert first != generate(A100, num_jobs=50, mean_gap=900.0, draws=Draws(seed=8))


def test_a_trace_is_the_same_on_every_machine():
    """The draws are frozen: a figure in a report can be made again from its seed."""
    job = generate(A100, num_jobs=3, mean_gap=1500.0)[2]

    assert (job.submission_time, job.model_name, job.batch_size) == (881, "resnet50", 256)
    assert (job.num_gpu, job.duration, job.deadline, job.num_iteration) == (1, 14478, 11506, 26688)


def test_the_share_of_best_effort_jobs_changes_nothing_else():
    without = generate(A100, num_jobs=200, mean_gap=900.0)
    half = generate(A100, num_jobs=200, mean_gap=900.0, draws=Draws(best_effort_share=0.5))

    assert tuple(replace(job, best_effort=0) for job in half) == without
    assert 80 <= sum(job.best_effort for job in half) <= 120


def test_arrivals_durations_and_requests_follow_the_stated_distributions():
    jobs = generate(A100, num_jobs=4000, mean_gap=1500.0)
    gaps = [b.submission_time - a.submission_time for a, b in pairwise(jobs)]
    requests = Counter(job.num_gpu for job in jobs)

    assert statistics.mean(gaps) == pytest.approx(1500, rel=0.05)
    assert statistics.stdev(gaps) == pytest.approx(1500, rel=0.08)  # as an exponential's
    assert all(600 <= job.duration <= 600_000 for job in jobs)
    assert sum(job.duration < 60 * 10**2.5 for job in jobs) == pytest.approx(3200, rel=0.03)
    for num_gpus, share in GPU_REQUESTS.items():
        assert requests[num_gpus] / 4000 == pytest.approx(share, abs=0.015)


def test_work_is_the_duration_at_the_throughput_of_the_request():
    for job in generate(A100, num_jobs=100, mean_gap=10.0):
        rate = A100[job.model_name, job.batch_size].points[job.num_gpu]
        assert job.num_iteration == round(job.duration * rate)


def test_deadlines_lie_within_the_factors():
    draws = Draws(deadline_factors=(1.25, 1.5))
    for job in generate(A100, num_jobs=100, mean_gap=10.0, draws=draws):
        assert 1.24 < (job.deadline - job.submission_time) / job.duration <= 1.5


def test_models_that_were_not_measured_at_a_request_are_not_drawn():
    jobs = generate(A100, num_jobs=300, mean_gap=10.0)

    assert "resnet50_cifar10" not in {job.model_name for job in jobs}
    assert len({(job.model_name, job.batch_size) for job in jobs}) == 14


def test_jobs_may_all_come_at_once():
    assert {job.submission_time for job in generate(A100, num_jobs=5, mean_gap=0.0)} == {0}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_jobs": 0, "mean_gap": 1.0}, "a trace must have 1 to 1000000 jobs, got 0"),
        ({"num_jobs": 1, "mean_gap": -1.0}, "the mean gap between jobs must be .*, got -1.0"),
        (
            {"num_jobs": 1, "mean_gap": float("nan")},
            "the mean gap between jobs must be .*, got nan",
        ),
    ],
)
def test_a_size_out_of_range_is_refused(arguments, message):
    with pytest.raises(UsageError, match=message):
        generate(A100, **arguments)


def test_no_curves_are_refused():
    with pytest.raises(UsageError, match="no scaling curve to draw a job's model from"):
        generate({}, num_jobs=1, mean_gap=1.0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"best_effort_share": 1.5}, "best-effort share 1.5 is not within 0 and 1"),
        ({"deadline_factors": (1.5, 0.5)}, "deadline factors 1.5 to 0.5 are not a range above 0"),
        ({"deadline_factors": (0.0, 0.5)}, "deadline factors 0.0 to 0.5"),
    ],
)
def test_draws_out_of_range_are_refused(settings, message):
    with pytest.raises(UsageError, match=message):
        Draws(**settings)


def a_log(folder, text):
    path = folder / "raw.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_raw_log_becomes_a_trace_in_order_of_submission(tmp_path):
    log = a_log(
        tmp_path, "job_id,submission_time,user,duration,num_gpu\nb,50,me,100,1\na,20.5,me,60,64\n"
    )

    first, second = convert(log, TINY)

    assert (first.job_id, first.submission_time, first.num_gpu) == ("a", 20, 64)
    assert (first.model_name, first.num_iteration) == ("wide", 540)
    assert (second.job_id, second.num_gpu, second.duration) == ("b", 1, 100)


def test_a_count_that_was_measured_nowhere_is_interpolated(tmp_path):
    log = a_log(tmp_path, "job_id,submission_time,duration,num_gpu\na,0,100,3\n")

    assert convert(log, {("net", 8): ScalingCurve({2: 3.0, 4: 5.0})})[0].num_iteration == 400


def test_short_jobs_can_be_left_out(tmp_path):
    log = a_log(tmp_path, "job_id,submission_time,duration,num_gpu\na,0,599,1\nb,0,600,1\n")

    assert [job.job_id for job in convert(log, TINY, min_duration=600)] == ["b"]
    with pytest.raises(UsageError, match="no job in"):
        convert(log, TINY, min_duration=1000)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("job_id,duration\n", "raw.csv:1: no column submission_time, num_gpu"),
        ("", "raw.csv:1: no column job_id"),
        ("x\n1\n", "raw.csv:1: no column"),
        ("{}a,0,10,0\n", "raw.csv:2: column num_gpu: '0' is not a number from 1 to"),
        ("{}a,0,soon,1\n", "raw.csv:2: column duration: 'soon' is not a number"),
        ("{}a,0,10,1\na,0,10,1\n", "raw.csv:3: column job_id: 'a' is empty or a repetition"),
        ("{}a,0\n", "raw.csv:2: column duration: '' is not a number"),
    ],
)
def test_a_bad_log_is_refused_with_line_and_column(tmp_path, text, message):
    header = "job_id,submission_time,duration,num_gpu\n"
    with pytest.raises(UsageError, match=message):
        convert(a_log(tmp_path, text.format(header)), TINY)


def test_a_missing_log_is_named(tmp_path):
    with pytest.raises(UsageError, match=r"cannot read the log .*none\.csv"):
        convert(tmp_path / "none.csv", TINY)


def test_a_written_trace_has_the_columns_that_the_simulator_reads(tmp_path):
    path = write(generate(A100, num_jobs=2, mean_gap=10.0), tmp_path / "trace.csv")
    lines = path.read_text(encoding="utf-8").splitlines()

    assert lines[0] == (
        "job_id,submission_time,num_iteration,model_name,deadline,batch_size,num_gpu,duration,"
        "best_effort"
    )
    assert lines[0].split(",") == list(COLUMNS)
    assert len(lines) == 3
