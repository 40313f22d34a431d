"""Each example runs as plain ``python examples/NAME.py``, and says how it went on its last line."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
EXAMPLES = sorted(path.name for path in (ROOT / "examples").glob("*.py"))
LAST_LINES = {
    "char_gpt.py": r"char_gpt: 2 steps, loss \d\.\d{3} per character",
    "digits.py": r"digits: 2 steps, accuracy 0\.\d{3} on held-out images",
}


def run(name, *options):
    """Run an example from the root of the checkout, and return its standard output."""
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, f"examples/{name}", *options],
        cwd=ROOT,
        env=env,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_every_example_is_tested():
    assert sorted(LAST_LINES) == EXAMPLES


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_is_short_and_says_how_to_run_it(name):
    text = (ROOT / "examples" / name).read_text(encoding="utf-8")

    assert len(text.splitlines()) < 80
    assert f"python examples/{name}" in text
    assert f"examples/{name} " in re.search(r"eflaunch .*", text)[0] + " "


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_runs_and_ends_with_its_result(name, tmp_path):
    options = "--steps", "2", "--batch-size", "7", "--pace", "0.001", "--audit", str(tmp_path)

    last = run(name, *options).splitlines()[-1]

    assert re.fullmatch(LAST_LINES[name], last)
    (audit,) = tmp_path.iterdir()
    lines = [json.loads(line) for line in audit.read_text(encoding="utf-8").splitlines()]
    assert [len(line["samples"]) for line in lines] == [7, 7]
