"""Somebody is killed: a worker, the coordinator, the agent. Jobs go on, or end with the reason."""

import os
import signal

import pytest

from eflib.messages.records import Progress
from eflib.store import keys
from tests.helpers.clusters import LONG, SCRIPT, Audit
from tests.helpers.processes import gone, wait_until

pytestmark = [pytest.mark.processes, pytest.mark.timeout(300)]

CURVE = '{"model": "paced", "points": {"1": 15, "2": 28, "4": 48}}'


ENDLESS = 100_000  # steps: these jobs end when the test has seen what it waits for


def start_job(cluster, tmp_path, slots, name="j"):
    (tmp_path / "curve.json").write_text(CURVE)
    if not cluster.running:
        cluster.start(slots=slots)
    job = cluster.popen(
        "eflaunch", "--name", name, "--profile", tmp_path / "curve.json", SCRIPT,
        "--out", tmp_path / "out", "--steps", ENDLESS, "--until", tmp_path / "enough",
    )  # fmt: skip
    cluster.wait_for(name, lambda s: s["global_step"] > 20 and s["world_size"] == slots, "to train")
    return job


def end_job(cluster, tmp_path, job):
    """Let a job end; return the audit of its steps, and how many there were."""
    (tmp_path / "enough").touch()
    assert job.wait(timeout=LONG) == 0, cluster.output(job)
    return Audit(tmp_path / "out"), cluster.status("j")["global_step"]


def current_pids(tmp_path):
    members = Audit(tmp_path / "out").members
    return members[max(members)]


def test_a_killed_worker_costs_no_step_and_is_replaced(four_slots, tmp_path):
    cluster = four_slots
    job = start_job(cluster, tmp_path, 4)
    before = current_pids(tmp_path)
    os.kill(before[2], signal.SIGKILL)
    back = cluster.wait_for(
        "j",
        lambda s: [(one["from"], one["to"]) for one in s["rescales"]][-2:] == [(4, 3), (3, 4)],
        "to go on with 3 and grow back to 4",
    )
    assert back["state"] == "RUNNING"
    audit, steps = end_job(cluster, tmp_path, job)
    assert sorted(audit.steps) == list(range(steps))
    after = audit.members[max(audit.members)]
    assert {before[0], before[1], before[3]} < set(after.values())


def test_a_killed_coordinator_does_not_disturb_the_job_and_its_successor_knows_it(
    cluster, tmp_path
):
    job = start_job(cluster, tmp_path, 2)
    pids = current_pids(tmp_path)
    generation = cluster.status("j")["generation"]
    cluster.coordinator.kill()
    cluster.coordinator.wait()

    def step():
        told = cluster.store.fetch(keys.job_progress(cluster.status("j")["job"]), Progress)
        return told.global_step

    stood = step()
    wait_until(lambda: step() > stood + 20, "steps without a coordinator", LONG)
    cluster.coordinator = cluster.popen("efctl", "coordinator")
    known = cluster.wait_for("j", lambda s: s["global_step"] > stood + 20, "to be known again")
    assert (known["state"], known["generation"]) == ("RUNNING", generation)
    assert current_pids(tmp_path) == pids
    assert cluster.run("efctl", "rescale", "j", 1)[0] == 0
    cluster.wait_for("j", lambda s: s["world_size"] == 1, "to obey the new coordinator")
    audit, steps = end_job(cluster, tmp_path, job)
    audit.check(steps)


def test_kill_9_of_the_agent_leaves_no_worker_and_its_successor_resumes_the_job(cluster, tmp_path):
    job = start_job(cluster, tmp_path, 2)
    pids = list(current_pids(tmp_path).values())
    generation = cluster.status("j")["generation"]
    cluster.agent.kill()
    cluster.agent.wait()
    gone(pids)
    cluster.agent = cluster.popen("efctl", "agent", "--slots", 2)
    cluster.wait_for(
        "j",
        lambda s: s["state"] == "RUNNING" and s["generation"] > generation and s["workers"],
        "to resume",
    )
    wait_until(lambda: set(current_pids(tmp_path).values()).isdisjoint(pids), "steps of others")
    step = max(Audit(tmp_path / "out").steps)
    cluster.wait_for("j", lambda s: s["global_step"] > step, "to get further than before")
    audit, steps = end_job(cluster, tmp_path, job)
    assert sorted(audit.steps) == list(range(steps))


def test_an_agent_that_is_told_to_go_lets_its_job_save_and_another_resumes_it(cluster, tmp_path):
    job = start_job(cluster, tmp_path, 2)
    cluster.agent.terminate()
    assert cluster.agent.wait(timeout=60) == 0
    paused = cluster.wait_for("j", lambda s: s["state"] == "PAUSED", "to be paused")
    cluster.agent = cluster.popen("efctl", "agent", "--slots", 1)
    step = paused["global_step"] + 10
    cluster.wait_for("j", lambda s: s["global_step"] > step, "steps after the pause")
    audit, steps = end_job(cluster, tmp_path, job)
    audit.check(steps)


def test_a_cancelled_job_is_gone_and_says_so(four_slots, tmp_path):
    cluster = four_slots
    job = start_job(cluster, tmp_path, 4, "long")
    pids = list(current_pids(tmp_path).values())
    assert cluster.run("efctl", "cancel", "long")[0] == 0
    assert job.wait(timeout=LONG) == 1
    assert "error[cancelled]" in cluster.output(job).splitlines()[-1]
    gone(pids)
    assert cluster.status("long")["state"] == "CANCELLED"


def test_ctrl_c_cancels_the_job_and_exits_130(four_slots, tmp_path):
    cluster = four_slots
    job = start_job(cluster, tmp_path, 4, "interrupted")
    pids = list(current_pids(tmp_path).values())
    job.send_signal(signal.SIGINT)
    assert job.wait(timeout=LONG) == 130
    gone(pids)
