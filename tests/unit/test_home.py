"""Where a cluster's own files lie on this machine."""

from pathlib import Path

import pytest

from eflib import home as places
from eflib.errors import StoreError


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"EFLIB_HOME": "/data/ef", "XDG_STATE_HOME": "/state"}, Path("/data/ef")),
        ({"EFLIB_HOME": "~/ef"}, Path.home() / "ef"),
        ({"EFLIB_HOME": "here"}, Path.cwd() / "here"),
        ({"EFLIB_HOME": "", "XDG_STATE_HOME": "/state"}, Path("/state/eflib")),
        ({"XDG_STATE_HOME": ""}, Path.home() / ".local/state/eflib"),
        ({}, Path.home() / ".local/state/eflib"),
    ],
)
def test_the_home_is_as_asked_or_in_the_user_s_state_folder(environ, expected):
    assert places.home_folder(environ) == expected


def test_the_home_is_read_from_the_process_s_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("EFLIB_HOME", str(tmp_path))
    assert places.home_folder() == tmp_path


def test_a_home_is_made_for_its_owner_alone_and_left_clean(tmp_path):
    home = places.make_home(tmp_path / "a" / "home")
    assert home.stat().st_mode & 0o777 == 0o700
    made = {one.name: one.stat().st_mode & 0o777 for one in home.iterdir()}
    assert made == dict.fromkeys(("agents", "coordinator", "jobs", "profiles"), 0o700)
    assert places.make_home(home) == home


def test_a_home_that_is_a_file_is_refused_with_the_way_out(tmp_path):
    file = tmp_path / "home"
    file.write_text("")
    with pytest.raises(StoreError, match="cannot use the state folder") as caught:
        places.make_home(file)
    assert str(file) in caught.value.problem
    assert "EFLIB_HOME" in caught.value.hint


def test_a_home_below_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="Not a directory"):
        places.make_home(tmp_path / "file" / "home")


def test_a_home_that_cannot_be_written_is_refused(tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "write_bytes", refuse)
    with pytest.raises(StoreError, match="Permission denied"):
        places.make_home(tmp_path / "home")


def test_the_store_is_as_asked_or_below_the_home(monkeypatch):
    monkeypatch.delenv("EFLIB_STORE", raising=False)
    assert places.default_store_url(Path("/h")) == "file:///h/store"
    monkeypatch.setenv("EFLIB_STORE", "tcp://n0:29500")
    assert places.default_store_url(Path("/h")) == "tcp://n0:29500"


def test_every_path_lies_below_the_home_and_none_twice():
    home = Path("/h")
    found = [
        places.store_folder(home),
        places.key_file(home),
        places.journal_folder(home),
        places.old_journal_file(home),
        places.coordinator_lock(home),
        places.coordinator_log(home),
        places.agent_log(home, "n0"),
        places.profile_folder(home),
    ]
    assert len(set(found)) == len(found)
    assert all(home in path.parents for path in found)


@pytest.mark.parametrize("mode", [0o755, 0o750, 0o777, 0o705])
def test_what_was_open_in_a_home_is_closed_and_the_home_itself_is_left(tmp_path, mode):
    home = tmp_path / "home"
    for name in ("coordinator", "store", "mine"):
        (home / name).mkdir(parents=True)
    for folder in (home, *home.iterdir()):
        folder.chmod(mode)
    places.make_home(home)
    modes = {one.name: one.stat().st_mode & 0o777 for one in (home, *home.iterdir())}
    assert modes.pop("home") == modes.pop("mine") == mode
    assert modes == dict.fromkeys(("agents", "coordinator", "jobs", "profiles", "store"), 0o700)


def test_what_is_open_and_somebody_else_s_is_refused_with_the_way_out(tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError(1, "Operation not permitted")

    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs").chmod(0o755)
    monkeypatch.setattr(Path, "chmod", refuse)
    with pytest.raises(StoreError, match=r"others can read .*/jobs \(mode 755\)") as caught:
        places.make_home(tmp_path)
    assert f"chmod 700 {tmp_path}/jobs" in caught.value.hint
