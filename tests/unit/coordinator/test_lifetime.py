"""One coordinator for a home: who may start, when it ends by itself, and its signs of life."""

import threading

import pytest
from filelock import FileLock

from eflib import home as places
from eflib.coordinator import timeouts
from eflib.coordinator.coordinator import Coordinator
from eflib.coordinator.process import is_coordinator_alive
from eflib.errors import UsageError
from eflib.messages.records import (
    CoordinatorRecord,
)
from eflib.messages.replies import Reply
from eflib.store import keys


def test_a_second_coordinator_of_one_home_is_refused(host, monkeypatch):
    monkeypatch.setattr(timeouts, "LOCK", 0.02)
    with (
        FileLock(places.coordinator_lock(host.home)),
        pytest.raises(UsageError, match="a coordinator is already running with") as caught,
    ):
        host.make().run()
    assert caught.value.hint == "use it, as in: efctl status"


def test_a_look_whether_one_is_alive_does_not_keep_a_coordinator_from_starting(host, monkeypatch):
    """The look holds the lock for a moment; a start in that moment must wait it out."""
    asked = threading.Event()

    class Asked(FileLock):
        def acquire(self, *args, **kwargs):
            asked.set()
            return super().acquire(*args, **kwargs)

    def look():
        with FileLock(places.coordinator_lock(host.home)):
            held.set()
            asked.wait(timeouts.LOCK)

    held = threading.Event()
    looker = threading.Thread(target=look)
    looker.start()
    assert held.wait(timeouts.LOCK)
    monkeypatch.setattr("eflib.coordinator.coordinator.FileLock", Asked)
    coordinator = host.make()
    coordinator.stop()
    coordinator.run()
    looker.join(timeouts.LOCK)
    assert asked.is_set()


def test_alive_means_that_the_lock_is_held(host):
    assert not is_coordinator_alive(host.home)
    with FileLock(places.coordinator_lock(host.home)):
        assert is_coordinator_alive(host.home)
    assert not is_coordinator_alive(host.home)


def run_with_jumping_clock(host, jump, **settings):
    def clock():
        host.now += jump
        return host.now

    clocks = {"clock": clock, "monotonic": lambda: host.now}
    host.coordinator = Coordinator(host.store, host.home, **clocks, **settings)
    host.coordinator.run()


def test_a_managed_one_ends_when_no_first_job_comes(host, monkeypatch):
    monkeypatch.setattr(timeouts, "LOOP", 0)
    begin = host.now
    run_with_jumping_clock(host, 5.0, managed=True)
    assert timeouts.FIRST_JOB < host.now - begin < timeouts.FIRST_JOB + 50
    assert host.store.fetch(keys.COORDINATOR, CoordinatorRecord).stopped is True
    assert not is_coordinator_alive(host.home)


def test_a_managed_one_that_had_a_job_ends_soon_after_it(host):
    host.start(managed=True)
    host.submit()
    host.turn()
    host.turn(3, seconds=timeouts.FIRST_JOB)
    assert not host.coordinator._stop.is_set()
    host.ask("cancel", job="a")
    host.turn()
    host.turn(seconds=timeouts.IDLE - 1)
    assert not host.coordinator._stop.is_set()
    host.turn(seconds=2)
    assert host.coordinator._stop.is_set()


def test_one_that_ends_idle_leaves_a_snapshot_of_next_to_nothing_and_the_old_one_beside_it(
    host, monkeypatch
):
    monkeypatch.setattr(timeouts, "LOOP", 0)
    host.submit()
    host.ask("cancel", job="a")
    run_with_jumping_clock(host, 1.0, managed=True)
    folder = places.journal_folder(host.home)
    assert host.journal() == ""
    assert '"plane":null' in max(folder.glob("*.snapshot")).read_text()
    assert any('"cancel"' in file.read_text() for file in folder.glob("*.log"))

    host.start()
    request = host.submit()
    host.turn()
    assert host.reply(request).job == "a-2"


def test_one_in_the_foreground_never_ends_by_itself(host):
    host.start()
    host.turn(5, seconds=10 * timeouts.FIRST_JOB)
    assert not host.coordinator._stop.is_set()


@pytest.mark.parametrize(
    ("managed", "busy", "stops"),
    [(True, False, True), (True, True, False), (False, False, False)],
)
def test_release_ends_a_managed_one_that_is_idle_at_once(host, managed, busy, stops):
    host.start(managed=managed)
    if busy:
        host.submit()
        host.turn()
    request = host.ask("release")
    host.turn()
    assert host.reply(request) == Reply(stops=stops)
    assert host.coordinator._stop.is_set() is stops


def test_its_record_counts_beats(host):
    host.start()
    host.turn(3, seconds=timeouts.BEAT)
    record = host.store.fetch(keys.COORDINATOR, CoordinatorRecord)
    assert record.beats == 3
    assert record.stopped is False
