"""The pause of a change of size: from the last step of the old size to the first of the new one."""

import pytest

from eflib.messages.codec import facts_of
from eflib.messages.generations import Generation, Member
from eflib.trainer.elastic import rescaling
from eflib.trainer.elastic.rescaling import Rescale, RescaleClock


def of_size(number, size):
    members = tuple(Member(f"w{rank}", "n0", rank) for rank in range(size))
    return Generation(number=number, members=members, reason="why")


class Worker:
    """A worker whose time the test moves."""

    def __init__(self, monkeypatch):
        self.now = 100.0
        monkeypatch.setattr(rescaling.time, "perf_counter", lambda: self.now)
        self.clock = RescaleClock(64, 1)
        self.clock.leave()

    def enter(self, number, size, **parts):
        self.now += sum(parts.values())
        self.clock.enter(of_size(number, size), 7, parts)

    def step(self, seconds, passes=1):
        self.now += seconds
        return self.clock.step_done(passes)


@pytest.fixture
def worker(monkeypatch):
    made = Worker(monkeypatch)
    made.enter(1, 4, form=0.5)
    made.step(1.0)
    return made


def test_an_orderly_change_counts_from_the_boundary_at_which_the_size_is_left(worker):
    worker.now += 20.0  # validation after the step: it is no part of the change
    worker.clock.leave()
    worker.now += 0.25
    worker.enter(2, 2, leave=0.5, form=1.0)
    found = worker.step(2.0, passes=3)

    assert found.pause_s == pytest.approx(3.75)
    assert found.parts == pytest.approx({"agree": 0.25, "leave": 0.5, "form": 1.0, "first_step": 2})
    assert (found.from_, found.to, found.reason) == (4, 2, "why")
    assert (found.shares, found.passes) == ("16x4 -> 32x2", "1 -> 3")


def test_a_lost_peer_counts_from_the_last_step_and_not_from_when_it_was_noticed(worker):
    worker.now += 10.0
    worker.clock.lose()
    worker.now += 3.0
    worker.enter(2, 3, form=1.0)
    found = worker.step(1.0)

    assert found.pause_s == pytest.approx(15.0)
    assert found.parts == pytest.approx({"lost": 10, "agree": 3, "form": 1, "first_step": 1})
    assert sum(found.parts.values()) == pytest.approx(found.pause_s)


@pytest.mark.parametrize("leave", ["leave", "lose"])
def test_changes_without_a_step_in_between_are_one_pause_from_the_size_that_took_steps(
    worker, leave
):
    worker.clock.lose()
    worker.enter(2, 3, form=5.0)
    worker.now += 5.0
    getattr(worker.clock, leave)()
    worker.enter(3, 2, form=4.0)
    found = worker.step(1.0)

    assert (found.from_, found.to) == (4, 2)
    assert found.pause_s == pytest.approx(15.0)
    assert worker.step(1.0) is None


def test_the_first_generation_comes_from_nothing(monkeypatch):
    made = Worker(monkeypatch)
    made.enter(1, 3, form=0.5)
    found = made.step(1.0)
    assert (found.from_, found.to, found.shares) == (0, 3, "0 -> 22+21+21")
    assert found.passes == "0 -> 1"


def test_a_rescale_is_a_message_with_the_field_from():
    message = Rescale(2, 10, from_=4, to=2, pause_s=0.1, parts={"form": 0.05}).to_message("a")
    assert (message.job, message.generation, message.step) == ("a", 2, 10)
    assert facts_of(message)["from"] == 4
    assert "from_" not in facts_of(message)
