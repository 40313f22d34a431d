"""Bad command lines, every option of every command: a usage error with a hint, and nothing else.

The table is made by walking the commands, so that a new option is covered by itself.
"""

import importlib
import json
import os
import time
from pathlib import Path

import pytest

from eflib.launcher import documents, eflaunch, interface
from eflib.launcher.commands import COMMANDS
from eflib.store import open_store

HUGE = "1" + "0" * 30
VALUES = {
    "empty": "",
    "zero": "0",
    "negative": "-1",
    "fraction": "1.5",
    "10^30": HUGE,
    "300 digits": "9" * 300,
    "5000 digits": "9" * 5000,
    "nan": "nan",
    "inf": "inf",
    "1e308": "1e308",
    "1e-320": "1e-320",
    "two": "1e308,1e308",
    "300 characters": "x" * 300,
    "5000 characters": "x" * 5000,
    "NUL": "a\0b",
    "newline": "a\nb",
    "not UTF-8": "a\udcff",
    "escape": "a\x1b[2J",
    "no such user": "~nouser/x",
    "folder": "folder",
    "missing folder": "missing/x",
    "below a file": "train.py/x",
    "pipe": "pipe",
    "deep JSON": "deep.json",
    "huge numbers": "huge.json",
    "many entries": "many.json",
    "Latin-1": "latin",
    "parent": "..",
    "root": "/",
    "here": ".",
    "full disk": "/dev/full",
    "IPv6 torn": "tcp://[::1",
    "tcp without a port": "tcp://host",
    "tcp port 99999": "tcp://host:99999",
    "tcp port 0": "tcp://host:0",
    "tcp port of letters": "tcp://host:port",
    "tcp alone": "tcp:",
    "file without slashes": "file://x",
    "file with NUL": "file:///x%00y",
    "other scheme": "http://host:1",
    "two dashes": "--",
    "dash": "-",
    "quotes": "'\"",
    "far": "3000000d",
    "year 1": "0001-01-01",
    "year 9999": "9999-12-31T23:59-12:00",
    "module with a suffix": "train.py",
}
BASES = {
    "eflaunch": ["--dry-run", "train.py"],
    "status": ["digits"],
    "describe": ["digits"],
    "logs": ["digits"],
    "cancel": ["gpt"],
    "rescale": ["digits", "2"],
    "profile": ["train.py"],
    "profiles": ["plot", "bert"],
    "simulate": ["--trace", "t.csv", "--nodes", "1"],
    "trace": ["new.csv", "--jobs", "2"],
    "plot": ["satisfaction", "runs"],
}


def taken(command):
    if command == "eflaunch":
        return eflaunch.INTERFACE
    module = importlib.import_module(f"eflib.launcher.commands.{command.replace('-', '_')}")
    return interface.interface_of(module.command)


ALL = ("eflaunch", *COMMANDS)
OPTIONS = [(command, name) for command in ALL for name in taken(command).options]
ARGUMENTS = [(command, place) for command in ALL for place in range(len(BASES.get(command, ())))]


@pytest.fixture
def world(run, script, following, a_status, monkeypatch, tmp_path):
    """A working folder with files of every bad kind, and a cluster that notes what is asked."""
    Path("folder").mkdir()
    os.mkfifo("pipe")
    Path("deep.json").write_text("[" * 100_000)
    Path("huge.json").write_text('{"model": "m", "points": {"1": 1' + "0" * 5000 + "}}")
    entries = ", ".join(f'"{count}": 1.0' for count in range(1, 100_000))
    Path("many.json").write_text('{"model": "m", "points": {' + entries + "}}")
    Path("latin").write_bytes(b"\xff")
    points = {"model": "m", "points": {"1": 1.0}}
    Path("curve.json").write_text(json.dumps(points))
    following.write(a_status(), a_status(job="gpt-1", name="gpt", state="FAILED"))
    following.statuses = [a_status(state="SUCCEEDED")]
    following.replies["profile"] = {"job": "digits-1"}
    for name in ("coordinator.run_coordinator", "agent.run_agent"):
        monkeypatch.setattr(f"eflib.launcher.commands.{name}", lambda *_, **__: None)
    monkeypatch.setattr(
        "matplotlib.figure.Figure.savefig", lambda _, path, **__: Path(path).write_bytes(b"")
    )
    made = documents.Cluster.__init__

    def opening(self, home, store_url, *, must_exist):
        open_store(store_url, must_exist=must_exist).close()
        made(self, home, store_url)

    monkeypatch.setattr(documents.Cluster, "__init__", opening)
    assert run("efctl trace t.csv --jobs 2").status == 0
    assert run("efctl simulate --trace t.csv --nodes 1 --out runs").status == 0
    return World(run, following, tmp_path)


