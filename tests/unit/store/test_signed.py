import json

import pytest

from eflib.messages.codec import Form, InvalidMessageError
from eflib.messages.records import Heartbeat, JobSpec, Progress
from eflib.store import FolderStore, SignedStore
from eflib.store.aside import Aside
from eflib.store.signed import Batch
from tests.helpers.raw import Raw

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
    message = JobSpec(script="ä.py", argv=("--lr", "0.1"), env={"A": "b"})
    signed.put("k", message)
    assert signed.fetch("k", JobSpec) == message
    assert signed.list() == ["k"]
    assert signed.delete("k")
    assert signed.fetch("k", JobSpec) is None


def test_one_of_two_claims_wins(signed):
    assert signed.claim("k", Heartbeat(1))
    assert not signed.claim("k", Heartbeat(1))
    assert signed.fetch("k", Heartbeat) == Heartbeat(1)


def test_messages_of_a_stream_come_in_order(signed):
    assert signed.post("s", Heartbeat(0)) == 0
    assert signed.post("s", Heartbeat(1)) == 1
    assert signed.receive("s", 1, BEATS) == Batch([(1, Heartbeat(1))], 2)
    signed.trim("s", 1)
    assert signed.receive("s", 0, BEATS) == Batch([(1, Heartbeat(1))], 2)


def refusals(signed, key="k"):
    """Return what is said of the value at a key, which must count as absent."""
    said = []
    signed.aside = Aside(say=said.append)
    assert signed.fetch(key, Heartbeat) is None
    return said


def test_a_message_signed_with_another_key_is_refused_with_the_way_out(plain, signed):
    SignedStore(plain, b"x" * 32).put("k", Heartbeat(1))
    (said,) = refusals(signed)
    assert said.endswith(
        "the message at k is not signed with this cluster's key "
        "(use one EFLIB_HOME, or the same key file, on every node)"
    )


def test_a_changed_message_is_refused(plain, signed):
    signed.put("k", Heartbeat(1))
    plain.set("k", plain.get("k").replace(b"1}", b"8}"))
    assert "not signed with this cluster's key" in refusals(signed)[0]


def test_a_message_copied_to_another_key_is_refused(plain, signed):
    signed.put("k", Heartbeat(1))
    plain.set("other", plain.get("k"))
    assert "the message at other is not signed" in refusals(signed, "other")[0]


def test_a_message_copied_from_a_key_to_a_stream_of_that_name_is_refused(plain, signed):
    signed.put("k", Heartbeat(1))
    plain.append("k", plain.get("k"))
    assert signed.receive("k", 0, BEATS) == Batch([], 1)


@pytest.mark.parametrize("value", [b"", b"hello", b"[]", b"\x80\x04.", b"{}\n{}"])
def test_what_is_no_message_is_refused(plain, signed, value):
    plain.set("k", value)
    assert refusals(signed) == ["ignored the value at k: the value at k is not a message of eflib"]


def test_an_unknown_schema_is_named(plain, signed):
    plain.set("k", json.dumps({"schema": 2, "mac": ""}).encode() + b"\n{}")
    (said,) = refusals(signed)
    assert said.endswith(
        "the message at k has schema 2; this eflib reads 1 "
        "(use the same version of eflib on every node)"
    )


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
    Raw(signed).post("s", {"count": "many"})
    batch = signed.receive("s", 0, BEATS, lambda body, reason: told.append((body, reason)))
    assert batch == Batch([], 1)
    assert told == [(b'{"count": "many"}', "expected `int`, got `str` - at `$.count`")]
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
    for loss in (float("nan"), float("inf")):
        signed.put("k", Progress(global_step=1, loss=loss))
        assert signed.fetch("k", Progress) == Progress(global_step=1, loss=None)
