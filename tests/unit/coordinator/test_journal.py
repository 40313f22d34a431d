"""The journal: what was written is read, what was torn off is not, what is corrupt is said."""

import errno
import json

import pytest

from eflib.coordinator.journal import Journal, JournalError
from eflib.coordinator.segments import SegmentedLog
from eflib.coordinator.snapshot import Snapshot
from eflib.errors import StoreError
from eflib.messages.fields import replace
from eflib.messages.inbox import Cancel
from eflib.messages.journal import Begin, Entry, NodeLost
from eflib.store.aside import Aside


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "coordinator" / "journal"


def written(folder, *entries):
    journal = Journal(folder)
    journal.open()
    for entry in entries:
        journal.append([entry])
    journal.close()
    return journal


def an_entry(number, **fields):
    return Entry(v=1, time=1.0, input=Begin(num_jobs=number), **fields)


def a_snapshot(number):
    return Snapshot(v=1, time=2.0, read=number, begin=Begin(num_jobs=number))


def entries_of(journal):
    return [entry for batch in journal.recover().batches for entry in batch]


def numbers(folder, **settings):
    return [entry.input.num_jobs for entry in entries_of(Journal(folder, **settings))]


def append_line(folder, line):
    """Append a line as this version would: with its checksum."""
    log = SegmentedLog(folder)
    log.open()
    log.append([line])
    log.close()


def test_entries_come_back_in_order(folder):
    cancel = Cancel(request="r", job="grün")
    entries = [an_entry(1), an_entry(2, inbox=7), Entry(v=1, time=2.5, input=cancel, read=3)]
    written(folder, *entries[:2])
    written(folder, entries[2])
    assert entries_of(Journal(folder)) == entries


def test_what_was_appended_together_comes_back_together(folder):
    journal = written(folder)
    journal.open()
    journal.append([an_entry(1), an_entry(2)])
    journal.append([an_entry(3)])
    journal.close()
    batches = Journal(folder).recover().batches
    assert [[entry.input.num_jobs for entry in batch] for batch in batches] == [[1, 2], [3]]


def test_there_is_nothing_before_the_first_entry(folder):
    assert numbers(folder) == []
    written(folder)
    assert numbers(folder) == []


@pytest.mark.parametrize("line", [b'{"n": 2', b"5", b'"text"', b"[1]", b"\xff\xfe", b"\0\0"])
def test_a_corrupt_line_is_named_with_the_way_out(folder, line):
    written(folder, an_entry(1))
    append_line(folder, line)
    written(folder, an_entry(3))
    with pytest.raises(StoreError, match=r"journal/00000001\.log:2: not a journal entry") as caught:
        numbers(folder)
    assert "move that file or folder away" in caught.value.hint


def test_damage_is_named_with_the_way_out(folder):
    written(folder, an_entry(1), an_entry(2))
    file = folder / "00000001.log"
    file.write_bytes(file.read_bytes().replace(b'"num_jobs":1', b'"num_jobs":7'))
    with pytest.raises(JournalError, match=r"00000001\.log:1: not as it was written") as caught:
        numbers(folder)
    assert "move that file or folder away" in caught.value.hint


def test_a_journal_of_another_schema_is_refused(folder):
    append_line(folder, b'{"v": 2, "t": 1.0, "in": {"type": "time"}}')
    with pytest.raises(StoreError, match="schema 2, this eflib reads 1") as caught:
        numbers(folder)
    assert "move that file or folder away" in caught.value.hint


def test_a_journal_that_cannot_be_read_is_named(folder):
    (folder / "00000001.log").mkdir(parents=True)
    with pytest.raises(StoreError, match=r"cannot read .*journal/00000001\.log"):
        numbers(folder)


def test_an_entry_that_could_not_be_read_again_is_not_written(folder, tmp_path):
    aside = Aside(tmp_path / "aside")
    journal = Journal(folder, aside)
    journal.open()
    good = an_entry(1)
    bad = [an_entry(-1), an_entry("\ud800"), Entry(v=1, time=1.0, input=NodeLost(node="a/b"))]
    assert journal.append([bad[0], good, *bad[1:]]) == [good]
    journal.close()
    assert entries_of(Journal(folder)) == [good]
    assert aside.count == 3


@pytest.mark.parametrize("kind", ["time", "progress", "worker_started", "switched", "measured"])
def test_a_report_that_cannot_be_read_and_is_said_again_is_put_aside(folder, tmp_path, kind):
    written(folder, an_entry(1))
    append_line(folder, json.dumps({"v": 1, "t": None, "in": {"type": kind}}).encode())
    written(folder, an_entry(3))
    aside = Aside(tmp_path / "aside")
    assert numbers(folder, aside=aside) == [1, 3]
    assert aside.count == 1


def test_a_submission_that_cannot_be_read_is_not_passed_over(folder):
    """The ids of all later jobs depend on it."""
    written(folder, an_entry(1))
    append_line(folder, b'{"v": 1, "t": 1.0, "in": {"type": "submit", "name": "a"}}')
    with pytest.raises(StoreError, match=r"00000001\.log:2: a 'submit' entry cannot be read"):
        numbers(folder)


