"""The demo: it proves its claims, sees when they do not hold, and leaves nothing behind."""

import importlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def evidence(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "examples" / "demo"))
    return importlib.import_module("evidence")


def audit(generations, *, batch_size, dataset_size):
    """Return the lines of workers that train some steps in each generation, given as pid lists."""
    lines, place = [], 0
    for number, (pids, steps) in enumerate(generations, start=1):
        for _ in range(steps):
            samples = [divmod(place + i, dataset_size) for i in range(batch_size)]
            for rank, pid in enumerate(pids):
                share = [list(pair) for pair in samples[rank :: len(pids)]]
                step = place // batch_size
                lines.append({"step": step, "generation": number, "pid": pid, "samples": share})
            place += batch_size
    return lines


GENERATIONS = [([1, 2, 3, 4], 5), ([1, 2], 5), ([1, 2, 5, 6], 5)]


@pytest.fixture
def sheets(evidence):
    """Return a job that shrinks and grows, and one that does not, both in time."""

    def sheet(name, generations, dataset_size):
        lines = audit(generations, batch_size=8, dataset_size=dataset_size or 1000)
        steps = sum(count for _, count in generations)
        status = {"ended": 90.0, "deadline": 100.0, "global_step": steps}
        return evidence.JobSheet(name, status, "1m", 0.0, 8, lines, dataset_size)

    return [sheet("first", GENERATIONS, 50), sheet("second", [([7, 8], 4)], None)]


def broken(evidence, sheets):
    return [text for text, holds in evidence.claims(sheets) if not holds]


def test_records_of_a_good_run_bear_out_every_claim(evidence, sheets):
    assert broken(evidence, sheets) == []


@pytest.mark.parametrize(
    ("spoil", "claim"),
    [
        (lambda sheet: sheet.lines.pop(), "every step had 8 samples"),
        (lambda sheet: sheet.lines.append(sheet.lines[0]), "each sample once"),
        (lambda sheet: sheet.status.update(ended=101.0), "met its deadline"),
        (lambda sheet: sheet.status.update(global_step=16), "every step had 8 samples"),
        (lambda sheet: sheet.lines[0]["samples"].__setitem__(0, [0, 9]), "each sample once"),
        (lambda sheet: [line.update(pid=9) for line in sheet.lines[20:21]], "first step to the"),
        (lambda sheet: [line.update(generation=1, pid=1) for line in sheet.lines], "on all 4"),
    ],
)
def test_a_claim_that_the_records_do_not_bear_out_is_named(evidence, sheets, spoil, claim):
    spoil(sheets[0])

    assert any(claim in text for text in broken(evidence, sheets))


@pytest.fixture
def temporary():
    """Return a folder with a short path: there will be sockets in it."""
    with tempfile.TemporaryDirectory(prefix="d-") as folder:
        yield Path(folder)


def start(temporary):
    return subprocess.Popen(
        [sys.executable, "examples/demo"],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(temporary), "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def users_of(folder):
    """Return the processes whose environment names a folder below this one."""
    found = []
    for process in psutil.process_iter():
        try:
            home = process.environ().get("EFLIB_HOME", "")
            if home.startswith(str(folder)) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:
            continue
    return found


@pytest.mark.processes
@pytest.mark.long
@pytest.mark.timeout(480)
def test_the_demo_shows_what_it_claims_and_leaves_nothing(temporary):
    demo = start(temporary)

    output, _ = demo.communicate(timeout=450)

    assert demo.returncode == 0, output
    assert "  NO  " not in output
    assert "4 -> 2 workers" in output
    assert "earliest deadline that would be accepted" in output
    assert list(temporary.iterdir()) == []
    assert users_of(temporary) == []


@pytest.mark.processes
@pytest.mark.slow
def test_ctrl_c_ends_the_demo_and_all_that_it_started(temporary):
    demo = start(temporary)
    end = time.monotonic() + 90
    while not any("eflib.agent" in " ".join(one.cmdline()) for one in users_of(temporary)):
        assert time.monotonic() < end, "no agent was started"
        time.sleep(0.2)

    demo.send_signal(signal.SIGINT)
    output, _ = demo.communicate(timeout=90)

    assert demo.returncode == 128 + signal.SIGINT, output
    assert "Traceback" not in output
    assert list(temporary.iterdir()) == []
    assert users_of(temporary) == []
