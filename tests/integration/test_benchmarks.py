"""The benchmarks run at their smallest size; what they measure is not held here."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.processes import no_process_left

pytestmark = [
    pytest.mark.processes,
    pytest.mark.long,
    pytest.mark.timeout(300),
    pytest.mark.usefixtures(no_process_left.__name__),
]

__all__ = ["no_process_left"]

FOLDER = Path(__file__).parents[1] / "benchmarks"
NUMBERS = {
    "overhead": {"small_ratio_2"},
    "rescale": {"pause_s_2_4", "pause_s_4_2"},
    "recovery": {"recovery_s"},
    "checkpoint": {"bytes", "held_s", "write_s", "torch_save_s", "dcp_save_s"},
    "prediction": {"cost_s", "shipped_error"},
    "zoo": {"steps_per_s_resnet50", "steps_per_s_bert", "memory_bytes_bert"},
    "coordinator_load": {"idle_share", "reporting_share", "restart_s", "journal_bytes"},
}
KEYS = {
    "overhead": {"ratio_1", "ratio_2", "ratio_4", "deterministic_ratio_2"},
    "rescale": {"torchrun_s_2_4", "torchrun_s_4_2", "ratio", "parts_2_4", "parts_4_2"},
    "recovery": {"torchrun_s", "lost_steps"},
    "checkpoint": {"ratio", "step_s", "step_beside_s", "device"},
    "prediction": {"error_paced", "margin_paced", "cost_share"},
    "zoo": {"device"},
    "coordinator_load": {"ended", "live", "list_s"},
}
WORDS = {"zoo": ["--models", "resnet50,bert"]}


@pytest.mark.parametrize("name", NUMBERS)
def test_a_benchmark_ends_with_one_json_object_and_leaves_nothing(name, tmp_path):
    done = subprocess.run(
        [sys.executable, FOLDER / f"{name}.py", "--smallest", *WORDS.get(name, [])],
        capture_output=True,
        text=True,
        timeout=280,
        env=os.environ | {"TMPDIR": str(tmp_path), "OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(done.stdout.splitlines()[-1])
    assert report.keys() >= NUMBERS[name] | KEYS[name]
    assert all(report[key] > 0 for key in NUMBERS[name])
    assert report.get("lost_steps", 0) == 0
    assert list(tmp_path.glob("eflib-*")) == []
