import json

import pytest

from eflib.errors import StoreError
from eflib.store import FolderStore, SignedStore
from eflib.store.signed import canonical

KEY = b"k" * 32


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


def test_a_swap_needs_the_message_that_stands_there(signed):
    assert not signed.swap("k", {"g": 1}, {"g": 2})
    assert signed.swap("k", None, {"g": 1, "x": 0.1})
    assert not signed.swap("k", None, {"g": 3})
    assert not signed.swap("k", {"g": 2}, {"g": 3})
    assert signed.swap("k", {"x": 0.1, "g": 1}, {"g": 2})
    assert signed.fetch("k") == {"g": 2}


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
    with pytest.raises(StoreError, match="not signed"):
        signed.swap("k", {"num_gpus": 8}, {})


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
    assert caught.value.problem == "what stands at k is not a message of eflib"


def test_an_unknown_schema_is_named(plain, signed):
    plain.set("k", json.dumps({"schema": 2, "mac": ""}).encode() + b"\n{}")
    with pytest.raises(StoreError) as caught:
        signed.fetch("k")
    assert caught.value.problem == "the message at k has schema 2; this eflib reads 1"
    assert caught.value.hint == "use the same version of eflib on every node"


def test_a_bad_entry_is_reported_once_and_does_not_stop_the_others(plain):
    refused = []
    signed = SignedStore(plain, KEY, on_refused=refused.append)
    signed.post("s", {"n": 0})
    plain.append("s", b"garbage")
    signed.post("s", {"n": 2})
    for _ in range(2):
        assert signed.receive("s", 0) == [(0, {"n": 0}), (2, {"n": 2})]
    assert refused == ["left out entry 1 of s: what stands at s is not a message of eflib"]


def test_a_bad_entry_is_logged_by_default(plain, signed, caplog):
    plain.append("s", b"garbage")
    signed.receive("s", 0)
    assert "left out entry 1" not in caplog.text
    assert "left out entry 0 of s" in caplog.text


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
