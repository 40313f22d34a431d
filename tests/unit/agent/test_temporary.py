"""The agent's temporary folder: its own, or another where its own has too long a path."""

import os
import tempfile

import pytest

from eflib.agent import temporary
from eflib.errors import UsageError


@pytest.fixture
def folder(tmp_path, monkeypatch):
    def make(length):
        path = tmp_path / ("x" * max(1, length - len(str(tmp_path)) - 1))
        path.mkdir(exist_ok=True)
        monkeypatch.setenv("TMPDIR", str(path))
        monkeypatch.setattr(tempfile, "tempdir", None)
        return str(path)

    return make


def test_a_folder_with_a_short_path_is_kept(folder, monkeypatch):
    own = folder(1)
    monkeypatch.setattr(temporary, "LONGEST", len(own))
    temporary.shorten()
    assert (tempfile.gettempdir(), os.environ["TMPDIR"]) == (own, own)


def test_for_one_with_a_long_path_another_is_taken_and_said(folder, monkeypatch, tmp_path, caplog):
    own = folder(120)
    monkeypatch.setattr(temporary, "OTHERS", (str(tmp_path / "missing"), str(tmp_path)))
    temporary.shorten()
    assert (tempfile.gettempdir(), os.environ["TMPDIR"]) == (str(tmp_path), str(tmp_path))
    assert own in caplog.text


def test_without_another_it_is_an_error_that_says_what_to_do(folder, monkeypatch):
    folder(120)
    monkeypatch.setattr(temporary, "OTHERS", ())
    with pytest.raises(UsageError, match="too long a path for sockets") as caught:
        temporary.shorten()
    assert "set TMPDIR" in caught.value.hint
