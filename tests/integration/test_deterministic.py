"""A job that is rescaled and loses a worker ends with the bits of one that nobody disturbed."""

import os
import signal
import subprocess
import sys

import pytest
import torch

from tests.helpers.clusters import LONG, SCRIPT, Audit

pytestmark = [pytest.mark.processes, pytest.mark.timeout(300)]

CURVE = '{"model": "paced", "points": {"1": 18, "2": 34, "4": 62}}'


def test_1_3_2_4_and_a_killed_worker_leave_no_trace_in_the_numbers(four_slots, tmp_path):
    cluster, out = four_slots, tmp_path / "out"
    (tmp_path / "curve.json").write_text(CURVE)
    job = cluster.popen(
        "eflaunch", "--name", "same", "--profile", tmp_path / "curve.json", SCRIPT,
        "--out", out, "--steps", 100_000, "--until", tmp_path / "enough",
        "--optimizer", "adam", "--deterministic",
    )  # fmt: skip
    cluster.wait_for("same", lambda status: status["state"] == "RUNNING", "to run")
    for size in (1, 3, 2, 4):
        status, _, error = cluster.run("efctl", "rescale", "same", size)
        assert status == 0, error
        reach(cluster, size)
        if size == 3:
            members = Audit(out).members
            os.kill(members[max(members)][1], signal.SIGKILL)
            reach(cluster, 2)
            reach(cluster, 3)
    (tmp_path / "enough").touch()
    assert job.wait(timeout=LONG) == 0, cluster.output(job)
    steps = cluster.status("same")["global_step"]
    subprocess.run(
        [sys.executable, SCRIPT, "--out", tmp_path / "alone", "--pace", "0", "--steps", str(steps),
         "--optimizer", "adam", "--deterministic"],
        check=True, capture_output=True, timeout=LONG,
    )  # fmt: skip

    audit = Audit(out)
    assert sorted(audit.steps) == list(range(steps))
    sizes = audit.world_sizes()
    assert sizes[sizes.index(1) :] == [1, 3, 2, 3, 2, 4]
    final, reference = torch.load(out / "final.pt"), torch.load(tmp_path / "alone" / "final.pt")
    assert final["loss"] == reference["loss"]
    for name, tensor in reference["model"].items():
        assert torch.equal(final["model"][name], tensor), name


def reach(cluster, size):
    """Wait until the job has trained some steps on so many workers."""
    reached = cluster.wait_for("same", lambda s: s["world_size"] == size, f"{size} workers")
    step = reached["global_step"]
    cluster.wait_for("same", lambda s: s["global_step"] > step + 5, "steps at that size")
