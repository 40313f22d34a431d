"""What a worker can do while the disk is full: all but write. ``/dev/full`` is such a disk."""

import errno
import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from eflib import pulse
from eflib.agent import exits, output, script
from eflib.agent.ledger import ERROR_BYTES, Ledger
from eflib.store import atomic

pytestmark = pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")


def run(code, *arguments):
    command = [sys.executable, "-c", f"from eflib.agent import output, script\n{code}", *arguments]
    return subprocess.run(command, check=False, timeout=60).returncode


def test_a_script_that_prints_on_a_full_disk_goes_on():
    code = "import sys; output.redirect('/dev/full')\n"
    code += "for _ in range(1000): print('x' * 1000); print('y', file=sys.stderr, flush=True)\n"
    assert run(f"{code}sys.exit(7)") == 7


def test_the_output_before_and_after_is_there_with_how_much_is_missing(tmp_path):
    log = os.open(tmp_path / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    full = os.open("/dev/full", os.O_WRONLY)
    number = os.dup(log)
    stream = output.Output(number)
    for target in (log, full, log):
        os.dup2(target, number)
        assert stream.write(b"12345\n") == 6
    assert (tmp_path / "log").read_bytes() == (
        b"12345\n\n[eflib] 6 bytes of output are missing here: the disk was full\n12345\n"
    )
    for descriptor in (log, full, number):
        os.close(descriptor)


def test_other_faults_of_writing_are_the_script_s(tmp_path):
    (tmp_path / "log").touch()
    reading = os.open(tmp_path / "log", os.O_RDONLY)
    with pytest.raises(OSError, match="Bad file descriptor"):
        output.Output(reading).write(b"x")
    os.close(reading)


def test_output_is_text_as_a_script_expects_it(tmp_path):
    code = "import sys; output.redirect(sys.argv[1])\n"
    code += "print('ü\\ud800'); sys.stdout.buffer.write(b'raw\\n'); sys.stdout.flush()\n"
    code += "print(sys.stdout.fileno(), sys.stdin.read() == '', file=sys.stderr)\n"
    assert run(code, str(tmp_path / "log")) == 0
    assert (tmp_path / "log").read_bytes() == "ü?\nraw\n1 True\n".encode()


def test_an_error_that_cannot_be_written_down_does_not_hide_itself(tmp_path, capsys):
    script.write_error(str(tmp_path / "missing" / "error"), "boom", "")
    assert "cannot write" in capsys.readouterr().err


def test_a_huge_exception_is_written_down_cut(tmp_path):
    script.write_error(str(tmp_path / "error"), "E: " + "x" * 10_000_000, "y" * 10_000_000)
    assert (tmp_path / "error").stat().st_size < 40_000
    assert json.loads((tmp_path / "error").read_text())["message"]["message"].startswith("E: xx")


def test_a_start_that_cannot_be_noted_is_said_once_and_made(tmp_path, caplog):
    caplog.set_level(logging.ERROR)
    ledger = Ledger(tmp_path, "n0")
    ledger.open("tag")
    noted = ledger.folder / "started"
    noted.unlink()
    noted.symlink_to("/dev/full")
    ledger.note_start("w1")
    ledger.note_start("w2")
    assert caplog.text.count("cannot note starts in") == 1
    assert "No space left on device" in caplog.text
    ledger.close()


def test_a_pulse_without_room_is_a_worker_that_is_not_watched(tmp_path, monkeypatch, capsys):
    before = pulse.own()
    pulse.begin(str(tmp_path / "missing" / "w.pulse"))
    assert pulse.own() is before
    assert "hangs will not be found" in capsys.readouterr().err


def test_an_error_is_told_where_there_is_no_room_for_a_second_file(tmp_path, monkeypatch, capsys):
    def refuse(*arguments, **options):
        raise OSError(errno.ENOSPC, "No space left on device")

    ledger = Ledger(tmp_path, "n0")
    ledger.open("tag")
    file = ledger.error_file("w")
    assert Path(file).stat().st_blocks * 512 >= ERROR_BYTES
    monkeypatch.setattr(atomic, "write_temporary", refuse)
    script.write_error(file, "ValueError: " + "\x01" * 20_000, "traceback" * 20_000)
    assert Path(file).stat().st_size == ERROR_BYTES
    end = exits.observed(7, 1, file)
    assert end.message.startswith("ValueError: ")
    assert end.traceback.startswith("traceback")
    assert not Path(file).exists()
    assert capsys.readouterr().err == ""
    ledger.close()


def test_a_worker_that_raises_nothing_leaves_no_error_file(tmp_path):
    ledger = Ledger(tmp_path, "n0")
    ledger.open("tag")
    file = ledger.error_file("w")
    assert exits.observed(7, 3, file).message == "exited with code 3"
    assert not Path(file).exists()
    ledger.close()
