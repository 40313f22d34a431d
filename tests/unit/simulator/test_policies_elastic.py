"""EDF and Pollux: policies that choose sizes themselves."""

from eflib.simulator.policies.edf import Edf
from tests.unit.simulator.small import a_job, counts_of, ends, run


def test_edf_gives_everything_to_the_next_deadline():
    result = run("edf", a_job("late", deadline=500), a_job("soon", deadline=400))

    assert ends(result) == {"soon": 25.0, "late": 50.0}


def test_edf_stops_where_a_job_gets_no_faster():
    result = run("edf", a_job("a", deadline=200, steps=150, model="peak"))

    assert counts_of(result, "a") == [2, 0]
    assert ends(result) == {"a": 100.0}


def test_edf_as_the_artifact_has_it_takes_the_largest_measured_count():
    def widest(shape):
        return Edf(shape, widest=True)

    result = run(widest, a_job("a", deadline=200, steps=120, model="peak"))

    assert counts_of(result, "a") == [4, 0]


def test_edf_preempts_for_a_newcomer_with_an_earlier_deadline():
    result = run("edf", a_job("a", deadline=900, steps=400), a_job("b", at=10, deadline=50))

    assert counts_of(result, "a") == [4, 0, 4, 0]
    assert ends(result) == {"a": 125.0, "b": 35.0}


def test_edf_runs_a_hopeless_job_first_all_the_same():
    result = run("edf", a_job("lost", deadline=1), a_job("sound", deadline=30, steps=80))

    assert ends(result) == {"lost": 25.0, "sound": 45.0}


def test_edf_serves_best_effort_jobs_last():
    result = run("edf", a_job("a"), a_job("b", at=1, deadline=9000))

    assert ends(result)["b"] < ends(result)["a"]


def test_pollux_shares_the_cluster_among_equals():
    result = run("pollux", a_job("a", steps=1000), a_job("b", steps=1000))

    assert {len(change.gpus) for change in result.changes} == {0, 2}
    assert ends(result) == {"a": 500.0, "b": 500.0}


def test_pollux_gives_gpus_to_whom_they_speed_up():
    result = run(
        "pollux", a_job("good", steps=400), a_job("peak", steps=400, model="peak"), gpus_per_node=8
    )

    assert counts_of(result, "good")[0] == 4
    assert counts_of(result, "peak")[0] == 2


def test_pollux_lets_a_newcomer_wait_for_the_next_round():
    result = run("pollux", a_job("a", steps=10_000), a_job("b", at=10))

    first = next(change for change in result.changes if change.job_id == "b")
    assert first.time == 60.0


def test_pollux_favours_whom_little_gpu_time_was_given():
    old = a_job("old", steps=1e6)
    result = run("pollux", old, a_job("new", at=90_000, steps=1000), gpus_per_node=1)

    assert counts_of(result, "old")[:2] == [1, 0]
    assert ends(result)["new"] == 91_000.0


def test_pollux_restarts_less_where_restarts_cost():
    jobs = [a_job(f"j{n}", at=37.0 * n, steps=3000, model="good") for n in range(12)]
    cheap = run("pollux", *jobs, gpus_per_node=8).summary
    dear = run("pollux", *jobs, gpus_per_node=8, rescale_cost=60.0).summary

    assert dear.rescales + dear.migrations < cheap.rescales + cheap.migrations
