"""A home with its store, agents that the test plays, and a clock that the test turns."""

import itertools

from eflib import home as places
from eflib.coordinator.coordinator import Coordinator
from eflib.messages.codec import convert
from eflib.messages.inbox import Inbox, WorkerReady
from eflib.messages.records import (
    Assignment,
    Heartbeat,
    NodeRecord,
)
from eflib.messages.replies import Reply
from eflib.messages.status import JobStatus
from eflib.store import SignedStore, keys, open_store
from tests.unit.coordinator.world import ANNOUNCE, CURVE

KEY = b"k" * 32


class Host:
    """A home with its store, agents that the test plays, and one coordinator after another."""

    def __init__(self, folder):
        self.home = folder / "home"
        self.store = SignedStore(open_store(folder / "store"), KEY)
        self.now = 5000.0
        self.requests = itertools.count()
        self.coordinator = None
        places.coordinator_lock(self.home).parent.mkdir(parents=True)

    def start(self, **settings):
        """Start a coordinator; one that runs is dropped without a word, as by kill -9."""
        if self.coordinator is not None:
            self.coordinator._memory.close()
        self.coordinator = self.make(**settings)
        self.coordinator._recover()
        return self.coordinator

    def make(self, **settings):
        now = {"clock": lambda: self.now, "monotonic": lambda: self.now}
        return Coordinator(self.store, self.home, **now, **settings)

    def turn(self, times=1, seconds=0.0):
        for _ in range(times):
            self.now += seconds
            self.coordinator._turn()

    def node(self, name="n0", slots=4):
        record = NodeRecord(node=name, slots=slots, agent="tag", store_host="h", store_port=1)
        self.store.put(keys.node_record(name), record)
        self.beat(name, 1)
        self.post("node_joined", node=name)

    def beat(self, name, count):
        self.store.put(keys.node_heartbeat(name), Heartbeat(count))

    def post(self, kind, **fields):
        """Post a message by the word in its ``type``."""
        self.store.post(keys.INBOX, convert({"type": kind, **fields}, Inbox))

    def ask(self, kind, **fields):
        request = f"r{next(self.requests)}"
        self.post(kind, request=request, **fields)
        return request

    def submit(self, name="a", *, measured=False, **fields):
        points = {"points": {str(size): rate for size, rate in CURVE.items()}}
        common = {"name": name, "script": f"{name}.py", "argv": [], "cwd": "/", "env": {}}
        common |= {"deadline": None, "soft": False, "max_gpus": None}
        return self.ask("submit", **common, profile=None if measured else points, **fields)

    def reply(self, request):
        return self.store.fetch(keys.reply(request), Reply)

    def assigned(self, node="n0"):
        return (self.store.fetch(keys.node_assignment(node), Assignment) or Assignment()).workers

    def ready(self, *, known=()):
        for one in self.assigned():
            if one.worker not in known:
                ready = WorkerReady(job=one.job, worker=one.worker, announce=ANNOUNCE)
                self.store.post(keys.INBOX, ready)

    def status(self, job):
        return self.store.fetch(keys.job_status(job), JobStatus)

    def train(self, job="a-1"):
        """Let a submitted job with a curve come to train on all slots; returns its workers."""
        self.turn(2)
        first = [one.worker for one in self.assigned()]
        self.ready()
        self.turn(2)
        self.ready(known=first)
        self.turn(2)
        fields = {"from": 0, "to": 4, "step": 0, "pause_s": 0.1, "parts": {}, "reason": ""}
        self.post("switched", job=job, generation=1, **fields)
        self.turn(2)
        assert self.status(job).state == "RUNNING"
        return [one.worker for one in self.assigned()]

    def journal(self):
        """Return all lines after the newest snapshot."""
        return max(places.journal_folder(self.home).glob("*.log")).read_text()
