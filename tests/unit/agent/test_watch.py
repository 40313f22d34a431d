"""Which workers hang, judged from their pulses alone."""

import pytest

from eflib.agent.watch import SILENT, STEP, Watch
from eflib.pulse import Sign


class Node:
    """Workers whose pulses the test sets, looked at once a second."""

    def __init__(self):
        self.watch = Watch(silence=10.0)
        self.now = 1000.0
        self.used = {}
        self.signs = {}

    def pass_time(self, seconds, beating=()):
        """Look once a second; returns who hangs first, with the seconds that it took."""
        for second in range(1, seconds + 1):
            self.now += 1.0
            for worker in beating:
                self.beat(worker)
            found = self.watch.look(self.now, self.signs, lambda worker: self.used.get(worker, 0.0))
            if found:
                return second, found
        return seconds, {}

    def beat(self, worker, computing_since=0.0, bound=30.0):
        before = self.signs.get(worker)
        since = computing_since or (before.since if before else 0.0)
        self.signs[worker] = Sign(self.now, since, before.bound if before else bound)


@pytest.fixture
def node():
    node = Node()
    node.pass_time(1)
    return node


def test_a_worker_that_beats_does_not_hang_however_long_it_waits_for_others(node):
    assert node.pass_time(2000, beating=["a", "b"]) == (2000, {})


def test_a_frozen_worker_is_found_soon_after_the_bound_and_the_others_are_not(node):
    node.beat("frozen")
    seconds, found = node.pass_time(60, beating=["alive"])
    assert 10 < seconds <= 13
    assert list(found) == ["frozen"]
    assert (found["frozen"].kind, found["frozen"].reason) == (
        SILENT,
        "hung: gave no sign of life for 10 s",
    )


def test_a_worker_before_its_first_beat_is_left_alone(node):
    node.signs["starting"] = None
    assert node.pass_time(200) == (200, {})


def test_a_silent_worker_that_uses_processor_time_holds_the_interpreter_and_does_not_hang(node):
    node.beat("busy")
    for _ in range(60):
        node.used["busy"] = node.used.get("busy", 0.0) + 0.9
        assert node.pass_time(1) == (1, {})
    seconds, found = node.pass_time(5)
    assert (seconds <= 2, list(found)) == (True, ["busy"])


def test_a_worker_that_beats_hangs_when_it_computes_in_one_step_for_too_long(node):
    node.beat("stuck", computing_since=node.now)
    seconds, found = node.pass_time(60, beating=["stuck"])
    assert seconds == 31
    assert (found["stuck"].kind, found["stuck"].reason) == (
        STEP,
        "hung: computed in one step for more than 30 s",
    )


def test_without_a_bound_a_step_may_take_any_time(node):
    node.beat("slow", computing_since=node.now, bound=0.0)
    assert node.pass_time(1000, beating=["slow"]) == (1000, {})


def test_after_a_pause_of_the_agent_itself_all_begin_anew(node):
    node.beat("a")
    node.beat("b", computing_since=node.now)
    node.now += 3600.0  # the machine slept, or the agent was stopped
    assert node.pass_time(9)[1] == {}
    assert node.pass_time(9, beating=["a", "b"])[1] == {}


def test_a_worker_that_wakes_in_time_is_forgiven(node):
    node.beat("nap")
    assert node.pass_time(9) == (9, {})
    node.beat("nap")
    assert node.pass_time(9) == (9, {})
