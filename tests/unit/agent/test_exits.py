"""How the end of a worker is put into words."""

import json

import pytest

from eflib.agent.exits import Exit, observed

WORKER = {"worker": "w", "job": "j", "generation": 2, "rank": 1, "log_dir": "/logs"}


@pytest.fixture
def error_file(tmp_path):
    return tmp_path / "error.json"


def test_the_exception_that_torch_elastic_wrote_is_told(error_file):
    extra = {"py_callstack": "Traceback ...", "timestamp": "1"}
    error_file.write_text(json.dumps({"message": {"message": "E: boom", "extraInfo": extra}}))

    end = observed(7, 1, str(error_file))

    assert end == Exit(7, 1, "E: boom", "Traceback ...")
    assert not error_file.exists()


def test_a_message_without_a_traceback_is_told(error_file):
    error_file.write_text(json.dumps({"message": "plain"}))

    assert observed(7, 1, str(error_file)) == Exit(7, 1, "plain", "")


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"message": 3}'])
def test_an_error_file_that_was_cut_short_does_no_harm(error_file, content):
    error_file.write_text(content)

    assert observed(7, 3, str(error_file)) == Exit(7, 3, "exited with code 3", "")


@pytest.mark.parametrize(
    ("exitcode", "name", "message"),
    [
        (0, None, ""),
        (3, None, "exited with code 3"),
        (-9, "SIGKILL", "killed by SIGKILL"),
        (-64, "SIGRTMAX", "killed by SIGRTMAX"),
        (-50, "signal 50", "killed by signal 50"),
    ],
)
def test_codes_and_signals_are_told_apart(error_file, exitcode, name, message):
    end = observed(7, exitcode, str(error_file))

    assert (end.exitcode, end.signal, end.message) == (exitcode, name, message)


def test_a_worker_that_recorded_an_error_and_ended_well_has_none(error_file):
    error_file.write_text(json.dumps({"message": "handled"}))

    assert observed(7, 0, str(error_file)) == Exit(7, 0)


def test_the_message_names_worker_and_log():
    message = Exit(7, 1, "boom", "trace").as_message(WORKER, "n0")

    assert message == {
        "node": "n0",
        "job": "j",
        "worker": "w",
        "generation": 2,
        "rank": 1,
        "pid": 7,
        "exitcode": 1,
        "signal": None,
        "error": {"message": "boom", "traceback": "trace"},
        "hang": "",
        "log": "/logs/2/1.log",
    }


def test_a_good_end_has_no_error_and_a_worker_without_log_none():
    message = Exit(7, 0).as_message({"worker": "w", "job": "j"}, "n0")

    assert (message["error"], message["log"]) == (None, None)
