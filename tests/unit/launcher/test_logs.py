import pytest

from eflib.launcher.logs import RankLog, ranks


@pytest.fixture
def write(tmp_path):
    def append(generation, text, rank=0):
        path = tmp_path / str(generation) / f"{rank}.log"
        path.parent.mkdir(exist_ok=True)
        with path.open("a") as file:
            file.write(text)

    return append


def test_only_whole_lines_are_told_and_each_once(tmp_path, write):
    log = RankLog(tmp_path)
    assert log.new_lines() == []
    write(1, "one\ntw")
    assert log.new_lines() == ["one"]
    assert log.new_lines() == []
    write(1, "o\nthree")
    assert log.new_lines() == ["two"]
    assert log.new_lines(is_last=True) == ["three"]


def test_generations_follow_one_another_by_number(tmp_path, write):
    for generation in (1, 2, 10):
        write(generation, f"g{generation}\n")
    assert RankLog(tmp_path).new_lines() == ["g1", "g2", "g10"]


def test_a_leaver_s_last_words_are_not_lost(tmp_path, write):
    log = RankLog(tmp_path)
    write(1, "a\n")
    write(2, "b\n")
    assert log.new_lines() == ["a", "b"]
    write(1, "late\n")
    assert log.new_lines() == ["late"]


def test_of_many_generations_all_are_read_once_and_the_last_ones_watched(tmp_path, write):
    log = RankLog(tmp_path)
    for generation in range(1, 10):
        write(generation, f"{generation}\n")
    assert log.new_lines() == [str(generation) for generation in range(1, 10)]
    write(1, "too late\n")
    write(7, "in time\n")
    assert log.new_lines() == ["in time"]


def test_another_rank_and_another_folder_do_not_mix_in(tmp_path, write):
    write(1, "zero\n")
    write(1, "one\n", rank=1)
    (tmp_path / "checkpoints").mkdir()
    assert RankLog(tmp_path, 1).new_lines() == ["one"]
    assert ranks(tmp_path) == [0, 1]


def test_a_generation_without_the_rank_is_passed_over(tmp_path, write):
    write(1, "x\n", rank=1)
    assert RankLog(tmp_path).new_lines() == []


def test_a_folder_that_is_not_there_has_no_lines(tmp_path):
    assert RankLog(tmp_path / "none").new_lines() == []
    assert ranks("") == []


def test_bytes_that_are_no_text_do_no_harm(tmp_path):
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "0.log").write_bytes(b"\xff\n")
    assert RankLog(tmp_path).new_lines() == ["\ufffd"]
