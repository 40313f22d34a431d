"""One rank is late, raises or was given other values: what becomes of the job, what is said."""

import os
import signal
import time
from contextlib import suppress

import psutil
import pytest

from eflib.coordinator import timeouts
from tests.helpers.clusters import LONG
from tests.helpers.clusters import SCRIPT as PACED
from tests.helpers.processes import wait_until

pytestmark = [pytest.mark.processes, pytest.mark.timeout(300)]

SCRIPT = PACED.with_name("unruly.py")
CURVE = '{"model": "unruly", "points": {"1": 1, "2": 1.9, "3": 2.7, "4": 3.4}}'
"""Slow, so that the job is worth as many slots as it may have."""


@pytest.fixture
def launch(four_slots, tmp_path):
    """Run the script on so many slots to its end; return exit status, output and logs."""

    def go(name, size, *words, timeout=LONG):
        (tmp_path / "curve.json").write_text(CURVE)
        code, out, error = four_slots.run(
            "eflaunch", "--name", name, "--profile", tmp_path / "curve.json",
            "--max-gpus", size, SCRIPT, *words, timeout=timeout,
        )  # fmt: skip
        folder = four_slots.home / "jobs" / four_slots.status(name)["job"] / "logs"
        logs = "\n".join(one.read_text() for one in sorted(folder.rglob("*.log")))
        return code, out + error, logs

    return go


def last_line(text):
    return text.strip().splitlines()[-1]


@pytest.mark.parametrize(
    ("error", "where", "told"),
    [
        ("RuntimeError", "backward", "RuntimeError: [gloo] Connection closed by peer"),
        ("ValueError", "callback", "ValueError: no luck at"),
        ("KeyboardInterrupt", "forward", "KeyboardInterrupt"),
    ],
)
def test_what_one_rank_raises_ends_the_job_and_is_its_last_line(launch, error, where, told):
    begin = time.monotonic()
    code, output, logs = launch(f"raises-{where}", 2, "--error", error, "--where", where,
                                "--steps", 100_000)  # fmt: skip
    assert code == 1
    assert told in last_line(output)
    assert time.monotonic() - begin < 60
    assert "peer is gone" not in output + logs
    assert f"rank 1 on {os.uname().nodename}: ended with {told}" in logs


@pytest.mark.parametrize(
    ("seconds", "where"),
    [
        (15, "forward"),
        pytest.param(15, "callback", marks=pytest.mark.long),
        pytest.param(60, "backward", marks=pytest.mark.long),
        pytest.param(200, "forward", marks=pytest.mark.long),
    ],
)
def test_a_rank_that_is_late_is_waited_for(launch, seconds, where):
    words = ["--late", seconds, "--where", where]
    code, output, logs = launch(f"late-{seconds}-{where}", 2, *words, timeout=LONG + seconds)
    assert code == 0, output
    assert "late from now on" in logs
    assert "done on 2 in g1" in logs
    assert "ended with" not in logs
    assert "failed" not in logs


def test_sparse_gradients_train_to_the_parameters_of_one_process(launch):
    found = set()
    for size in (1, 2, 4):
        code, output, logs = launch(f"sparse-{size}", size, "--sparse")
        assert code == 0, output
        line = next(one for one in logs.splitlines() if one.startswith("done on"))
        assert line.startswith(f"done on {size} ")
        found.add(round(float(line.split()[-1]), 4))
    assert len(found) == 1


def test_another_seed_on_one_rank_is_refused_before_the_first_step(launch):
    code, output, _ = launch("seeds", 2, "--seed-by-rank")
    assert code == 1
    assert "rank 1 trains with seed=1, rank 0 with seed=0" in last_line(output)


def test_a_second_trainer_in_one_script_is_refused_at_once(launch):
    begin = time.monotonic()
    code, output, _ = launch("two", 2, "--trainings", 2)
    assert code == 1
    assert "a second ElasticTrainer starts to train" in last_line(output)
    assert "hint: submit one job per training" in output
    assert time.monotonic() - begin < 60


@pytest.mark.long
def test_a_machine_that_is_gone_without_a_word_is_left_behind(cluster, tmp_path):
    """All of its processes stand still: no connection is closed, no exit is seen by an agent."""
    (tmp_path / "curve.json").write_text(CURVE)
    cluster.start(slots=1)
    other = cluster.popen("efctl", "agent", "--slots", 1, "--node", "other")
    wait_until(lambda: len(cluster.documents.nodes()) == 2, "the second node", LONG)
    job = cluster.popen("eflaunch", "--name", "j", "--profile", tmp_path / "curve.json", SCRIPT,
                        "--steps", 2000)  # fmt: skip
    cluster.wait_for("j", lambda s: s["global_step"] > 20 and s["world_size"] == 2, "to train")
    tree = [psutil.Process(other.pid), *psutil.Process(other.pid).children(recursive=True)]
    try:
        for one in tree:
            os.kill(one.pid, signal.SIGSTOP)
        begin = time.monotonic()
        stood = cluster.status("j")["global_step"]
        cluster.wait_for(
            "j",
            lambda s: s["world_size"] == 1 and s["global_step"] > stood + 20,
            "to go on without the machine",
        )
        assert time.monotonic() - begin < timeouts.HEARTBEAT_LOST + 15
    finally:
        for one in tree:
            with suppress(psutil.Error):
                one.kill()
        cluster.run("efctl", "cancel", "j")
        job.wait(60)
