"""What cannot be read is kept for a person to look at: once, with its reason, and bounded."""

import os

import pytest

from eflib.store import aside as module
from eflib.store.aside import Aside


@pytest.fixture
def said():
    return []


@pytest.fixture
def aside(tmp_path, said):
    return Aside(tmp_path / "aside", say=said.append)


def files(tmp_path):
    return sorted((tmp_path / "aside").iterdir())


def test_a_value_is_kept_with_its_place_and_reason_and_said_once(tmp_path, aside, said):
    for _ in range(3):
        aside.put("jobs/a-1/progress", b"\x00garbage", "it is not signed")
    (file,) = files(tmp_path)
    assert file.read_bytes() == (
        b"place: jobs/a-1/progress\nreason: it is not signed\nbytes: 8\n\n\x00garbage"
    )
    assert file.stat().st_mode & 0o777 == 0o600
    assert said == [f"ignored the value at jobs/a-1/progress: it is not signed; kept in {file}"]
    assert aside.count == 1


def test_another_value_at_the_same_place_is_kept_too(tmp_path, aside):
    aside.put("k", b"1", "bad")
    aside.put("k", b"2", "bad")
    assert len(files(tmp_path)) == aside.count == 2


def test_a_long_value_is_cut(tmp_path, aside):
    aside.put("k", b"x" * 10_000_000, "bad")
    (file,) = files(tmp_path)
    assert file.stat().st_size < module.MAX_BYTES + 200
    assert b"bytes: 10000000 (the first 65536 follow)" in file.read_bytes()


@pytest.mark.parametrize("place", ["a\nb", "\ud800", "x" * 10_000, "../../etc"])
def test_an_odd_name_stays_in_one_line_and_in_the_folder(tmp_path, aside, said, place):
    aside.put(place, b"1", place)
    (file,) = files(tmp_path)
    assert len(said[0].splitlines()) == 1
    assert len(said[0]) < 2000
    said[0].encode()
    assert file.parent == tmp_path / "aside"


def test_a_flood_is_bounded_in_files_and_lines_and_counted_whole(tmp_path, said, monkeypatch):
    monkeypatch.setattr(module, "MAX_FILES", 5)
    now = 0.0
    aside = Aside(tmp_path / "aside", say=said.append, clock=lambda: now)
    for number in range(1000):
        aside.put("k", str(number).encode(), "bad")
    assert aside.count == 1000
    assert len(files(tmp_path)) == 5
    assert len(said) == module.MAX_AN_HOUR + 1
    assert "further ones are not kept" in said[-1]
    now = module.HOUR + 1
    aside.put("k", b"later", "bad")
    assert "kept in" in said[-1]


@pytest.mark.skipif(os.getuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_costs_the_file_alone(tmp_path, aside, said):
    tmp_path.chmod(0o500)
    aside.put("k", b"1", "bad")
    tmp_path.chmod(0o700)
    assert said == ["ignored the value at k: bad"]


def test_a_file_in_place_of_the_folder_costs_the_file_alone(tmp_path, aside, said):
    (tmp_path / "aside").write_text("")
    aside.put("k", b"1", "bad")
    assert said == ["ignored the value at k: bad"]
