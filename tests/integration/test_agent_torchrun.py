"""torchrun itself, with nodes that meet in a folder."""

import os
import signal
import subprocess
import sys

import pytest

from tests.helpers.processes import no_process_left, wait_until

pytestmark = [pytest.mark.processes, pytest.mark.usefixtures(no_process_left.__name__)]

__all__ = ["no_process_left"]

SCRIPT = """
import os, time
import torch
import torch.distributed as dist

dist.init_process_group("gloo")
total = torch.ones(1)
dist.all_reduce(total)
print("world", int(total), "rank", dist.get_rank(), flush=True)
while dist.get_world_size() == 1:
    time.sleep(0.05)
dist.destroy_process_group()
"""


@pytest.fixture
def torchrun(tmp_path):
    """Start torchrun's agents on this host; none outlives the test."""
    (tmp_path / "train.py").write_text(SCRIPT)
    started = []

    def start(name):
        log = tmp_path / f"{name}.log"
        command = [sys.executable, "-m", "torch.distributed.run", "--rdzv-backend=eflib"]
        command += [f"--rdzv-endpoint={tmp_path / 'store'}", "--rdzv-id=job", "--nnodes=1:2"]
        command += ["--rdzv-conf=last_call_timeout=1,join_timeout=120", "--nproc-per-node=1"]
        command += ["--monitor-interval=0.1", str(tmp_path / "train.py")]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        with log.open("w") as output:
            process = subprocess.Popen(command, stdout=output, stderr=output, env=environment)
        started.append(process)
        return process, log

    yield start
    for process in started:
        process.send_signal(signal.SIGTERM)
    for process in started:
        process.wait(60)


def test_a_second_node_joins_a_running_job_through_a_folder(torchrun):
    first, first_log = torchrun("first")
    wait_until(lambda: "world 1 rank 0" in first_log.read_text(), "a world of one")

    second, second_log = torchrun("second")

    assert first.wait(120) == 0, first_log.read_text()
    assert second.wait(120) == 0, second_log.read_text()
    assert "world 2 rank 0" in first_log.read_text()
    assert "world 2 rank 1" in second_log.read_text()
