"""The warm pool by itself, and a start where there is none."""

import json
import subprocess
import sys

import pytest
import torch

from tests.helpers.agents import ROOT
from tests.helpers.processes import no_process_left

pytestmark = [pytest.mark.processes, pytest.mark.usefixtures(no_process_left.__name__)]

__all__ = ["no_process_left"]


def run(which, folder):
    command = [sys.executable, "-m", "tests.helpers.pool_calls", which, str(folder)]
    output = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True, timeout=150)
    return json.loads(output.stdout)


def test_a_function_runs_in_the_pool_and_its_failures_are_told_apart(tmp_path):
    found = run("calls", tmp_path)

    num_gpus = torch.cuda.device_count()
    assert len(found.pop("GPUs")) == num_gpus
    assert found == {
        "too early": "PoolDiedError",
        "warm": True,
        "hangs": "TimeoutError",
        "raises": "EOFError",
    }


def test_a_worker_is_spawned_cold_where_there_is_no_pool(tmp_path):
    found = run("cold", tmp_path)

    assert found == {"ready": True, "exitcode": 3, "log": "ran ['x']\n"}
