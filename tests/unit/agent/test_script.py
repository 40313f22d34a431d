"""How a script's error is told: in the log, and in the file that the agent reads."""

import json
import sys

import pytest

from eflib.agent import script
from eflib.agent.order import Order

REFUSED = """
from eflib.errors import UsageError
raise UsageError("a second trainer", hint="submit one job per training")
"""


@pytest.fixture
def run(tmp_path, capfd, monkeypatch):
    """Run a script; return its status, what it wrote, and its error file's message and text."""
    # Other tests in this process make process groups, with which torch writes ranks before lines.
    monkeypatch.setattr(sys, "excepthook", sys.__excepthook__)

    def go(text):
        file, error_file = tmp_path / "script.py", tmp_path / "error"
        file.write_text(text)
        order = Order("w", "j", str(file), "", (), "", {}, str(tmp_path / "log"), str(error_file))
        status = script.run(order)
        told = json.loads(error_file.read_text())["message"]
        return status, capfd.readouterr().err, told["message"], told["extraInfo"]["py_callstack"]

    return go


def test_the_way_out_stands_before_the_traceback_whose_last_line_is_the_cause(run):
    status, log, message, text = run(REFUSED)
    assert status == 1
    assert message == "eflib.errors.UsageError: a second trainer"
    for told in (log, text):
        lines = told.strip().splitlines()
        assert lines[0] == "hint: submit one job per training"
        assert lines[-1] == message


def test_an_error_of_the_script_s_own_is_told_as_python_tells_it(run):
    status, log, message, text = run("raise ValueError('boom')")
    assert (status, message) == (1, "ValueError: boom")
    assert log == text
    assert text.startswith("Traceback")
