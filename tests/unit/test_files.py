import os
from pathlib import Path

import pytest

from eflib import files
from eflib.errors import UsageError

ROOT_WRITES_ANYWHERE = os.geteuid() == 0


def refused(act):
    with pytest.raises(UsageError) as caught:
        act()
    return caught.value.problem, caught.value.hint


def reading(path, **options):
    return refused(lambda: files.read_text(path, "the trace", **options))


def test_a_text_is_read_without_its_byte_order_mark(tmp_path):
    (tmp_path / "t.csv").write_bytes("\ufeffa,ü\n".encode())
    assert files.read_text(tmp_path / "t.csv", "the trace") == "a,ü\n"


def test_what_cannot_be_read_is_refused_with_the_way_out(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("abc")
    Path("latin").write_bytes(b"ab\xff")
    os.mkfifo("pipe")
    missing = f"paths are relative to the folder {tmp_path}"
    assert reading("none") == ("cannot read the trace none (no such file)", missing)
    assert reading("file/none") == ("cannot read the trace file/none (no such file)", missing)
    assert reading("none", hint="make one") == (
        "cannot read the trace none (no such file)",
        "make one",
    )
    assert reading(".") == ("cannot read the trace . (it is a folder)", "give the path of a file")
    assert reading("pipe") == (
        "cannot read the trace pipe (it is not a regular file)",
        "give the path of a file",
    )
    assert reading("latin") == (
        "cannot read the trace latin (byte 2 is not UTF-8)",
        "save it as text in UTF-8",
    )
    assert reading("file", max_bytes=2) == (
        "cannot read the trace file (it has 3 bytes)",
        "at most 2 are read",
    )
    assert reading("x" * 300)[1] == "choose a shorter name"


@pytest.mark.skipif(ROOT_WRITES_ANYWHERE, reason="root may read everything")
def test_a_file_of_somebody_else_is_refused(tmp_path):
    (tmp_path / "t").touch(mode=0)
    problem = f"cannot read the trace {tmp_path / 't'} (permission denied)"
    assert reading(tmp_path / "t") == (problem, "see its permissions, or choose another path")


@pytest.mark.parametrize(
    ("path", "reason", "hint"),
    [
        ("none/t", "no such file or directory", "make its folder first: mkdir -p none"),
        ("file/t", "not a directory", "a part of file/t is a file, not a folder"),
        (".", "is a directory", "give the path of a file"),
        ("x" * 300, "file name too long", "choose a shorter name"),
    ],
)
def test_what_cannot_be_written_is_refused_with_the_way_out(
    tmp_path, monkeypatch, path, reason, hint
):
    monkeypatch.chdir(tmp_path)
    Path("file").touch()

    def write():
        with files.writing(path, "the trace"):
            Path(path).write_text("x")

    assert refused(write) == (f"cannot write the trace {path} ({reason})", hint)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_named():
    def write():
        with files.writing("/dev/full", "the trace"):
            Path("/dev/full").write_text("x")

    assert refused(write) == (
        "cannot write the trace /dev/full (no space left on device)",
        "free some space, or choose a path on another disk",
    )
