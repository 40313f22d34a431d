"""What agents and torchrun say through the environment."""

import pytest

from eflib.env import TorchrunEnvironment, read_torchrun, read_worker
from eflib.errors import UsageError

WORKER = {
    "EFLIB_STORE": "/tmp/store",
    "EFLIB_KEY_FILE": "/tmp/key",
    "EFLIB_JOB": "a-1",
    "EFLIB_JOB_NAME": "a",
    "EFLIB_WORKER": "a-1.2",
    "EFLIB_NODE": "n0",
    "EFLIB_SLOT": "3",
    "EFLIB_GENERATION": "5",
    "EFLIB_MODE": "train",
    "EFLIB_LOG_DIR": "/tmp/logs",
    "EFLIB_CHECKPOINT_DIR": "/tmp/checkpoints",
    "RANK": "1",
    "WORLD_SIZE": "4",
    "MASTER_ADDR": "h",
    "MASTER_PORT": "29500",
    "LOCAL_RANK": "0",
}
REQUIRED = sorted(set(WORKER) - {"EFLIB_WORKER", "EFLIB_CHECKPOINT_DIR"})


def test_outside_an_agent_there_is_no_worker():
    assert read_worker({}) is None
    assert read_worker({"RANK": "0", "WORLD_SIZE": "1"}) is None


def test_a_worker_reads_what_its_agent_said():
    worker = read_worker(WORKER)
    assert (worker.worker, worker.job, worker.job_name) == ("a-1.2", "a-1", "a")
    assert (worker.rank, worker.world_size, worker.local_rank, worker.slot) == (1, 4, 0, 3)
    assert (worker.store, worker.key_file, worker.node) == ("/tmp/store", "/tmp/key", "n0")
    assert (worker.generation, worker.mode, worker.log_dir) == (5, "train", "/tmp/logs")
    assert worker.checkpoint_dir == "/tmp/checkpoints"
    assert (worker.master_addr, worker.master_port) == ("h", 29500)


def test_a_worker_may_have_no_checkpoint_folder():
    environ = {name: value for name, value in WORKER.items() if name != "EFLIB_CHECKPOINT_DIR"}
    assert read_worker(environ).checkpoint_dir == ""


@pytest.mark.parametrize("name", REQUIRED)
def test_a_missing_variable_is_named(name):
    environ = {key: value for key, value in WORKER.items() if key != name}
    with pytest.raises(UsageError, match=f"the environment variable {name} is not set") as caught:
        read_worker(environ)
    assert "eflaunch" in caught.value.hint


@pytest.mark.parametrize("name", ["EFLIB_SLOT", "RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_PORT"])
def test_a_variable_that_is_no_number_is_named_with_its_value(name):
    with pytest.raises(UsageError, match=f"{name} must be an integer, got 'two'"):
        read_worker({**WORKER, name: "two"})


@pytest.mark.parametrize("missing", ["RANK", "WORLD_SIZE", "MASTER_ADDR"])
def test_without_one_of_torchrun_s_variables_the_script_runs_alone(missing):
    environ = {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "MASTER_ADDR": "h"}
    del environ[missing]
    assert read_torchrun(environ) is None


def test_torchrun_s_world_is_read():
    environ = {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "MASTER_ADDR": "h"}
    assert read_torchrun(environ) == TorchrunEnvironment(rank=3, world_size=4, local_rank=1)
    del environ["LOCAL_RANK"]
    assert read_torchrun(environ).local_rank == 0


def test_a_rank_of_torchrun_that_is_no_number_is_named():
    with pytest.raises(UsageError, match="RANK must be an integer, got 'x'"):
        read_torchrun({"RANK": "x", "WORLD_SIZE": "4", "MASTER_ADDR": "h"})
