import json

import pytest

from eflib.errors import UsageError
from eflib.profiles import Profile, from_json, to_json

FULL = {
    "schema": 1,
    "model": "resnet50",
    "device": "a100",
    "global_batch_size": 256,
    "points": {"1": 1.5, "2": 2.75},
    "spread": {"1": 0.02},
    "measured_at": "2026-01-01T00:00:00+00:00",
    "source": "efctl profile",
    "details": {"torch": "2.13.0"},
}


def test_an_object_survives_reading_and_writing():
    assert to_json(from_json(json.loads(json.dumps(FULL)), origin="here")) == FULL


def test_model_and_points_are_enough():
    profile = from_json({"model": "mine", "points": {"1": 3}}, origin="here")

    assert profile == Profile(model="mine", device="", points={1: 3.0})
    assert profile.curve.points == {1: 3.0}
    assert profile.file_name == "mine.json"


def test_points_come_in_order_of_count_and_unmeasured_ones_are_left_out():
    fields = {"model": "m", "points": {"16": 4.0, "2": 2.0, "4": 0, "8": None}}

    assert list(from_json(fields, origin="here").points.items()) == [(2, 2.0), (16, 4.0)]


def test_unknown_fields_are_ignored():
    assert from_json(FULL | {"colour": "red"}, origin="here").model == "resnet50"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema": 2}, "cannot read f.json: schema 2, this eflib reads schema 1"),
        ({"model": None}, "model in f.json is not a text: None"),
        ({"model": " "}, "model in f.json is not a text: ' '"),
        ({"device": 3}, "device in f.json is not a text: 3"),
        ({"global_batch_size": "64"}, "global_batch_size '64' in f.json is not a whole number"),
        ({"global_batch_size": True}, "global_batch_size True in f.json is not a whole number"),
        ({"points": [1, 2]}, r"points in f.json is no object of numbers by GPU count: \[1, 2\]"),
        ({"points": {"0": 1.0}}, "'0' under points in f.json is not a GPU count"),
        ({"points": {"1.5": 1.0}}, "'1.5' under points in f.json is not a GPU count"),
        ({"points": {"1": "fast"}}, "'fast' at 1 GPUs under points in f.json is not a number"),
        ({"points": {"1": 0.0}}, "no measured point in f.json"),
        ({"spread": {"x": 1.0}}, "'x' under spread in f.json is not a GPU count"),
        ({"details": [1]}, r"details in f.json is no object: \[1\]"),
    ],
)
def test_a_wrong_value_is_named_with_its_file(change, message):
    with pytest.raises(UsageError, match=message):
        from_json(FULL | change, origin="f.json")


def test_missing_points_are_named():
    with pytest.raises(UsageError, match=r"no points in f\.json") as caught:
        from_json({"model": "m", "curve": {}}, origin="f.json")

    assert caught.value.hint == "it has curve, model"


def test_what_is_no_object_is_refused():
    with pytest.raises(UsageError, match=r"no profile in f\.json: expected an object, found list"):
        from_json([], origin="f.json")
