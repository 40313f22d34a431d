import importlib
import json
import re
import time

import pytest

from eflib.coordinator.client import RefusedError
from eflib.launcher import interface
from eflib.launcher.commands import COMMANDS
from eflib.launcher.commands.reading import ABSENT, PROMISED
from eflib.messages.records import JobSpec, NodeRecord
from eflib.store import keys
from eflib.units import format_deadline
from tests.helpers.raw import Raw
from tests.unit.launcher.conftest import an_assignment


@pytest.fixture
def jobs(coordinator, a_status, tmp_path):
    logs = tmp_path / "logs"
    for generation, rank, text in ((1, 0, "a\n"), (1, 1, "b\n"), (2, 0, "c")):
        (logs / str(generation)).mkdir(parents=True, exist_ok=True)
        (logs / str(generation) / f"{rank}.log").write_text(text)
    rescale = {"generation": 2, "step": 100, "from": 2, "to": 4, "pause_s": 0.1}
    coordinator.write(
        a_status(deadline=2e9, slack_s=60.0, log_dir=str(logs), rescales=[rescale]),
        a_status(
            job="gpt-1",
            name="gpt",
            state="FAILED",
            submitted=900.0,
            error={"node": "n0", "rank": 1, "message": "boom", "traceback": "tb\n", "log": "/l"},
            story=[{"time": 950.0, "text": "submitted"}, {"time": 960.0, "text": "failed"}],
        ),
    )
    spec = {"script": "/w/train.py", "argv": ["--x", "a b"], "cwd": "/w", "env": {"S": "secret"}}
    coordinator.signed.put(keys.job_spec("digits-1"), spec)
    coordinator.signed.put(keys.job_spec("gpt-1"), JobSpec(module="pkg.gpt"))
    return coordinator


def test_status_of_a_job_has_every_promised_field(run, jobs):
    ran = run("efctl status digits --json")
    facts = json.loads(ran.out)
    assert set(PROMISED) <= set(facts)
    assert (facts["job"], facts["world_size"], facts["slack_s"]) == ("digits-1", 4, 60.0)
    assert ran.err == ""


def test_promised_fields_that_the_document_lacks_are_null(run, coordinator):
    coordinator.write({"job": "j", "name": "j", "state": "SUBMITTED"})
    facts = json.loads(run("efctl status j --json").out)
    assert facts["slack_s"] is None
    assert set(PROMISED) <= set(facts)


def test_status_for_a_person_begins_with_where_it_stands(run, jobs):
    out = run("efctl status digits").out
    assert out.splitlines()[0] == "digits: step 120/600, 4 workers, 31.2 steps/s, slack 1m"
    assert "deadline  2033-" in out
    assert "slack     1m\n" in out
    assert "reason" not in out


def test_status_of_all_shows_those_that_have_not_ended(run, jobs, a_status):
    facts = json.loads(run("efctl status --json").out)
    assert [job["job"] for job in facts["jobs"]] == ["digits-1"]
    out = run("efctl status").out
    assert "digits-1" in out
    assert "gpt-1" not in out
    jobs.write(a_status(state="SUCCEEDED"))
    assert run("efctl status").out.startswith("no jobs are running or waiting")


def test_the_age_of_the_last_checkpoint_is_shown_and_grows_without_a_coordinator(
    run, coordinator, a_status
):
    saved = time.time() - 90
    coordinator.write(a_status(checkpoint_step=100, checkpoint_at=saved))
    facts = json.loads(run("efctl status digits --json").out)
    assert facts["checkpoint_step"] == 100
    assert 90 <= facts["checkpoint_age_s"] < 100
    for command in ("status digits", "describe digits", "list"):
        assert re.search(r"checkpoint.*step 100, 1m3\ds ago", run(f"efctl {command}").out, re.S)


