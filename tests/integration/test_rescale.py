"""A job changes size while it trains, by an operator's hand: nothing of the training notices."""

import json
import subprocess
import sys
from itertools import pairwise

import pytest
import torch

from tests.helpers.clusters import LONG, SCRIPT, Audit

pytestmark = [pytest.mark.processes, pytest.mark.timeout(300)]

ENDLESS = 100_000  # steps: these jobs end when the test has seen what it waits for
CURVE = '{"model": "paced", "points": {"1": 18, "2": 34, "4": 62}}'


def undisturbed(folder, steps, *words):
    """Train the same script alone for so many steps, under plain python."""
    out = folder / "alone"
    done = subprocess.run(
        [sys.executable, SCRIPT, "--out", out, "--pace", "0", "--steps", str(steps), *words],
        check=True,
        capture_output=True,
        timeout=LONG,
    )
    assert b"done after" in done.stdout
    return torch.load(out / "final.pt")


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_1_3_2_4_keeps_pids_samples_and_numbers(four_slots, tmp_path, optimizer):
    cluster, name = four_slots, optimizer
    out = tmp_path / "out"
    (tmp_path / "curve.json").write_text(CURVE)
    job = cluster.popen(
        "eflaunch", "--name", name, "--profile", tmp_path / "curve.json", SCRIPT,
        "--out", out, "--steps", ENDLESS, "--until", tmp_path / "enough", "--optimizer", optimizer,
    )  # fmt: skip
    cluster.wait_for(name, lambda status: status["state"] == "RUNNING", "to run")
    for size in (1, 3, 2, 4):
        status, _, error = cluster.run("efctl", "rescale", name, size)
        assert status == 0, error
        reached = cluster.wait_for(name, lambda s, n=size: s["world_size"] == n, f"{size} workers")
        step = reached["global_step"]
        cluster.wait_for(name, lambda s, n=step: s["global_step"] > n + 15, "steps at that size")
    (tmp_path / "enough").touch()
    assert job.wait(timeout=LONG) == 0, cluster.output(job)

    code, output, _ = cluster.run("efctl", "status", name, "--json")
    ended = json.loads(output)
    assert (code, ended["state"]) == (0, "SUCCEEDED")
    steps = ended["global_step"]
    audit = Audit(out)
    audit.check(steps)
    assert audit.world_sizes()[-4:] == [1, 3, 2, 4]
    generations = [audit.members[number] for number in sorted(audit.members)][-4:]
    for before, after in pairwise(generations):
        survivors = min(len(before), len(after))
        assert [before[rank] for rank in range(survivors)] == [
            after[rank] for rank in range(survivors)
        ]
    final = torch.load(out / "final.pt")
    reference = undisturbed(tmp_path, steps, "--optimizer", optimizer)
    assert final["loss"] == pytest.approx(reference["loss"], rel=1e-3)
    if optimizer == "sgd":
        for parameter, tensor in reference["model"].items():
            assert (final["model"][parameter] - tensor).abs().max() <= 1e-5, parameter

    last = ended["rescales"][-3:]
    assert [(one["from"], one["to"]) for one in last] == [(1, 3), (3, 2), (2, 4)]
    for one in last:
        assert set(one["parts"]) == {"agree", "leave", "form", "state", "first_step"}
        assert sum(one["parts"].values()) == pytest.approx(one["pause_s"], abs=0.05)
    assert [one["shares"] for one in last] == [
        "64x1 -> 22+21+21",
        "22+21+21 -> 32x2",
        "32x2 -> 16x4",
    ]
    assert {one["passes"] for one in last} == {"1 -> 1"}


def test_zero_pauses_a_job_and_auto_brings_it_back_where_it_was(four_slots, tmp_path):
    cluster = four_slots
    (tmp_path / "curve.json").write_text(CURVE)
    job = cluster.popen(
        "eflaunch", "--name", "pausing", "--profile", tmp_path / "curve.json", SCRIPT,
        "--out", tmp_path / "out", "--steps", ENDLESS, "--until", tmp_path / "enough",
    )  # fmt: skip
    cluster.wait_for("pausing", lambda status: status["global_step"] > 20, "some steps")
    code, _, error = cluster.run("efctl", "rescale", "pausing", 5)
    assert code == 1
    assert error.splitlines()[-1].startswith("error[refused]")
    code, _, error = cluster.run("efctl", "rescale", "nobody", 2)
    assert code == 2
    assert "no job" in error

    assert cluster.run("efctl", "rescale", "pausing", 0)[0] == 0
    paused = cluster.wait_for(
        "pausing", lambda s: s["state"] == "PAUSED" and not s["workers"], "a pause"
    )
    assert cluster.run("efctl", "rescale", "pausing", "auto")[0] == 0
    step = paused["global_step"] + 10
    cluster.wait_for("pausing", lambda s: s["global_step"] > step, "steps after the pause")
    (tmp_path / "enough").touch()
    assert job.wait(timeout=LONG) == 0, cluster.output(job)
    Audit(tmp_path / "out").check(cluster.status("pausing")["global_step"])
