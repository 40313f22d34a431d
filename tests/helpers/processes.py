"""Waiting for conditions by name, and making sure that a test leaves no process behind."""

import os
import signal
import time
import uuid
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

TEST_MARK = "EFLIB_TEST"
"""A variable that each process test sets, so that whatever descends from it can be found."""


def wait_until(condition, what, timeout=60.0, poll=0.01):
    """Return the first true value of ``condition``; fail with ``what`` when the bound passes."""
    end = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() >= end:
            pytest.fail(f"waited {timeout:g} s for {what}")
        time.sleep(poll)


def is_alive(pid):
    """Tell whether a process runs; a zombie does not."""
    with suppress(psutil.Error):
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return False


def freeze(pid):
    """Stop a process and wait until all its threads stand still: the signal takes its time."""
    os.kill(pid, signal.SIGSTOP)
    states = Path(f"/proc/{pid}/task").glob("*/stat")
    for file in states:
        wait_until(
            lambda file=file: file.read_text().rpartition(") ")[2].startswith("T"),
            f"thread {file.parent.name} of process {pid} to stop",
        )


def marked(mark):
    """Return the living processes that were started with this mark in their environment."""
    wanted = f"{TEST_MARK}={mark}".encode()
    found = []
    for pid in psutil.pids():
        with suppress(OSError, psutil.Error):
            environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
            if pid != os.getpid() and wanted in environment and is_alive(pid):
                found.append(psutil.Process(pid))
    return found


def describe(processes):
    """Return one line for each process, for a message."""
    lines = []
    for process in processes:
        with suppress(psutil.Error):
            lines.append(f"{process.pid} (parent {process.ppid()}): {process.cmdline()}")
    return "\n".join(lines)


def gone(processes):
    """Wait for processes that are known by pid or by ``psutil.Process`` to be gone."""
    pids = [getattr(process, "pid", process) for process in processes]
    wait_until(lambda: not any(is_alive(pid) for pid in pids), f"the end of processes {pids}")


@contextmanager
def leaving_no_process():
    """Fail if a process that was started inside is still there at the end, after ending it."""
    mark, outer = uuid.uuid4().hex, os.environ.get(TEST_MARK)
    os.environ[TEST_MARK] = mark
    try:
        yield
    finally:
        if outer is None:
            del os.environ[TEST_MARK]
        else:
            os.environ[TEST_MARK] = outer  # a shared cluster is around this one
        end = time.monotonic() + 20.0
        while (left := marked(mark)) and time.monotonic() < end:
            time.sleep(0.05)
        story = describe(left)
        for process in left:
            with suppress(psutil.Error):
                process.kill()
    assert not left, f"the test left processes behind:\n{story}"


@pytest.fixture
def no_process_left():
    """Fail the test that leaves a process behind, after ending it."""
    with leaving_no_process():
        yield
