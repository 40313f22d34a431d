"""Lines and snapshots on disk: synced ones come back, torn ones do not, damage is said."""

import contextlib
import os
import random
import shutil

import pytest

from eflib.coordinator.segments import DamagedError, SegmentedLog
from eflib.errors import StoreError


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "journal"


def writing(folder):
    log = SegmentedLog(folder)
    log.recover()
    log.open()
    return log


def written(folder, *batches):
    log = writing(folder)
    for batch in batches:
        log.append([line.encode() for line in batch])
    log.close()


def content(folder):
    """Return the snapshot's text and those of the lines."""
    found = SegmentedLog(folder).recover()
    snapshot = None if found.snapshot is None else found.snapshot.decode()
    return snapshot, [line.decode() for batch in found.batches for _, line in batch]


def names(folder):
    return sorted(file.name for file in folder.iterdir())


def test_there_is_nothing_before_the_first_line(folder):
    assert content(folder) == (None, [])
    written(folder)
    assert content(folder) == (None, [])


def test_lines_come_back_in_order_over_restarts(folder):
    written(folder, ["grün", "b"], ["c"])
    written(folder, ["d"])
    assert content(folder) == (None, ["grün", "b", "c", "d"])


def test_a_cut_leaves_the_snapshot_and_what_follows(folder):
    log = writing(folder)
    log.append([b"a", b"b"])
    log.cut(b"ab")
    assert log.num_lines == log.num_bytes == 0
    log.append([b"c"])
    log.close()
    assert content(folder) == ("ab", ["c"])
    written(folder, ["d"])
    assert content(folder) == ("ab", ["c", "d"])


def test_one_older_snapshot_stays_and_no_more(folder):
    log = writing(folder)
    for number in range(6):
        log.append([str(number).encode()])
        log.cut(f"up to {number}".encode())
    log.close()
    kinds = ("log", "snapshot")
    assert names(folder) == [f"{number:08d}.{kind}" for number in (6, 7) for kind in kinds]


def a_log_with_two_snapshots(folder):
    log = writing(folder)
    for number in range(3):
        log.append([str(number).encode()])
        log.cut(f"up to {number}".encode())
    log.append([b"3"])
    log.close()


@pytest.mark.parametrize("damage", [b"", b"x", None])
def test_a_snapshot_that_cannot_be_read_falls_back_to_the_one_before(folder, damage):
    a_log_with_two_snapshots(folder)
    newest = folder / "00000004.snapshot"
    newest.write_bytes(newest.read_bytes().replace(b"up", b"UP") if damage is None else damage)
    log = SegmentedLog(folder)
    found = log.recover()
    lines = [line for batch in found.batches for _, line in batch]
    assert (found.snapshot, lines) == (b"up to 1", [b"2", b"3"])
    (said,) = found.passed_over
    assert "00000004.snapshot" in said
    log.open()
    log.append([b"4"])
    assert content(folder) == ("up to 1", ["2", "3", "4"])
    log.cut(b"up to 4")
    log.close()
    assert content(folder) == ("up to 4", [])
    (folder / "00000005.snapshot").write_bytes(b"")
    assert content(folder) == ("up to 1", ["2", "3", "4"])


def test_no_snapshot_that_can_be_read_is_damage_not_an_empty_log(folder):
    a_log_with_two_snapshots(folder)
    for file in folder.glob("*.snapshot"):
        file.write_bytes(b"")
    with pytest.raises(DamagedError, match=r"00000001\.log: missing"):
        content(folder)


def test_a_segment_that_is_missing_in_between_is_damage(folder):
    a_log_with_two_snapshots(folder)
    (folder / "00000004.snapshot").unlink()
    (folder / "00000003.log").unlink()
    with pytest.raises(DamagedError, match=r"00000003\.log: missing"):
        content(folder)