class World:
    def __init__(self, run, coordinator, folder):
        self._run = run
        self._coordinator = coordinator
        self._folder = folder

    def files(self):
        return {path for path in self._folder.rglob("*") if "home" not in path.parts}

    def run(self, command, words):
        """Run a command and hold it to what every command line can count on."""
        before = self.files()
        asked, started = len(self._coordinator.asked), len(self._coordinator.started)
        began = time.monotonic()
        ran = self._run("eflaunch" if command == "eflaunch" else f"efctl {command}", *words)
        assert time.monotonic() - began < 20
        lines = ran.err.splitlines()
        errors = [line for line in lines if line.startswith("error[")]
        assert ran.status in (0, 1, 2, 3, 5), ran.err
        assert "Traceback" not in ran.err
        assert errors == (lines[-1:] if ran.status else [])
        assert all(line.isprintable() for line in lines)
        assert len(ran.err) < 10_000
        if ran.status == 2:
            assert any(line.startswith("hint: ") for line in lines), ran.err
            assert self.files() - before == set()
            assert len(self._coordinator.asked) == asked
            assert len(self._coordinator.started) == started
        return ran


@pytest.mark.parametrize(("command", "option"), OPTIONS)
def test_any_value_of_any_option_is_taken_or_refused_with_a_hint(world, command, option):
    flag = taken(command).options[option].flag
    for value in VALUES.values():
        world.run(command, [f"{flag}={value}", *BASES.get(command, ())])


@pytest.mark.parametrize(("command", "option"), OPTIONS)
def test_any_value_of_any_variable_is_taken_or_refused_with_a_hint(
    world, monkeypatch, command, option
):
    variable = taken(command).options[option].environment
    for kind in ("empty", "10^30", "nan", "300 characters", "not UTF-8", "escape", "pipe"):
        monkeypatch.setenv(variable, VALUES[kind])
        world.run(command, BASES.get(command, ()))


@pytest.mark.parametrize(("command", "place"), ARGUMENTS)
def test_any_value_of_any_argument_is_taken_or_refused_with_a_hint(world, command, place):
    for value in VALUES.values():
        words = list(BASES[command])
        words[place] = value
        world.run(command, words)


