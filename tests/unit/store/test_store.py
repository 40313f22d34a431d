"""The promises of ``Store``, held by every implementation."""

import multiprocessing
import threading

import pytest

from eflib.errors import StoreError
from eflib.store import open_store, streams, wait_for
from tests.unit.store import writers

SPAWN = multiprocessing.get_context("spawn")
BOUND = 60


def run_together(*calls):
    processes = [SPAWN.Process(target=target, args=args) for target, *args in calls]
    for process in processes:
        process.start()
    for process in processes:
        process.join(BOUND)
    assert [process.exitcode for process in processes] == [0] * len(processes)


def test_a_missing_key_is_none_at_once(store):
    assert store.get("nothing/here") is None


@pytest.mark.parametrize("value", [b"", b"x", b"\x00\xff\n", b"-", bytes(range(256)) * 400])
def test_a_value_comes_back_as_it_was_written(store, value):
    store.set("a/value", value)
    assert store.get("a/value") == value


def test_the_last_value_holds(store):
    store.set("k", b"1")
    store.set("k", b"2")
    assert store.get("k") == b"2"


@pytest.mark.parametrize(
    "key", ["a", "a/b c/d", "..", "a/../b", ".hidden", "ü/@x", "a%2Fb", "a=b~"]
)
def test_a_key_may_have_any_characters(store, key):
    store.set(key, b"v")
    assert store.get(key) == b"v"
    assert store.list() == [key]


def test_a_key_and_a_longer_one_below_it_are_two_keys(store):
    store.set("a", b"1")
    store.set("a/b", b"2")
    assert (store.get("a"), store.get("a/b")) == (b"1", b"2")
    assert store.list("a") == ["a", "a/b"]


@pytest.mark.parametrize("key", ["", "/a", "a/", "a//b"])
def test_a_key_with_an_empty_part_is_refused(store, key):
    with pytest.raises(StoreError, match="a key has an empty part"):
        store.set(key, b"v")
    with pytest.raises(StoreError, match="a key has an empty part"):
        store.compare_and_set(key, None, b"v")


def test_absent_is_claimed_once(store):
    assert store.compare_and_set("claim", None, b"first")
    assert not store.compare_and_set("claim", None, b"second")
    assert store.get("claim") == b"first"


def test_a_claim_with_the_value_that_stands_there_is_not_won(store):
    assert store.compare_and_set("claim", None, b"same")
    assert not store.compare_and_set("claim", None, b"same")


def test_an_expected_value_is_exchanged_and_another_is_not(store):
    store.set("k", b"old")
    assert not store.compare_and_set("k", b"other", b"new")
    assert store.get("k") == b"old"
    assert store.compare_and_set("k", b"old", b"new")
    assert store.get("k") == b"new"


def test_an_absent_key_does_not_hold_an_expected_value(store):
    assert not store.compare_and_set("k", b"old", b"new")
    assert store.get("k") is None


def test_an_empty_value_is_not_an_absent_one(store):
    store.set("k", b"")
    assert not store.compare_and_set("k", None, b"new")
    assert store.compare_and_set("k", b"", b"new")


def test_delete_says_whether_there_was_something(store):
    store.set("k/a", b"1")
    assert store.delete("k/a")
    assert not store.delete("k/a")
    assert store.get("k/a") is None
    assert store.list() == []


def test_a_deleted_key_can_be_claimed_again(store):
    store.set("k/a", b"1")
    store.delete("k/a")
    assert store.compare_and_set("k/a", None, b"2")
    assert store.list("k/") == ["k/a"]


def test_list_takes_any_prefix_and_sorts(store):
    for key in ("jobs/b/status", "jobs/a/status", "jobs/a/generations/2", "jobs-old", "nodes/x"):
        store.set(key, b"")
    assert store.list("jobs/") == ["jobs/a/generations/2", "jobs/a/status", "jobs/b/status"]
    assert store.list("jobs/a/gen") == ["jobs/a/generations/2"]
    assert store.list("jo") == [
        "jobs-old",
        "jobs/a/generations/2",
        "jobs/a/status",
        "jobs/b/status",
    ]
    assert store.list("none/") == []
    assert len(store.list()) == 5


def test_entries_are_numbered_from_zero_and_read_from_anywhere(store, stream):
    assert [store.append(stream, value) for value in (b"a", b"b", b"c")] == [0, 1, 2]
    assert store.read(stream, 0) == [(0, b"a"), (1, b"b"), (2, b"c")]
    assert store.read(stream, 2) == [(2, b"c")]
    assert store.read(stream, 3) == []


