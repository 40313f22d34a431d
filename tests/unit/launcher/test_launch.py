"""eflaunch from the words to the exit status, against a coordinator that is a list of documents."""

import json
import socket

import psutil
import pytest
from filelock import FileLock

from eflib.errors import CoordinatorUnreachableError, UsageError
from eflib.messages.records import NodeRecord
from eflib.store import keys


def test_a_job_that_succeeds_is_followed_to_its_end(run, script, following, a_status, tmp_path):
    logs = tmp_path / "logs"
    (logs / "1").mkdir(parents=True)
    (logs / "1" / "0.log").write_text("loss 0.5\n")
    fields = {"name": "train", "log_dir": str(logs)}
    following.statuses = [
        a_status(state="SUBMITTED"),
        a_status(**fields),
        a_status(**fields, state="SUCCEEDED", global_step=600, ended=1100.0),
    ]
    ran = run("eflaunch --slots 4 train.py --lr 0.1")
    assert ran.status == 0
    assert ran.out == "[train 0]: loss 0.5\n"
    assert ran.err.splitlines()[0] == "digits: submitted"
    assert ran.last_line == (f"train succeeded; step 600/600 in 1m30s; logs in {logs}")
    assert following.started == [4]
    ((kind, message),) = following.asked
    assert kind == "submit"
    assert message["script"] == str(script)
    assert message["argv"] == ["--lr", "0.1"]


def test_a_job_that_fails_ends_with_its_rank_s_exception(run, script, following, a_status):
    error = {"node": "n0", "rank": 2, "message": "ValueError: x", "traceback": "tb", "log": "/l"}
    following.statuses = [a_status(), a_status(state="FAILED", error=error)]
    ran = run("eflaunch train.py")
    assert ran.status == 1
    assert ran.last_line == (
        "error[worker-failed]: job 'digits' failed: ValueError: x (rank 2, node n0, log /l)"
    )


def test_a_refused_job_ends_with_3_and_an_offer(run, script, following, a_status):
    following.statuses = [
        a_status(state="REJECTED", deadline=2e9, earliest_deadline=2.1e9, reason="it is too slow")
    ]
    ran = run("eflaunch --deadline 2h train.py")
    assert ran.status == 3
    assert ran.last_line.startswith("error[deadline-unreachable]: job 'digits' cannot finish by ")
    assert "  reason: it is too slow\n" in ran.err
    assert "hint: submit it again with --deadline 2036-" in ran.err
    assert ran.out == ""


def test_json_is_one_object_with_decision_and_final_status(run, script, following, a_status):
    following.statuses = [a_status(), a_status(state="SUCCEEDED", global_step=600)]
    ran = run("eflaunch --json train.py")
    facts = json.loads(ran.out)
    assert (facts["state"], facts["job"], facts["global_step"]) == ("SUCCEEDED", "digits-1", 600)
    assert facts["decision"]["accepted"] is True
    assert facts["decision"]["earliest_deadline"] is None


def test_json_of_a_refusal_holds_the_deadline_to_paste(run, script, following, a_status):
    following.statuses = [a_status(state="REJECTED", deadline=2e9, earliest_deadline=2.1e9)]
    ran = run("eflaunch --json --deadline 2h train.py")
    assert ran.status == 3
    facts = json.loads(ran.out)
    assert facts["decision"]["accepted"] is False
    assert facts["earliest_deadline"] == facts["decision"]["earliest_deadline"] > 2.1e9
    assert facts["decision"]["deadline_option"].startswith("--deadline 2036-")


def test_with_json_the_script_s_lines_go_to_standard_error(
    run, script, following, a_status, tmp_path
):
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "0.log").write_text("hello\n")
    following.statuses = [a_status(state="SUCCEEDED", log_dir=str(tmp_path))]
    ran = run("eflaunch --json train.py")
    json.loads(ran.out)
    assert "[digits 0]: hello" in ran.err