BAD = [
    *(f"--deadline {text} train.py" for text in ("3000000d", "0001-01-01", "now+1e30hours")),
    *(f"--deadline 9999-12-31T23:59{zone} train.py" for zone in ("", "Z", "-12:00", "+14:00")),
    *(f"--slots {text} train.py" for text in ("0", "-1", "1025", "10000000", "1e9", HUGE)),
    *(f"--max-gpus {text} train.py" for text in ("0", "-1", "65537", HUGE)),
    *(f"--profile {text} train.py" for text in ("deep.json", "huge.json", "many.json")),
    *(f"--profile {text} train.py" for text in ("folder", "pipe", "latin", "missing.json")),
    *(f"--store {text} train.py" for text in ("tcp://[::1", "tcp://h", "tcp://h:99999", "tcp:")),
    "--store= train.py",
    "--log-dir ~nouser/x train.py",
    "--log-dir train.py/x train.py",
    "--log-dir " + "x" * 300 + " train.py",
    "--name " + "x" * 300 + " train.py",
    "x" * 300,
    "folder",
    "pipe",
    "-m train.py",
    "-m train.x",
    "-m " + "x" * 300,
    "--soft train.py",
    "--dedline 2h train.py",
    "--deadline",
    "--json=perhaps train.py",
]
BAD_ASKED = [
    *(f"trace {text}" for text in ("folder", "pipe", "missing/t.csv", "train.py/t.csv", "x" * 300)),
    *(f"trace new.csv --mean-gap {text}" for text in ("1e308", "nan", "-1", "inf", HUGE)),
    *(f"trace new.csv --jobs {text}" for text in ("0", "-1", "1000001", HUGE)),
    *(f"trace new.csv --deadline-factors {text}" for text in ("1", "nan,nan", "1,inf", "2,1")),
    *(f"trace new.csv --best-effort-share {text}" for text in ("-1", "2", "nan")),
    *(f"trace new.csv --log {text}" for text in ("folder", "pipe", "latin", "none")),
    *(f"simulate --trace {text} --nodes 1" for text in ("folder", "pipe", "latin", "curve.json")),
    *(f"simulate --trace t.csv --nodes {text}" for text in ("0", "-1", HUGE)),
    *(f"simulate --trace t.csv --nodes 1 --rescale-cost {text}" for text in ("-1", "nan", "inf")),
    "simulate --trace t.csv --nodes 16384 --gpus-per-node 1024",
    "simulate --trace t.csv --nodes 1 --out train.py",
    *(f"agent --slots {text}" for text in ("0", "-1", "10000000", "1e9")),
    *(f"agent --node {text}" for text in ("..", "a/b", "x" * 300, "-", "~")),
    *(f"rescale digits {text}" for text in ("many", "65537", "1.5", HUGE)),
    *(f"rescale digits 2 --timeout {text}" for text in ("0s", "-1s", "3000000d", "soon")),
    *(f"logs digits --rank {text}" for text in ("-1", "1e9", HUGE)),
    *(f"profiles show {text}" for text in ("deep.json", "huge.json", "pipe", "none.json")),
    "profiles plot bert --out missing\0",
    "plot satisfaction runs --out train.py/x",
]


@pytest.mark.parametrize("words", BAD)
def test_a_bad_submission_ends_with_2(world, words):
    assert world.run("eflaunch", words.split()).status == 2


@pytest.mark.parametrize("words", BAD_ASKED)
def test_a_bad_question_ends_with_2(world, words):
    command, *rest = words.split()
    assert world.run(command, rest).status == 2


@pytest.mark.parametrize("word", ["a\0b", "\udcff"])
def test_an_argument_of_the_script_that_cannot_be_sent_is_refused(world, word):
    ran = world.run("eflaunch", ["train.py", "--lr", word])
    assert ran.status == 2
    assert ran.last_line.startswith("error[usage]: argument 2 of the script is not valid UTF-8")


def test_a_variable_that_cannot_be_sent_is_left_out_and_named(world, monkeypatch):
    monkeypatch.setenv("ODD", "\udcff")
    ran = world.run("eflaunch", ["--dry-run", "train.py"])
    assert (ran.status, ran.err) == (
        0,
        "note: not sent to the job: ODD (send some with --env NAME,NAME)\n",
    )


def test_a_working_folder_that_was_deleted_is_refused(world, tmp_path, monkeypatch):
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    ran = world.run("eflaunch", [str(tmp_path / "work" / "train.py")])
    assert ran.status == 2
    assert ran.last_line.startswith("error[usage]: cannot use the working folder")


def test_a_dry_run_makes_nothing(world):
    before = world.files()
    ran = world.run("eflaunch", ["--dry-run", "--log-dir", "logs/x", "train.py"])
    assert ran.status == 0
    assert world.files() == before


@pytest.mark.parametrize(
    ("home", "status"), [("~nouser/x", 2), ("train.py", 5), ("train.py/x", 5), ("x" * 300, 5)]
)
def test_a_home_that_cannot_be_used_is_refused(world, monkeypatch, home, status):
    monkeypatch.setenv("EFLIB_HOME", home)
    assert world.run("list", []).status == status