def test_a_stream_is_not_among_the_keys(store, stream):
    store.append(stream, b"a")
    assert store.list() == []


def test_indices_go_on_after_a_trim(store, stream):
    for value in (b"a", b"b", b"c"):
        store.append(stream, value)
    store.trim(stream, 2)
    assert store.read(stream, 0) == [(2, b"c")]
    store.trim(stream, 3)
    store.trim(stream, 1)
    assert store.read(stream, 0) == []
    assert store.append(stream, b"d") == 3
    assert store.read(stream, 0) == [(3, b"d")]


def test_an_entry_behind_a_stale_hint_is_not_lost(store, stream):
    for value in (b"a", b"b", b"c"):
        store.append(stream, value)
    store.trim(stream, 3)
    store.set(f"streams/{stream}/tail", b"1")  # as a slow writer leaves it
    assert store.append(stream, b"d") == 3


def test_a_stream_reaches_as_far_as_it_ever_had_entries(store, stream):
    for number in range(4):
        store.append(stream, str(number).encode())
    assert [store.reaches(stream, end) for end in (0, 1, 4, 5)] == [True, True, True, False]
    store.trim(stream, 3)
    assert [store.reaches(stream, end) for end in (0, 2, 4, 5)] == [True, True, True, False]


def test_an_entry_put_into_a_trimmed_place_moves_to_the_end(store, stream, monkeypatch):
    for value in (b"a", b"b", b"c"):
        store.append(stream, value)
    store.trim(stream, 3)
    monkeypatch.setattr(streams, "_near_end", lambda store, stream: 1)  # looked before the trim
    assert store.append(stream, b"d") == 3
    assert store.read(stream, 0) == [(3, b"d")]


def test_races_among_processes_lose_nothing_and_have_one_winner(store, url, stream):
    run_together(*[(writers.race, url, stream, name, 40) for name in "abc"])
    assert store.get("count") == b"120", "no increment is lost"
    entries = store.read(stream, 0)
    assert [index for index, _ in entries] == list(range(120))
    for name in "abc":
        own = [value.decode() for _, value in entries if value.startswith(name.encode())]
        assert own == [f"{name}:{number}" for number in range(40)], "in the order of its writer"
    won = [int(value) for _, value in store.read(f"{stream}/won", 0)]
    assert sorted(won) == list(range(40)), "each key has one winner"


def test_a_killed_writer_leaves_whole_values_and_no_lock(store, url, stream):
    started = SPAWN.Event()
    process = SPAWN.Process(target=writers.write_for_ever, args=(url, stream, started))
    process.start()
    assert started.wait(BOUND)
    process.kill()
    process.join(BOUND)
    for value in (store.get("torn/set"), store.get("torn/swap")):
        number = value.split()[0]
        assert value == (number + b" ") * 2000
    assert store.compare_and_set("torn/swap", store.get("torn/swap"), b"after")
    index = store.append(stream, b"after")
    assert [place for place, _ in store.read(stream, 0)] == list(range(index + 1))
    store.trim(stream, index + 1)


def test_threads_may_share_a_store(store, stream):
    def append():
        for _ in range(20):
            store.append(stream, b"x")

    threads = [threading.Thread(target=append) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(BOUND)
    assert [index for index, _ in store.read(stream, 0)] == list(range(80))


def test_the_url_opens_the_same_store(store, url):
    store.set("k", b"1")
    other = open_store(store.url)
    assert other.get("k") == b"1"
    other.close()


def test_wait_for_returns_what_it_waited_for():
    answers = iter([None, [], "there"])
    slept = []
    found = wait_for(lambda: next(answers), timeout=5, what="it", poll=0.5, sleep=slept.append)
    assert found == "there"
    assert len(slept) == 2


def test_wait_for_names_what_did_not_come():
    times = iter([0.0, 1.0, 2.0, 3.0])
    with pytest.raises(StoreError) as caught:
        wait_for(
            lambda: None,
            timeout=2.5,
            what="the reply of the coordinator",
            hint="start one",
            clock=lambda: next(times),
            sleep=lambda seconds: None,
        )
    assert caught.value.problem == "waited 2.5 s for the reply of the coordinator"
    assert caught.value.hint == "start one"
