"""What a worker measures and says of itself."""

import itertools
import os
from unittest import mock

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from eflib.errors import StoreError
from eflib.messages.records import Progress
from eflib.trainer.elastic import reporting
from eflib.trainer.elastic.reporting import (
    MEASURED_SECONDS_MOST,
    MEASURED_STEPS,
    WARM_UP_STEPS,
    Reporter,
    StepClock,
)


@pytest.fixture
def clock(monkeypatch):
    """A clock of steps under a time that the test sets: call it with the seconds of each step."""
    now = [0.0]
    monkeypatch.setattr(reporting.time, "perf_counter", lambda: now[0])
    clock = StepClock()

    def steps(*seconds):
        for one in seconds:
            now[0] += one
            clock.tick()
        return clock

    return steps


def test_there_is_no_speed_before_the_warm_up_is_over(clock):
    assert clock(*[9.0] * WARM_UP_STEPS).steps_per_s() is None
    assert clock().measured() is None


def test_the_warm_up_does_not_count(clock):
    assert clock(*[9.0] * WARM_UP_STEPS, 0.5, 0.5).steps_per_s() == pytest.approx(2.0)


def test_a_measurement_waits_for_enough_steps_and_seconds(clock):
    assert clock(*[0.5] * (WARM_UP_STEPS + MEASURED_STEPS - 1)).measured() is None
    rate, spread, *_ = clock(0.5).measured()
    assert rate == pytest.approx(2.0)
    assert spread == pytest.approx(0.0)


def test_many_quick_steps_are_not_enough_until_the_time_is(clock):
    assert clock(*[0.001] * 100).measured() is None


def test_steps_too_quick_to_be_kept_one_by_one_are_measured_all_the_same(clock):
    found = clock(*[0.001] * 1500).measured()

    assert found.steps_per_s == pytest.approx(1000.0)
    assert found.seconds == pytest.approx(1.498)
    assert found.steps == 1500 - WARM_UP_STEPS


def test_processor_time_is_counted_from_the_end_of_the_warm_up(clock, monkeypatch):
    used = [5.0]
    monkeypatch.setattr(reporting.time, "process_time", lambda: used[0])
    clock(*[1.0] * WARM_UP_STEPS)
    used[0] += 8.0

    assert clock(*[1.0] * 16).measured().cpu_s == pytest.approx(0.5)


def test_a_cpu_is_named_with_its_cores():
    found = reporting.machine(torch.device("cpu"))

    assert found.device == f"cpu-{found.cores}-cores"
    assert 1 <= found.cores <= os.cpu_count()
    assert found.threads == torch.get_num_threads()


def test_the_memory_of_a_process_holds_its_tensors():
    before = reporting.memory_bytes(torch.device("cpu"))
    held = torch.ones(20_000_000)  # more than an allocator keeps for later: it asks the system

    assert reporting.memory_bytes(torch.device("cpu")) - before > 0.9 * held.nbytes


def test_a_slow_model_is_measured_by_few_steps(clock):
    rate, *_ = clock(*[9.0] * WARM_UP_STEPS, *[MEASURED_SECONDS_MOST / 2] * 2).measured()
    assert rate == pytest.approx(2 / MEASURED_SECONDS_MOST)


def test_one_hiccup_does_not_move_the_measured_speed(clock):
    rate, spread, *_ = clock(*[1.0] * (WARM_UP_STEPS + 20), 30.0).measured()
    assert rate == pytest.approx(1.0)
    assert spread == pytest.approx(0.0)


@given(
    usual=st.lists(st.floats(0.9, 1.1), min_size=2, max_size=300),
    stall=st.floats(5.0, 1e4),
    place=st.integers(0, 300),
)
def test_one_stall_of_any_length_does_not_move_the_reported_speed(usual, stall, place):
    steps = [1.0] * WARM_UP_STEPS + usual[:place] + [stall] + usual[place:]
    ends = itertools.accumulate(steps, initial=0.0)
    with mock.patch.object(reporting.time, "perf_counter", side_effect=ends):
        clock = StepClock()
        for _ in steps:
            clock.tick()
        assert 1 / 1.1 - 1e-9 < clock.steps_per_s() < 1 / 0.9 + 1e-9


def test_what_comes_again_counts(clock):
    steps = [1.0] * WARM_UP_STEPS + ([1.0] * 9 + [11.0]) * 20
    assert clock(*steps).steps_per_s() == pytest.approx(0.5, rel=0.05)


def test_a_new_generation_is_measured_from_the_start(clock):
    clock(*[1.0] * 20).restart()
    assert clock().steps_per_s() is None
    assert clock(*[1.0] * WARM_UP_STEPS, 0.25, 0.25).steps_per_s() == pytest.approx(4.0)


class Inbox:
    """A store that keeps what is put, and may be out."""

    def __init__(self):
        self.held, self.is_out = {}, False

    def put(self, key, message):
        if self.is_out:
            raise StoreError("the store is out")
        self.held[key] = message

    def post(self, stream, message):
        self.held.setdefault(stream, []).append(message)


def test_progress_is_written_by_who_has_some():
    inbox, documents = Inbox(), [None, Progress(global_step=3)]
    reporter = Reporter(inbox, "a", snapshot=lambda: documents.pop(0), look=lambda: None)
    reporter.write_progress()
    assert inbox.held == {}
    reporter.write_progress()
    assert inbox.held == {"jobs/a/progress": Progress(global_step=3)}


def test_training_goes_on_while_the_store_is_out(monkeypatch, capsys):
    inbox = Inbox()
    inbox.is_out = True
    looks = []

    class Stop:
        """An event that lets the thread take three turns, without waiting."""

        def wait(self, timeout=None):
            return len(looks) >= 3

    def look():
        looks.append(1)
        raise StoreError("the store is out")

    reporter = Reporter(inbox, "a", snapshot=lambda: None, look=look)
    monkeypatch.setattr(reporter, "_stop", Stop())
    reporter._run()
    assert len(looks) == 3
    assert capsys.readouterr().err.count("the store is out; training continues") == 3
