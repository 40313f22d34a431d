"""A cluster that exists only as documents, and commands run as a person runs them."""

import os
import socket

import pytest

from eflib.launcher import documents, efctl, eflaunch, environment, services
from eflib.messages.records import Assignment, WorkerAssignment
from eflib.store import FolderStore, SignedStore, keys
from tests.helpers.raw import Raw


def an_assignment(job, name="", size=1):
    """Return an assignment with so many workers of a job."""
    common = {"job": job, "job_name": name, "world_size": size, "generation": 1, "log_dir": "/"}
    workers = [
        WorkerAssignment(worker=f"{job}.{slot}", slot=slot, rank=slot, **common)
        for slot in range(size)
    ]
    return Assignment(tuple(workers))


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch, tmp_path):
    """No option and no state comes from around the test."""
    for name in set(os.environ) - set(environment.sent(os.environ)):
        monkeypatch.delenv(name)
    for option in eflaunch.INTERFACE.options.values():
        monkeypatch.delenv(option.environment, raising=False)
    monkeypatch.setenv("EFLIB_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "100")


@pytest.fixture
def signed(tmp_path):
    """The store of the cluster that the commands see."""
    return SignedStore(FolderStore(tmp_path / "store"), b"k" * 32)


class FakeCoordinator:
    """Answers requests from a list, and shows a job's status documents one look after the other."""

    def __init__(self, signed):
        self.signed = signed
        self.asked = []
        self.started = []
        self.replies = {"submit": {"job": "digits-1"}, "cancel": {}, "rescale": {"ok": True}}
        self.statuses = []
        self.record = {"managed": False}
        self.released = 0
        self.after = {}

    def request(self, kind, **fields):
        if kind == "release":
            self.released += 1
            return {"stops": True}
        self.asked.append((kind, fields))
        reply = self.replies[kind]
        if isinstance(reply, BaseException):
            raise reply
        self.statuses += self.after.get(kind, [])
        return reply

    def start(self, cluster, *, slots=None):
        self.started.append(slots)

    def status(self, job_id):
        if not self.statuses:
            return None
        found = self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]
        if isinstance(found, BaseException):
            self.statuses = []
            raise found
        return found

    def write(self, *statuses):
        for status in statuses:
            Raw(self.signed).put(keys.job_status(status["job"]), status)


@pytest.fixture
def coordinator(signed, monkeypatch):
    fake = FakeCoordinator(signed)
    made = documents.Cluster.__init__

    def with_store(self, home, store_url, store=None, *, must_exist=False):
        made(self, home, store_url, signed)

    monkeypatch.setattr(documents.Cluster, "__init__", with_store)
    monkeypatch.setattr(documents.Cluster, "coordinator", lambda self: fake.record)
    monkeypatch.setattr(services, "start", fake.start)
    monkeypatch.setattr(services, "client", lambda cluster: fake)
    monkeypatch.setattr("eflib.launcher.follow.POLL_SECONDS", 0.0)
    return fake


@pytest.fixture
def following(coordinator, monkeypatch):
    """The coordinator's list of documents stands in for what the store says about the job."""
    monkeypatch.setattr(
        documents.Cluster, "status", lambda self, job_id: coordinator.status(job_id)
    )
    return coordinator


class Ran:
    """How a command ended: ``status``, ``out`` and ``err``."""

    def __init__(self, status, captured):
        self.status = status
        self.out = captured.out
        self.err = captured.err

    @property
    def last_line(self):
        return self.err.splitlines()[-1]


@pytest.fixture
def run(capfd):
    """Run eflaunch or efctl in this process: ``run("efctl list --json")``."""

    def go(command, *words):
        name, *rest = [*command.split(), *words]
        main = {"eflaunch": eflaunch.main, "efctl": efctl.main}[name]
        status = main(rest)
        return Ran(status, capfd.readouterr())

    return go


@pytest.fixture
def script(tmp_path, monkeypatch):
    """A script called train.py in the working folder."""
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    path = folder / "train.py"
    path.write_text("print('hello')\n")
    return path


@pytest.fixture
def a_status():
    """Make a status document: ``a_status(state="RUNNING")``."""

    def make(**fields):
        return {
            "job": "digits-1",
            "name": "digits",
            "state": "RUNNING",
            "world_size": 4,
            "generation": 2,
            "global_step": 120,
            "max_steps": 600,
            "steps_per_s": 31.234,
            "submitted": 1000.0,
            "started": 1010.0,
            "ended": None,
            "deadline": None,
            "projected_finish": None,
            "earliest_deadline": None,
            "slack_s": None,
            "reason": "",
            "error": None,
            "log_dir": None,
            "rescales": [],
            "loss": None,
            "story": [],
            **fields,
        }

    return make


@pytest.fixture
def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return listening.getsockname()[1]
