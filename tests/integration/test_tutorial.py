"""Where the tutorial and the page for torchrun lead: jobs with a deadline that are rescaled."""

from pathlib import Path

import pytest

from tests.helpers.clusters import LONG

pytestmark = [pytest.mark.processes, pytest.mark.slow, pytest.mark.timeout(300)]

STEPS = Path(__file__).parents[2] / "examples" / "tutorial"
CURVE = '{"model": "small", "points": {"1": 100, "2": 150, "4": 200}}'


def test_the_last_step_of_the_tutorial_is_rescaled_and_in_time(four_slots, tmp_path):
    (tmp_path / "curve.json").write_text(CURVE)
    code = (STEPS / "step5_deadline.py").read_text(encoding="utf-8")
    script = tmp_path / "step5.py"
    script.write_text(code.replace("EPOCHS = 20", "EPOCHS = 40"), encoding="utf-8")
    words = ["--deadline", "10m", "--profile", tmp_path / "curve.json"]

    job = four_slots.popen("eflaunch", *words, script)
    four_slots.wait_for("step5", lambda s: s["global_step"] > 5, "to train")
    status, _, error = four_slots.run("efctl", "rescale", "step5", "1", "--wait")

    assert status == 0, error
    assert job.wait(timeout=LONG) == 0, four_slots.output(job)
    ended = four_slots.status("step5")
    assert ended["ended"] <= ended["deadline"]
    assert any(one["to"] == 1 for one in ended["rescales"])
    assert "epoch 39, loss" in four_slots.output(job)
    assert (four_slots.folder / "digits.pt").is_file()


def test_a_ddp_script_made_elastic_runs_with_a_deadline(four_slots, tmp_path):
    (tmp_path / "curve.json").write_text(CURVE)
    words = ["--deadline", "10m", "--profile", tmp_path / "curve.json"]

    status, output, error = four_slots.run(
        "eflaunch", *words, STEPS / "elastic_images.py", "--epochs", 2
    )

    assert status == 0, error
    assert "epoch 1: accuracy 0." in output