def test_detached_it_returns_with_the_decision_and_prints_the_id(run, script, following, a_status):
    following.statuses = [a_status(state="PROFILING"), a_status(state="PENDING")]
    ran = run("eflaunch --detach train.py")
    assert (ran.status, ran.out) == (0, "digits-1\n")
    assert ran.last_line == "digits admitted as best effort"
    ran = run("eflaunch --detach --json train.py")
    assert json.loads(ran.out)["state"] == "PENDING"


def test_a_dry_run_prints_the_plan_and_does_nothing(run, script, coordinator):
    ran = run("eflaunch --dry-run --deadline 2030-01-01T00:00Z train.py --x")
    assert ran.status == 0
    assert f"script     {script}" in ran.out
    assert "['--x']" in ran.out
    assert "deadline   20" in ran.out
    ran = run("eflaunch --dry-run --json train.py")
    assert json.loads(ran.out)["script"] == str(script)
    assert (coordinator.asked, coordinator.started) == ([], [])


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ("nope.py", "error[usage]: there is no script nope.py"),
        ("--deadline soon train.py", "error[usage]: cannot read the deadline 'soon'"),
        ("--dedline 2h train.py", "error[unknown-option]: there is no option --dedline"),
        ("--slots 0 train.py", "error[usage]: --slots must be an integer from 1 to 1024, got '0'"),
        ("--slots 2", "error[usage]: no script was given"),
    ],
)
def test_what_is_wrong_is_told_before_anything_starts(run, script, coordinator, words, problem):
    ran = run(f"eflaunch {words}")
    assert ran.status == 2
    assert ran.last_line == problem
    assert (coordinator.asked, coordinator.started) == ([], [])


def test_a_coordinator_that_does_not_answer_ends_with_5(run, script, coordinator):
    problem = "waited 10 s for the coordinator"
    coordinator.replies["submit"] = CoordinatorUnreachableError(problem)
    ran = run("eflaunch train.py")
    assert ran.status == 5
    assert ran.last_line == f"error[coordinator-unreachable]: {problem}"


def test_what_the_coordinator_refuses_is_told_as_its_own(run, script, coordinator):
    coordinator.replies["submit"] = UsageError("there is a job called 'digits' already")
    ran = run("eflaunch train.py")
    assert (ran.status, ran.last_line) == (
        2,
        "error[usage]: there is a job called 'digits' already",
    )


def test_ctrl_c_cancels_the_job_and_waits_for_its_end(run, script, following, a_status):
    following.statuses = [a_status(), KeyboardInterrupt()]
    following.after["cancel"] = [a_status(state="CANCELLED")]
    ran = run("eflaunch train.py")
    assert ran.status == 130
    assert following.asked[-1] == ("cancel", {"job": "digits-1"})
    assert ran.last_line == "cancelling job digits-1; press Ctrl-C again to leave it running"
    assert "Traceback" not in ran.err


def test_a_cancel_that_does_not_work_is_told(run, script, following, a_status, monkeypatch):
    following.statuses = [a_status(), KeyboardInterrupt()]
    following.replies["cancel"] = CoordinatorUnreachableError("no answer")
    ran = run("eflaunch train.py")
    assert (ran.status, ran.last_line) == (130, "it may still be running: no answer")
    monkeypatch.setattr("eflib.launcher.launch.CANCEL_SECONDS", 0.01)
    following.statuses = [a_status(), KeyboardInterrupt()]
    following.replies["cancel"] = {}
    following.after["cancel"] = [a_status()]
    ran = run("eflaunch train.py")
    assert ran.last_line == "it has not ended within 0.01 s; see: efctl status digits-1"


def test_an_option_behind_the_script_is_pointed_out(run, script, following, a_status):
    following.statuses = [a_status(state="SUCCEEDED")]
    ran = run("eflaunch train.py --deadline=2h")
    assert ran.status == 0
    assert ran.err.splitlines()[0] == (
        "note: --deadline comes after train.py and is passed to it; to give it to eflaunch, "
        "put it before"
    )


