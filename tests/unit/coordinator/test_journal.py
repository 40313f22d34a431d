"""The journal: what was written is read, what was torn off is not, what is corrupt is said."""

import errno
import json

import pytest

from eflib.coordinator.journal import Journal
from eflib.errors import StoreError
from eflib.messages.inbox import Cancel
from eflib.messages.journal import Begin, Entry, NodeLost
from eflib.store.aside import Aside


@pytest.fixture
def file(tmp_path):
    return tmp_path / "coordinator" / "journal.jsonl"


def written(file, *entries):
    journal = Journal(file)
    journal.open()
    for entry in entries:
        journal.append([entry])
    journal.close()
    return journal


def an_entry(number, **fields):
    return Entry(v=1, time=1.0, input=Begin(num_jobs=number), **fields)


def numbers(file):
    return [entry.input.num_jobs for entry in Journal(file).read()]


def test_entries_come_back_in_order(file):
    cancel = Cancel(request="r", job="grün")
    entries = [an_entry(1), an_entry(2, inbox=7), Entry(v=1, time=2.5, input=cancel, read=3)]
    written(file, *entries[:2])
    written(file, entries[2])
    assert list(Journal(file).read()) == entries


def test_there_is_nothing_before_the_first_entry(file):
    assert numbers(file) == []
    written(file)
    assert numbers(file) == []


@pytest.mark.parametrize("num_left", range(1, 12))
def test_a_torn_last_line_is_dropped_and_written_over(file, num_left):
    written(file, an_entry(1), an_entry(2))
    data = file.read_bytes()
    first = data.index(b"\n") + 1
    file.write_bytes(data[: first + num_left])
    assert numbers(file) == [1]
    written(file, an_entry(3))
    assert numbers(file) == [1, 3]


def test_a_last_line_that_lost_only_its_end_is_dropped_now_and_later(file):
    """It would otherwise be believed once, and be gone after the next restart."""
    written(file, an_entry(1), an_entry(2))
    file.write_bytes(file.read_bytes()[:-1])
    assert numbers(file) == [1]
    written(file, an_entry(3))
    assert numbers(file) == [1, 3]


def test_bytes_of_a_block_that_never_reached_the_disk_are_dropped(file):
    written(file, an_entry(1))
    with file.open("ab") as handle:
        handle.write(b"\0" * 40)
    assert numbers(file) == [1]


@pytest.mark.parametrize("line", [b'{"n": 2', b"5", b'"text"', b"[1]", b"\xff\xfe", b"\0\0"])
def test_a_corrupt_line_in_the_middle_is_named_with_the_way_out(file, line):
    written(file, an_entry(1))
    with file.open("ab") as handle:
        handle.write(line + b"\n")
    written(file, an_entry(3))
    with pytest.raises(StoreError, match=r"journal\.jsonl:2: not a journal entry") as caught:
        numbers(file)
    assert "move the file away" in caught.value.hint


def test_a_journal_of_another_schema_is_refused(file):
    written(file)
    file.write_text('{"v": 2, "t": 1.0, "in": {"type": "time"}}\n')
    with pytest.raises(StoreError, match="schema 2, this eflib reads 1"):
        numbers(file)


def test_a_journal_that_cannot_be_read_is_named(file):
    file.mkdir(parents=True)
    with pytest.raises(StoreError, match=r"cannot read the journal .*journal\.jsonl"):
        numbers(file)


def test_an_entry_that_could_not_be_read_again_is_not_written(file, tmp_path):
    aside = Aside(tmp_path / "aside")
    journal = Journal(file, aside)
    journal.open()
    good = an_entry(1)
    bad = [an_entry(-1), an_entry("\ud800"), Entry(v=1, time=1.0, input=NodeLost(node="a/b"))]
    assert journal.append([bad[0], good, *bad[1:]]) == [good]
    journal.close()
    assert list(Journal(file).read()) == [good]
    assert aside.count == 3


@pytest.mark.parametrize("kind", ["time", "progress", "worker_started", "switched", "measured"])
def test_a_report_that_cannot_be_read_and_is_said_again_is_put_aside(file, tmp_path, kind):
    written(file, an_entry(1))
    with file.open("a") as handle:
        handle.write(json.dumps({"v": 1, "t": None, "in": {"type": kind}}) + "\n")
    written(file, an_entry(3))
    aside = Aside(tmp_path / "aside")
    assert [entry.input.num_jobs for entry in Journal(file, aside).read()] == [1, 3]
    assert aside.count == 1


def test_a_submission_that_cannot_be_read_is_not_passed_over(file):
    """The ids of all later jobs depend on it."""
    written(file, an_entry(1))
    with file.open("a") as handle:
        handle.write('{"v": 1, "t": 1.0, "in": {"type": "submit", "name": "a"}}\n')
    with pytest.raises(StoreError, match=r"journal\.jsonl:2: a 'submit' entry cannot be read"):
        numbers(file)


def test_a_disk_that_is_full_is_an_error_line(file, monkeypatch):
    journal = written(file)
    journal.open()

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(StoreError, match=r"cannot write the journal .*No space left"):
        journal.append([an_entry(1)])
    journal.close()


def test_the_file_is_for_its_owner_alone(file):
    written(file, an_entry(1))
    assert file.stat().st_mode & 0o777 == 0o600


def test_begin_anew_keeps_the_old_one_beside(file):
    journal = written(file, an_entry(1), an_entry(2))
    journal.open()
    journal.begin_anew(an_entry(3))
    journal.append([an_entry(4)])
    journal.close()
    assert numbers(file) == [3, 4]
    assert numbers(file.with_suffix(".old.jsonl")) == [1, 2]
    assert sorted(one.name for one in file.parent.iterdir()) == [
        "journal.jsonl",
        "journal.old.jsonl",
    ]


def test_a_crash_in_begin_anew_leaves_the_old_journal(file, monkeypatch):
    journal = written(file, an_entry(1))

    def crash(*_):
        raise OSError("power cut")

    monkeypatch.setattr("shutil.copyfile", crash)
    with pytest.raises(StoreError, match="power cut"):
        journal.begin_anew(an_entry(2))
    assert numbers(file) == [1]


def test_an_entry_is_one_line(file):
    entry = Entry(v=1, time=1.0, input=Cancel(request="r", job="a", reason="a\nb"))
    written(file, entry)
    assert file.read_bytes().count(b"\n") == 1
    assert list(Journal(file).read()) == [entry]
