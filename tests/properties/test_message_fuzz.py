"""Whatever stands in the store: coordinator, agent, worker and commands live, and only valid
messages change anything."""

import json
import random
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eflib.agent.cluster import Cluster, OutageError
from eflib.coordinator.coordinator import Coordinator
from eflib.errors import EflibError, StoreError
from eflib.launcher import documents
from eflib.messages.codec import Form, UnreadableError, decode, encode
from eflib.messages.generations import Generation
from eflib.messages.inbox import INBOX
from eflib.messages.journal import Entry
from eflib.messages.records import (
    Assignment,
    CoordinatorRecord,
    ErrorText,
    Heartbeat,
    JobSpec,
    NodeRecord,
    Progress,
    WorkerExit,
)
from eflib.messages.status import JobStatus
from eflib.store import SignedStore, keys
from eflib.trainer.elastic.membership import StoreMembership
from tests.helpers.memory import MemoryStore
from tests.helpers.raw import Raw
from tests.properties.mutations import Mutator
from tests.unit.coordinator.host import KEY, Host
from tests.unit.coordinator.world import picture

KINDS = {
    "record": NodeRecord,
    "heartbeat": Heartbeat,
    "assignment": Assignment,
    "spec": JobSpec,
    "status": JobStatus,
    "progress": Progress,
}
FORMS = [INBOX, Form(Entry), *map(Form, [*KINDS.values(), Generation, WorkerExit])]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


def kind_at(key):
    """Return the type of what stands at a key; None for what nobody reads."""
    if key == keys.COORDINATOR:
        return CoordinatorRecord
    if "/generations/" in key:
        return Generation
    if "/exits/" in key:
        return WorkerExit
    return KINDS.get(keys.last_part(key))


# Reading is total ---------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS, ids=range(len(FORMS)))
@given(data=st.binary(max_size=200) | JSON.map(lambda value: json.dumps(value).encode()))
def test_reading_any_bytes_ends_in_a_value_or_in_one_error(form, data):
    try:
        message = form.read(data)
    except UnreadableError as error:
        str(error).encode()
    else:
        assert form.read(encode(message)) == message


@given(depth=st.integers(1, 200_000), opening=st.sampled_from(['{"a":', "[", '[{"type":']))
@settings(max_examples=30)
def test_no_depth_is_too_deep_to_be_refused(depth, opening):
    for form in FORMS:
        with pytest.raises(UnreadableError):
            form.read(opening.encode() * depth)


# A cluster in memory ------------------------------------------------------------------------------


class Fuzzed:
    """A coordinator with a job that trains, all over a store in memory."""

    def __init__(self, folder, seed):
        self.host = Host(folder)
        self.host.store = SignedStore(MemoryStore(), KEY)
        self.faults = []
        self.host.store.aside.put = self._note
        self.host.start()
        self.host.node("n0")
        self.host.node("n1", slots=2)
        self.host.submit()
        self._train()
        error = ErrorText("ValueError: x", "Traceback ...")
        exit_ = WorkerExit(node="n0", job="a-1", worker="a-1.99", exitcode=1, error=error)
        self.host.store.put(keys.worker_exit("a-1", "a-1.99"), exit_)
        told = {"generation": 1, "world_size": 4, "max_steps": 1000, "steps_per_s": 34.0}
        self.host.store.put(keys.job_progress("a-1"), Progress(global_step=7, **told))
        self.turn()
        self.mutator = Mutator(seed, Raw(self.host.store).sealed)
        self.store = self.host.store
        self.raw = self.host.store.store
        self.plane = self.host.coordinator._plane

    def close(self):
        self.host.coordinator._memory.close()

    def _note(self, place, value, reason):
        if "control plane failed" in reason:
            self.faults.append(reason)

    def _train(self):
        known = []
        for _ in range(4):
            self.host.turn(3)
            new = [one.worker for node in ("n0", "n1") for one in self.host.assigned(node)]
            for node in ("n0", "n1"):
                for one in self.host.assigned(node):
                    if one.worker not in known:
                        self._ready(one)
            known = new
        number = self.host.coordinator._plane.jobs["a-1"].members.newest.number
        fields = {"from": 0, "to": 4, "step": 0, "pause_s": 0.1}
        self.host.post("switched", job="a-1", generation=number, **fields)
        self.host.turn(2)
        assert self.host.status("a-1").state == "RUNNING"

    def _ready(self, one):
        announce = {"max_steps": 1000, "global_batch_size": 64, "device": "cpu"}
        self.host.post("worker_ready", job=one.job, worker=one.worker, announce=announce)

    def turn(self):
        """Look at everything once, with the clock standing still."""
        self.host.coordinator._progress_due = self.host.coordinator._beat_due = 0.0
        self.host.coordinator._turn()

    def picture(self):
        """Return all that the coordinator would show and ask for."""
        return picture(self.plane, self.host.now)

    def is_intact(self):
        """Tell whether the cluster is still one that is worth disturbing."""
        job = self.plane.jobs.get("a-1")
        return job is not None and job.state.value == "RUNNING" and len(self.plane.jobs) < 20

    def captured(self):
        """Return messages of all types as they stood in the inbox."""
        inbox = SignedStore(MemoryStore(), KEY)
        host = Host.__new__(Host)
        host.store = inbox
        host.post("node_joined", node="n0")
        host.post("node_left", node="n1", agent="tag")
        common = {"job": "a-1", "worker": self.host.assigned("n0")[0].worker}
        host.post("worker_started", node="n0", pid=4, **common)
        error = {"message": "ValueError: x", "traceback": "t"}
        host.post("worker_exited", node="n0", exitcode=1, error=error, **common)
        announce = {"max_steps": 1000, "global_batch_size": 64, "device": "cpu", "cores": 2}
        host.post("worker_ready", announce=announce, **common)
        move = {"from": 4, "to": 3, "step": 9, "pause_s": 0.1, "parts": {"agree": 0.1}}
        host.post("switched", job="a-1", generation=1, **move)
        speed = {"world_size": 2, "steps_per_s": 5.0, "spread": 0.1, "cpu_s": 0.1}
        host.post("measured", job="a-1", generation=1, **speed)
        host.post("finished", job="a-1", generation=1, step=1000)
        host.post("cancel", request="c1", job="a")
        host.post("rescale", request="c2", job="a", num_gpus=2)
        host.post("release", request="c3")
        job = {"name": "b", "script": "b.py", "argv": ["--x"], "cwd": "/", "env": {"A": "b"}}
        curve = {"points": {"1": 5.0, "2": 9.0}}
        host.post("submit", request="c4", deadline=9000.0, profile=curve, max_gpus=2, **job)
        host.post("submit", request="c5", soft=True, deadline=9000.0, **job)
        host.post("profile", request="c6", **job)
        return [value for _, value in inbox.store.read(keys.INBOX, 0)]