def test_slots_that_are_not_used_are_pointed_out(run, script, following, a_status):
    following.signed.put(keys.node_record("n0"), NodeRecord(node="n0", slots=2))
    following.statuses = [a_status(state="SUCCEEDED")]
    ran = run("eflaunch --slots 4 train.py")
    assert ran.err.splitlines()[0] == (
        "note: --slots 4 is not used: an agent is already running here, and the cluster has 2; "
        "see: efctl nodes"
    )


def test_help_version_and_no_words_at_all(run):
    shown = run("eflaunch --help")
    assert shown.status == 0
    assert shown.out.startswith("usage: eflaunch [options] SCRIPT [the script's own arguments]\n")
    for part in ("--deadline WHEN", "-m, --module", "--nproc-per-node", "examples:", "128+n"):
        assert part in shown.out
    assert max(len(line) for line in shown.out.splitlines()) <= 100
    nothing = run("eflaunch")
    assert (nothing.status, nothing.out) == (2, shown.out)
    assert run("eflaunch --version").out.startswith("eflaunch 0.")
    assert run("eflaunch --dry-run -h train.py").status == 0


class FakeProcess:
    """What psutil tells of a process; it ends after so many looks."""

    looks = 0

    def __init__(self, pid):
        FakeProcess.looks -= 1
        if FakeProcess.looks < 0:
            raise psutil.NoSuchProcess(pid)

    def cmdline(self):
        return ["python", "--managed"]

    def is_running(self):
        return True

    def status(self):
        return psutil.STATUS_SLEEPING


@pytest.fixture
def managed(following, monkeypatch):
    monkeypatch.setattr(psutil, "Process", FakeProcess)
    monkeypatch.setattr(FakeProcess, "looks", 3)
    following.record = {"managed": True, "host": socket.gethostname(), "pid": 1}
    return following


def test_a_coordinator_that_eflaunch_started_is_let_go_and_waited_for(
    run, script, managed, a_status
):
    managed.statuses = [a_status(state="SUCCEEDED")]
    assert run("eflaunch train.py").status == 0
    assert managed.released == 1
    assert FakeProcess.looks == -1


def test_a_detached_job_keeps_its_coordinator(run, script, managed, a_status):
    managed.statuses = [a_status()]
    run("eflaunch --detach train.py")
    assert managed.released == 0


def test_a_coordinator_that_was_started_by_hand_stays(run, script, following, a_status):
    following.statuses = [a_status(state="SUCCEEDED")]
    run("eflaunch train.py")
    assert following.released == 0


def test_what_does_not_end_does_not_change_how_the_job_ended(
    run, script, managed, a_status, monkeypatch
):
    monkeypatch.setattr(FakeProcess, "looks", 10**9)
    monkeypatch.setattr("eflib.launcher.services.RELEASE_SECONDS", 0.01)
    managed.statuses = [a_status(state="FAILED", reason="x")]
    assert run("eflaunch train.py").last_line == "error[worker-failed]: job 'digits' failed: x"


def test_another_eflaunch_that_never_submits_is_waited_for_within_a_bound(
    run, script, coordinator, monkeypatch, tmp_path
):
    monkeypatch.setattr("eflib.launcher.services.TURN_SECONDS", 0.01)
    (tmp_path / "home").mkdir()
    with FileLock(tmp_path / "home" / "launching.lock"):
        ran = run("eflaunch train.py")
    assert ran.status == 5
    assert ran.last_line == (
        "error[coordinator-unreachable]: waited 0.01 s for another eflaunch to submit its job"
    )
    assert "fuser" in ran.err


def test_a_coordinator_that_ended_before_the_job_came_is_started_again(
    run, script, following, a_status
):
    following.record = None
    following.statuses = [a_status(state="SUCCEEDED")]
    assert run("eflaunch --slots 2 train.py").status == 0
    assert following.started == [2, 2]
