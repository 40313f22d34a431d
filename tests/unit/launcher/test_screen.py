import io

import pytest

from eflib.launcher.screen import PLAIN_SECONDS, Screen


class Terminal(io.StringIO):
    def isatty(self):
        return True


class Seconds:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def seconds():
    return Seconds()


@pytest.fixture
def plain(seconds):
    screen = Screen(io.StringIO(), io.StringIO(), clock=seconds)
    screen.seconds = seconds
    return screen


@pytest.fixture
def terminal(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "60")
    return Screen(io.StringIO(), Terminal())


def test_elsewhere_progress_is_a_line_now_and_then(plain, seconds, a_status):
    for now, step in ((0, 1), (1, 2), (PLAIN_SECONDS, 3), (PLAIN_SECONDS + 1, 4)):
        seconds.now = now
        plain.progress(a_status(global_step=step, steps_per_s=None))
    assert plain._err.getvalue() == (
        "digits: step 1/600, 4 workers\ndigits: step 3/600, 4 workers\n"
    )


def test_elsewhere_progress_that_stands_still_is_told_less_often(plain, seconds, a_status):
    for now in range(0, 125, 5):
        seconds.now = float(now)
        plain.progress(a_status(steps_per_s=None))
    assert plain._err.getvalue() == 3 * "digits: step 120/600, 4 workers\n"


def test_elsewhere_a_change_of_size_is_told_at_once(plain, a_status):
    plain.progress(a_status(state="PENDING", world_size=0, reason="no GPU is free"))
    plain.progress(a_status(world_size=2, steps_per_s=None))
    plain.progress(a_status(world_size=4, steps_per_s=None))
    assert plain._err.getvalue().splitlines() == [
        "digits: pending: no GPU is free",
        "digits: step 120/600, 2 workers",
        "digits: step 120/600, 4 workers",
    ]


def test_on_a_terminal_progress_is_drawn_over(terminal, a_status):
    terminal.progress(a_status(global_step=1, steps_per_s=None))
    terminal.progress(a_status(global_step=1, steps_per_s=None))
    terminal.progress(a_status(global_step=2, steps_per_s=None))
    terminal.close()
    drawn = terminal._err.getvalue()
    assert "\n" not in drawn
    assert drawn.count("step 1/600") == 1
    assert drawn.count("\r\x1b[2K") == 2
    assert drawn.endswith("\r\x1b[2K")


def test_on_a_terminal_a_long_progress_keeps_to_one_line(terminal, a_status):
    terminal.progress(a_status(state="PENDING", reason="x" * 200))
    assert "x" * 30 in terminal._err.getvalue()
    assert "xxx..." in terminal._err.getvalue()
    assert "x" * 60 not in terminal._err.getvalue()


def test_a_script_s_line_takes_the_progress_away_first(terminal, a_status):
    terminal.progress(a_status())
    terminal.script(["hello", "[red]not markup"], "[digits 0]:")
    assert terminal._err.getvalue().endswith("\r\x1b[2K")
    assert terminal._out.getvalue() == "[digits 0]: hello\n[digits 0]: [red]not markup\n"


def test_no_lines_write_nothing(plain):
    plain.script([], "[digits 0]:")
    assert plain._out.getvalue() == ""


def test_what_we_say_is_not_markup_and_is_not_wrapped(plain):
    plain.say("[bold]" + "word " * 50 + "end")
    assert plain._err.getvalue() == "[bold]" + "word " * 50 + "end\n"
