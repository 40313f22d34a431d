"""The journal: what was written is read, what was torn off is not, what is corrupt is said."""

import json

import pytest

from eflib.coordinator.journal import Journal
from eflib.errors import StoreError


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


def numbers(file):
    return [entry["n"] for entry in Journal(file).read()]


def test_entries_come_back_in_order(file):
    written(file, {"n": 1, "text": "grün"}, {"n": 2})
    written(file, {"n": 3})
    assert list(Journal(file).read()) == [
        {"v": 1, "n": 1, "text": "grün"},
        {"v": 1, "n": 2},
        {"v": 1, "n": 3},
    ]


def test_there_is_nothing_before_the_first_entry(file):
    assert numbers(file) == []
    written(file)
    assert numbers(file) == []


@pytest.mark.parametrize("num_left", range(1, 12))
def test_a_torn_last_line_is_dropped_and_written_over(file, num_left):
    written(file, {"n": 1}, {"n": 2})
    data = file.read_bytes()
    first = data.index(b"\n") + 1
    file.write_bytes(data[: first + num_left])
    assert numbers(file) == [1]
    written(file, {"n": 3})
    assert numbers(file) == [1, 3]


def test_a_last_line_that_lost_only_its_end_is_dropped_now_and_later(file):
    """It would otherwise be believed once, and be gone after the next restart."""
    written(file, {"n": 1}, {"n": 2})
    file.write_bytes(file.read_bytes()[:-1])
    assert numbers(file) == [1]
    written(file, {"n": 3})
    assert numbers(file) == [1, 3]


def test_bytes_of_a_block_that_never_reached_the_disk_are_dropped(file):
    written(file, {"n": 1})
    with file.open("ab") as handle:
        handle.write(b"\0" * 40)
    assert numbers(file) == [1]


@pytest.mark.parametrize("line", [b'{"n": 2', b"5", b'"text"', b"[1]", b"\xff\xfe", b"\0\0"])
def test_a_corrupt_line_in_the_middle_is_named_with_the_way_out(file, line):
    written(file, {"n": 1})
    with file.open("ab") as handle:
        handle.write(line + b"\n")
    written(file, {"n": 3})
    with pytest.raises(StoreError, match=r"journal\.jsonl:2: not a journal entry") as caught:
        numbers(file)
    assert "move the file away" in caught.value.hint


def test_a_journal_of_another_schema_is_refused(file):
    written(file)
    file.write_text('{"v": 2, "n": 1}\n')
    with pytest.raises(StoreError, match="schema 2, this eflib reads 1"):
        numbers(file)


def test_a_journal_that_cannot_be_read_is_named(file):
    file.mkdir(parents=True)
    with pytest.raises(StoreError, match=r"cannot read the journal .*journal\.jsonl"):
        numbers(file)


def test_what_is_not_json_is_not_written(file):
    journal = Journal(file)
    journal.open()
    with pytest.raises(TypeError):
        journal.append([{"n": object()}])
    journal.close()


def test_begin_anew_keeps_the_old_one_beside(file):
    journal = written(file, {"n": 1}, {"n": 2})
    journal.open()
    journal.begin_anew({"n": 3})
    journal.append([{"n": 4}])
    journal.close()
    assert numbers(file) == [3, 4]
    assert numbers(file.with_suffix(".old.jsonl")) == [1, 2]
    assert sorted(one.name for one in file.parent.iterdir()) == [
        "journal.jsonl",
        "journal.old.jsonl",
    ]


def test_a_crash_in_begin_anew_leaves_the_old_journal(file, monkeypatch):
    journal = written(file, {"n": 1})

    def crash(*_):
        raise OSError("power cut")

    monkeypatch.setattr("shutil.copyfile", crash)
    with pytest.raises(OSError, match="power cut"):
        journal.begin_anew({"n": 2})
    assert numbers(file) == [1]


def test_an_entry_is_one_line(file):
    written(file, {"text": "a\nb"})
    assert file.read_bytes().count(b"\n") == 1
    assert json.loads(file.read_text())["text"] == "a\nb"
