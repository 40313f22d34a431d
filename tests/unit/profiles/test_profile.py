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
        ({"model": None}, "model in f.json must be a text, got None"),
        ({"model": " "}, "model in f.json must be a text, got ' '"),
        ({"device": 3}, "device in f.json must be a text, got 3"),
        ({"global_batch_size": "64"}, r"global_batch_size in f.json must be .*, got '64'"),
        ({"global_batch_size": True}, r"global_batch_size in f.json must be .*, got True"),
        ({"global_batch_size": 10**400}, "got a number of more than 300 digits"),
        ({"points": [1, 2]}, r"points in f.json must be an object by GPU count, got \[1, 2\]"),
        ({"points": {"0": 1.0}}, "points in f.json must be by GPU count .*, got '0'"),
        ({"points": {"1.5": 1.0}}, "points in f.json must be by GPU count .*, got '1.5'"),
        ({"points": {"1": "fast"}}, "points in f.json at 1 GPUs must be a number, got 'fast'"),
        ({"points": {"1": 0.0}}, "no measured point in f.json"),
        ({"points": {"65537": 1.0}}, "points in f.json must be by GPU count from 1 to 65536"),
        ({"points": {"9" * 5000: 1.0}}, "points in f.json must be by GPU count from 1 to 65536"),
        ({"points": {"1": 10**400}}, "points in f.json at 1 GPUs is too large: a number of more"),
        ({"points": {"1": 1e300}}, "1e\\+300 steps per second at 1 GPUs in f.json is outside"),
        ({"points": {"1": 1e-320}}, "steps per second at 1 GPUs in f.json is outside"),
        ({"points": {str(n): 1.0 for n in range(1, 300)}}, "f.json has 299 points; at most 256"),
        ({"spread": {"x": 1.0}}, "spread in f.json must be by GPU count .*, got 'x'"),
        ({"extrapolated": {"2": 1.0}}, "extrapolated in f.json must have steps_per_s and margin"),
        ({"details": [1]}, r"details in f.json must be an object, got \[1\]"),
    ],
)
def test_a_wrong_value_is_named_with_its_file(change, message):
    with pytest.raises(UsageError, match=message) as caught:
        from_json(FULL | change, origin="f.json")
    assert caught.value.hint
    assert len(caught.value.problem) < 300


def test_missing_points_are_named():
    with pytest.raises(UsageError, match=r"no points in f\.json") as caught:
        from_json({"model": "m", "curve": {}}, origin="f.json")

    assert caught.value.hint == "it has curve, model"


def test_what_is_no_object_is_refused():
    with pytest.raises(UsageError, match=r"no profile in f\.json: expected an object, found list"):
        from_json([], origin="f.json")
