import json

import pytest

from eflib.errors import StoreError
from eflib.messages.codec import Form, InvalidMessageError
from eflib.messages.records import Heartbeat
from eflib.store import FolderStore, SignedStore
from eflib.store.aside import Aside
from eflib.store.signed import Batch, canonical

KEY = b"k" * 32
BEATS = Form(Heartbeat)
BAD_BODIES = [
    b"",
    b"[" * 100_000,
    b'{"count":' * 100_000,
    b'{"count":' + b"9" * 100_000 + b"}",
    b'{"count":1e999}',
    b'{"count":"\\ud800"}',
    b'{"\xff":1}',
    b'{"count":null}',
    b'[{"count":1}]',
    b'{"count":1}garbage',
]
BAD_VALUES = [
    *BAD_BODIES,
    b"\n",
    b'{"schema":1,"mac":"\\ud800"}\n{}',
    b'{"schema":1,"mac":"\xc3\xa9"}\n{}',
    b'{"schema":1,"mac":[[]]}\n{}',
    b'{"schema":' + b"[" * 100_000 + b"\n{}",
    b'{"schema":99,"mac":""}\n{}',
]


@pytest.fixture
def plain(tmp_path):
    return FolderStore(tmp_path)


@pytest.fixture
def signed(plain):
    return SignedStore(plain, KEY)


def test_a_message_comes_back(signed):
    message = {"type": "submit", "argv": ["--lr", "0.1"], "deadline": None, "n": {"ä": 1.5}}
    signed.put("k", message)
    assert signed.fetch("k") == message
    assert signed.list() == ["k"]
    assert signed.delete("k")
    assert signed.fetch("k") is None


def test_one_of_two_claims_wins(signed):
    assert signed.claim("k", {"by": 1})
    assert not signed.claim("k", {"by": 1})
    assert signed.fetch("k") == {"by": 1}


def test_messages_of_a_stream_come_in_order(signed):
    assert signed.post("s", {"n": 0}) == 0
    assert signed.post("s", {"n": 1}) == 1
    assert signed.receive("s", 1) == [(1, {"n": 1})]
    signed.trim("s", 1)
    assert signed.receive("s", 0) == [(1, {"n": 1})]


def test_a_message_signed_with_another_key_is_refused(plain, signed):
    SignedStore(plain, b"x" * 32).put("k", {})
    with pytest.raises(StoreError) as caught:
        signed.fetch("k")
    assert caught.value.problem == "the message at k is not signed with this cluster's key"
    assert caught.value.hint == "use one EFLIB_HOME, or the same key file, on every node"


def test_a_changed_message_is_refused(plain, signed):
    signed.put("k", {"num_gpus": 1})
    plain.set("k", plain.get("k").replace(b"1}", b"8}"))
    with pytest.raises(StoreError, match="not signed"):
        signed.fetch("k")


def test_a_message_copied_to_another_key_is_refused(plain, signed):
    signed.put("k", {})
    plain.set("other", plain.get("k"))
    with pytest.raises(StoreError, match="the message at other is not signed"):
        signed.fetch("other")


def test_a_message_copied_from_a_key_to_a_stream_of_that_name_is_refused(plain, signed):
    signed.put("k", {})
    plain.append("k", plain.get("k"))
    assert signed.receive("k", 0) == []


@pytest.mark.parametrize("value", [b"", b"hello", b"[]", b"\x80\x04.", b"{}\n{}"])
def test_what_is_no_message_is_refused(plain, signed, value):
    plain.set("k", value)
    with pytest.raises(StoreError) as caught:
        signed.fetch("k")
    assert caught.value.problem == "the value at k is not a message of eflib"


def test_an_unknown_schema_is_named(plain, signed):
    plain.set("k", json.dumps({"schema": 2, "mac": ""}).encode() + b"\n{}")
    with pytest.raises(StoreError) as caught:
        signed.fetch("k")
    assert caught.value.problem == "the message at k has schema 2; this eflib reads 1"
    assert caught.value.hint == "use the same version of eflib on every node"


def test_a_bad_entry_is_reported_once_and_does_not_stop_the_others(plain):
    said = []
    signed = SignedStore(plain, KEY, aside=Aside(say=said.append))
    signed.post("s", Heartbeat(0))
    plain.append("s", b"garbage")
    signed.post("s", Heartbeat(2))
    for _ in range(2):
        assert signed.receive("s", 0, BEATS) == Batch([(0, Heartbeat(0)), (2, Heartbeat(2))], 3)
    assert said == ["ignored the value at s, entry 1: the value at s is not a message of eflib"]


def test_a_bad_entry_is_logged_by_default_and_passed_over(plain, signed, caplog):
    plain.append("s", b"garbage")
    assert signed.receive("s", 0, BEATS) == Batch([], 1)
    assert "ignored the value at s, entry 0" in caplog.text


def test_a_signed_message_of_another_type_is_put_aside_and_told_to_the_reader(plain, signed):
    told = []
    signed.post("s", {"count": "many"})
    batch = signed.receive("s", 0, BEATS, lambda body, reason: told.append((body, reason)))
    assert batch == Batch([], 1)
    assert told == [(b'{"count":"many"}', "expected `int`, got `str` - at `$.count`")]
    assert signed.aside.count == 1


@pytest.mark.parametrize("value", BAD_VALUES, ids=range(len(BAD_VALUES)))
def test_a_value_that_cannot_be_read_counts_as_absent_and_is_put_aside_once(plain, signed, value):
    plain.set("k", value)
    for _ in range(3):
        assert signed.fetch("k", Heartbeat) is None
    assert signed.aside.count == 1


@pytest.mark.parametrize("body", BAD_BODIES, ids=range(len(BAD_BODIES)))
def test_a_signed_body_that_cannot_be_read_counts_as_absent(plain, signed, body):
    mac = signed._sign("key", "k", body)
    plain.set("k", json.dumps({"schema": 1, "mac": mac}).encode() + b"\n" + body)
    assert signed.fetch("k", Heartbeat) is None


def test_a_claim_takes_the_place_of_what_cannot_be_read_and_of_nothing_else(plain, signed):
    plain.set("k", b"garbage")
    assert signed.claim("k", Heartbeat(1))
    assert not signed.claim("k", Heartbeat(2))
    assert signed.fetch("k", Heartbeat) == Heartbeat(1)


@pytest.mark.parametrize("count", [2**60, "many", "\ud800"])
def test_a_message_that_its_reader_would_refuse_is_not_written(plain, signed, count):
    for write in (signed.put, signed.claim, signed.post):
        with pytest.raises(InvalidMessageError, match="a Heartbeat cannot be written"):
            write("k", Heartbeat(count))
    assert plain.get("k") is None


def test_not_a_number_becomes_null(signed):
    nan = float("nan")
    signed.put("k", {"loss": nan, "curve": [1.0, float("inf")], "deep": {"x": (nan,)}})
    assert signed.fetch("k") == {"loss": None, "curve": [1.0, None], "deep": {"x": [None]}}


def test_the_same_message_has_the_same_bytes():
    assert canonical({"b": 1, "a": [1.0, "ü"]}) == canonical({"a": [1.0, "ü"], "b": 1})


def test_what_json_does_not_have_is_refused(signed):
    with pytest.raises(StoreError, match="a message cannot be written as JSON"):
        signed.put("k", {"x": b"bytes"})
    endless = {}
    endless["self"] = endless
    with pytest.raises(StoreError, match="a message cannot be written as JSON"):
        signed.put("k", endless)
