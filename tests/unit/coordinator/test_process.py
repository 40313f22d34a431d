"""Who serves a store: one coordinator, wherever it runs."""

import os
import socket
import subprocess
import sys

import pytest

from eflib.coordinator.process import other_coordinator, refuse_a_second
from eflib.errors import StoreError, UsageError
from eflib.messages.records import CoordinatorRecord
from eflib.store import keys, open_store
from eflib.store.signed import SignedStore

KEY = b"k" * 32


@pytest.fixture
def store(tmp_path):
    signed = SignedStore(open_store(tmp_path / "store"), KEY)
    yield signed
    signed.close()


def write(store, *, host="node0", pid=12, beats=1, stopped=False):
    record = CoordinatorRecord(host=host, pid=pid, beats=beats, stopped=stopped)
    store.put(keys.COORDINATOR, record)


class Beating:
    """A store whose coordinator's record counts on whenever it is read."""

    def __init__(self, store):
        self.store = store
        self.beats = 1

    def fetch(self, key, kind):
        self.beats += 1
        write(self.store, beats=self.beats)
        return self.store.fetch(key, kind)


def test_a_fresh_store_has_none(store):
    assert other_coordinator(store) is None
    refuse_a_second(store)


def test_one_on_another_machine_is_believed_until_it_says_goodbye(store):
    write(store)
    assert other_coordinator(store).host == "node0"
    write(store, stopped=True)
    assert other_coordinator(store) is None


def test_on_this_machine_its_process_is_looked_for(store):
    words = [sys.executable, "-c", "input()", "eflib.coordinator"]
    with subprocess.Popen(words, stdin=subprocess.PIPE) as process:
        write(store, host=socket.gethostname(), pid=process.pid)
        assert other_coordinator(store).pid == process.pid
        process.communicate(b"\n")
    assert other_coordinator(store) is None


def test_ones_own_record_from_before_is_no_other(store):
    write(store, host=socket.gethostname(), pid=os.getpid())
    assert other_coordinator(store) is None


def test_a_second_one_is_refused_where_the_first_beats(store):
    with pytest.raises(UsageError, match=r"is already running on node0 \(pid 12\)") as caught:
        refuse_a_second(Beating(store), within=60.0)
    assert "efctl status" in caught.value.hint


def test_one_that_does_not_beat_any_more_is_taken_over(store):
    write(store)
    refuse_a_second(store, within=0.0)


class BeatingWithAnotherKey:
    """A plain store in which a coordinator with another key counts on whenever it is read."""

    def __init__(self, store):
        self.store = store
        self.url = store.url
        self.theirs = SignedStore(store, b"x" * 32)
        self.beats = 0

    def get(self, key):
        self.beats += 1
        write(self.theirs, beats=self.beats)
        return self.store.get(key)

    def close(self):
        self.store.close()


def test_a_coordinator_of_another_key_that_beats_is_not_written_over(store):
    store.store = BeatingWithAnotherKey(store.store)
    with pytest.raises(StoreError, match="with another key is running") as caught:
        refuse_a_second(store, within=60.0)
    assert "same key file" in caught.value.hint


def test_garbage_in_place_of_its_record_keeps_no_coordinator_from_starting(store):
    store.store.set(keys.COORDINATOR, b"garbage")
    refuse_a_second(store, within=0.0)
