"""FSDP2 under eflib's agent: changes of size in memory, a lost worker from the checkpoint."""

import os
import re
import signal
from pathlib import Path

import pytest
import torch
from torch.utils.data import TensorDataset

from eflib.trainer.data.position import DataPlan
from eflib.trainer.state import checkpoint
from tests.helpers.clusters import LONG, SCRIPT, Audit
from tests.helpers.scripts.sharded import make_model, samples

pytestmark = [pytest.mark.processes, pytest.mark.timeout(300)]

SHARDED = SCRIPT.parent / "sharded.py"
CURVE = '{"model": "sharded", "points": {"1": 2, "2": 4, "4": 8}}'  # slow: worth four workers
ENDLESS = 100_000  # steps: these jobs end when the test has seen what it waits for


def start(cluster, tmp_path, name, *words, steps=ENDLESS):
    (tmp_path / "curve.json").write_text(CURVE)
    job = cluster.popen(
        "eflaunch", "--name", name, "--profile", tmp_path / "curve.json", SHARDED,
        "--out", tmp_path / "out", "--steps", steps, "--until", tmp_path / "enough", *words,
    )  # fmt: skip
    cluster.wait_for(name, lambda s: s["state"] == "RUNNING", "to run")
    return job


def final_model(text):
    return checkpoint.load(Path(re.findall(r"saved in (.*)", text)[-1]))["model"]


def rank_0_log(status):
    """Return what rank 0 wrote, generation after generation."""
    logs = Path(status["log_dir"]).glob("*/0.log")
    return "".join(log.read_text() for log in sorted(logs, key=lambda log: int(log.parent.name)))


def reference(steps):
    """Return the parameters after an undisturbed run in one loop of plain torch."""
    data, plan = TensorDataset(*samples()), DataPlan(1003, 64)
    model = make_model(pace=0.0)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for step in range(steps):
        inputs, targets = data[plan.indices(plan.batch(step)).tolist()]
        optimizer.zero_grad()
        torch.nn.functional.mse_loss(model(inputs), targets).backward()
        optimizer.step()
    return model.state_dict()


def check_final(text, steps):
    expected, final = reference(steps), final_model(text)
    assert sorted(final) == sorted(expected)
    for name, tensor in final.items():
        torch.testing.assert_close(tensor, expected[name], rtol=1e-5, atol=1e-5)


def test_1_2_4_2_in_memory_equals_an_undisturbed_run(four_slots, tmp_path):
    cluster = four_slots
    job = start(cluster, tmp_path, "sharded")
    for size in (1, 2, 4, 2):
        status, _, error = cluster.run("efctl", "rescale", "sharded", size)
        assert status == 0, error
        reached = cluster.wait_for("sharded", lambda s, n=size: s["world_size"] == n, f"{size}")
        step = reached["global_step"]
        cluster.wait_for("sharded", lambda s, n=step: s["global_step"] > n + 3, "steps")
    (tmp_path / "enough").touch()
    assert job.wait(timeout=LONG) == 0, cluster.output(job)
    ended = cluster.status("sharded")
    audit = Audit(tmp_path / "out")
    audit.check(ended["global_step"])
    assert audit.world_sizes()[-4:] == [1, 2, 4, 2]
    text = rank_0_log(ended)
    assert "resuming from" not in text  # nothing came through the disk
    check_final(text, ended["global_step"])


def test_the_steps_since_the_checkpoint_are_taken_again_when_one_dies_after_the_last(
    four_slots, tmp_path
):
    cluster = four_slots
    job = start(cluster, tmp_path, "ended", "--die", tmp_path / "died", steps=30)
    assert job.wait(timeout=LONG) == 0, cluster.output(job)
    after = cluster.status("ended")
    logs = "".join(log.read_text() for log in Path(after["log_dir"]).glob("*/*.log"))
    assert (tmp_path / "died").exists()
    assert [int(step) < 30 for step in re.findall(r"resuming from .*step-(\d+)", logs)] == [True]
    assert "Traceback" not in logs
    check_final(rank_0_log(after), 30)


@pytest.mark.parametrize("form", ["fit", "loop"])
def test_a_killed_worker_sends_all_back_to_the_newest_checkpoint(four_slots, tmp_path, form):
    cluster, name = four_slots, f"killed-{form}"
    words = ["--loop"] if form == "loop" else []
    job = start(cluster, tmp_path, name, "--seconds", "0.5", *words)
    status = cluster.wait_for(
        name, lambda s: s["world_size"] == 4 and (s["checkpoint_step"] or 0) > 4, "a checkpoint"
    )
    members = Audit(tmp_path / "out").members
    os.kill(members[max(members)][2], signal.SIGKILL)
    number = status["generation"]
    cluster.wait_for(
        name, lambda s: s["generation"] > number and s["global_step"], "steps after it"
    )
    (tmp_path / "enough").touch()
    assert job.wait(timeout=LONG) == 0, cluster.output(job)
    after = cluster.status(name)
    logs = "".join(log.read_text() for log in Path(after["log_dir"]).glob("*/*.log"))
    resumed = [int(step) for step in re.findall(r"resuming from .*step-(\d+)", logs)]
    assert len(resumed) == 1
    assert resumed[0] >= status["checkpoint_step"]
    assert "Traceback" not in logs
    check_final(rank_0_log(after), after["global_step"])