def test_list_shows_all_in_rows_that_stay_whole(run, jobs, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    header, *rows = run("efctl list").out.splitlines()
    assert header.split() == [
        *("job", "name", "state", "workers", "step", "steps/s", "deadline", "slack"),
        *("checkpoint", "reason"),
    ]
    assert [row.split()[:3] for row in rows] == [
        ["gpt-1", "gpt", "FAILED"],
        ["digits-1", "digits", "RUNNING"],
    ]
    assert len(json.loads(run("efctl list --json").out)["jobs"]) == 2


def test_an_empty_cluster_says_what_to_do(run, coordinator):
    assert run("efctl list").out == ("no jobs yet; submit one with: eflaunch train.py\n")
    assert run("efctl nodes").out == (
        "no agent is running; start one on this machine with: efctl agent\n"
    )


def test_describe_tells_everything_but_no_secrets(run, jobs):
    out = run("efctl describe digits").out
    assert "submitted as  /w/train.py --x 'a b'\n" in out
    assert "in            /w\n" in out
    assert "  generation 2: 2 -> 4 workers at step 100, paused 0.1s\n" in out
    ran = run("efctl describe digits --json")
    assert "secret" not in out + ran.out
    assert json.loads(ran.out)["spec"]["script"] == "/w/train.py"


def test_describe_tells_a_failed_job_s_story_and_error(run, jobs):
    out = run("efctl describe gpt-1").out
    assert "submitted as  -m pkg.gpt\n" in out
    assert f"story\n  {format_deadline(950.0)}  submitted\n" in out
    assert "message  boom\n" in out
    assert out.endswith("tb\n")


def test_logs_of_all_ranks_and_of_one(run, jobs):
    assert run("efctl logs digits").out == "[digits 0]: a\n[digits 0]: c\n[digits 1]: b\n"
    assert run("efctl logs digits --rank 1").out == "[digits 1]: b\n"


def test_logs_of_a_rank_that_never_was_are_refused(run, jobs):
    ran = run("efctl logs digits --rank 7")
    assert (ran.status, ran.last_line) == (2, "error[usage]: job 'digits' has no log of rank 7")
    assert "hint: there are logs of ranks 0, 1\n" in ran.err


def test_logs_can_be_followed_to_the_end(run, jobs, a_status, monkeypatch):
    def end(watch, seconds):
        status = {**a_status(), "state": "SUCCEEDED"}
        jobs.write(
            {**status, "log_dir": Raw(jobs.signed).fetch(keys.job_status("digits-1"))["log_dir"]}
        )

    monkeypatch.setattr("eflib.launcher.waiting.JobWatch.pause", end)
    out = run("efctl logs -f digits").out
    assert out == "[digits 0]: a\n[digits 1]: b\n[digits 0]: c\n"


def test_a_job_without_logs_says_so(run, coordinator, a_status):
    coordinator.write(a_status(state="PENDING", reason="no GPU is free"))
    ran = run("efctl logs digits")
    assert ran.status == 2
    assert ran.last_line == ("error[usage]: job 'digits' has no logs yet (pending: no GPU is free)")


def test_cancel_asks_and_waits_for_the_end(run, jobs, a_status, monkeypatch):
    jobs.request = lambda kind, **fields: jobs.write(a_status(state="CANCELLED", log_dir=None))
    ran = run("efctl cancel digits")
    assert (ran.status, ran.out) == (0, "digits cancelled; step 120/600\n")


def test_cancel_of_a_job_that_has_ended_is_refused(run, jobs):
    ran = run("efctl cancel gpt")
    assert ran.status == 2
    assert ran.last_line == "error[usage]: job 'gpt' has ended already (FAILED)"


def test_cancel_waits_within_a_bound(run, jobs, monkeypatch):
    monkeypatch.setattr("eflib.launcher.commands.cancel.ENDED_SECONDS", 0.05)
    ran = run("efctl cancel digits --json")
    assert ran.status == 1
    assert ran.last_line == (
        "error[not-in-time]: waited 0.05 s for the workers of job 'digits' to leave"
    )


@pytest.mark.parametrize(
    ("words", "num_gpus", "out"),
    [
        ("digits 2", 2, "digits: 2 workers requested\n"),
        ("digits-1 1", 1, "digits: 1 worker requested\n"),
        ("digits auto", None, "digits: sized by the scheduler again\n"),
        ("digits 4 --wait", 4, "digits: 4 workers now\n"),
    ],
)
def test_rescale_orders_a_size(run, jobs, words, num_gpus, out):
    ran = run(f"efctl rescale {words}")
    assert (ran.status, ran.out) == (0, out)
    assert jobs.asked == [("rescale", {"job": "digits-1", "num_gpus": num_gpus})]


def test_a_rescale_that_is_refused_says_so_at_once_with_a_hint(run, jobs):
    jobs.replies["rescale"] = RefusedError("the cluster has 3 GPUs, not 9")
    ran = run("efctl rescale digits 9 --wait")
    assert (ran.status, ran.last_line) == (1, "error[refused]: the cluster has 3 GPUs, not 9")
    assert "hint: see what there is with: efctl nodes, efctl status digits\n" in ran.err


def test_a_rescale_of_a_job_that_has_ended_is_refused(run, jobs):
    ran = run("efctl rescale gpt 2")
    assert ran.status == 2
    assert ran.last_line == "error[usage]: job 'gpt' has ended already (FAILED)"
    assert jobs.asked == []


def test_a_long_reason_does_not_widen_the_table(run, coordinator, a_status):
    coordinator.write(a_status(state="PENDING", reason="x" * 1000))
    assert max(map(len, run("efctl list").out.splitlines())) < 300


def test_rescale_prints_the_answer_as_json(run, jobs):
    assert json.loads(run("efctl rescale digits 2 --json").out) == {"ok": True}


def test_rescale_waits_within_a_bound(run, jobs):
    ran = run("efctl rescale digits 3 --wait --timeout 0.05s")
    assert ran.status == 1
    assert (
        ran.last_line == "error[not-in-time]: waited 0.05 s for job 'digits' to train on 3 workers"
    )


@pytest.mark.parametrize("state", ["SUCCEEDED", "FAILED", "CANCELLED", "PREEMPTED"])
def test_a_rescale_of_a_job_that_ends_meanwhile_says_so_at_once(run, jobs, a_status, state):
    jobs.request = lambda kind, **fields: jobs.write(a_status(state=state))
    ran = run("efctl rescale digits 3 --wait")
    assert ran.status == 1
    assert ran.last_line == (
        f"error[job-ended]: job 'digits' has ended ({state}) before it had 3 workers"
    )


@pytest.mark.parametrize(
    ("pinned", "now"), [(2, "held at 2 workers"), (None, "sized by the scheduler")]
)
def test_a_rescale_that_somebody_changes_again_says_so_at_once(
    run, following, jobs, a_status, pinned, now
):
    following.statuses = [a_status(pinned=3), a_status(pinned=3), a_status(pinned=pinned)]
    ran = run("efctl rescale digits 3 --wait")
    assert ran.status == 1
    assert f"job 'digits' is now {now}, not 3: somebody" in ran.last_line


def test_a_rescale_to_nothing_waits_until_no_worker_is_left(run, following, jobs, a_status):
    following.statuses = [a_status(pinned=0), a_status(state="PAUSED", pinned=0, world_size=0)]
    ran = run("efctl rescale digits 0 --wait")
    assert (ran.status, ran.out) == (0, "digits: 0 workers now\n")


@pytest.mark.parametrize("words", ["rescale digits 3", "cancel digits"])
def test_nothing_is_asked_of_a_coordinator_that_is_not_there(run, jobs, words):
    jobs.record = None
    ran = run(f"efctl {words}")
    assert ran.status == 5
    assert ran.last_line.startswith("error[coordinator-unreachable]: no coordinator is running for")
    assert jobs.asked == []


@pytest.mark.parametrize("words", ["rescale digits 3 --wait", "cancel digits", "logs -f digits"])
def test_who_waits_for_a_coordinator_that_has_gone_ends_with_a_message(
    run, jobs, monkeypatch, words
):
    monkeypatch.setattr("eflib.launcher.waiting.LOOK_SECONDS", 0.0)
    monkeypatch.setattr("eflib.launcher.waiting.AWAY_SECONDS", 0.0)
    jobs.request = lambda kind, **fields: setattr(jobs, "record", None)
    jobs.record = None if "logs" in words else jobs.record
    ran = run(f"efctl {words}")
    assert ran.status == 5
    assert ran.last_line.startswith("error[coordinator-unreachable]: no coordinator has run for ")
    assert "hint: start it with: efctl coordinator\n" in ran.err


@pytest.mark.parametrize("size", ["many", "-1", "1.5"])
def test_rescale_to_no_number_is_refused(run, jobs, size):
    ran = run("efctl rescale digits --", size)
    assert ran.status == 2
    assert ran.last_line == (f"error[usage]: SIZE must be an integer from 0 to 65536, got {size!r}")


def test_nodes_show_who_uses_them(run, jobs):
    jobs.signed.put(keys.node_record("n0"), NodeRecord(node="n0", slots=4, host="h", pid=7))
    jobs.signed.put(keys.node_assignment("n0"), an_assignment("digits-1", "digits", 2))
    header, row = run("efctl nodes").out.splitlines()
    assert header.split() == ["node", "device", "slots", "used", "jobs", "host", "pid"]
    assert row.split() == ["n0", "cpu", "4", "2", "digits", "h", "7"]
    assert json.loads(run("efctl nodes --json").out)["nodes"][0]["slots"] == 4


def test_without_a_coordinator_reading_works_with_a_note(run, jobs):
    jobs.record = None
    for command in ("status digits --json", "list --json", "describe digits --json"):
        ran = run(f"efctl {command}")
        assert json.loads(ran.out)
        assert ran.err == ABSENT + "\n"


def test_an_unknown_job_ends_with_2(run, jobs):
    ran = run("efctl status digitz")
    assert (ran.status, ran.last_line) == (2, "error[unknown-job]: there is no job 'digitz'")
    assert ran.err.splitlines()[0] == "hint: did you mean digits?"


def test_an_unknown_command_ends_with_2(run):
    ran = run("efctl statsu")
    assert ran.status == 2
    assert ran.err == (
        "hint: did you mean status?\nerror[unknown-command]: there is no command 'statsu'\n"
    )
    assert run("efctl xyzzy").err.startswith("hint: see all with: efctl --help\n")


def test_arguments_that_are_missing_end_with_2(run, coordinator):
    ran = run("efctl cancel")
    assert ran.status == 2
    assert ran.err == (
        "hint: usage: efctl cancel [options] JOB\nerror[usage]: efctl cancel needs JOB\n"
    )


def test_help_lists_the_commands_and_each_has_its_own(run):
    shown = run("efctl --help")
    assert shown.status == 0
    for name, text in COMMANDS.items():
        assert f"  {name:<13}{text}\n" in shown.out
    assert run("efctl").status == 2
    assert run("efctl --version").out.startswith("efctl 0.")
    assert run("efctl help rescale").out == run("efctl rescale --help").out
    assert run("efctl rescale -h").out.startswith("usage: efctl rescale [options] JOB SIZE\n")


READING = [name for name in COMMANDS if name not in ("coordinator", "agent")]


@pytest.mark.parametrize("name", READING)
def test_every_word_of_every_command_has_a_text(name):
    module = importlib.import_module(f"eflib.launcher.commands.{name.replace('-', '_')}")
    taken = interface.interface_of(module.command)
    for word in (*taken.options.values(), *taken.arguments):
        assert word.text.endswith("."), word.name


def test_the_coordinator_runs_in_the_foreground(run, monkeypatch, tmp_path):
    ran_with = {}
    monkeypatch.setattr(
        "eflib.launcher.commands.coordinator.run_coordinator",
        lambda home, **options: ran_with.update(options, home=home),
    )
    assert run("efctl coordinator --store /s").status == 0
    assert ran_with == {"home": tmp_path / "home", "store_url": "/s", "managed": False}


def test_the_agent_runs_in_the_foreground(run, monkeypatch, tmp_path):
    ran_with = {}
    monkeypatch.setattr(
        "eflib.launcher.commands.agent.run_agent", lambda **options: ran_with.update(options)
    )
    assert run("efctl agent --slots 4 --node n7").status == 0
    home = tmp_path / "home"
    assert ran_with == {
        "store_url": f"file://{home}/store",
        "key_file": home / "cluster.key",
        "node": "n7",
        "slots": 4,
        "home": home,
        "host": None,
    }
    assert (home / "cluster.key").exists()
    ran = run("efctl agent --slots none")
    assert ran.last_line == ("error[usage]: --slots must be an integer from 1 to 1024, got 'none'")
