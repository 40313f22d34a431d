"""The agent's loop over a real store, with hands and helpers that only take notes."""

import os
import signal
from types import SimpleNamespace

import pytest

from eflib.agent.agent import Agent, Parts
from eflib.agent.cluster import Cluster
from eflib.agent.exits import Exit
from eflib.agent.order import Node
from eflib.agent.pool import PoolDiedError
from eflib.agent.roster import Roster
from eflib.messages.codec import to_builtins
from eflib.messages.fields import replace as changed
from eflib.messages.inbox import INBOX
from eflib.messages.records import (
    Assignment,
    CoordinatorRecord,
    Heartbeat,
    JobSpec,
    NodeRecord,
    WorkerAssignment,
    WorkerExit,
)
from eflib.pulse import Sign
from eflib.store import FolderStore, SignedStore, keys

RECORD = NodeRecord(node="n0", slots=4, agent="tag")
WORKER = WorkerAssignment(
    worker="w",
    job="j",
    slot=0,
    generation=1,
    rank=0,
    world_size=1,
    master_addr="127.0.0.1",
    master_port=1,
    log_dir="/logs",
)


class Hands:
    """Workers that start and end as the test says; the test's turn comes once per loop."""

    def __init__(self, each_turn):
        self.each_turn = each_turn
        self.acts = []
        self.ends = []
        self.failures = []
        self.pulses = {}
        self.turns = 0

    def start(self, order):
        if self.failures:
            raise self.failures.pop(0)
        self.acts.append(("start", order.worker))
        return 7

    def terminate(self, worker):
        self.acts.append(("terminate", worker))
        self.ends.append((worker, Exit(7, 0)))

    def kill(self, worker):
        self.acts.append(("kill", worker))

    def signs(self):
        return self.pulses

    def used(self, worker):
        return 0.0

    def end_hung(self, worker, hang):
        self.acts.append(("end hung", worker))
        self.pulses.pop(worker)
        self.ends.append((worker, Exit(7, -9, hang.reason, hang=hang.kind)))

    def sentinels(self):
        return []

    def reap(self):
        ends, self.ends = self.ends, []
        return ends

    def end_orphans(self):
        self.turns += 1
        self.each_turn(self.turns)


@pytest.fixture
def store(tmp_path):
    opened = SignedStore(FolderStore(tmp_path / "store"), b"k" * 32)
    opened.put(keys.job_spec("j"), JobSpec(script="/s.py", cwd="/"))
    return opened


@pytest.fixture
def run(store):
    """Run an agent to its end; ``each_turn`` plays the world, and time passes by the turn."""

    def go(each_turn, *, managed=False, failures=(), lost=(), seconds_per_turn=1.0, pulses=None):
        hands = Hands(each_turn)
        hands.pulses.update(pulses or {})
        hands.failures += failures
        helper = SimpleNamespace(
            ensure=lambda: False, close=lambda: None, wait=lambda seconds: True, is_ready=True
        )
        parts = Parts(
            cluster=Cluster(store, "n0", "tag"),
            roster=Roster(grace=30.0, kill_again=5.0, lost=lost),
            workers=hands,
            pool=helper,
            guardian=helper,
            ledger=SimpleNamespace(
                error_file=str,
                pulse_file=str,
                forget=lambda worker: None,
                note_start=lambda worker: None,
            ),
            node=Node("n0", "/store", "/key"),
        )
        clock = lambda: hands.turns * seconds_per_turn  # noqa: E731
        Agent(parts, RECORD, managed=managed, linger=10.0, clock=clock).run()
        return hands

    return go


def posted(store):
    return [to_builtins(one)["type"] for _, one in store.receive(keys.INBOX, 0, INBOX).messages]


def exit_of(store, worker):
    return store.fetch(keys.worker_exit("j", worker), WorkerExit)


def record_of(store):
    return store.fetch(keys.node_record("n0"), NodeRecord)


def assign(store, *workers):
    store.put(keys.node_assignment("n0"), Assignment(workers))


def stop():
    os.kill(os.getpid(), signal.SIGTERM)


def test_the_life_of_a_worker_is_told_from_start_to_end(store, run):
    assign(store, WORKER)

    hands = run(lambda turn: turn == 3 and stop())

    assert hands.acts == [("start", "w"), ("terminate", "w")]
    assert posted(store) == [
        "node_joined",
        "worker_started",
        "node_left",
        "worker_exited",
    ]
    assert exit_of(store, "w").exitcode == 0
    assert record_of(store) is None


