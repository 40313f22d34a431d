"""Reports of progress: those that are as planned cost nothing, the others are planned for."""

import pytest

from eflib.scheduling import JobProgressed, PromiseBroken, TimePassed, allocation, scheduler
from eflib.scheduling.updates import ON_PLAN_DRIFT, ON_PLAN_SHARE
from tests.unit.scheduling.builders import Watched


@pytest.fixture
def plannings(monkeypatch):
    """How often the cluster was planned."""
    times = []

    def counted(book):
        times.append(book.now)
        allocation.allocate(book)

    monkeypatch.setattr(scheduler, "allocate", counted)
    return times


def test_a_report_that_is_as_planned_plans_nothing(plannings):
    cluster = Watched(4, safety_margin=0.1)
    cluster.submit("a", 400, deadline=500.0)
    cluster.submit("b", 400)
    plannings.clear()
    for now in range(5, 60, 5):
        assert cluster.handle(JobProgressed("a", 4.0 * now), float(now)) == ()
    assert plannings == []
    assert cluster.view("a").steps_done == pytest.approx(4.0 * 55)


@pytest.mark.parametrize("share", [0.5, 0.9, 1.2])
def test_a_job_that_is_slower_or_faster_than_planned_is_planned_anew(plannings, share):
    cluster = Watched(4, safety_margin=0.1)
    cluster.submit("a", 400, deadline=500.0)
    plannings.clear()
    cluster.handle(JobProgressed("a", 200 * share), 50.0)
    assert plannings == [50.0]


def test_small_lags_do_not_add_up_unseen(plannings):
    """Each report is 0.1 s later than the one before it let expect."""
    cluster = Watched(4, safety_margin=0.1)
    cluster.submit("a", 4000, deadline=2000.0)
    plannings.clear()
    lag, told = 0.0, 0.0
    for now in range(5, 500, 5):
        lag += 0.1
        cluster.handle(JobProgressed("a", 4.0 * (now - lag)), float(now))
        finish = cluster.view("a").projected_finish
        told = max(told, abs(finish - (1000.0 + lag)))
    assert 1 <= len(plannings) <= 4
    assert told <= max(ON_PLAN_DRIFT, ON_PLAN_SHARE * 1000.0)


def test_a_lag_that_leaves_the_row_too_short_is_planned_however_small(plannings):
    cluster = Watched(4)
    cluster.submit("a", 400, deadline=105.0)
    plannings.clear()
    cluster.handle(JobProgressed("a", 199.9), 50.0)
    assert plannings == [50.0]
    cluster.handle(TimePassed(), 100.0)
    assert cluster.holds("a") == 4


def test_a_lag_that_breaks_a_promise_is_said_at_once():
    cluster = Watched(1)
    cluster.submit("a", 100, deadline=100.5)
    commands = cluster.handle(JobProgressed("a", 49.0), 50.0)
    assert any(isinstance(command, PromiseBroken) for command in commands)


def test_a_report_of_a_job_that_is_not_there_plans_nothing(plannings):
    cluster = Watched(4)
    cluster.submit("a", 400, deadline=500.0)
    plannings.clear()
    assert cluster.handle(JobProgressed("nobody", 5.0), 10.0) == ()
    assert plannings == []
