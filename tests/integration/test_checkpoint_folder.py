"""Two jobs with one checkpoint folder: the second is refused while the first one runs."""

import pytest

from tests.helpers.clusters import LONG, SCRIPT

pytestmark = [pytest.mark.processes, pytest.mark.timeout(300)]

CURVE = '{"model": "paced", "points": {"1": 15, "2": 28}}'


def test_a_job_with_the_checkpoint_folder_of_one_that_runs_is_refused_by_name(cluster, tmp_path):
    (tmp_path / "curve.json").write_text(CURVE)
    cluster.start(slots=2)

    def launch(name, steps):
        return cluster.popen(
            "eflaunch", "--name", name, "--max-gpus", 1, "--profile", tmp_path / "curve.json",
            SCRIPT, "--out", tmp_path / name, "--steps", steps, "--until", tmp_path / "enough",
            "--checkpoints", tmp_path / "checkpoints",
        )  # fmt: skip

    first = launch("first", 100_000)
    cluster.wait_for("first", lambda s: s["global_step"] > 20, "to train")
    second = launch("second", 50)
    assert second.wait(timeout=LONG) == 1
    output = cluster.output(second)
    job = cluster.status("first")["job"]
    assert f"is in use by another job: job {job}" in output
    assert "hint: give each job a checkpoint_dir of its own" in output
    (tmp_path / "enough").touch()
    assert first.wait(timeout=LONG) == 0, cluster.output(first)
    third = launch("third", 50)
    assert third.wait(timeout=LONG) == 0, cluster.output(third)
