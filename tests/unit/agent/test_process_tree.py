"""Families of real, small processes, found and ended."""

import os
import subprocess
import sys
import uuid

import psutil
import pytest

from eflib.agent import process_tree
from tests.helpers.processes import gone, is_alive, wait_until

SLEEP = "import time; time.sleep(600)"
PARENT = f"""
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "{SLEEP}"], start_new_session=True)
print(child.pid, flush=True)
time.sleep(600)
"""


@pytest.fixture
def tag():
    return f"test-{uuid.uuid4().hex}"


@pytest.fixture
def start(tag):
    """Start a small tagged process; all are gone after the test."""
    started = []

    def run(code, **options):
        environment = {**os.environ, process_tree.TAG: tag}
        process = subprocess.Popen(
            [sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, **options
        )
        started.append(process)
        return process

    yield run
    process_tree.end_tagged(tag, seconds=10.0)
    for process in started:
        process.wait()
        process.stdout.close()


def test_all_that_carries_a_tag_is_found_whatever_its_session(start, tag):
    one, two = start(SLEEP), start(SLEEP, start_new_session=True)
    wait_until(lambda: len(process_tree.tagged(tag)) == 2, "both processes to be found")

    assert {process.pid for process in process_tree.tagged(tag)} == {one.pid, two.pid}
    assert process_tree.tagged("another") == []


def test_descendants_are_found_through_all_sessions(start):
    parent = start(PARENT)
    child = int(parent.stdout.readline())

    assert [process.pid for process in process_tree.descendants([parent.pid])] == [child]


def test_a_family_is_ended_to_the_last(start, tag):
    parent = start(PARENT)
    child = int(parent.stdout.readline())

    assert process_tree.end_tagged(tag, seconds=10.0) == []

    parent.wait()
    gone([parent.pid, child])


def test_those_known_by_pid_are_ended_without_a_tag(tag):
    process = subprocess.Popen([sys.executable, "-c", SLEEP])
    known = psutil.Process(process.pid)

    left = process_tree.end_tagged(
        tag, seconds=10.0, known=lambda: [known] if is_alive(process.pid) else []
    )

    assert left == []
    assert process.wait() == -9


def test_what_cannot_be_ended_is_named_after_the_bound():
    class Immortal:
        pid = 7

        def kill(self):
            pass

        def cmdline(self):
            return []

    assert process_tree.end_all(lambda: [Immortal()], seconds=0.05) == [7]


def test_a_resource_tracker_may_clean_up_before_it_is_killed(start, tag, monkeypatch):
    tracker = start("import sys; sys.stdin.read()", stdin=subprocess.PIPE)
    monkeypatch.setattr(process_tree, "is_tracker", lambda process: process.pid == tracker.pid)
    asked = []

    def find():
        asked.append(tracker.pid)
        if len(asked) == 3:
            tracker.stdin.close()  # its last client has ended
            tracker.wait()
        return process_tree.tagged(tag)

    assert process_tree.end_all(find, seconds=60.0) == []
    assert tracker.returncode == 0


def test_a_signal_to_a_group_that_is_gone_is_no_error():
    process = subprocess.Popen([sys.executable, "-c", ""], start_new_session=True)
    process.wait()

    assert not process_tree.signal_group(process.pid, 9)


def test_a_signal_reaches_a_process_that_does_not_lead_its_group_yet():
    process = subprocess.Popen([sys.executable, "-c", SLEEP])

    assert process_tree.signal_group(process.pid, 9)
    assert process.wait() == -9


def test_helpers_find_eflib_wherever_they_are_started(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "/somewhere")

    path = process_tree.path_for_helpers()

    assert path.endswith(f"{os.pathsep}/somewhere")
    command = [sys.executable, "-c", "import eflib; print(eflib.__file__)"]
    subprocess.run(command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": path}, check=True)


@pytest.mark.parametrize("nothing", [None, "1", -1, 0.5, 10**30, [], 2**31 - 1])
def test_what_is_no_process_does_not_run(nothing):
    assert not process_tree.is_alive(nothing)


def test_a_process_runs_until_it_has_ended_waited_for_or_not():
    process = subprocess.Popen([sys.executable, "-c", SLEEP])
    known = psutil.Process(process.pid)
    assert process_tree.is_alive(known)
    assert process_tree.is_alive(process.pid)
    process.kill()
    wait_until(lambda: not process_tree.is_alive(known), "its end")
    assert not process_tree.is_alive(process.pid)
    process.wait()
    assert not process_tree.is_alive(known)
