import pytest

from eflib.errors import InfeasibleError, PreemptedError, WorkerFailedError
from eflib.launcher import wording
from eflib.units import format_deadline

NOW = 1_790_000_000.0


RATHER = "or without a deadline to run it as best effort"


def moment(ahead):
    return format_deadline(NOW + ahead)


def test_an_admission_tells_projected_finish_and_slack(a_status):
    status = a_status(deadline=NOW + 7200, projected_finish=NOW + 3600, slack_s=3600.0)
    assert wording.decision(status, now=NOW) == (
        f"digits admitted: deadline {moment(7200)} (in 2h), "
        f"projected finish {moment(3600)}, slack 1h"
    )


def test_an_admission_without_a_projection_says_what_is_known(a_status):
    status = a_status(deadline=NOW + 7200)
    assert wording.decision(status, now=NOW) == (
        f"digits admitted: deadline {moment(7200)} (in 2h)"
    )


def test_a_soft_deadline_that_will_be_missed_says_by_how_much(a_status):
    status = a_status(deadline=NOW + 60, projected_finish=NOW + 180, slack_s=-120.0)
    assert wording.decision(status, now=NOW).endswith(
        f"projected finish {moment(180)}, 2m after the deadline"
    )


def test_an_admission_without_a_deadline_is_best_effort(a_status):
    assert wording.decision(a_status(), now=NOW) == "digits admitted as best effort"
    assert wording.decision(a_status(projected_finish=NOW + 60), now=NOW) == (
        f"digits admitted as best effort, projected finish {moment(60)} (in 1m)"
    )


def test_a_refusal_offers_a_deadline_that_can_be_pasted(a_status):
    reason = "8 GPUs are busy until 15:20"
    status = a_status(
        state="REJECTED", deadline=NOW + 60, earliest_deadline=NOW + 600, reason=reason
    )
    error = wording.refusal(status, now=NOW)
    assert isinstance(error, InfeasibleError)
    offered = wording.offered_deadline(status, now=NOW)
    assert offered >= NOW + 690
    text = format_deadline(offered)
    assert error.render().splitlines() == [
        f"  reason: {reason}",
        f"  earliest deadline that would be accepted: {text} (in 11m40s)",
        f"hint: submit it again with --deadline {text}, {RATHER}",
        f"error[deadline-unreachable]: job 'digits' cannot finish by {moment(60)} (in 1m)",
    ]


def test_a_refusal_for_ever_offers_none(a_status):
    status = a_status(state="REJECTED", deadline=NOW - 5, reason="it cannot be fast enough")
    error = wording.refusal(status, now=NOW)
    assert error.problem == f"job 'digits' cannot finish by {moment(-5)} (5s ago)"
    assert error.detail == "reason: it cannot be fast enough"
    assert error.hint == "submit it without a deadline to run it as best effort"
    assert wording.offered_deadline(status, now=NOW) is None


def test_a_refusal_without_a_deadline_says_so(a_status):
    error = wording.refusal(a_status(state="REJECTED"), now=NOW)
    assert error.problem == "job 'digits' cannot be admitted"


def test_progress_tells_step_size_rate_and_slack(a_status):
    assert wording.progress(a_status(slack_s=80.0, loss=0.123456)) == (
        "step 120/600, 4 workers, 31.2 steps/s, slack 1m20s, loss 0.1235"
    )
    assert wording.progress(a_status(world_size=1, max_steps=None, steps_per_s=None)) == (
        "step 120, 1 worker"
    )


def test_progress_of_a_job_that_waits_tells_why(a_status):
    assert wording.progress(a_status(state="PENDING", reason="all GPUs are promised")) == (
        "pending: all GPUs are promised"
    )
    assert wording.progress(a_status(state="PROFILING")) == "profiling"


def test_a_rescale_tells_sizes_step_and_pause():
    record = {"generation": 3, "step": 40, "from": 4, "to": 2, "pause_s": 0.041}
    assert wording.rescale(record) == "4 -> 2 workers at step 40, paused 0.041s"
    assert wording.rescale({**record, "pause_s": None}) == "4 -> 2 workers at step 40"


