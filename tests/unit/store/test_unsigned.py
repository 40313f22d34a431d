"""What anybody may write into a store without the key: no reader may fail or work long over it."""

import pytest
from torch.distributed import TCPStore

from eflib.errors import TooLargeError
from eflib.store.base import LONGEST_VALUE

NONSENSE = [
    b"",
    b"garbage",
    b"-5",
    b"0",
    b"17",
    b"12.5",
    b"10" + b"0" * 29,
    b"9" * 5000,
    b"123456789012345",
    "٣".encode(),
    b"\xff\xfe",
    b"[" * 100_000,
    b'"a"',
    b"{}",
    b'[1, null, "", "/", "//", "..", "a/b"]',
]
"""Values that an unsigned write may leave where a number or a list of names should be."""
NO_NUMBERS = [value for value in NONSENSE if not value.isdigit()]


class Counted:
    """Counts the calls of a store's ``get``, ``compare_and_set`` and ``delete``."""

    def __init__(self, store, monkeypatch):
        self.calls = 0
        for name in ("get", "compare_and_set", "delete"):
            monkeypatch.setattr(store, name, self._counting(getattr(store, name)))

    def _counting(self, method):
        def call(*arguments):
            self.calls += 1
            return method(*arguments)

        return call


def fill(store, stream, *, trimmed):
    for number in range(5):
        store.append(stream, str(number).encode())
    store.trim(stream, trimmed)


@pytest.mark.parametrize("value", NONSENSE, ids=range(len(NONSENSE)))
@pytest.mark.parametrize("name", ["tail", "floor"])
@pytest.mark.parametrize("trimmed", [0, 3, 5])
def test_a_stream_goes_on_whatever_stands_at_its_tail_or_floor(
    store, stream, monkeypatch, value, name, trimmed
):
    fill(store, stream, trimmed=trimmed)
    store.set(f"streams/{stream}/{name}", value)
    counted = Counted(store, monkeypatch)
    old = [(number, str(number).encode()) for number in range(trimmed, 5)]
    assert store.read(stream, 0) == old
    assert store.reaches(stream, 5)
    assert store.append(stream, b"next") == 5
    assert store.read(stream, 5) == [(5, b"next")]
    store.trim(stream, 6)
    assert store.append(stream, b"last") == 6
    assert store.read(stream, 0) == [(6, b"last")]
    assert counted.calls < 300


@pytest.mark.parametrize("value", NO_NUMBERS, ids=range(len(NO_NUMBERS)))
@pytest.mark.parametrize("trimmed", [0, 3, 5])
def test_a_stream_goes_on_whatever_stands_at_both_numbers(store, stream, value, trimmed):
    fill(store, stream, trimmed=trimmed)
    for name in ("tail", "floor"):
        store.set(f"streams/{stream}/{name}", value)
    store.set(f"streams/{stream}/²", value)  # a digit that is no number
    assert store.append(stream, b"next") == 5
    assert store.read(stream, 5) == [(5, b"next")]


def test_who_has_read_a_stream_puts_the_number_right_that_writers_go_by(store, stream, monkeypatch):
    fill(store, stream, trimmed=5)
    store.set(f"streams/{stream}/floor", b"garbage")
    store.set(f"streams/{stream}/tail", b"1")
    monkeypatch.setattr(store, "list_all", lambda prefix: [])  # a server that lists nothing
    store.set(f"streams/{stream}/0", b"written by somebody without the key")
    assert store.read(stream, 5) == []
    assert store.append(stream, b"next") == 5
    assert store.read(stream, 5) == [(5, b"next")]


def test_an_absurd_number_is_said_once_and_then_put_right(store, stream, caplog):
    fill(store, stream, trimmed=3)
    store.set(f"streams/{stream}/floor", b"garbage")
    for _ in range(3):
        store.read(stream, 0)
    assert caplog.text.count(f"at key streams/{stream}/floor cannot be right") == 1
    store.trim(stream, 4)
    assert store.get(f"streams/{stream}/floor") == b"4"


def test_a_stream_that_was_trimmed_to_nothing_by_an_older_eflib_goes_on(store, stream):
    fill(store, stream, trimmed=5)
    store.delete(f"streams/{stream}/4")
    assert store.read(stream, 0) == []
    assert store.reaches(stream, 5)
    assert store.append(stream, b"next") == 5
    assert store.read(stream, 5) == [(5, b"next")]


@pytest.mark.parametrize("value", NONSENSE, ids=range(len(NONSENSE)))
@pytest.mark.parametrize("folder", ["", "nodes", "nodes/n0"])
def test_keys_are_listed_whatever_stands_at_a_folder_s_index(tcp_store, value, folder):
    raw = TCPStore("127.0.0.1", int(tcp_store.url.rpartition(":")[2]), is_master=False)
    tcp_store.set("nodes/n0/record", b"r")
    tcp_store.set("top", b"t")
    raw.set(f"folders/{folder}", b"\0" * 8 + value)
    try:
        listed = tcp_store.list()
        if hasattr(raw, "list_keys"):
            assert listed == ["nodes/n0/record", "top"]
        tcp_store.set("nodes/n0/heartbeat", b"h")
        tcp_store.set("nodes/n1/record", b"r")
        tcp_store.set("next", b"n")
        new = {"next", "nodes/n0/heartbeat", "nodes/n1/record"}
        # Without list_keys what the index had lost may be found again through its new neighbours.
        assert {*listed, *new} <= set(tcp_store.list()) <= {*listed, *new, "nodes/n0/record", "top"}
        for key in tcp_store.list():
            assert tcp_store.delete(key)
        assert tcp_store.list() == []
    finally:
        for key in ("nodes/n0/record", "nodes/n0/heartbeat", "nodes/n1/record", "top", "next"):
            tcp_store.delete(key)
        raw.set(f"folders/{folder}", b"\0" * 8 + b"[]")


def test_a_value_that_was_written_without_a_nonce_is_one_that_nobody_can_use(tcp_store):
    raw = TCPStore("127.0.0.1", int(tcp_store.url.rpartition(":")[2]), is_master=False)
    raw.set("values/k", b"x")
    assert tcp_store.get("k") == b""
    tcp_store.set("k", b"v")
    assert tcp_store.get("k") == b"v"
    tcp_store.delete("k")


def test_what_stands_for_absence_on_the_server_keeps_nobody_from_writing(tcp_store):
    raw = TCPStore("127.0.0.1", int(tcp_store.url.rpartition(":")[2]), is_master=False)
    for write in (
        lambda: tcp_store.compare_and_set("k", None, b"v"),
        lambda: tcp_store.set("k", b"v") is None,
    ):
        raw.set("values/k", "-")
        raw.set("folders/", "-")
        assert tcp_store.get("k") is None
        assert write()
        assert tcp_store.get("k") == b"v"
        assert "k" in tcp_store.list()
        tcp_store.delete("k")


def test_a_value_that_is_too_large_is_refused_and_the_store_can_be_used_on(store, stream):
    large = b"x" * (LONGEST_VALUE + 1)
    for write in (
        lambda: store.set("k", large),
        lambda: store.compare_and_set("k", None, large),
        lambda: store.append(stream, large),
    ):
        with pytest.raises(TooLargeError, match="has 4,194,305 bytes; a store takes 4,194,304"):
            write()
    store.set("k", large[1:])
    assert store.compare_and_set("k", large[1:], b"v")
    assert store.append(stream, b"v") == 0
