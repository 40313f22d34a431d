import os
import signal
import subprocess
import sys

import pytest

from eflib.errors import InvalidTransitionError, StoreError, UsageError
from eflib.launcher import cli


def raise_(error):
    def act():
        raise error

    return act


def test_the_status_of_what_succeeds_is_its_own():
    assert cli.guarded(lambda: 3) == 3


@pytest.mark.parametrize(
    ("error", "status"), [(UsageError("bad value"), 2), (StoreError("no store"), 5)]
)
def test_an_expected_error_is_its_last_line_and_its_exit_status(capsys, error, status):
    assert cli.guarded(raise_(error)) == status
    captured = capsys.readouterr()
    assert captured.err == error.render() + "\n"
    assert captured.out == ""


def test_a_fault_of_ours_has_a_traceback_and_asks_for_a_report(capsys):
    assert cli.guarded(raise_(KeyError("oops"))) == 70
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("Traceback")
    assert lines[-2] == "KeyError: 'oops'"
    assert lines[-1] == cli.REPORT


def test_a_transition_that_does_not_exist_has_a_traceback_too(capsys):
    assert cli.guarded(raise_(InvalidTransitionError("running -> submitted"))) == 70
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("Traceback")
    assert lines[-1] == "error[invalid-transition]: running -> submitted"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_ends_without_a_traceback(capsys, number):
    before = signal.getsignal(number)
    assert cli.guarded(lambda: os.kill(os.getpid(), number)) == 128 + number
    assert capsys.readouterr().err == ""
    assert signal.getsignal(number) is before


def test_a_signal_that_is_ignored_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert cli.guarded(lambda: os.kill(os.getpid(), signal.SIGHUP) or 0) == 0
    finally:
        signal.signal(signal.SIGHUP, before)


def python(code, *arguments, **options):
    command = [sys.executable, *(["-c", code] if code else []), *arguments]
    return subprocess.run(command, capture_output=True, check=False, timeout=60, **options)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_what_a_terminal_cannot_show_is_escaped_and_fails_nothing(encoding):
    done = python(
        "",
        *("-m", "eflib.launcher.efctl", "profiles", "show", "bert", "--device", "a100"),
        env={**os.environ, "PYTHONIOENCODING": encoding},
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert ("█".encode() if encoding == "utf-8" else b"###") in done.stdout


def test_a_reader_that_goes_away_is_no_fault():
    code = (
        "import sys; from eflib.launcher import cli;"
        "sys.exit(cli.guarded(lambda: [print('x' * 1000) for _ in range(1000)] and 0))"
    )
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.read(10)
        process.stdout.close()
        told = process.stderr.read()
    assert (process.returncode, told) == (141, b"")


@pytest.mark.parametrize("module", ["eflib", "eflib.launcher", "eflib.launcher.efctl"])
def test_each_entry_prints_help_without_loading_torch(module):
    done = python("", "-X", "importtime", "-m", module, "--help", text=True)
    assert done.returncode == 0
    assert done.stdout.startswith("usage: ef")
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "eflib.launcher.arguments" in imported
    assert not imported & {"torch", "numpy", "rich.console", "psutil"}


def test_a_tcp_store_that_is_not_there_is_one_line_and_exit_5(free_port):
    code = (
        "import sys; from eflib.store import tcp; tcp.TcpStore.__init__.__kwdefaults__.update("
        "connect_seconds=0.2); from eflib.launcher import efctl; sys.exit(efctl.main())"
    )
    done = python(code, "list", "--store", f"tcp://127.0.0.1:{free_port}", text=True)
    assert done.returncode == 5
    *_, hint, last = done.stderr.splitlines()
    assert last == f"error[store]: cannot reach 127.0.0.1:{free_port} (refused) after 0.2 s"
    assert hint.startswith("hint: start it there with: python -m eflib.store.server --port")
