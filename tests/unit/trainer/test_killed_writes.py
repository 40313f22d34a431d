"""kill -9 in the middle of writing a checkpoint: the one before stays whole and is found."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "helpers" / "scripts" / "killed_writes.py"


@pytest.mark.chaos
def test_a_writer_killed_at_any_point_leaves_a_whole_checkpoint(tmp_path):
    done = subprocess.run(
        [sys.executable, SCRIPT, tmp_path / "checkpoints", "60", "7"],
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout.splitlines()[-1])
    assert seen["total"] > 15  # chunks, manifest, syncs, renames
    results = seen["results"]
    assert len(results) == min(60, seen["total"])
    outcomes = set()
    for point, killed, before, found, same in results:
        assert killed, f"point {point}"
        assert found in {before, before + 1}, f"point {point}: step {found} after step {before}"
        assert same, f"point {point}: other weights than were saved at step {found}"
        outcomes.add(found - before)
    assert outcomes == {0, 1}  # before the rename, and after it
