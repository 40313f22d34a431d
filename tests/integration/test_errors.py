"""What goes wrong ends with one clear last line, the right status, and nothing left running."""

import os
import time

import pytest

from tests.helpers.clusters import SCRIPT

pytestmark = [pytest.mark.processes, pytest.mark.timeout(300)]


def last_line(error):
    return error.strip().splitlines()[-1]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["nowhere.py"], "error[usage]: there is no script nowhere.py"),
        (["--deadline", "soon", SCRIPT], "'soon'"),
        (["--deadline", "2020-01-01T00:00", SCRIPT], "2020-01-01"),
        (["--slots", "none", SCRIPT], "'none'"),
        (["--dedline", "2h", SCRIPT], "--dedline"),
    ],
)
def test_a_wrong_command_line_is_refused_before_anything_starts(cluster, words, told):
    code, output, error = cluster.run("eflaunch", *words)
    assert (code, output) == (2, "")
    assert told in last_line(error)
    assert not (cluster.home / "coordinator").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere; a file stands in below")
def test_a_state_folder_that_cannot_be_written_is_named(cluster):
    cluster.home.chmod(0o500)
    code, _, error = cluster.run("eflaunch", SCRIPT, "--out", "out")
    cluster.home.chmod(0o700)
    assert code == 5
    assert str(cluster.home) in last_line(error)


def test_a_state_folder_that_is_a_file_is_named(cluster, tmp_path):
    (tmp_path / "file").write_text("")
    cluster.environment["EFLIB_HOME"] = str(tmp_path / "file" / "home")
    code, _, error = cluster.run("eflaunch", SCRIPT, "--out", "out")
    assert code == 5
    assert str(tmp_path / "file" / "home") in last_line(error)


@pytest.mark.parametrize(
    ("fail", "told"),
    [
        ("raise", "KeyError: 'not even a model'"),
        ("no-trainer", "never reached ElasticTrainer.fit()"),
        ("no-fit", "never reached ElasticTrainer.fit()"),
    ],
)
def test_a_script_that_does_not_train_fails_with_its_own_reason(cluster, tmp_path, fail, told):
    code, _, error = cluster.run(
        "eflaunch", "--slots", 2, SCRIPT, "--out", tmp_path / "out", "--fail", fail
    )
    assert code == 1, error
    assert told in last_line(error)
    assert "rank 0" in error


def test_a_script_that_raises_at_a_step_fails_with_rank_node_and_log(cluster, tmp_path):
    words = ["--out", tmp_path / "out", "--steps", 50, "--fail", "raise@25"]
    begin = time.time()
    code, _, error = cluster.run("eflaunch", "--slots", 2, "--name", "j", SCRIPT, *words)
    assert code == 1, error
    assert "ValueError: no luck at step 25" in last_line(error)
    status = cluster.status("j")
    assert status["state"] == "FAILED"
    assert status["submitted"] >= begin - 1
    assert status["error"]["log"] in error
    assert "loss_fn" in status["error"]["traceback"]


def test_ranks_that_disagree_on_the_model_are_told_where(cluster, tmp_path):
    words = ["--out", tmp_path / "out", "--steps", 50, "--width-by-rank"]
    code, _, error = cluster.run("eflaunch", "--slots", 2, SCRIPT, *words)
    assert code == 1, error
    assert "differs from rank 0's: layers.0.weight" in last_line(error)