def test_a_crash_in_any_append_leaves_all_of_the_batch_or_nothing(folder):
    written(folder, ["a", "b"])
    whole = (folder / "00000001.log").stat().st_size
    written(folder, ["c", "d", "e"])
    data = (folder / "00000001.log").read_bytes()
    for size in range(whole, len(data)):
        (folder / "00000001.log").write_bytes(data[:size])
        assert content(folder) == (None, ["a", "b"]), size
        written(folder, ["f"])
        assert content(folder) == (None, ["a", "b", "f"]), size
    (folder / "00000001.log").write_bytes(data)
    assert content(folder) == (None, ["a", "b", "c", "d", "e"])


@pytest.mark.parametrize("tail", [b"\0" * 40, b"\0" * 40 + b"\n", b"garbage\n" * 3])
def test_blocks_of_the_last_batch_that_never_reached_the_disk_are_dropped(folder, tail):
    written(folder, ["a"])
    with (folder / "00000001.log").open("ab") as handle:
        handle.write(tail)
    assert content(folder) == (None, ["a"])
    written(folder, ["b"])
    assert content(folder) == (None, ["a", "b"])


def test_any_byte_that_changes_before_the_last_batch_is_noticed(folder):
    written(folder, ["aa", "bb"], ["cc"], ["dd"])
    data = (folder / "00000001.log").read_bytes()
    last = data.index(b" 3.1/1 ") - 9  # its line, and the line end before it
    for place in range(last):
        changed = bytearray(data)
        changed[place] ^= 1 << place % 8
        (folder / "00000001.log").write_bytes(bytes(changed))
        with pytest.raises(DamagedError, match=r"00000001\.log:\d: not as it was written"):
            content(folder)
        with pytest.raises(DamagedError):
            SegmentedLog(folder).open()


def test_lines_that_are_lost_or_doubled_in_the_middle_are_noticed(folder):
    written(folder, ["a", "b"], ["c"], ["d"], ["e"])
    lines = (folder / "00000001.log").read_bytes().splitlines(keepends=True)
    chance = random.Random(0)
    for _ in range(50):
        kept = [line for line in lines[:-1] for _ in range(chance.choice([0, 1, 1, 2]))]
        if kept != lines[:-1]:
            (folder / "00000001.log").write_bytes(b"".join([*kept, lines[-1]]))
            with pytest.raises(DamagedError):
                content(folder)


class CrashError(Exception):
    """The power is gone."""


def crashing(monkeypatch, at):
    """Let the n-th act on the disk fail, and all after it."""
    acts = iter(range(1000))

    def guarded(real):
        def act(*args, **kwargs):
            if next(acts) >= at:
                raise CrashError
            return real(*args, **kwargs)

        return act

    for owner, name in [(os, "fsync"), (os, "replace"), (os, "unlink"), (os, "rename")]:
        monkeypatch.setattr(owner, name, guarded(getattr(owner, name)))


@pytest.mark.parametrize("at", range(12))
def test_a_crash_at_any_act_of_a_cut_loses_nothing(folder, tmp_path, at):
    a_log_with_two_snapshots(folder)
    log = writing(folder)
    with pytest.MonkeyPatch.context() as patch:
        crashing(patch, at)
        with contextlib.suppress(CrashError):
            log.cut(b"up to 3")
    log.close()
    assert content(folder) in [("up to 2", ["3"]), ("up to 3", [])]
    again = writing(folder)
    again.append([b"4"])
    again.close()
    assert content(folder) in [("up to 2", ["3", "4"]), ("up to 3", ["4"])]
    again = writing(folder)
    again.cut(b"up to 4")
    again.close()
    assert content(folder) == ("up to 4", [])
    shutil.copytree(folder, tmp_path / "copy")
    max((tmp_path / "copy").glob("*.snapshot")).write_bytes(b"")
    assert content(tmp_path / "copy") in [("up to 3", ["4"]), ("up to 2", ["3", "4"])]


def test_a_log_that_cannot_be_read_is_named(folder):
    (folder / "00000001.log").mkdir(parents=True)
    with pytest.raises(StoreError, match=r"cannot read .*00000001\.log"):
        content(folder)


def test_files_of_other_names_are_left_alone(folder):
    written(folder, ["a"])
    (folder / "notes.txt").write_text("mine")
    written(folder, ["b"])
    assert content(folder) == (None, ["a", "b"])
    assert (folder / "notes.txt").read_text() == "mine"
