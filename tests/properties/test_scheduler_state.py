"""Laws of a scheduler's state: written down and read again, it goes on as if nothing had been."""

import random

import msgspec
import pytest

from eflib.scheduling import NodeJoined, NodeLost, Scheduler, SchedulerState, cluster
from eflib.scheduling.invariants import check
from tests.properties.test_scheduler_walks import Walk


def written_and_read(state):
    return msgspec.json.decode(msgspec.json.encode(state), type=SchedulerState)


@pytest.mark.parametrize("seed", range(60))
def test_a_scheduler_restored_at_any_event_answers_the_rest_alike(seed):
    walk = Walk(2000 + seed)
    walk.run(40)
    settings = walk.scheduler.settings
    chance = random.Random(seed)
    cuts = {chance.randrange(len(walk.journal)) for _ in range(4)}
    again = Scheduler(settings)
    for number, (now, event) in enumerate(walk.journal):
        if number in cuts:
            state = again.state()
            assert written_and_read(state) == state
            again = Scheduler.restore(written_and_read(state), settings)
            assert again.state() == state
            assert not check(again)
        assert again.handle(event, now) == walk.commands[number], (seed, number)
    assert again.state() == walk.scheduler.state()
    now = walk.now + 1.0
    for job_id in walk.scheduler.jobs():
        assert again.view(job_id, now) == walk.scheduler.view(job_id, now)


def test_a_scheduler_restored_after_each_event_decides_as_one_that_never_was():
    walk = Walk(7)
    walk.run(60)
    again = Scheduler(walk.scheduler.settings)
    for (now, event), commands in zip(walk.journal, walk.commands, strict=True):
        again = Scheduler.restore(written_and_read(again.state()), walk.scheduler.settings)
        assert again.handle(event, now) == commands


def test_a_fresh_scheduler_has_a_state_too():
    again = Scheduler.restore(written_and_read(Scheduler().state()))
    assert again.state() == Scheduler().state()
    assert again.handle(NodeJoined("a", 2), 5.0) == ()


def test_the_positions_of_lost_nodes_are_not_kept_for_ever(monkeypatch):
    monkeypatch.setattr(cluster, "REMEMBERED", 3)
    scheduler = Scheduler()
    for number in range(20):
        scheduler.handle(NodeJoined(f"pod-{number}", 4), float(number))
        scheduler.handle(NodeLost(f"pod-{number}"), float(number))
    assert [known.node for known in scheduler.state().nodes] == ["pod-17", "pod-18", "pod-19"]