def test_a_disk_that_is_full_is_an_error_line(folder, monkeypatch):
    journal = written(folder)
    journal.open()

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(StoreError, match=r"cannot write the journal .*No space left"):
        journal.append([an_entry(1)])
    with pytest.raises(StoreError, match=r"cannot write the journal .*No space left"):
        journal.cut(a_snapshot(1))
    journal.close()


def test_its_files_are_for_their_owner_alone(folder):
    journal = written(folder, an_entry(1))
    journal.open()
    journal.cut(a_snapshot(1))
    journal.close()
    modes = {file.name: file.stat().st_mode & 0o777 for file in folder.iterdir()}
    assert modes == dict.fromkeys(modes, 0o600)
    assert folder.stat().st_mode & 0o777 == 0o700


def test_a_snapshot_takes_the_place_of_what_it_comes_to(folder):
    journal = written(folder, an_entry(1), an_entry(2))
    journal.open()
    assert journal.cut(a_snapshot(2))
    journal.append([an_entry(3)])
    journal.close()
    snapshot, batches = Journal(folder).recover()
    assert snapshot == a_snapshot(2)
    assert [[entry.input.num_jobs for entry in batch] for batch in batches] == [[3]]


def test_a_snapshot_that_cannot_be_read_is_passed_over_with_a_warning(folder, caplog):
    journal = written(folder)
    journal.open()
    for number in (1, 2):
        journal.append([an_entry(number)])
        journal.cut(a_snapshot(number))
    journal.append([an_entry(3)])
    journal.close()
    max(folder.glob("*.snapshot")).write_bytes(b"torn")
    snapshot, batches = Journal(folder).recover()
    assert snapshot == a_snapshot(1)
    assert [[entry.input.num_jobs for entry in batch] for batch in batches] == [[2], [3]]
    assert "the snapshot before it is used" in caplog.text


def test_a_snapshot_of_another_schema_is_refused(folder):
    journal = written(folder)
    journal.open()
    journal.cut(replace(a_snapshot(1), v=9))
    journal.close()
    with pytest.raises(JournalError, match="schema 9, this eflib reads 1") as caught:
        Journal(folder).recover()
    assert "move that file or folder away" in caught.value.hint


def test_a_snapshot_that_could_not_be_read_again_is_not_written(folder, caplog, monkeypatch):
    monkeypatch.setattr("eflib.coordinator.journal.MAX_ENTRIES", 2)
    journal = Journal(folder)
    journal.open()
    journal.append([an_entry(1), an_entry(2)])
    assert not journal.cut(a_snapshot(-1))
    assert "the journal is not cut" in caplog.text
    assert not journal.is_long
    journal.append([an_entry(3), an_entry(4)])
    assert journal.is_long
    journal.close()
    assert numbers(folder) == [1, 2, 3, 4]


@pytest.mark.parametrize(("bound", "value"), [("MAX_ENTRIES", 10), ("MAX_BYTES", 1000)])
def test_it_is_long_after_so_many_entries_or_bytes_and_short_again_once_cut(
    folder, monkeypatch, bound, value
):
    monkeypatch.setattr(f"eflib.coordinator.journal.{bound}", value)
    journal = Journal(folder)
    journal.open()
    appended = 0
    while not journal.is_long:
        journal.append([an_entry(1)])
        appended += 1
    assert 5 <= appended <= 20
    journal.close()
    journal = Journal(folder)
    journal.open()
    assert journal.is_long
    journal.cut(a_snapshot(1))
    assert not journal.is_long
    journal.close()


# The version before -------------------------------------------------------------------------------


OLD = b'{"v":1,"t":1.0,"in":{"type":"begin","num_jobs":%d}}\n'


@pytest.fixture
def old(folder):
    folder.parent.mkdir(parents=True)
    return folder.with_suffix(".jsonl")


def test_the_journal_of_the_version_before_is_read_and_taken_over(folder, old):
    old.write_bytes(OLD % 1 + OLD % 2)
    journal = Journal(folder, old=old)
    assert [entry.input.num_jobs for entry in entries_of(journal)] == [1, 2]
    journal.open()
    journal.append([an_entry(3)])
    assert journal.is_long
    assert numbers(folder, old=old) == [1, 2, 3]  # as after a crash at this point
    journal.cut(a_snapshot(3))
    assert not journal.is_long
    journal.close()
    assert Journal(folder, old=old).recover().snapshot == a_snapshot(3)
    assert old.with_suffix(".old.jsonl").read_bytes() == OLD % 1 + OLD % 2
    assert not old.exists()


@pytest.mark.parametrize("torn", [b'{"v":1,"t":1.0,"in":{"ty', b"\0" * 40])
def test_the_torn_last_line_of_an_old_journal_is_dropped(folder, old, torn):
    old.write_bytes(OLD % 1 + torn)
    assert numbers(folder, old=old) == [1]


def test_an_old_journal_that_cannot_be_read_is_named_with_the_way_out(folder, old):
    old.write_bytes(OLD % 1 + b"garbage\n" + OLD % 2)
    with pytest.raises(JournalError, match=r"journal\.jsonl:2: not a journal entry") as caught:
        numbers(folder, old=old)
    assert "move" in caught.value.hint
