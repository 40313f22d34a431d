"""A store that is out for a while, or loses what it had: waited for, and nothing is lost."""

import pytest

from eflib.coordinator import timeouts
from eflib.errors import StoreError
from eflib.store import SignedStore, open_store
from tests.unit.coordinator.host import KEY


class Broken:
    """A store that is out whenever a test says so, or after some more calls."""

    def __init__(self, store):
        self.store = store
        self.is_out = False
        self.calls_left = None

    def __getattr__(self, name):
        method = getattr(self.store, name)

        def call(*arguments):
            if self.calls_left is not None:
                self.calls_left -= 1
            if self.is_out or (self.calls_left is not None and self.calls_left < 0):
                raise StoreError("lost the store")
            return method(*arguments)

        return call


@pytest.fixture
def broken(host, monkeypatch):
    monkeypatch.setattr(timeouts, "RETRY", 0.0)
    store = Broken(host.store.store)
    host.store = SignedStore(store, KEY)
    return store


def test_a_short_outage_is_survived_and_everything_is_done_afterwards(host, broken):
    host.start()
    host.node()
    host.turn()
    request = host.submit()
    broken.is_out = True
    for _ in range(20):
        host.now += 1.0
        assert host.coordinator._turn_or_wait() is False
    broken.is_out = False
    host.coordinator._turn_or_wait()
    host.coordinator._turn_or_wait()
    assert host.reply(request).job == "a-1"
    assert list(host.coordinator._plane.nodes) == ["n0"]


def test_an_outage_in_the_middle_of_anything_loses_nothing(host, broken):
    host.start()
    host.node()
    host.turn()
    for calls in range(60):
        request = host.submit(f"j{calls}")
        broken.calls_left = calls
        host.coordinator._turn_or_wait()
        broken.calls_left = None
        for _ in range(3):
            host.beat("n0", calls)
            host.coordinator._turn_or_wait()
        job = host.reply(request).job
        assert job == f"j{calls}-{calls + 1}"
        assert host.status(job) is not None
    assert host.coordinator._plane.requests.num_jobs == 60


def test_an_outage_that_lasts_ends_the_coordinator_with_its_cause(host, broken):
    host.start()
    broken.is_out = True
    for _ in range(int(timeouts.OUTAGE)):
        host.now += 1.0
        host.coordinator._turn_or_wait()
    host.now += 2.0
    with pytest.raises(StoreError, match="lost the store"):
        host.coordinator._turn_or_wait()
    broken.is_out = False


def test_a_store_that_lost_all_it_had_is_filled_again_and_heard(running, tmp_path):
    old = running.store.store
    running.store.store = open_store(tmp_path / "fresh")
    running.turn(2, seconds=timeouts.BEAT)
    request = running.ask("cancel", job="nobody")
    running.turn()
    assert running.reply(request).error.code == "usage"
    assert running.status("a-1").state == "RUNNING"
    assert len(running.assigned()) == 4
    running.store.store = old
