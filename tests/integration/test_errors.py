"""What goes wrong ends with one clear last line, the right status, and nothing left running."""

import os
import socket
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
    ("words", "told"),
    [
        (["--fail", "raise"], "KeyError: 'not even a model'"),
        (["--fail", "no-trainer"], "never reached ElasticTrainer.fit()"),
        (["--fail", "no-fit"], "never reached ElasticTrainer.fit()"),
        (["--width-by-rank"], "differs from rank 0's: layers.0.weight"),
    ],
)
def test_a_script_that_cannot_train_fails_with_its_own_reason(four_slots, tmp_path, words, told):
    code, _, error = four_slots.run("eflaunch", SCRIPT, "--out", tmp_path / "out", *words)
    assert code == 1, error
    assert told in last_line(error)


def test_a_script_that_raises_at_a_step_fails_with_rank_node_and_log_and_leaves_nothing(
    cluster, tmp_path
):
    """Here eflaunch starts all it needs by itself, and takes it away again."""
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


@pytest.mark.parametrize(
    ("way", "cause"),
    [
        ("raise", "ValueError: no luck"),
        ("exit", "exited with code 3"),
        ("words", "giving up: no data"),
        ("odd", r"ValueError: a\x1b[31mred\x1b[2J\x07"),
        ("long", "ValueError: " + "x" * 100),
        ("memory", "OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB"),
        ("interrupt", "KeyboardInterrupt"),
        ("killed", "killed by SIGKILL"),
    ],
)
def test_the_last_line_is_the_first_failing_rank_s_end_with_node_rank_and_log(
    four_slots, way, cause
):
    words = ["--max-gpus", 2, SCRIPT.with_name("ends_badly.py"), way]
    code, output, error = four_slots.run("eflaunch", *words)
    assert code == 1, error
    last = last_line(error)
    assert last.startswith("error[worker-failed]: job 'ends_badly' failed: ")
    assert cause in last
    assert f"(rank 1, node {socket.gethostname()}, log " in last
    assert len(last) < 1000
    assert all(line.isprintable() for line in error.splitlines())
    for noise in ("frame #", "C++", "hostname of the client socket"):
        assert noise not in output + error


def test_coordinator_and_agent_say_where_they_serve_and_as_whom(cluster):
    cluster.start(slots=1)
    store = cluster.home / "store"
    coordinator, agent = (process.log.read_text() for process in cluster.running[:2])
    host = socket.gethostname()
    assert coordinator.startswith(f"coordinator: serving {store} as {host} (pid ")
    assert agent.startswith(f"agent: serving {store} as node {host} with 1 cpu slots, reached at ")
