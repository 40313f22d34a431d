import errno
import os
import shutil
import time
from pathlib import Path

import pytest

from eflib.errors import StoreError
from eflib.store import FolderStore, atomic, open_store

HINT = (
    "make the folder readable and writable for this user, or choose another one with EFLIB_HOME "
    "or --store"
)


@pytest.fixture
def store(tmp_path):
    return FolderStore(tmp_path / "store")


def temporary_files(store):
    return list(Path(store.url, ".temporary").iterdir())


def test_a_folder_below_a_file_cannot_be_used(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError) as caught:
        open_store(tmp_path / "file" / "store")
    place = tmp_path / "file" / "store"
    assert caught.value.problem == f"cannot use the store in {place} (not a directory)"
    assert caught.value.hint == HINT


def refuse(*arguments, **options):
    raise PermissionError(errno.EACCES, "Permission denied", "/some/where")


def test_a_folder_that_may_not_be_written_is_named_with_the_cause(store, monkeypatch):
    store.check()
    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(StoreError) as caught:
        store.set("k", b"v")
    assert caught.value.problem == f"cannot write the store in {store.url} (permission denied)"
    assert caught.value.detail == "at /some/where"
    assert caught.value.hint == HINT


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_value_that_may_not_be_read_is_an_error_and_not_absent(store):
    store.set("k", b"v")
    Path(store.url, "@k").chmod(0)
    with pytest.raises(StoreError, match="cannot read the store"):
        store.get("k")


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo])
def test_what_is_no_file_is_a_value_that_nobody_can_use_and_blocks_nobody(store, make):
    store.check()
    make(Path(store.url, "@k"))
    assert store.get("k") == b""


def test_names_that_no_key_has_are_not_listed(store):
    store.set("jobs/a", b"v")
    for name in (b"@%zz", b"@\xff", b"\xfe", b"@", b"@a%2", b"@a b"):
        (Path(store.url, "jobs") / os.fsdecode(name)).write_bytes(b"")
    assert store.list() == ["jobs/a"]


def test_a_part_that_is_too_long_for_a_file_name_is_refused(store):
    with pytest.raises(StoreError, match="a part of a key is longer than 250 bytes: xxx"):
        store.set("a/" + "x" * 251, b"v")


def test_a_held_lock_is_waited_for_within_a_bound(store, monkeypatch):
    store.set("k", b"old")
    locks = f"{store.url}/.locks"
    monkeypatch.setattr(atomic.locked.__init__, "__kwdefaults__", {"seconds": 0.05})
    monkeypatch.setattr("eflib.store.file.NUM_LOCKS", 1)
    with atomic.locked(f"{locks}/0"), pytest.raises(StoreError) as caught:
        store.compare_and_set("k", b"old", b"new")
    assert caught.value.problem == f"waited 0.05 s for the lock {locks}/0"
    assert caught.value.hint.endswith(f"find it with: fuser {locks}/0")
    assert store.compare_and_set("k", b"old", b"new")


def test_a_claim_needs_no_lock(store, monkeypatch):
    monkeypatch.setattr(atomic, "locked", None)
    assert store.compare_and_set("k", None, b"v")
    assert store.append("s", b"v") == 0


def test_a_claim_without_hard_links_is_as_exclusive(store, monkeypatch):
    def no_links(source, target):
        raise OSError(errno.EPERM, "Operation not permitted")

    store.check()
    monkeypatch.setattr(os, "link", no_links)
    assert store.compare_and_set("k", None, b"first")
    monkeypatch.setattr(os.path, "exists", lambda path: False)  # it came after the quick look
    assert not store.compare_and_set("k", None, b"second")
    assert store.get("k") == b"first"
    assert temporary_files(store) == []


def test_no_temporary_file_is_left_behind(store):
    store.set("k", b"1")
    store.compare_and_set("k", None, b"2")
    store.compare_and_set("new", None, b"3")
    store.compare_and_set("k", b"1", b"4")
    assert temporary_files(store) == []


def test_what_a_killed_writer_left_long_ago_is_swept(store):
    store.check()
    old = atomic.write_temporary(f"{store.url}/.temporary", b"half")
    new = atomic.write_temporary(f"{store.url}/.temporary", b"half")
    os.utime(old, (time.time() - 90_000, time.time() - 90_000))
    os.utime(new, (time.time() - 7200, time.time() - 7200))  # the clock was set meanwhile
    store.check()
    assert temporary_files(store) == [Path(new)]


CALLS = {
    "get": lambda store: store.get("k"),
    "get another": lambda store: store.get("other"),
    "set": lambda store: store.set("k", b"2"),
    "set another": lambda store: store.set("jobs/other", b"2"),
    "claim": lambda store: store.compare_and_set("new", None, b"2"),
    "exchange": lambda store: store.compare_and_set("k", b"1", b"2"),
    "append": lambda store: store.append("s", b"2"),
    "read": lambda store: store.read("s", 0),
    "list": lambda store: store.list(),
    "delete": lambda store: store.delete("k"),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize("how", ["moved", "deleted", "made anew"])
def test_a_folder_that_vanishes_is_said_and_not_made_again(store, call, how):
    store.check()
    store.set("k", b"1")
    if how == "moved":
        Path(store.url).rename(f"{store.url}-gone")
    else:
        shutil.rmtree(store.url)
    if how == "made anew":
        FolderStore(store.url).check()
    with pytest.raises(StoreError, match=r"the store's folder .* while it was in use"):
        call(store)
    if how == "moved":
        Path(f"{store.url}-gone").rename(store.url)
        assert store.get("k") == b"1"
    store.close()


def test_a_folder_that_was_never_there_is_made(store):
    assert store.get("k") is None
    store.set("k", b"2")
    assert store.get("k") == b"2"


def test_only_the_owner_may_enter_the_folder(store):
    store.check()
    assert Path(store.url).stat().st_mode & 0o777 == 0o700


def test_nothing_in_the_store_is_anybody_else_s_whatever_the_process_s_mask(store):
    before = os.umask(0)
    try:
        Path(store.url).mkdir()  # one that was there, open to all
        store.set("jobs/j/spec", b"secret")
        store.compare_and_set("jobs/j/exits/w", None, b"v")
        store.append("inbox", b"v")
    finally:
        os.umask(before)
    found = {str(path): path.stat().st_mode & 0o077 for path in Path(store.url).rglob("*")}
    assert len(found) > 8
    assert {path: mode for path, mode in found.items() if mode} == {}