def is_valid(fuzzed, kind, place, value, form):
    """Tell whether a value is signed for its place and of its type."""
    try:
        return bool(form.read(fuzzed.store._verified(kind, place, value)))
    except (StoreError, UnreadableError):
        return False


def disturb(tmp_path, seed, times, one):
    """Let ``one(fuzzed)`` change something, again and again, on clusters that are made anew."""
    fuzzed = None
    for number in range(times):
        if fuzzed is None or not fuzzed.is_intact():
            if fuzzed is not None:
                fuzzed.close()
            fuzzed = Fuzzed(tmp_path / str(number), seed + number)
        one(fuzzed)
        assert fuzzed.faults == []
    fuzzed.close()


def disturb_inbox(fuzzed):
    value = fuzzed.mutator.chance.choice(fuzzed.captured())
    changed = fuzzed.mutator.value("stream", keys.INBOX, value)
    fuzzed.turn()
    before = fuzzed.picture()
    fuzzed.raw.append(keys.INBOX, changed)
    fuzzed.turn()
    if not is_valid(fuzzed, "stream", keys.INBOX, changed, INBOX):
        assert fuzzed.picture() == before


def disturb_key(fuzzed):
    listed = [key for key in fuzzed.raw.list() if kind_at(key) is not None]
    key = fuzzed.mutator.chance.choice(listed)
    held = fuzzed.raw.get(key)
    changed = fuzzed.mutator.value("key", key, held)
    fuzzed.turn()
    before = fuzzed.picture()
    fuzzed.raw.set(key, changed)
    fuzzed.turn()
    if not is_valid(fuzzed, "key", key, changed, Form(kind_at(key))):
        assert fuzzed.picture() == before
        read_everything(fuzzed)
    fuzzed.raw.set(key, held)


def read_everything(fuzzed):
    """Read as an agent, a worker and the commands do: what cannot be read counts as absent."""
    agent = Cluster(fuzzed.store, "n0", "tag")
    for act in (
        agent.assigned,
        agent.coordinator,
        lambda: agent.spec("a-1"),
        lambda: agent.has_exit("a-1", "a-1.99"),
    ):
        with suppress(StoreError, OutageError):  # told as such, which an agent survives
            act()
    worker = StoreMembership(fuzzed.store, "a-1", "a-1.1", 1, is_leaving=lambda: False)
    worker.newest(0)
    worker.ended(["a-1.99"])
    seen = documents.Cluster(fuzzed.host.home, "memory", fuzzed.store)
    for look in (seen.jobs, seen.nodes, seen.coordinator, seen.lost_nodes):
        try:
            look()
        except EflibError as error:
            error.render().encode()


def test_disturbed_messages_in_the_inbox_change_nothing_unless_they_are_valid(tmp_path):
    disturb(tmp_path, 1, 400, disturb_inbox)


def test_disturbed_values_under_keys_change_nothing_unless_they_are_valid(tmp_path):
    disturb(tmp_path, 2, 300, disturb_key)


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", range(5))
def test_ten_thousand_disturbed_values_anywhere(tmp_path, seed):
    chance = random.Random(seed)

    def one(fuzzed):
        act = disturb_inbox if chance.random() < 0.5 else disturb_key
        act(fuzzed)

    disturb(tmp_path, 1000 * (seed + 1), 2000, one)


def test_a_coordinator_comes_back_from_what_disturbed_messages_left(tmp_path):
    fuzzed = Fuzzed(tmp_path, 3)
    for _ in range(150):
        disturb_inbox(fuzzed)
    expected = fuzzed.picture()
    fuzzed.close()
    again = Coordinator(fuzzed.store, fuzzed.host.home, clock=lambda: fuzzed.host.now)
    again._recover()
    again._memory.close()
    assert picture(again._plane, fuzzed.host.now)["documents"] == expected["documents"]
    assert decode(fuzzed.raw.get(keys.INBOX) or b"{}", dict) == {}
