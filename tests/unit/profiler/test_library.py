"""Measured curves in a folder: found again for the same script, model, batch and device alone."""

import json

import pytest

from eflib import profiles
from eflib.messages.fields import replace
from eflib.messages.inbox import Announce
from eflib.profiler.fit import Guess, Observation
from eflib.profiler.library import CurveLibrary

ANNOUNCE = Announce(
    max_steps=100,
    global_batch_size=64,
    model="0123456789abcdef",
    model_name="Net",
    num_parameters=10,
    device="cpu-2-cores",
)
POINTS = {
    1: Observation(10.0, 0.1, 0.05, 2e6),
    2: Observation(19.0, 0.2, 0.03),
    4: Observation(34.0),
}


@pytest.fixture
def library(tmp_path):
    return CurveLibrary(tmp_path / "profiles")


def test_a_curve_that_was_kept_is_found(library):
    library.keep("/home/me/train.py", ANNOUNCE, POINTS, {})
    assert library.find("/home/me/train.py", ANNOUNCE) == POINTS
    assert library.find("train.py", ANNOUNCE) == POINTS
    assert library.has_script("elsewhere/train.py")


@pytest.mark.parametrize(
    "change",
    [{"global_batch_size": 128}, {"model": "fedcba9876543210"}, {"device": "cpu-4-cores"}],
    ids=lambda change: next(iter(change)),
)
def test_a_curve_of_something_else_is_not_found(library, change):
    library.keep("train.py", ANNOUNCE, POINTS, {})
    assert library.find("train.py", replace(ANNOUNCE, **change)) is None


@pytest.mark.parametrize("other", ["test.py", "train-big.py", "train_.py", "tr.py", "xtrain.py"])
def test_a_curve_of_another_script_is_not_found(library, other):
    library.keep("train.py", ANNOUNCE, POINTS, {})
    assert library.find(other, ANNOUNCE) is None
    assert not library.has_script(other)


def test_an_empty_library_knows_nothing(library):
    assert library.find("train.py", ANNOUNCE) is None
    assert not library.has_script("train.py")


@pytest.mark.parametrize("script", ["a b/träin.py", "pkg.module", "*.py", "c:\\x\\y.py", "[a].py"])
def test_any_name_of_a_script_makes_a_file_name(library, script):
    file = library.keep(script, ANNOUNCE, POINTS, {})
    assert file.parent.name == "profiles"
    assert library.has_script(script)
    assert library.find(script, ANNOUNCE) == POINTS


@pytest.mark.parametrize("content", ["", "{", "[]", "3", '{"points": {}}', "\xff"])
def test_a_file_that_is_no_profile_is_passed_over(library, content):
    file = library.keep("train.py", ANNOUNCE, POINTS, {})
    file.write_text(content, encoding="latin-1")
    assert library.find("train.py", ANNOUNCE) is None


def test_a_newer_measurement_takes_the_place_of_the_older(library):
    library.keep("train.py", ANNOUNCE, POINTS, {})
    file = library.keep("train.py", ANNOUNCE, {1: Observation(5.0)}, {})
    assert library.find("train.py", ANNOUNCE) == {1: Observation(5.0)}
    assert [one.name for one in file.parent.iterdir()] == [file.name]


def test_the_file_says_how_and_of_what_it_was_measured(library):
    file = library.keep("train.py", ANNOUNCE, POINTS, {})
    text = json.loads(file.read_text())
    assert text["model"] == "Net"
    assert text["device"] == "cpu-2-cores"
    assert text["source"] == "measured by eflib on train"
    assert text["measured_at"].endswith("+00:00")
    assert text["spread"] == {"1": 0.1, "2": 0.2}
    assert text["memory_bytes"] == {"1": 2e6}


def test_guesses_are_marked_in_the_file_and_are_not_found_as_measured(library):
    file = library.keep("train.py", ANNOUNCE, POINTS, {8: Guess(50.0, 0.25)})

    assert profiles.read(file).extrapolated == {8: (50.0, 0.25)}
    assert profiles.read(file).curve.counts == (1, 2, 4)
    assert library.find("train.py", ANNOUNCE) == POINTS