def test_the_summary_of_a_success_tells_what_was_kept(a_status):
    status = a_status(
        state="SUCCEEDED",
        global_step=600,
        ended=1100.0,
        deadline=1150.0,
        log_dir="/logs/digits-1",
        rescales=[{"pause_s": 0.04}, {"pause_s": 0.16}],
    )
    assert wording.ending(status) == (
        "digits succeeded; step 600/600 in 1m30s; 50s before its deadline; "
        "2 rescales, paused 0.2s in all; logs in /logs/digits-1"
    )
    late = wording.ending({**status, "deadline": 1090.0, "rescales": [{"pause_s": None}]})
    assert "10s after its deadline; 1 rescale, paused 0s in all" in late


def test_the_end_of_a_job_that_never_began_needs_no_times(a_status):
    status = a_status(state="CANCELLED", global_step=None, started=None, ended=None)
    assert wording.ending(status) == "digits cancelled"


def test_a_failure_s_last_line_is_the_first_failing_rank_s_exception(a_status):
    error = {
        "node": "node0",
        "rank": 2,
        "message": "ValueError: no such label: 11\nsecond line",
        "traceback": "\n".join(f"line {number}" for number in range(40)),
        "log": "/logs/3/2.log",
    }
    failed = wording.outcome(a_status(state="FAILED", error=error), now=NOW)
    assert isinstance(failed, WorkerFailedError)
    lines = failed.render().splitlines()
    assert lines[-1] == (
        "error[worker-failed]: job 'digits' failed: ValueError: no such label: 11 "
        "(rank 2, node node0, log /logs/3/2.log)"
    )
    assert lines[0] == "  line 10"
    assert lines[-3] == "  line 39"
    assert lines[-2] == "hint: see all that it wrote with: efctl logs digits-1 --rank 2"


def test_rank_node_and_log_stay_in_the_last_line_of_a_long_cause(a_status):
    error = {"node": "n0", "rank": 1, "message": "ValueError: " + "x" * 10**6, "log": "/logs/1.log"}
    (*_, last) = (
        wording.outcome(a_status(state="FAILED", error=error), now=NOW).render().split("\n")
    )
    assert last.endswith("xxx... (rank 1, node n0, log /logs/1.log)")


def test_a_worker_that_was_killed_may_have_had_too_little_memory(a_status):
    error = {"node": "n0", "rank": 1, "message": "killed by SIGKILL", "log": "/l"}
    hint = wording.outcome(a_status(state="FAILED", error=error), now=NOW).hint
    assert hint.startswith("the system kills a process when memory runs out (see: dmesg); ")


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({}, "job 'digits' failed: no reason was given"),
        ({"reason": "no ElasticTrainer"}, "job 'digits' failed: no ElasticTrainer"),
        (
            {"error": {"message": "  "}, "log_dir": "/logs"},
            "job 'digits' failed: no message (log /logs)",
        ),
    ],
)
def test_a_failure_that_knows_little_says_what_it_knows(a_status, fields, problem):
    assert wording.outcome(a_status(state="FAILED", **fields), now=NOW).problem == problem


def test_a_preempted_job_can_be_resumed(a_status):
    error = wording.outcome(a_status(state="PREEMPTED", reason="node lost"), now=NOW)
    assert isinstance(error, PreemptedError)
    assert error.problem == "job 'digits' was preempted at step 120: node lost"
    assert error.hint == "submit it again to resume from its checkpoint"


def test_every_end_has_its_exit_status(a_status):
    found = {}
    for state in sorted(wording.ENDED):
        error = wording.outcome(a_status(state=state), now=NOW)
        found[state] = error.exit_status if error else 0
    assert found == {
        "SUCCEEDED": 0,
        "FAILED": 1,
        "CANCELLED": 1,
        "REJECTED": 3,
        "PREEMPTED": 4,
    }


def test_a_cancelled_job_says_so(a_status):
    error = wording.outcome(a_status(state="CANCELLED", reason="by efctl"), now=NOW)
    assert error.render() == "error[cancelled]: job 'digits' was cancelled: by efctl"


def test_a_coordinator_that_stays_away_is_named(a_status):
    error = wording.unreachable(a_status(log_dir="/logs"), seconds=120)
    assert error.exit_status == 5
    assert error.problem == ("the coordinator has not run for 2m and cannot be restarted")
    assert error.detail == "job 'digits' may still be training; its logs: /logs"
    assert error.hint == "start it with: efctl coordinator"
