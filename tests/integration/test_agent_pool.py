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


def test_calls_are_answered_and_told_apart_and_workers_start_without_a_pool_too(tmp_path):
    command = [sys.executable, "-m", "tests.helpers.pool_calls", str(tmp_path)]
    output = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True, timeout=150)

    found = json.loads(output.stdout)

    assert len(found["calls"].pop("GPUs")) == torch.cuda.device_count()
    assert found["calls"] == {
        "too early": "PoolDiedError",
        "warm": True,
        "hangs": "TimeoutError",
        "raises": "EOFError",
        "told to leave at once": [-15] * 5,
    }
    assert found["cold"] == {"ready": True, "exitcode": 3, "log": "ran ['x']\n"}