def test_a_worker_that_hangs_is_killed_and_its_exit_says_so(store, run):
    assign(store, WORKER)

    def each_turn(turn):
        if exit_of(store, "w") or turn == 40:
            stop()

    hands = run(each_turn, pulses={"w": Sign(beat=1.0, since=0.0, bound=0.0)})

    assert hands.acts == [("start", "w"), ("end hung", "w")]
    exit_ = exit_of(store, "w")
    assert (exit_.hang, exit_.signal) == ("silent", "SIGKILL")
    assert exit_.error.message == "hung: gave no sign of life for 10 s"


def test_signal_handlers_are_given_back(run):
    before = signal.getsignal(signal.SIGTERM)

    run(lambda turn: turn == 1 and stop())

    assert signal.getsignal(signal.SIGTERM) is before


def test_heartbeats_count_the_seconds(store, run):
    beats = []

    def each_turn(turn):
        beats.append(store.fetch(keys.node_heartbeat("n0"), Heartbeat).count)
        if turn == 4:
            stop()

    run(each_turn, seconds_per_turn=0.5)

    assert beats == [1, 2, 2, 3, 3][: len(beats)]


def test_a_start_that_the_pool_did_not_survive_is_made_again(store, run):
    assign(store, WORKER)

    hands = run(lambda turn: turn == 3 and stop(), failures=[PoolDiedError(), PoolDiedError()])

    assert hands.acts[0] == ("start", "w")


def test_a_start_that_cannot_be_made_is_an_end(store, run):
    assign(store, WORKER)

    run(lambda turn: turn == 2 and stop(), failures=[PermissionError(13, "Permission denied")])

    assert exit_of(store, "w").error.message == "cannot start: [Errno 13] Permission denied"


def test_a_worker_of_an_earlier_agent_is_told_as_lost_but_not_over_its_own_end(store, run):
    told = changed(WORKER, worker="told")
    end = WorkerExit(node="n0", job="j", worker="told", exitcode=0)
    store.put(keys.worker_exit("j", "told"), end)
    assign(store, WORKER, told)

    hands = run(lambda turn: turn == 2 and stop(), lost={"w", "told"})

    assert hands.acts == []
    assert exit_of(store, "w").error.message == "lost with the agent that had started it"
    assert exit_of(store, "told") == end


def test_a_managed_agent_ends_when_its_coordinator_shuts_down(store, run):
    store.put(keys.COORDINATOR, CoordinatorRecord(pid=1, beats=1))

    def each_turn(turn):
        if turn == 5:
            store.put(keys.COORDINATOR, CoordinatorRecord(pid=1, beats=2, stopped=True))

    hands = run(each_turn, managed=True)

    assert 5 <= hands.turns <= 8


def test_a_coordinator_that_had_shut_down_before_is_waited_for(store, run):
    store.put(keys.COORDINATOR, CoordinatorRecord(pid=1, beats=9, stopped=True))

    hands = run(lambda turn: None, managed=True)

    assert hands.turns >= 10


def test_a_managed_agent_without_workers_ends_when_its_coordinator_is_silent(store, run):
    def each_turn(turn):
        if turn <= 5:
            store.put(keys.COORDINATOR, CoordinatorRecord(pid=1, beats=turn))

    hands = run(each_turn, managed=True)

    assert 15 <= hands.turns <= 18


def test_a_managed_agent_stays_with_its_workers_when_its_coordinator_is_silent(store, run):
    assign(store, WORKER)

    hands = run(lambda turn: turn == 40 and stop(), managed=True)

    assert hands.turns >= 40


def test_an_agent_yields_to_a_later_one_on_its_node(store, run):
    later = changed(RECORD, agent="another")

    def each_turn(turn):
        if turn == 3:
            store.put(keys.node_record("n0"), later)

    hands = run(each_turn)

    assert hands.turns <= 6
    assert record_of(store) == later
    assert "node_left" not in posted(store)


@pytest.mark.parametrize(
    "bad", [b"", b"garbage", b"[" * 100_000, b'{"schema":1,"mac":"\\ud800"}\n{}']
)
def test_workers_stay_whatever_somebody_writes_over_what_their_agent_reads(store, run, bad, caplog):
    assign(store, WORKER)
    places = [
        keys.node_assignment("n0"),
        keys.node_record("n0"),
        keys.node_heartbeat("n0"),
        keys.COORDINATOR,
        keys.job_spec("j"),
        keys.worker_exit("j", "w"),
    ]

    def each_turn(turn):
        if turn == 3:
            for place in places:
                store.store.set(place, bad)
        if turn == 30:
            assert record_of(store) == RECORD, "it is written again"
            stop()

    hands = run(each_turn, managed=True)

    assert hands.acts == [("start", "w"), ("terminate", "w")]
    assert hands.turns >= 30
    assert exit_of(store, "w").exitcode == 0
    assert caplog.text.count("ignored the value at nodes/n0/assignment") == 1
    assert "without the store" not in caplog.text
