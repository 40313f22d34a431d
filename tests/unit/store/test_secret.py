import os
import threading
from pathlib import Path

import pytest

from eflib.errors import StoreError
from eflib.store import load_key, load_or_create_key


def test_the_key_is_made_once_and_is_private(tmp_path):
    path = tmp_path / "new" / "key"
    key = load_or_create_key(path)
    assert len(key) == 32
    assert load_or_create_key(path) == load_key(path) == key
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(path.parent.iterdir()) == [path]


def test_all_of_a_race_get_the_same_key(tmp_path):
    keys = []
    gate = threading.Barrier(8)

    def make():
        gate.wait(30)
        keys.append(load_or_create_key(tmp_path / "key"))

    threads = [threading.Thread(target=make) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(keys) == 8
    assert len(set(keys)) == 1


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o666])
def test_a_key_that_others_can_touch_is_refused(tmp_path, mode):
    path = tmp_path / "key"
    load_or_create_key(path)
    path.chmod(mode)
    with pytest.raises(StoreError) as caught:
        load_or_create_key(path)
    problem = f"the cluster key {path} can be read or written by others (mode {mode:o})"
    assert caught.value.problem == problem
    assert caught.value.hint.startswith(f"chmod 600 {path}")


@pytest.mark.parametrize("text", ["", "short", "ab" * 31, "zz" * 32, "ü"])
def test_what_is_no_key_is_refused(tmp_path, text):
    path = tmp_path / "key"
    path.write_text(text, encoding="utf-8")
    path.chmod(0o600)
    with pytest.raises(StoreError) as caught:
        load_key(path)
    assert caught.value.problem == f"{path} is not a cluster key"


def test_a_missing_key_is_named(tmp_path):
    with pytest.raises(StoreError) as caught:
        load_key(tmp_path / "key")
    assert caught.value.problem == f"no cluster key at {tmp_path / 'key'}"
    assert caught.value.hint == "copy it from the node of the coordinator, keeping its mode 600"


def test_a_key_that_cannot_be_made_or_read_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError) as caught:
        load_or_create_key(tmp_path / "file" / "key")
    assert caught.value.problem.startswith(f"cannot create the cluster key {tmp_path}/file/key (")


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo, lambda path: path.symlink_to("/dev/zero")])
def test_what_is_no_file_is_no_key_and_is_not_waited_for(tmp_path, make):
    make(tmp_path / "key")
    with pytest.raises(StoreError, match="is not a cluster key"):
        load_or_create_key(tmp_path / "key")
