"""How the end of a worker is put into words."""

import json

import pytest

from eflib.agent.exits import LONGEST_FILE, Exit, observed
from eflib.messages.codec import to_builtins
from eflib.messages.records import WorkerAssignment

WORKER = WorkerAssignment(
    worker="w", job="j", generation=2, rank=1, world_size=2, slot=0, log_dir="/logs"
)


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


def test_the_record_names_worker_and_log():
    record = Exit(7, 1, "boom", "trace").as_record(WORKER, "n0")

    assert to_builtins(record) == {
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


def test_a_good_end_has_no_error():
    assert Exit(7, 0).as_record(WORKER, "n0").error is None


def test_a_huge_exception_is_told_cut(error_file):
    extra = {"py_callstack": "frames " * 2_000_000, "timestamp": "1"}
    message = "E: " + "x" * 20_000_000
    error_file.write_text(json.dumps({"message": {"message": message, "extraInfo": extra}}))

    end = observed(7, 1, str(error_file))

    assert end.message.startswith("E: xxx")
    assert len(end.message) + len(end.traceback) < 40_000


def test_an_error_file_beyond_reading_is_named_by_its_size(error_file):
    with error_file.open("wb") as file:
        file.truncate(LONGEST_FILE + 1)

    end = observed(7, 1, str(error_file))

    assert end.message == "its error file had 67,108,865 bytes; see the log"


def test_a_deep_error_file_does_no_harm(error_file):
    error_file.write_text("[" * 100_000)

    assert observed(7, 1, str(error_file)).message == "exited with code 1"
